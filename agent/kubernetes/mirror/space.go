package mirror

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/structs"
)

// space is a namespace that workloads need, or that carries the label of this cluster.
type space struct {
	name    string
	project string // of the workloads that need it
	dirty   bool
	call    *Call
	refused string // why the namespace can't be used; "" if it can
	code    structs.Code
	trouble string // why the last call failed, if that may pass by itself
	tries   int
	due     time.Time // of the next try
	asked   time.Time // until when a user waits for it, see Mirror.Room
}

// ours reports whether a namespace is one that this cluster of magnum has made for a project.
func (c *Config) ours(ns *corev1.Namespace, project string) bool {
	return ns.Labels[LabelCluster] == c.ClusterID && (project == "" || ns.Labels[LabelProject] == labelValue(project))
}

// seenSpace returns a namespace as the cluster has it; nil if there is none, or it isn't
// known, because it isn't ours.
func (v *seen) seenSpace(name string) *corev1.Namespace {
	ns, _ := v.objects[Key{Kind: Namespaces, Name: name}].(*corev1.Namespace)
	return ns
}

// room says whether a workload's namespace can be used. Otherwise refused says why it never
// can, or waits why it can't yet.
func (w *workload) room(m *Mirror) (ok bool, waits string, refused *refusal) {
	s := m.spaces[w.key.Namespace]
	if s == nil {
		s = &space{name: w.key.Namespace}
		m.spaces[s.name] = s
	}
	if s.project == "" {
		s.project, s.dirty = w.a.ProjectID, true
		s.keep(m)
	}
	ns := m.seenSpace(s.name)
	switch {
	case s.refused != "":
		return false, "", &refusal{reason: s.refused, code: s.code}
	case ns == nil && s.trouble != "":
		return false, fmt.Sprintf("namespace %s can't be made: %s; it is tried again", s.name, s.trouble), nil
	case ns == nil && m.bay == nil:
		return false, "the servers have not said yet which bay the cluster belongs to", nil
	case ns == nil:
		return false, fmt.Sprintf("namespace %s is being made", s.name), nil
	case !m.conf.ours(ns, s.project):
		return false, "", &refusal{reason: foreignSpace(s.name), code: structs.CodeConflict}
	case ns.DeletionTimestamp != nil:
		return false, fmt.Sprintf("namespace %s is being deleted; it is made again after that", s.name), nil
	case m.bay != nil && ns.Labels[LabelBay] != labelValue(*m.bay):
		return false, fmt.Sprintf("namespace %s is an earlier bay's, and is deleted first", s.name), nil
	case !m.closed(ns) && s.trouble != "":
		return false, fmt.Sprintf("namespace %s can't be closed to other projects by a network policy: %s; it is tried again", s.name,
			s.trouble), nil
	case !m.closed(ns):
		return false, fmt.Sprintf("namespace %s is being closed to other projects", s.name), nil
	}
	return true, "", nil
}

func foreignSpace(name string) string {
	return fmt.Sprintf("namespace %s exists in the cluster and is not this magnum's, so it is left alone; "+
		"have the cluster's administrator delete it, and the workload is tried again", name)
}

// keepSpaces makes, changes and deletes namespaces.
func (m *Mirror) keepSpaces() {
	for _, s := range m.spaces {
		if s.dirty || !s.due.IsZero() && !m.now.Before(s.due) {
			s.keep(m)
		}
	}
}

func (s *space) keep(m *Mirror) {
	s.dirty = false
	if s.call != nil || !m.Listed() || m.bay == nil || m.now.Before(s.due) {
		return
	}
	s.due = time.Time{}
	ns := m.seenSpace(s.name)
	switch {
	case ns == nil && s.needed(m):
		s.make(m, &Call{Verb: Create, Object: m.conf.makeSpace(s, *m.bay)})
	case ns == nil && s.project == "":
		delete(m.spaces, s.name)
	case ns == nil || !m.conf.ours(ns, s.project) || ns.DeletionTimestamp != nil:
	case ns.Labels[LabelBay] != labelValue(*m.bay):
		if !m.sure {
			m.needFull = true
			return
		}
		s.make(m, &Call{Verb: Delete, Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name}}, UID: ns.UID})
	case ns.Labels[labelSecurity] != m.conf.PodSecurity:
		changed := ns.DeepCopy()
		changed.Labels[labelSecurity] = m.conf.PodSecurity
		s.make(m, &Call{Verb: Update, Object: changed})
	default:
		s.keepPolicy(m, ns)
	}
}

// needed reports whether a workload that is to be there needs the namespace, or a user does.
func (s *space) needed(m *Mirror) bool {
	if m.now.Before(s.asked) {
		return true
	}
	for _, w := range m.work {
		if w.key.Namespace == s.name && w.assigned && w.a.Desired != structs.DesiredAbsent && !w.gone && !w.found {
			return true
		}
	}
	return false
}

func (c *Config) makeSpace(s *space, bay string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: map[string]string{
		LabelCluster: c.ClusterID, LabelProject: labelValue(s.project), LabelBay: labelValue(bay),
		labelSecurity: c.PodSecurity,
	}}}
}

func (s *space) make(m *Mirror, c *Call) {
	c.space, s.call = s.name, c
	m.out.Calls = append(m.out.Calls, c)
}

// spaceDone takes the outcome of a call on a namespace.
func (s *space) done(m *Mirror, c *Call, o Object, err error) {
	if s == nil || s.call != c {
		return
	}
	s.call, s.dirty = nil, true
	defer m.touchSpace(s.name)
	if KindOf(c.Object) == Policies {
		if o != nil {
			m.See(o)
		}
	} else if o != nil {
		ns := o.(*corev1.Namespace)
		if m.conf.ours(ns, "") {
			m.See(ns)
		} else {
			s.refused, s.code, s.due = foreignSpace(s.name), structs.CodeConflict, m.now.Add(foreignPause)
			return
		}
	}
	what := judge(c, err)
	switch {
	case what.kind == fine:
		s.refused, s.trouble, s.tries = "", "", 0
	case what.kind == missing && c.UID != "":
		if ns := m.seenSpace(s.name); ns != nil && ns.UID == c.UID {
			m.Unsee(ns)
		}
	case what.kind == missing && KindOf(c.Object) == Policies:
		if was := m.objects[KeyOf(c.Object)]; was != nil {
			m.Unsee(was)
		}
	case what.kind == missing:
	case what.kind == taken, what.kind == changed:
		s.call = &Call{Verb: Get, Object: reference(KeyOf(c.Object)), space: s.name}
		m.later = append(m.later, s.call)
	case what.kind == refusedCall && c.Verb == Create && KindOf(c.Object) == Namespaces:
		s.refused, s.code = fmt.Sprintf("namespace %s can't be made: %s", s.name, what.reason), what.code
		s.due = m.now.Add(foreignPause)
	default:
		s.trouble = what.reason
		s.tries++
		s.due = m.now.Add(pauseAfter(s.tries, time.Minute))
	}
}
