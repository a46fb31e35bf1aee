package manifest

import (
	"cmp"
	"reflect"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// Service is what a manifest says of a service. Name or GenerateName is set, but not
// both.
type Service struct {
	Name         string // a DNS label; for a bay of Docker hosts it begins with a letter
	GenerateName string // what the name begins with; 5 characters fit behind it
	Labels       map[string]string
	Annotations  map[string]string
	Spec         structs.ServiceSpec
}

// ParseService reads the manifest of a Service, as ParsePod does. Which node ports may be
// asked for is the operator's to say, and not checked.
func ParseService(text string) (*Service, error) {
	doc, err := read[v1.ServiceSpec](text, kindService)
	if err != nil {
		return nil, err
	}
	if doc.Metadata.UID != "" && doc.Spec.ClusterIP != headless {
		doc.Spec.ClusterIP, doc.Spec.ClusterIPs = "", nil // a server has chosen them
	}
	out := &Service{Labels: doc.Metadata.Labels}
	if out.Annotations, err = metadata(&doc.Metadata, "metadata"); err != nil {
		return nil, err
	}
	if out.Name, out.GenerateName, err = names(&doc.Metadata); err != nil {
		return nil, err
	}
	for _, name := range []string{out.Name, out.GenerateName} {
		if name != "" && !isServiceLabel(strings.TrimRight(name, "-")) {
			return nil, refuse("metadata.name", "%.64q does not begin with a letter, as a service's must", name)
		}
	}
	if err := check(reflect.ValueOf(&doc.Spec), "spec"); err != nil {
		return nil, err
	}
	out.Spec, err = serviceSpec(&doc.Spec)
	return out, err
}

const headless = "None" // as a clusterIP

// serviceSpec derives what a bay needs of a service.
func serviceSpec(s *v1.ServiceSpec) (structs.ServiceSpec, error) {
	out := structs.ServiceSpec{Selector: s.Selector, NodePorts: s.Type == "NodePort",
		Headless: s.ClusterIP == headless || len(s.ClusterIPs) > 0}
	if len(s.Selector) == 0 {
		return out, refuse("spec.selector", "is missing: name labels of the pods")
	}
	if err := checkLabels(s.Selector, "spec.selector"); err != nil {
		return out, err
	}
	if out.Headless && out.NodePorts {
		return out, refuse("spec.type", "%q needs an address: leave clusterIP out", s.Type)
	}
	if s.SessionAffinity == "ClientIP" {
		out.ClientIPTimeout = structs.DefaultClientIPTimeout
	}
	if c := s.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		t := *c.ClientIP.TimeoutSeconds
		if t < 1 || t > structs.MaxInterval {
			return out, refuse("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d not in 1..%d", t, structs.MaxInterval)
		}
		if out.ClientIPTimeout == 0 {
			return out, refuse("spec.sessionAffinityConfig", "needs sessionAffinity: ClientIP")
		}
		out.ClientIPTimeout = int(t)
	}
	switch n := len(s.Ports); {
	case n == 0 && !out.Headless:
		return out, refuse("spec.ports", "is empty: a service has at least one port")
	case n > structs.MaxPorts:
		return out, refuse("spec.ports", "%d are more than %d", n, structs.MaxPorts)
	}
	for i := range s.Ports {
		p, err := servicePort(&s.Ports[i], index("spec.ports", i), &out, len(s.Ports) > 1)
		if err != nil {
			return out, err
		}
		out.Ports = append(out.Ports, p)
	}
	return out, nil
}

// servicePort derives a port. It is checked against those that the spec already has.
func servicePort(p *v1.ServicePort, at string, spec *structs.ServiceSpec, several bool) (structs.ServicePort, error) {
	out := structs.ServicePort{Name: p.Name, Port: int(p.Port), NodePort: int(p.NodePort),
		Protocol: strings.ToLower(cmp.Or(p.Protocol, "TCP"))}
	switch {
	case p.Name == "" && several:
		return out, refuse(at+".name", "is missing: give each of several ports a name")
	case p.Name != "" && !isLabel(p.Name):
		return out, checkLabel(at+".name", p.Name)
	case p.Port < 1 || p.Port > 65535:
		return out, refuse(at+".port", "%d not in 1..65535", p.Port)
	case p.NodePort < 0 || p.NodePort > 65535:
		return out, refuse(at+".nodePort", "%d not in 1..65535", p.NodePort)
	case p.NodePort != 0 && !spec.NodePorts:
		return out, refuse(at+".nodePort", "%d needs type: NodePort", p.NodePort)
	case p.TargetPort.Text && !isPortName(p.TargetPort.Name):
		return out, refuse(at+".targetPort", "%.64q is neither a number nor the name of a port", p.TargetPort.Name)
	case p.TargetPort.Int < 0 || p.TargetPort.Int > 65535:
		return out, refuse(at+".targetPort", "%d not in 1..65535", p.TargetPort.Int)
	}
	for _, other := range spec.Ports {
		switch {
		case other.Name == p.Name:
			return out, refuse(at+".name", "%q is the name of another port too", p.Name)
		case other.Port == out.Port && other.Protocol == out.Protocol:
			return out, refuse(at+".port", "%d/%s is given twice", p.Port, out.Protocol)
		case other.NodePort == out.NodePort && out.NodePort != 0 && other.Protocol == out.Protocol:
			return out, refuse(at+".nodePort", "%d/%s is given twice", p.NodePort, out.Protocol)
		}
	}
	if out.TargetName = p.TargetPort.Name; out.TargetName == "" {
		out.TargetPort = int(cmp.Or(p.TargetPort.Int, p.Port))
	}
	return out, nil
}
