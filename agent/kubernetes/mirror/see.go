package mirror

import (
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/stackforge/magnum/structs"
)

// endpoint is an endpoint slice.
type endpoint = discoveryv1.EndpointSlice

// See takes an object that has appeared or changed. It must not be changed afterwards.
func (m *Mirror) See(o Object) {
	if _, gone := m.dead[o.GetUID()]; gone {
		return
	}
	key := KeyOf(o)
	was := m.objects[key]
	switch {
	case key.Kind == Nodes:
		m.seeNode(o.(*corev1.Node))
		return
	case m.foreign(o):
		if was != nil {
			m.drop(was)
		}
		return
	case was != nil && was.GetUID() == o.GetUID() && !newer(o, was):
		return
	case was != nil && was.GetUID() != o.GetUID():
		if !newer(o, was) {
			return // an answer that is late
		}
		m.drop(was)
	}
	m.objects[key] = o
	n := nameOf(o)
	if n != (name{}) {
		m.mine[n] = key
	}
	switch o := o.(type) {
	case *corev1.Pod:
		if id := owner(o); id != "" {
			if m.owned[id] == nil {
				m.owned[id] = map[Key]bool{}
			}
			m.owned[id][key] = true
		}
	case *corev1.Service:
		if m.services[o.Namespace] == nil {
			m.services[o.Namespace] = map[Key]*corev1.Service{}
		}
		m.services[o.Namespace][key] = o
	case *discoveryv1.EndpointSlice:
		service := serviceOf(o)
		if m.slices[service] == nil {
			m.slices[service] = map[Key]*endpoint{}
		}
		m.slices[service][key] = o
	}
	m.meet(n, o)
	m.touchAround(o, was)
}

// meet makes a workload of an object that has none.
func (m *Mirror) meet(n name, o Object) {
	if n == (name{}) {
		return
	}
	w := m.work[n]
	if w == nil {
		w = &workload{name: n, key: KeyOf(o), sighted: m.takes}
		if pod, ok := o.(*corev1.Pod); ok && owner(pod) != "" {
			w.found = true
		} else {
			m.needFull = m.takes > 0
		}
		m.work[n] = w
	}
	if !w.existed {
		w.existed, w.made = true, o.GetCreationTimestamp().Time
	}
	w.gone, w.taken = w.gone && w.assigned, false
	m.touch(n)
}

// Unsee takes an object that is gone.
func (m *Mirror) Unsee(o Object) {
	if KindOf(o) == Nodes {
		delete(m.nodes, o.GetName())
		m.touchNode(o.GetName())
		return
	}
	m.dead[o.GetUID()] = time.Time{} // Next knows the time
	if was := m.objects[KeyOf(o)]; was != nil && was.GetUID() == o.GetUID() {
		m.drop(was)
	}
}

// drop forgets an object.
func (m *Mirror) drop(o Object) {
	key, n := KeyOf(o), nameOf(o)
	delete(m.objects, key)
	is := m.mine[n] == key
	if is {
		delete(m.mine, n)
	}
	switch o := o.(type) {
	case *corev1.Pod:
		if id := owner(o); id != "" {
			if delete(m.owned[id], key); len(m.owned[id]) == 0 {
				delete(m.owned, id)
			}
		}
		if w := m.work[n]; w != nil && is {
			w.why, w.adopted = vanished(o), controlled(o)
		}
	case *corev1.Service:
		if delete(m.services[o.Namespace], key); len(m.services[o.Namespace]) == 0 {
			delete(m.services, o.Namespace)
		}
	case *discoveryv1.EndpointSlice:
		service := serviceOf(o)
		if delete(m.slices[service], key); len(m.slices[service]) == 0 {
			delete(m.slices, service)
		}
	}
	m.touch(n)
	m.touchAround(o, nil)
}

// Replace says that the objects of a kind are these, as of a resource version.
func (m *Mirror) Replace(kind Kind, objects []Object, version string) {
	there := map[Key]bool{}
	for _, o := range objects {
		there[KeyOf(o)] = true
	}
	if kind == Nodes {
		for n := range m.nodes {
			if !there[Key{Kind: Nodes, Name: n}] {
				delete(m.nodes, n)
				m.touchNode(n)
			}
		}
	}
	for _, key := range slices.Collect(maps.Keys(m.objects)) {
		// What an answer has shown may be newer than the list.
		if o := m.objects[key]; key.Kind == kind && !there[key] && !after(o, version) {
			m.drop(o)
		}
	}
	for _, o := range objects {
		m.See(o)
	}
	if _, was := m.api.troubled[kind]; was {
		delete(m.api.troubled, kind)
		m.api.away = m.api.refuses()
	}
	if delete(m.unlisted, kind); len(m.unlisted) == 0 {
		m.all()
	}
}

// after reports whether an object is newer than a resource version.
func after(o Object, version string) bool {
	a, errA := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	b, errB := strconv.ParseUint(version, 10, 64)
	return errA == nil && errB == nil && a > b
}

// touchAround has Next look at the workloads that an object matters to beside its own.
func (m *Mirror) touchAround(o, was Object) {
	key := KeyOf(o)
	m.touch(m.wanted[key])
	switch o := o.(type) {
	case *corev1.Namespace:
		if m.spaces[o.Name] == nil {
			m.spaces[o.Name] = &space{name: o.Name}
		}
		m.touchSpace(o.Name)
	case *networkingv1.NetworkPolicy:
		m.touchSpace(o.Namespace)
	case *corev1.Pod:
		if id := owner(o); id != "" {
			m.touch(name{structs.WorkloadObject, structs.KindRC + "/" + id})
		}
		before, _ := was.(*corev1.Pod)
		for _, s := range m.services[o.Namespace] {
			if selects(s, o) || before != nil && selects(s, before) {
				m.touch(nameOf(s))
			}
		}
	case *discoveryv1.EndpointSlice:
		if s := m.objects[serviceOf(o)]; s != nil {
			m.touch(nameOf(s))
		}
	case *corev1.ReplicationController:
		for pod := range m.owned[o.Labels[LabelID]] {
			m.touch(nameOf(m.objects[pod])) // which is of the present template, or not
		}
	}
}

// seeNode takes a node.
func (m *Mirror) seeNode(n *corev1.Node) {
	was := m.nodes[n.Name]
	m.nodes[n.Name] = n
	if was == nil || silent(was) != silent(n) {
		m.touchNode(n.Name)
	}
	if was == nil || !slices.Equal(was.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		for _, s := range m.spaces {
			s.dirty = true // its policy names the ranges of pods
		}
	}
}

// touchNode has Next look at the pods of a node.
func (m *Mirror) touchNode(node string) {
	for _, o := range m.objects {
		if pod, ok := o.(*corev1.Pod); ok && pod.Spec.NodeName == node {
			m.touch(nameOf(pod))
		}
	}
}

// serviceOf returns the service that an endpoint slice is of.
func serviceOf(e *endpoint) Key { return Key{Services, e.Namespace, e.Labels[labelService]} }

// selects reports whether a service leads to the pod once that is ready.
func selects(s *corev1.Service, pod *corev1.Pod) bool {
	for key, value := range s.Spec.Selector {
		if got, ok := pod.Labels[key]; !ok || got != value {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}
