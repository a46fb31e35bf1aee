package mirror

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// TestLabelsOfAnotherNamespace: users may label objects in the namespace of their project as
// they like. Such an object doesn't pass for another project's.
func TestLabelsOfAnotherNamespace(t *testing.T) {
	for _, first := range []bool{true, false} {
		s := newScript(t)
		spoof := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}
		spoof.Name, spoof.Namespace, spoof.UID = "web", "magnum-p2", "spoof"
		spoof.Labels = map[string]string{LabelCluster: clusterID, LabelKind: structs.KindPod, LabelID: podID}
		if first {
			s.put(spoof)
		}
		s.pod(podID, "web", "  containers: [{name: c, image: x}]\n")
		s.take(true)
		s.settle()
		s.runs("web", true)
		if !first {
			s.put(spoof)
		}
		s.settle()
		pod := s.m.Locate(structs.WorkloadPod, podID)
		if pod == nil || pod.Namespace != namespace {
			t.Errorf("first %v: the pod is %+v", first, pod)
		}
		if r := s.reports[podID]; r.Status != structs.ContainerRunning || r.EngineID == "spoof" {
			t.Errorf("first %v: the report is %+v", first, r)
		}
	}
}

// TestPodsOfAnotherNamespace: the same holds for pods that say that a replication controller of
// another project has made them.
func TestPodsOfAnotherNamespace(t *testing.T) {
	for _, first := range []bool{true, false} {
		s := newScript(t)
		spoof := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}
		spoof.Name, spoof.Namespace, spoof.UID = "web-1", "magnum-p2", "spoof"
		spoof.Labels = map[string]string{LabelCluster: clusterID, LabelOwner: ownerID}
		if first {
			s.put(spoof)
		}
		s.object(structs.KindRC, "web", "  replicas: 1\n  selector: {app: web}\n  template:\n    metadata: {labels: {app: web}}\n"+
			"    spec: {containers: [{name: c, image: x}]}\n")
		s.take(true)
		s.settle()
		if !first {
			s.put(spoof)
			s.settle()
		}
		if r, ok := s.reports["spoof"]; ok {
			t.Errorf("first %v: the pod is reported: %+v", first, r)
		}
		if s.objects[Key{Pods, "magnum-p2", "web-1"}] == nil {
			t.Errorf("first %v: the pod was deleted", first)
		}
	}
}
