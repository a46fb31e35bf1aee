// Package endpoints decides which pods a service leads to. The conductor's step "keep
// endpoints" calls it, and the requests that write a service. It is a pure function, without
// clock, randomness, I/O or state of its own.
package endpoints

import (
	"iter"
	"slices"

	"github.com/stackforge/magnum/structs"
)

// View is what is read to decide: the scratch view of a batch.
type View interface {
	// Get returns a row, nil if there is none.
	Get(table structs.Table, id string) structs.Row
	// InBay yields the workloads of the bay in creation order.
	InBay(bayID string) iter.Seq[structs.Workload]
}

// Of returns the endpoints of a service. It looks at all workloads of the bay: a step that
// needs them for many services uses a Bay.
func Of(v View, s *structs.Service) *structs.Endpoints {
	var pods []*structs.Pod
	for w := range v.InBay(s.BayID) {
		if p, ok := w.(*structs.Pod); ok && p.ProjectID == s.ProjectID && s.Matches(p) {
			pods = append(pods, p)
		}
	}
	return of(v, s, pods)
}

// of returns the endpoints of a service with the pods, all of which match.
func of(v View, s *structs.Service, pods []*structs.Pod) *structs.Endpoints {
	was, _ := v.Get(structs.TableEndpoints, s.ID).(*structs.Endpoints)
	e := &structs.Endpoints{Meta: structs.Meta{ID: s.ID, Seq: s.Seq, ProjectID: s.ProjectID}, BayID: s.BayID}
	for _, p := range pods {
		if p.Desired != structs.DesiredRunning || p.Ended() {
			continue
		}
		e.Matched++
		if one := endpointOf(v, s, p, was); one != nil && len(e.Pods) < structs.MaxEndpoints {
			e.Pods = append(e.Pods, *one)
		}
	}
	return e
}

// endpointOf returns the endpoint of a pod, nil if it gets no connections. was are the
// service's endpoints so far, nil if there are none.
func endpointOf(v View, s *structs.Service, p *structs.Pod, was *structs.Endpoints) *structs.Endpoint {
	if p.DrainStop {
		return nil // it is being stopped
	}
	if !p.Ready() || lost(v, p.HostID) {
		if one := earlier(v, s, p, was); one != nil {
			return one
		}
	}
	if p.Observed.Address == "" || lost(v, p.HostID) || p.Phase() == structs.PodUnknown {
		return nil // it waits for a host, or for its start, or is on a lost host
	}
	return &structs.Endpoint{PodID: p.ID, Name: p.Name, HostID: p.HostID, Address: p.Observed.Address, Ports: portsOf(s, p),
		Ready: p.Ready()}
}

// earlier returns the endpoint of a pod's earlier placement, which runs on a draining host
// until the newest one is ready; nil if there is none. A pod's row has nothing observed of an
// earlier placement, so its endpoint stays as it was: only Earlier changes it.
func earlier(v View, s *structs.Service, p *structs.Pod, was *structs.Endpoints) *structs.Endpoint {
	if was == nil {
		return nil
	}
	for i := range was.Pods {
		one := &was.Pods[i]
		if one.PodID != p.ID {
			continue
		}
		if prior := p.PriorOn(one.HostID); prior != nil && prior.Keep && !lost(v, one.HostID) {
			kept := *one
			kept.Ports = portsOf(s, p) // the service may have changed
			return &kept
		}
	}
	return nil
}

// Earlier yields the rows in which the endpoint of a pod's earlier placement changes, because
// its host has reported that. The services are those of the bay.
func Earlier(v View, services iter.Seq[*structs.Service], p *structs.Pod, hostID string,
	r *structs.ContainerReport) iter.Seq[*structs.Endpoints] {
	seen := *p
	seen.Observed, seen.Gone = structs.PodObserved{}, false
	seen.Observe(r)
	return func(yield func(*structs.Endpoints) bool) {
		for s := range services {
			was, _ := v.Get(structs.TableEndpoints, s.ID).(*structs.Endpoints)
			if s.ProjectID != p.ProjectID || was == nil || !s.Matches(p) {
				continue
			}
			i := slices.IndexFunc(was.Pods, func(e structs.Endpoint) bool { return e.PodID == p.ID && e.HostID == hostID })
			if i < 0 {
				continue // the newest placement has taken its place
			}
			now := *was
			now.Pods = slices.Clone(was.Pods)
			now.Pods[i].Ready = seen.Ready()
			if a := seen.Observed.Address; a != "" {
				now.Pods[i].Address = a // it was made again there
			}
			if !Same(was, &now) && !yield(&now) {
				return
			}
		}
	}
}

// lost reports whether the host is lost. Its pods get no connections from then on, even if
// their rows have not been written yet.
func lost(v View, hostID string) bool {
	h, _ := v.Get(structs.TableHosts, hostID).(*structs.Host)
	return h == nil || h.State == structs.HostLost
}

// portsOf returns the port of the pod for each port of the service, 0 where the pod has no
// port of that name and protocol.
func portsOf(s *structs.Service, p *structs.Pod) []int {
	ports := make([]int, 0, len(s.Spec.Ports))
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.TargetName == "" {
			ports = append(ports, port.TargetPort)
			continue
		}
		ports = append(ports, namedPort(&p.Spec, port.TargetName, port.Protocol))
	}
	return ports
}

// namedPort returns the port with the name in the first container that has one, 0 if none
// has.
func namedPort(spec *structs.PodSpec, name, protocol string) int {
	for i := range spec.Containers {
		for _, port := range spec.Containers[i].Ports {
			if port.Name == name && (port.Protocol == protocol || port.Protocol == "" && protocol == "tcp") {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// Bay yields the endpoints that the services have now, in the order given. All services are
// of one bay, whose workloads are read once.
func Bay(v View, services []*structs.Service) iter.Seq2[*structs.Service, *structs.Endpoints] {
	return func(yield func(*structs.Service, *structs.Endpoints) bool) {
		if len(services) == 0 {
			return
		}
		matched := match(v, services)
		for _, s := range services {
			if !yield(s, of(v, s, matched[s.ID])) {
				return
			}
		}
	}
}

// label is a label of a project's pods.
type label struct{ projectID, key, value string }

// match returns the pods of each service by its ID. A pod is compared only with the services
// that select one of its labels.
func match(v View, services []*structs.Service) map[string][]*structs.Pod {
	selecting := make(map[label][]*structs.Service)
	for _, s := range services {
		if l, ok := first(s); ok {
			selecting[l] = append(selecting[l], s)
		}
	}
	matched := make(map[string][]*structs.Pod)
	for w := range v.InBay(services[0].BayID) {
		p, ok := w.(*structs.Pod)
		if !ok {
			continue
		}
		for key, value := range p.Labels { // in any order: each service selects by one of the labels
			for _, s := range selecting[label{p.ProjectID, key, value}] {
				if s.Matches(p) {
					matched[s.ID] = append(matched[s.ID], p)
				}
			}
		}
	}
	return matched
}

// first returns the label of the selector by which pods are looked up: the last one by its
// key, because the first ones are those that many objects share, such as app. ok is false for
// a service without a selector.
func first(s *structs.Service) (l label, ok bool) {
	for key, value := range s.Spec.Selector {
		if !ok || key > l.key {
			l, ok = label{s.ProjectID, key, value}, true
		}
	}
	return l, ok
}

// Same reports whether two rows of endpoints say the same.
func Same(a, b *structs.Endpoints) bool {
	return a.BayID == b.BayID && a.Matched == b.Matched && slices.EqualFunc(a.Pods, b.Pods, func(a, b structs.Endpoint) bool {
		return a.PodID == b.PodID && a.Name == b.Name && a.HostID == b.HostID && a.Address == b.Address && a.Ready == b.Ready &&
			slices.Equal(a.Ports, b.Ports)
	})
}
