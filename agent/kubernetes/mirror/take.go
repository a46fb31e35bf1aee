package mirror

import (
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Take takes over an answer of the servers.
func (m *Mirror) Take(w *structs.Work) {
	sure := w.Full && w.Confirmed && !w.Pending
	if w.BayID != nil {
		if m.bay == nil || *m.bay != *w.BayID {
			m.sure = false
			m.all()
		}
		m.bay = new(*w.BayID)
		m.sure = m.sure || sure
	}
	if m.takes++; m.takes == 1 {
		m.all()
	}
	listed := map[name]bool{}
	for i := range w.Assignments {
		a := &w.Assignments[i]
		n := name{a.Ref().Kind, a.Ref().ID}
		listed[n] = true
		m.assign(n, a)
	}
	if w.Full && w.Confirmed {
		for n, known := range m.work {
			if listed[n] {
				continue
			}
			known.assigned = false
			known.orphan = known.orphan || !w.Pending && !known.found
			known.unwant(m)
			m.touch(n)
		}
	}
	for _, s := range m.spaces {
		s.dirty = true
	}
	if w.Full && !sure {
		m.fullDue = m.now.Add(fullPause)
	}
}

// fullPause is after what time another full answer is asked for, if the one before didn't
// say for certain what the cluster has too much.
const fullPause = 30 * time.Second

// assign takes over an assignment.
func (m *Mirror) assign(n name, a *structs.Assignment) {
	if n.kind != structs.WorkloadPod && n.kind != structs.WorkloadObject {
		return
	}
	w := m.work[n]
	if w == nil {
		w = &workload{name: n}
		m.work[n] = w
	}
	if w.assigned && a.Epoch < w.a.Epoch {
		return
	}
	if !w.assigned {
		m.evict(n, a)
	}
	if again := w.assigned && a.Epoch != w.a.Epoch; again || !w.assigned {
		w.done, w.gone, w.taken, w.remade, w.last, w.why, w.adopted = a.Observed, false, false, 0, nil, "", false
		w.existed = a.EngineID != "" || m.objects[m.mine[n]] != nil
	}
	if w.a.Generation != a.Generation || w.a.Epoch != a.Epoch || w.a.Desired != a.Desired || w.a.Force != a.Force {
		w.refused, w.trouble, w.tries, w.due = nil, "", 0, time.Time{}
	}
	w.assigned, w.orphan, w.a = true, false, *a
	w.found = w.found || a.Pod != nil && a.Pod.Found
	w.read(m)
	m.touch(n)
}

// read translates the manifest of an assignment.
func (w *workload) read(m *Mirror) {
	a := &w.a
	w.unwant(m)
	if w.found {
		return // m.meet knows its name
	}
	key, text := Key{Namespace: NamespaceOf(a.ProjectID), Name: a.Name}, ""
	switch {
	case a.Object != nil && a.Object.Kind == structs.KindService:
		key.Kind, text = Services, a.Object.Manifest
	case a.Object != nil && a.Object.Kind == structs.KindRC:
		key.Kind, text = RCs, a.Object.Manifest
	case a.Pod != nil:
		key.Kind, text = Pods, a.Pod.Manifest
	case w.kind == structs.WorkloadPod:
		key.Kind = Pods
	case strings.HasPrefix(w.id, structs.KindService+"/"):
		key.Kind = Services
	default:
		key.Kind = RCs
	}
	if a.Unreadable != "" || a.ProjectID == "" || a.Name == "" { // what it is to be is unknown; its object may be there
		w.key, w.invalid = m.mine[w.name], a.Unreadable
		w.manifest, w.hash = nil, ""
		return
	}
	w.key = key
	if a.Desired != structs.DesiredAbsent {
		m.wanted[key] = w.name
	}
	hash := hashOf(string(key.Kind), a.Name, text)
	if w.hash == hash || a.Desired == structs.DesiredAbsent {
		return
	}
	w.hash, w.manifest, w.invalid, w.refused = hash, nil, "", nil
	var err error
	var o Object
	switch key.Kind {
	case Services:
		o, err = m.conf.Manifests.Service(text, a.Name)
	case RCs:
		o, err = m.conf.Manifests.RC(text, a.Name)
	default:
		o, err = m.conf.Manifests.Pod(text, a.Name)
	}
	if err != nil {
		w.invalid = err.Error()
		return
	}
	w.manifest = o
}

// unwant gives up the right to a name.
func (w *workload) unwant(m *Mirror) {
	if m.wanted[w.key] == w.name {
		delete(m.wanted, w.key)
	}
}
