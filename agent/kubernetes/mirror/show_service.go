package mirror

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/stackforge/magnum/structs"
)

// showService describes a service and the pods that it leads to.
func (v *seen) showService(s *corev1.Service, hostID string) *structs.ServiceReport {
	r := &structs.ServiceReport{Ports: []structs.ServicePort{}, Endpoints: []structs.Endpoint{}}
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		r.Address = s.Spec.ClusterIP
	}
	for _, p := range s.Spec.Ports {
		port := structs.ServicePort{Name: p.Name, Port: int(p.Port), NodePort: int(p.NodePort),
			Protocol: strings.ToLower(string(p.Protocol))}
		if p.TargetPort.Type == intstr.String {
			port.TargetName = p.TargetPort.StrVal
		} else {
			port.TargetPort = int(p.TargetPort.IntVal)
		}
		r.Ports = append(r.Ports, port)
	}
	for key, o := range v.objects {
		if pod, ok := o.(*corev1.Pod); ok && key.Namespace == s.Namespace && active(pod) && selects(s, pod) {
			r.Matched++
		}
	}
	r.Endpoints = v.endpoints(s, hostID)
	r.Matched = max(r.Matched, len(r.Endpoints))
	r.Endpoints = r.Endpoints[:min(len(r.Endpoints), structs.MaxEndpoints)]
	return r
}

// endpoints returns the pods that a service leads to, in the order of their names.
func (v *seen) endpoints(s *corev1.Service, hostID string) []structs.Endpoint {
	all := []structs.Endpoint{}
	family := discoveryv1.AddressTypeIPv4
	if len(s.Spec.IPFamilies) > 0 {
		family = discoveryv1.AddressType(s.Spec.IPFamilies[0])
	}
	for _, slice := range v.slices[KeyOf(s)] {
		if slice.AddressType != family {
			continue
		}
		ports := make([]int, len(s.Spec.Ports))
		for i, p := range s.Spec.Ports {
			for _, has := range slice.Ports {
				if has.Name != nil && *has.Name == p.Name && has.Port != nil && (has.Protocol == nil || *has.Protocol == p.Protocol) {
					ports[i] = int(*has.Port)
				}
			}
		}
		for _, e := range slice.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			one := structs.Endpoint{HostID: hostID, Address: e.Addresses[0], Ports: ports}
			ready, ending := e.Conditions.Ready, e.Conditions.Terminating
			one.Ready = (ready == nil || *ready) && (ending == nil || !*ending)
			if e.TargetRef != nil {
				one.Name = e.TargetRef.Name
				if pod, ok := v.objects[Key{Pods, s.Namespace, e.TargetRef.Name}].(*corev1.Pod); ok && pod.UID == e.TargetRef.UID {
					one.PodID = nameOf(pod).id
				}
			}
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b structs.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Address, b.Address))
	})
	return slices.CompactFunc(all, func(a, b structs.Endpoint) bool { return a.Name == b.Name && a.Address == b.Address })
}
