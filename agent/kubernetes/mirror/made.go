package mirror

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// maxApplied bounds the annotation with the applied manifest: all annotations of an object
// have 256 KiB.
const maxApplied = 128 << 10

// made returns the object to create for a workload.
func (c *Config) made(w *workload) Object {
	o := w.manifest.DeepCopyObject().(Object)
	o.SetNamespace(w.key.Namespace)
	o.SetName(w.key.Name)
	o.SetGenerateName("")
	if rc, ok := o.(*corev1.ReplicationController); ok && rc.Spec.Selector == nil && rc.Spec.Template != nil {
		rc.Spec.Selector = maps.Clone(rc.Spec.Template.Labels) // as the cluster would, but without our labels
	}
	c.mark(w, o)
	return o
}

// mark sets magnum's labels and annotations.
func (c *Config) mark(w *workload, o Object) {
	id := w.id
	if _, beside, ok := strings.Cut(id, "/"); ok {
		id = beside
	}
	labels := orEmpty(users(o.GetLabels()))
	labels[LabelCluster], labels[LabelProject] = c.ClusterID, labelValue(w.a.ProjectID)
	labels[LabelKind], labels[LabelID] = string(w.key.Kind), id
	o.SetLabels(labels)
	annotations := orEmpty(users(o.GetAnnotations()))
	annotations[annotationGeneration] = strconv.FormatUint(w.a.Generation, 10)
	annotations[annotationEpoch] = strconv.FormatUint(w.a.Epoch, 10)
	annotations[annotationHash] = w.hash
	if applied := pack(w.manifest); len(applied) <= maxApplied {
		annotations[annotationApplied] = applied
	}
	o.SetAnnotations(annotations)
	rc, ok := o.(*corev1.ReplicationController)
	if !ok || rc.Spec.Template == nil {
		return
	}
	t := rc.Spec.Template
	t.Labels, t.Annotations = orEmpty(users(t.Labels)), orEmpty(users(t.Annotations))
	t.Labels[LabelCluster], t.Labels[LabelProject], t.Labels[LabelKind] = c.ClusterID, labels[LabelProject], structs.KindPod
	t.Labels[LabelOwner] = id
	t.Annotations[annotationTemplate] = templateHash(w.manifest.(*corev1.ReplicationController))
}

// templateHash names what new pods are made from. Replicas and the selector don't change it.
func templateHash(rc *corev1.ReplicationController) string {
	b, err := json.Marshal(rc.Spec.Template)
	if err != nil {
		return ""
	}
	return hashOf(string(b))
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// merged returns an object of the cluster, changed to what a workload's manifest says. What
// the cluster has set of its own stays. UID and resource version are the object's.
func (c *Config) merged(w *workload, live Object) (Object, error) {
	modified, err := tree(w.manifest)
	if err != nil {
		return nil, err
	}
	original := unpack(live.GetAnnotations()[annotationApplied])
	if original == nil {
		original = modified // what was removed is unknown
	}
	current, err := tree(live)
	if err != nil {
		return nil, err
	}
	// These name the object, and are never the manifest's.
	for _, t := range []map[string]any{original, modified} {
		if meta, ok := t["metadata"].(map[string]any); ok {
			for _, field := range []string{"name", "namespace", "generateName"} {
				delete(meta, field)
			}
		}
	}
	b, err := json.Marshal(merge("", original, modified, current))
	if err != nil {
		return nil, fmt.Errorf("the changed object can't be encoded: %w", err)
	}
	o := emptyLike(live)
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("the manifest does not fit the object in the cluster: %w", err)
	}
	c.mark(w, o)
	return o, nil
}

func emptyLike(o Object) Object { return reference(Key{Kind: KindOf(o)}) }

// tree returns an object as JSON has it, without nulls.
func tree(o Object) (map[string]any, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("the object can't be encoded: %w", err)
	}
	return decode(b)
}

func decode(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var t map[string]any
	if err := d.Decode(&t); err != nil {
		return nil, err
	}
	delete(t, "status")
	prune(t)
	return t, nil
}

// prune removes nulls: an absent field says the same.
func prune(t map[string]any) {
	for key, value := range t {
		if value == nil {
			delete(t, key)
		}
		if sub, ok := value.(map[string]any); ok {
			prune(sub)
		}
	}
}

// pack returns a manifest in a form that an annotation takes.
func pack(o Object) string {
	b, err := json.Marshal(o)
	if err != nil {
		return ""
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(b) // to memory
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(packed.Bytes())
}

// unpack undoes pack; nil if there is nothing to be had.
func unpack(s string) map[string]any {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(z, structs.MaxManifest*4))
	if err != nil {
		return nil
	}
	t, err := decode(text)
	if err != nil {
		return nil
	}
	return t
}

// hashOfObject returns the hash of the manifest that an object was made from.
func hashOfObject(o Object) string { return o.GetAnnotations()[annotationHash] }

// epochOf returns the epoch that an object was made in.
func epochOf(o Object) uint64 { return number(o, annotationEpoch) }

// number returns an annotation that is a number; 0 if it is none.
func number(o Object, key string) uint64 {
	n, err := strconv.ParseUint(o.GetAnnotations()[key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
