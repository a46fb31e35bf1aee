package mirror

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/structs"
)

// Done takes the outcome of a call: the object in the answer, if it has one, or why the call
// failed. For Events the object is the newest warning, if there is one.
func (m *Mirror) Done(c *Call, o Object, err error, now time.Time) {
	m.now = now
	if c.space != "" {
		m.spaces[c.space].done(m, c, o, err)
		return
	}
	w := m.work[c.of]
	if w == nil || w.call != c {
		return
	}
	w.call = nil
	m.touch(w.name)
	if c.Verb == Events {
		w.eventDone(o)
		return
	}
	key := KeyOf(c.Object)
	switch v := judge(c, err); v.kind {
	case fine:
		m.carriedOut(w, c, o)
	case missing:
		if was := m.objects[key]; was != nil && (c.Verb == Get || was.GetUID() == uidOf(c)) {
			m.Unsee(was)
		}
	case taken, changed:
		w.call = &Call{Verb: Get, Object: reference(key), of: w.name}
		m.later = append(m.later, w.call)
	case account:
		if w.tries++; w.tries > accountTries {
			w.refuse(v.code, v.reason, now.Add(quotaPause))
			return
		}
		w.due = now.Add(accountPause)
	case ending:
		w.trouble, w.due = v.reason, now.Add(firstPause)
	case refusedCall:
		if c.Verb == Create || c.Verb == Update {
			most := quotaMost
			if isInvalid(err) {
				most = invalidMost
			}
			w.refuse(v.code, v.reason, time.Time{})
			w.due = now.Add(doubled(quotaPause, w.refused.tries, most))
			w.trouble, w.tries = "", 0
			return
		}
		fallthrough
	default:
		w.tries++
		w.trouble, w.due = v.reason, now.Add(pauseAfter(w.tries, time.Minute/2))
	}
}

// carriedOut takes the answer of a call that has succeeded.
func (m *Mirror) carriedOut(w *workload, c *Call, o Object) {
	w.trouble, w.tries = "", 0
	key := KeyOf(c.Object)
	switch {
	case c.Verb == Delete && o == nil:
		if was := m.objects[key]; was != nil && was.GetUID() == c.UID {
			m.Unsee(was)
		}
	case c.Verb == Get && o.GetLabels()[LabelCluster] != m.conf.ClusterID:
		if was := m.objects[key]; was != nil {
			m.Unsee(was)
		}
		w.refuse(structs.CodeConflict, fmt.Sprintf("%s %s exists in namespace %s of the cluster and is not magnum's, so it is left alone; "+
			"delete it there, or choose another name", w.key.Kind, key.Name, key.Namespace), m.now.Add(foreignPause))
	case o != nil:
		if c.Verb == Create {
			w.why = ""
		}
		if c.Verb != Get && c.Verb != Delete {
			w.refused = nil
		}
		m.See(o)
	}
}

// uidOf returns the UID that a call meant.
func uidOf(c *Call) any {
	if c.Verb == Update {
		return c.Object.GetUID()
	}
	return c.UID
}

// reference returns an object that has no more than the type, namespace and name.
func reference(key Key) Object {
	meta := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
	switch key.Kind {
	case Services:
		return &corev1.Service{ObjectMeta: meta}
	case RCs:
		return &corev1.ReplicationController{ObjectMeta: meta}
	case Namespaces:
		return &corev1.Namespace{ObjectMeta: meta}
	case Policies:
		return &networkingv1.NetworkPolicy{ObjectMeta: meta}
	}
	return &corev1.Pod{ObjectMeta: meta}
}
