package mirror

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// roll replaces the pods that were made from an earlier template: one at a time, and only
// while as many pods are ready as are wanted. An old pod that isn't ready serves nobody, and
// goes at once: a template that never gets ready is mended that way.
func (w *workload) roll(m *Mirror, rc *corev1.ReplicationController) {
	if !w.free(m) || rc.DeletionTimestamp != nil || rc.Status.ObservedGeneration < rc.Generation {
		return
	}
	live, wanted, ready := m.livePods(w), replicas(rc), 0
	var old []*corev1.Pod
	for _, pod := range live {
		yes, again := available(pod, rc.Spec.MinReadySeconds, m.now)
		if yes {
			ready++
		} else if !again.IsZero() && (w.due.IsZero() || again.Before(w.due)) {
			w.due = again
		}
		if !present(pod, rc) {
			old = append(old, pod)
		}
	}
	if len(old) == 0 || len(live) > wanted {
		return
	}
	slices.SortFunc(old, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	first := old[0]
	if podReady(first) && (len(live) != wanted || ready != wanted) {
		return
	}
	w.due = time.Time{}
	m.call(w, &Call{Verb: Delete, Object: reference(KeyOf(first)), UID: first.UID})
}

// rank puts the pods that aren't ready first.
func rank(pod *corev1.Pod) int {
	if podReady(pod) {
		return 1
	}
	return 0
}

// livePods returns the pods of a replication controller that it counts, as far as they are
// known.
func (v *seen) livePods(w *workload) []*corev1.Pod {
	_, id, _ := strings.Cut(w.id, "/")
	var live []*corev1.Pod
	for key := range v.owned[id] {
		if pod := v.objects[key].(*corev1.Pod); active(pod) && controlled(pod) {
			live = append(live, pod)
		}
	}
	slices.SortFunc(live, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return live
}

// active reports whether a pod has not ended and isn't about to go.
func active(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// present reports whether a pod was made from the present template.
func present(pod *corev1.Pod, rc *corev1.ReplicationController) bool {
	return rc.Spec.Template != nil && pod.Annotations[annotationTemplate] == rc.Spec.Template.Annotations[annotationTemplate]
}

func replicas(rc *corev1.ReplicationController) int {
	if rc.Spec.Replicas == nil {
		return 1
	}
	return int(*rc.Spec.Replicas)
}

// podReady reports whether a pod is ready.
func podReady(pod *corev1.Pod) bool {
	c := condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// available reports whether a pod has been ready for a number of seconds, or when it may be.
func available(pod *corev1.Pod, seconds int32, now time.Time) (bool, time.Time) {
	if !podReady(pod) {
		return false, time.Time{}
	}
	at := condition(pod, corev1.PodReady).LastTransitionTime.Add(time.Duration(seconds) * time.Second)
	return seconds == 0 || !at.After(now), at
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// showRC describes a replication controller.
func (v *seen) showRC(w *workload, rc *corev1.ReplicationController) *structs.RCReport {
	r := &structs.RCReport{RCObserved: structs.RCObserved{Current: int(rc.Status.Replicas), Ready: int(rc.Status.ReadyReplicas)}}
	if hashOfObject(rc) == w.hash && rc.Status.ObservedGeneration >= rc.Generation {
		r.Generation = w.a.Generation
	} else {
		r.Generation = number(rc, annotationGeneration)
	}
	var waits *corev1.Pod
	old := 0
	for _, pod := range v.livePods(w) {
		isOld := !present(pod, rc)
		if isOld {
			old++
		} else {
			r.Updated++
		}
		// Pods of the present template are named first, as on a Docker bay.
		if !podReady(pod) && (waits == nil || !isOld && !present(waits, rc)) {
			waits = pod
		}
	}
	for _, c := range rc.Status.Conditions {
		if c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue {
			r.Reason = c.Message
		}
	}
	if r.Reason == "" {
		silent := ""
		if waits != nil {
			silent = v.nodeSilent(waits)
		}
		r.Reason = rcReason(replicas(rc), r.Updated, old, waits, silent)
	}
	return r
}

// rcReason says what is not as wanted. waits is a pod that isn't ready, nil if there is none, and
// silent is what nodeSilent says of it. What the cluster says of a container that waits follows,
// except for the time of its next start.
func rcReason(wanted, updated, old int, waits *corev1.Pod, silent string) string {
	if waits == nil {
		return structs.RCReason(wanted, updated, old, nil)
	}
	p, status := &structs.Pod{Name: waits.Name, Spec: *specOf(waits)}, &waits.Status
	p.PlaceReason = podTrouble(waits, silent, false)
	r := structs.ContainerReport{Pod: &structs.PodReport{Phase: structs.PodPhase(status.Phase),
		Conditions: []structs.Condition{{Type: structs.ConditionReady}}}}
	r.Status = structs.ContainerRunning
	r.Parts = append(parts(waits.Spec.InitContainers, status.InitContainerStatuses),
		parts(waits.Spec.Containers, status.ContainerStatuses)...)
	if p.Observe(&r); p.PlaceReason == "" {
		p.PlaceReason = gated(waits)
	}
	// An init container that is to go on beside the others holds up nothing once it has started.
	p.Spec.InitContainers = slices.DeleteFunc(p.Spec.InitContainers, func(c structs.PodContainer) bool {
		seen := p.Part(c.Name)
		return seen != nil && seen.State == structs.PartRunning && seen.Started
	})
	text := structs.RCReason(wanted, updated, old, p)
	for i := range p.Observed.Parts {
		if s := &p.Observed.Parts[i].PartState; s.State == structs.PartWaiting && s.Reason != structs.ReasonCrashLoop && s.Message != "" &&
			strings.HasSuffix(text, ": "+s.Reason) {
			return text + ": " + s.Message
		}
	}
	return text
}

// gated says which condition keeps a pod from being ready whose containers all are; "" if none
// does.
func gated(pod *corev1.Pod) string {
	if c := condition(pod, corev1.ContainersReady); c == nil || c.Status != corev1.ConditionTrue {
		return ""
	}
	if c := condition(pod, corev1.PodReady); c != nil && c.Status != corev1.ConditionTrue {
		return words(c.Reason, c.Message)
	}
	return ""
}
