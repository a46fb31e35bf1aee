package mirror

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Pods that don't get on for eventFirst are looked for in the cluster's events, which say
// what the status doesn't, and again every eventPause.
const (
	eventFirst = 3 * time.Second
	eventPause = 15 * time.Second
)

// lookForEvents asks for the newest warning about a pod that has been pending for long, and
// whose status doesn't say why.
func (w *workload) lookForEvents(m *Mirror, pod *corev1.Pod) {
	if pod.Status.Phase != corev1.PodPending || pod.DeletionTimestamp != nil || m.podReason(pod, false) != "" {
		w.event, w.eventAt = "", time.Time{}
		return
	}
	if w.eventAt.IsZero() {
		w.eventAt = m.now.Add(eventFirst)
		return
	}
	if m.now.Before(w.eventAt) || !w.free(m) {
		return
	}
	w.eventAt = m.now.Add(eventPause)
	m.call(w, &Call{Verb: Events, Object: reference(KeyOf(pod)), UID: pod.UID})
}

// eventDone takes the newest warning; nil if there is none, or it could not be asked for.
func (w *workload) eventDone(o Object) {
	if e, ok := o.(*corev1.Event); ok {
		w.event = words(e.Reason, e.Message)
	}
}
