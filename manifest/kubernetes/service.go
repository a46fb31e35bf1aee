package kubernetes

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/structs"
)

// ParseService reads the manifest of a Service, as ParsePod does. The selector may be empty:
// somebody else then keeps the endpoints. Headless is set for a service without an address of
// its own, of type ExternalName too.
func ParseService(text string) (*manifest.Service, error) {
	o, err := read[corev1.ServiceSpec](text, kindService)
	if err != nil {
		return nil, err
	}
	service := &manifest.Service{Labels: o.Metadata.Labels, Annotations: o.Metadata.Annotations}
	if service.Name, service.GenerateName, err = names(&o.Metadata, manifest.CheckLabel); err != nil {
		return nil, err
	}
	service.Spec, err = serviceSpec(&o.Spec)
	return service, err
}

// Service returns the Service to create with a name from a manifest, as Pod does.
func Service(text, name string) (*corev1.Service, error) {
	o, err := read[corev1.ServiceSpec](text, kindService)
	if err != nil {
		return nil, err
	}
	if o.printed && !isHeadless(&o.Spec) {
		o.Spec.ClusterIP, o.Spec.ClusterIPs = "", nil // the cluster has chosen them
	}
	fixName(&o.Metadata, name)
	return &corev1.Service{TypeMeta: types(kindService), ObjectMeta: o.Metadata, Spec: o.Spec}, nil
}

func isHeadless(s *corev1.ServiceSpec) bool {
	return s.ClusterIP == corev1.ClusterIPNone || slices.Contains(s.ClusterIPs, corev1.ClusterIPNone)
}

// serviceSpec derives what servers keep of a service.
func serviceSpec(s *corev1.ServiceSpec) (structs.ServiceSpec, error) {
	out := structs.ServiceSpec{Selector: s.Selector, Headless: isHeadless(s) || s.Type == corev1.ServiceTypeExternalName}
	switch s.Type {
	case corev1.ServiceTypeNodePort:
		out.NodePorts = true
	case corev1.ServiceTypeLoadBalancer:
		out.NodePorts = s.AllocateLoadBalancerNodePorts == nil || *s.AllocateLoadBalancerNodePorts
	}
	if s.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.ClientIPTimeout = structs.DefaultClientIPTimeout
		if c := s.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			t := *c.ClientIP.TimeoutSeconds
			if t < 1 || t > structs.MaxInterval {
				return out, manifest.Refuse("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d not in 1..%d", t, structs.MaxInterval)
			}
			out.ClientIPTimeout = int(t)
		}
	}
	switch n := len(s.Ports); {
	case n == 0 && !out.Headless:
		return out, manifest.Refuse("spec.ports", "is empty: a service has at least one port")
	case n > structs.MaxPorts:
		return out, manifest.Refuse("spec.ports", "%d are more than %d", n, structs.MaxPorts)
	}
	for i := range s.Ports {
		p, err := servicePort(&s.Ports[i], index("spec.ports", i), out.Ports, len(s.Ports) > 1)
		if err != nil {
			return out, err
		}
		out.Ports = append(out.Ports, p)
	}
	return out, manifest.CheckSize(out, "spec")
}

// servicePort derives a port. It is checked against those before it.
func servicePort(p *corev1.ServicePort, at string, before []structs.ServicePort, several bool) (structs.ServicePort, error) {
	out := structs.ServicePort{Name: p.Name, Port: int(p.Port), NodePort: int(p.NodePort)}
	var err error
	if out.Protocol, err = protocolOf(at+".protocol", p.Protocol); err != nil {
		return out, err
	}
	switch {
	case p.Name != "":
		err = manifest.CheckLabel(at+".name", p.Name)
	case several:
		err = manifest.Refuse(at+".name", "is missing: give each of several ports a name")
	}
	if err != nil {
		return out, err
	}
	if err := checkPort(at+".port", p.Port, 1); err != nil {
		return out, err
	}
	if err := checkPort(at+".nodePort", p.NodePort, 0); err != nil {
		return out, err
	}
	if p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "" {
		out.TargetName = p.TargetPort.StrVal
	} else {
		if err := checkPort(at+".targetPort", p.TargetPort.IntVal, 0); err != nil {
			return out, err
		}
		out.TargetPort = int(cmp.Or(p.TargetPort.IntVal, p.Port))
	}
	for _, other := range before {
		switch {
		case other.Name == p.Name:
			return out, manifest.Refuse(at+".name", "%q is the name of another port too", p.Name)
		case other.Port == out.Port && other.Protocol == out.Protocol:
			return out, manifest.Refuse(at+".port", "%d/%s is given twice", p.Port, out.Protocol)
		}
	}
	return out, nil
}
