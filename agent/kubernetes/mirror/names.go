package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/stackforge/magnum/structs"
)

// The labels of objects.
const (
	LabelCluster = "magnum.cluster" // UUID of magnum's cluster: what is watched
	LabelProject = "magnum.project"
	LabelKind    = "magnum.kind"  // pod, service or rc
	LabelID      = "magnum.id"    // UUID of the pod, service or replication controller
	LabelOwner   = "magnum.owner" // of a pod that a replication controller has made: that one's UUID
	LabelBay     = "magnum.bay"   // of a namespace: UUID of the bay

	labelSecurity = "pod-security.kubernetes.io/enforce"
	labelService  = discoveryServiceName
)

// The annotations of objects.
const (
	annotationGeneration = "magnum.generation" // newest that was applied
	annotationEpoch      = "magnum.epoch"
	annotationHash       = "magnum.manifest" // hash of the manifest that was applied
	annotationApplied    = "magnum.applied"  // that manifest: what a later one removes shows by it
	annotationTemplate   = "magnum/template" // of pods: hash of the template that they are made from
)

const discoveryServiceName = "kubernetes.io/service-name"

// Selector returns the label selector of all objects of a cluster of magnum.
func Selector(clusterID string) string { return LabelCluster + "=" + clusterID }

// NamespaceOf returns the name of a project's namespace.
func NamespaceOf(projectID string) string { return structs.KubernetesNamespace(projectID) }

// hashOf returns a short hash.
func hashOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// labelValue returns a text as the value of a label: itself if it may be one.
func labelValue(s string) string {
	if s != "" && len(validation.IsValidLabelValue(s)) == 0 {
		return s
	}
	return hashOf(s)
}

// reserved reports whether a label or annotation is magnum's.
func reserved(key string) bool {
	return strings.HasPrefix(key, "magnum/") || strings.HasPrefix(key, "magnum.") && !strings.Contains(key, "/")
}

// users returns the labels or annotations that aren't magnum's.
func users(all map[string]string) map[string]string {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(key, _ string) bool { return reserved(key) })
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// nameOf returns the workload that an object of the cluster is; none if it is none.
func nameOf(o Object) name {
	labels := o.GetLabels()
	id := labels[LabelID]
	switch o := o.(type) {
	case *corev1.Pod:
		if id == "" && labels[LabelOwner] != "" {
			return name{structs.WorkloadPod, string(o.UID)}
		}
		if id != "" && labels[LabelKind] == structs.KindPod {
			return name{structs.WorkloadPod, id}
		}
	case *corev1.Service:
		if id != "" && labels[LabelKind] == structs.KindService {
			return name{structs.WorkloadObject, structs.KindService + "/" + id}
		}
	case *corev1.ReplicationController:
		if id != "" && labels[LabelKind] == structs.KindRC {
			return name{structs.WorkloadObject, structs.KindRC + "/" + id}
		}
	}
	return name{}
}

// owner returns the UUID of the replication controller that has made a pod; "" if none has.
func owner(pod *corev1.Pod) string {
	if pod.Labels[LabelID] != "" {
		return ""
	}
	return pod.Labels[LabelOwner]
}

// controlled reports whether a controller of the cluster counts the object.
func controlled(o Object) bool { return metav1.GetControllerOf(o) != nil }
