package mirror

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// The pauses before a pod is made again that has vanished, or can't run any more.
const (
	againFirst = time.Second
	againMost  = 5 * time.Minute
	againReset = 10 * time.Minute // a pod that was there for so long has no history
)

// wasDeleted says why an object is gone of which nothing else is known.
const wasDeleted = "it was deleted in the cluster"

// step decides about one workload: at most one call is in progress for each.
func (w *workload) step(m *Mirror) {
	if !m.now.Before(w.due) {
		w.due = time.Time{}
	}
	o := m.objects[m.mine[w.name]]
	if w.key.Name == "" && o != nil {
		w.key = KeyOf(o)
	}
	switch {
	case w.taken && o == nil && (!w.assigned || w.a.Desired == structs.DesiredAbsent || w.found):
		w.forget(m)
	case !w.assigned && !w.found && o == nil:
		if w.call == nil {
			w.forget(m)
		}
	case !w.assigned && !w.found && !w.orphan:
		// The next full answer decides.
	case w.found:
		w.stepFound(m, o)
	case w.orphan || w.a.Desired == structs.DesiredAbsent:
		w.remove(m, o)
	default:
		w.keep(m, o)
	}
}

// stepFound decides about a pod that a replication controller has made.
func (w *workload) stepFound(m *Mirror, o Object) {
	absent := w.assigned && w.a.Desired == structs.DesiredAbsent
	switch {
	case o == nil && !m.Listed():
		return
	case o == nil && absent:
		w.showGone(m, "")
		return
	case o == nil:
		w.showGone(m, w.why)
		return
	}
	pod := o.(*corev1.Pod)
	rc := name{structs.WorkloadObject, structs.KindRC + "/" + owner(pod)}
	if absent {
		controller, there := m.work[rc], m.objects[m.mine[rc]]
		goes := controller != nil && controller.assigned && controller.a.Desired == structs.DesiredAbsent
		if goes && there != nil && there.GetDeletionTimestamp() == nil {
			w.show(m, o, "") // the replication controller goes first, or it makes another pod
			return
		}
		w.remove(m, o)
		return
	}
	if !w.assigned && m.work[rc] == nil && !controlled(pod) && m.sure && m.takes > w.sighted && m.objects[m.mine[rc]] == nil {
		w.orphan = true // nobody keeps it, and nobody will delete it
		w.remove(m, o)
		return
	}
	w.show(m, o, "")
}

// remove deletes the object of a workload, and says that it is gone once it is.
func (w *workload) remove(m *Mirror, o Object) {
	if o == nil {
		switch {
		case w.call != nil || !m.Listed():
			w.show(m, nil, "")
		default:
			w.showGone(m, "")
		}
		return
	}
	force := w.assigned && w.a.Force && KindOf(o) == Pods
	var grace *int64
	if force {
		grace = new(int64)
	}
	if w.call == nil && m.Listed() && m.now.After(w.due) && (o.GetDeletionTimestamp() == nil || force && w.forced != o.GetUID()) {
		if force {
			w.forced = o.GetUID()
		}
		m.call(w, &Call{Verb: Delete, Object: reference(KeyOf(o)), UID: o.GetUID(), Grace: grace})
	}
	w.show(m, o, "")
}

// keep makes the object of a workload as the assignment says.
func (w *workload) keep(m *Mirror, o Object) {
	if w.refused == nil && w.manifest == nil && (o == nil || hashOfObject(o) != w.hash) {
		w.refuse(structs.CodeInvalid, fmt.Sprintf("the agent can't read the manifest: %s", w.invalid), time.Time{})
	}
	if o == nil {
		w.keepMissing(m)
		return
	}
	pod, _ := o.(*corev1.Pod)
	switch {
	case o.GetDeletionTimestamp() != nil:
	case pod != nil && epochOf(o) < w.a.Epoch, pod != nil && lostForGood(pod) && w.free(m) && w.again(m.now):
		if w.free(m) {
			m.call(w, &Call{Verb: Delete, Object: reference(w.key), UID: o.GetUID(), Version: o.GetResourceVersion()})
		}
	case hashOfObject(o) != w.hash || epochOf(o) != w.a.Epoch:
		if w.manifest != nil && w.free(m) {
			updated, err := m.conf.merged(w, o)
			if err != nil {
				w.refuse(structs.CodeInvalid, err.Error(), time.Time{})
				break
			}
			m.call(w, &Call{Verb: Update, Object: updated})
		}
	default:
		w.done, w.refused = max(w.done, w.a.Generation), nil
		if rc, ok := o.(*corev1.ReplicationController); ok {
			w.keepReplicas(m, rc)
			w.roll(m, rc)
		}
	}
	w.show(m, o, "")
}

// keepReplicas sets the number of replicas again that the manifest gives, if somebody has changed
// it in the cluster. A number that the manifest doesn't give is the business of others, such as an
// autoscaler.
func (w *workload) keepReplicas(m *Mirror, rc *corev1.ReplicationController) {
	want, ok := w.manifest.(*corev1.ReplicationController)
	if !ok || want.Spec.Replicas == nil || *want.Spec.Replicas == int32(replicas(rc)) || !w.free(m) {
		return
	}
	if updated, err := m.conf.merged(w, rc); err == nil { // it was made of this manifest before
		m.call(w, &Call{Verb: Update, Object: updated})
	}
}

// free reports whether a call may be made for the workload now.
func (w *workload) free(m *Mirror) bool { return w.call == nil && m.Listed() && w.due.IsZero() }

// call has a call made.
func (m *Mirror) call(w *workload, c *Call) {
	c.of, w.call = w.name, c
	m.out.Calls = append(m.out.Calls, c)
}

// keepMissing makes an object that isn't there.
func (w *workload) keepMissing(m *Mirror) {
	if w.gone {
		return
	}
	if !m.Listed() || w.manifest == nil || w.call != nil && w.call.Verb != Get {
		w.show(m, nil, "")
		return
	}
	if w.existed && w.key.Kind == Pods {
		pod := w.manifest.(*corev1.Pod)
		policy := pod.Spec.RestartPolicy
		switch {
		case w.adopted:
			w.showGone(m, "a replication controller of the cluster whose selector the pod matches has deleted it")
			return
		case policy != "" && policy != corev1.RestartPolicyAlways:
			w.showGone(m, fmt.Sprintf("%s; it is not made again, because its restartPolicy is %s", orText(w.why, wasDeleted), policy))
			return
		}
	}
	if other := m.objects[w.key]; other != nil && nameOf(other) != w.name {
		waits := fmt.Sprintf("an earlier %s of the name is being deleted", w.key.Kind)
		if other.GetDeletionTimestamp() == nil {
			waits = fmt.Sprintf("another %s of magnum's has the name, and is deleted first", w.key.Kind)
		}
		w.show(m, nil, waits)
		return
	}
	ok, waits, refused := w.room(m)
	switch {
	case refused != nil:
		w.showBarred(m, nil, "", refused)
		return
	case !ok:
		w.show(m, nil, waits)
		return
	}
	if w.existed && w.due.IsZero() && w.call == nil && w.trouble == "" && w.refused == nil && w.again(m.now) {
		w.existed = false
	}
	if !w.existed && w.free(m) {
		m.call(w, &Call{Verb: Create, Object: m.conf.made(w)})
	}
	again := ""
	if w.why != "" || w.a.EngineID != "" {
		again = orText(w.why, wasDeleted) + "; it is made again"
	}
	w.show(m, nil, again)
}

// again reports whether a pod that has ended or vanished may be made again now. The pauses
// grow if that repeats.
func (w *workload) again(now time.Time) bool {
	if !w.due.IsZero() {
		return false
	}
	if now.Sub(w.made) > againReset {
		w.remade = 0
	}
	if w.made.IsZero() || now.Sub(w.made) >= w.againPause() {
		w.remade++
		return true
	}
	w.due = w.made.Add(w.againPause())
	return false
}

func (w *workload) againPause() time.Duration {
	if w.remade == 0 {
		return 0
	}
	return doubled(againFirst, w.remade, againMost)
}

// forget ends the reports of a workload.
func (w *workload) forget(m *Mirror) {
	w.unwant(m)
	delete(m.work, w.name)
	if w.last != nil {
		m.out.Forget = append(m.out.Forget, w.last.Ref())
	}
}

// refuse notes that the newest generation can't be carried out. It is tried again at due,
// if that is set.
func (w *workload) refuse(code structs.Code, reason string, due time.Time) {
	tries := 1
	if w.refused != nil {
		tries += w.refused.tries
	}
	w.refused, w.due = &refusal{generation: w.a.Generation, reason: reason, code: code, tries: tries}, due
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
