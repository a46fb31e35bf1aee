package mirror

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// Users may label what they make in the namespaces of their projects. So labels alone don't
// say whose an object is: its namespace has to be that of the workload's project.

// foreign reports whether an object has the labels of a workload in another namespace.
func (m *Mirror) foreign(o Object) bool {
	if m.elsewhere(nameOf(o), o) {
		return true
	}
	pod, ok := o.(*corev1.Pod)
	return ok && owner(pod) != "" && m.elsewhere(name{structs.WorkloadObject, structs.KindRC + "/" + owner(pod)}, o)
}

// elsewhere reports whether a workload is known to be in another namespace than the object.
func (m *Mirror) elsewhere(n name, o Object) bool {
	w := m.work[n]
	return w != nil && w.assigned && w.a.ProjectID != "" && NamespaceOf(w.a.ProjectID) != o.GetNamespace()
}

// evict forgets what has passed for a workload, or for its pods, before the project of the
// workload was known.
func (m *Mirror) evict(n name, a *structs.Assignment) {
	if a.ProjectID == "" {
		return
	}
	namespace := NamespaceOf(a.ProjectID)
	if at, ok := m.mine[n]; ok && at.Namespace != namespace {
		m.drop(m.objects[at])
		for key, o := range m.objects { // one that it has hidden
			if key.Namespace == namespace && nameOf(o) == n {
				m.mine[n] = key
			}
		}
	}
	if a.Object == nil {
		return
	}
	for key := range m.owned[a.Object.OwnerID] {
		if pod := m.objects[key]; key.Namespace != namespace {
			m.drop(pod)
			if w := m.work[nameOf(pod)]; w != nil && !w.assigned {
				delete(m.work, nameOf(pod))
			}
		}
	}
}
