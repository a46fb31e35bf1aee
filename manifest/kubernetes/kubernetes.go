// Package kubernetes reads manifests for bays that are Kubernetes clusters. Servers ask it
// for what they keep and show of an object, the agent of a cluster for the object that it
// creates there. Manifests are read strictly, into the types of the linked k8s.io/api, and
// within the limits of package manifest. What servers keep is checked here; everything else
// is passed on, for the cluster to check.
//
// It is a function of texts, as package manifest is. It calls no cluster.
package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/manifest/v1"
)

// The kinds that are read.
const (
	kindPod     = "Pod"
	kindService = "Service"
	kindRC      = "ReplicationController"
)

// object is an object as a manifest has it. Its status is dropped.
type object[S any] struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metav1.ObjectMeta `json:"metadata"`
	Spec       S                 `json:"spec"`
	Status     v1.Raw            `json:"status"`

	printed bool // by kubectl get, which prints what a cluster has set, too
}

// types are the types of an object of the kind. They are those of v1: v1beta3 is read as v1.
func types(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

var decoder = manifest.Decoder{
	Instead: manifest.InsteadInCluster,
	As: map[reflect.Type]reflect.Type{
		reflect.TypeFor[resource.Quantity]():  reflect.TypeFor[amount](),
		reflect.TypeFor[intstr.IntOrString](): reflect.TypeFor[v1.IntOrString](),
	},
	Check: func(fields map[string]any) error {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if name == "status" {
				continue
			}
			if err := noNUL(fields[name], name); err != nil {
				return err
			}
		}
		return nil
	},
}

// amount is a quantity that is read fast. Those with larger exponents are numbers of up to
// a billion digits.
type amount struct{}

// UnmarshalJSON checks an amount that is given as text or as a number.
func (*amount) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	end := strings.LastIndexAny(text, "eE")
	if len(text) > 64 || end >= 0 && len(strings.TrimLeft(text[end+1:], "+-")) > 2 || new(resource.Quantity).UnmarshalJSON(b) != nil {
		return errors.New("is not an amount, such as 0.5, 500m, 64Mi or 1e3")
	}
	return nil
}

// noNUL refuses texts that no container can be given, and no database of a cluster need keep.
func noNUL(v any, path string) error {
	const text = "contains a NUL byte: leave it out"
	switch v := v.(type) {
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return manifest.Refuse(path, text)
		}
	case []any:
		for i, item := range v {
			if err := noNUL(item, index(path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if strings.IndexByte(key, 0) >= 0 {
				return manifest.Refuse(path, text)
			}
			if err := noNUL(v[key], path+"."+key); err != nil {
				return err
			}
		}
	}
	return nil
}

// index returns the path of an item of a list.
func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// read decodes a manifest of one kind. Of metadata it keeps what a user can set. Errors are
// CodeInvalid and begin with the path of the field.
func read[S any](text, kind string) (*object[S], error) {
	o := new(object[S])
	if err := decoder.Decode(text, kind, o); err != nil {
		return nil, err
	}
	meta := &o.Metadata
	o.printed = meta.UID != ""
	if err := checkMetadata(meta, "metadata", o.printed); err != nil {
		return nil, err
	}
	o.Metadata = metav1.ObjectMeta{Name: meta.Name, GenerateName: meta.GenerateName, Labels: meta.Labels, Annotations: meta.Annotations}
	return o, nil
}

// checkMetadata checks labels and annotations, and drops annotations that aren't kept. If
// the object was printed by a cluster, it drops what magnum and the cluster have added, which
// is refused otherwise.
func checkMetadata(meta *metav1.ObjectMeta, path string, printed bool) error {
	if printed {
		meta.Finalizers = nil
		maps.DeleteFunc(meta.Labels, isReserved)
		maps.DeleteFunc(meta.Annotations, isReserved)
	}
	if len(meta.Finalizers) > 0 {
		return manifest.Refuse(path+".finalizers", "is not supported: nobody would remove it before the object can be deleted")
	}
	if err := noReserved(meta.Labels, path+".labels"); err != nil {
		return err
	}
	if err := noReserved(meta.Annotations, path+".annotations"); err != nil {
		return err
	}
	var err error
	meta.Annotations, err = manifest.CheckMetadata(meta.Labels, meta.Annotations, path)
	return err
}

// Reserved reports whether the key of a label or annotation is magnum's own: an agent finds
// its objects by such labels. No manifest has them.
func Reserved(key string) bool {
	return strings.HasPrefix(key, "magnum/") || strings.HasPrefix(key, "magnum.") && !strings.Contains(key, "/")
}

func isReserved(key, _ string) bool { return Reserved(key) }

// noReserved refuses keys that are magnum's own.
func noReserved(keys map[string]string, path string) error {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if Reserved(key) {
			return manifest.Refuse(path, "%.64q is set by magnum: leave it out", key)
		}
	}
	return nil
}

// names returns the name, or what the name is to begin with. check checks the form.
func names(meta *metav1.ObjectMeta, check func(path, name string) error) (name, generate string, err error) {
	switch {
	case meta.Name != "":
		return meta.Name, "", check("metadata.name", meta.Name)
	case meta.GenerateName == "":
		return "", "", manifest.Refuse("metadata.name", "is missing: give a name of lower-case letters, digits and hyphens")
	}
	return "", meta.GenerateName, check("metadata.generateName", strings.TrimRight(meta.GenerateName, "-"))
}

// fixName sets the name that servers have given an object.
func fixName(meta *metav1.ObjectMeta, name string) { meta.Name, meta.GenerateName = name, "" }

var _ json.Unmarshaler = (*amount)(nil)
