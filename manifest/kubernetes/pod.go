package kubernetes

import (
	"cmp"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/structs"
)

// ParsePod reads the manifest of a Pod, as YAML or JSON. The spec has what
// structs.PodSpec.Cluster says. Errors are CodeInvalid; their messages begin with the path of
// the field, such as spec.containers[0].image, or with "manifest" if they are about the text.
func ParsePod(text string) (*manifest.Pod, error) {
	o, err := read[corev1.PodSpec](text, kindPod)
	if err != nil {
		return nil, err
	}
	pod := &manifest.Pod{Labels: o.Metadata.Labels, Annotations: o.Metadata.Annotations}
	if pod.Name, pod.GenerateName, err = names(&o.Metadata, manifest.CheckDomain); err != nil {
		return nil, err
	}
	pod.Spec, err = podSpec(&o.Spec, "spec")
	return pod, err
}

// Pod returns the Pod to create with a name from a manifest. It has no namespace, no status,
// and nothing in metadata that a cluster sets. Errors are CodeInvalid.
func Pod(text, name string) (*corev1.Pod, error) {
	o, err := read[corev1.PodSpec](text, kindPod)
	if err != nil {
		return nil, err
	}
	if o.printed {
		o.Spec.NodeName = "" // a scheduler has chosen it
	}
	fixName(&o.Metadata, name)
	return &corev1.Pod{TypeMeta: types(kindPod), ObjectMeta: o.Metadata, Spec: o.Spec}, nil
}

// podSpec derives what servers keep of a pod.
func podSpec(spec *corev1.PodSpec, path string) (structs.PodSpec, error) {
	out := structs.PodSpec{Cluster: true, GracePeriod: corev1.DefaultTerminationGracePeriodSeconds,
		RestartPolicy: cmp.Or(string(spec.RestartPolicy), structs.PodRestartAlways)}
	switch out.RestartPolicy {
	case structs.PodRestartAlways, structs.PodRestartOnFailure, structs.PodRestartNever:
	default:
		return out, manifest.Refuse(path+".restartPolicy", "%.64q must be Always, OnFailure or Never", out.RestartPolicy)
	}
	if grace := spec.TerminationGracePeriodSeconds; grace != nil {
		if *grace < 0 {
			return out, manifest.Refuse(path+".terminationGracePeriodSeconds", "%d is less than 0", *grace)
		}
		out.GracePeriod = int(min(*grace, math.MaxInt32)) // years; the cluster gets all of them
	}
	if deadline := spec.ActiveDeadlineSeconds; deadline != nil {
		if *deadline < 1 || *deadline > math.MaxInt32 {
			return out, manifest.Refuse(path+".activeDeadlineSeconds", "%d not in 1..%d seconds", *deadline, math.MaxInt32)
		}
		out.ActiveDeadline = *deadline
	}
	if len(spec.Containers) == 0 {
		return out, manifest.Refuse(path+".containers", "is empty: a pod has at least one container")
	}
	if n := len(spec.Containers) + len(spec.InitContainers); n > structs.MaxParts-1 {
		return out, manifest.Refuse(path+".containers", "%d with the init containers are more than %d", n, structs.MaxParts-1)
	}
	seen := make(map[string]string)
	var err error
	if out.InitContainers, err = containers(spec.InitContainers, path+".initContainers", seen); err != nil {
		return out, err
	}
	if out.Containers, err = containers(spec.Containers, path+".containers", seen); err != nil {
		return out, err
	}
	setRequests(spec, &out)
	return out, manifest.CheckSize(out, path)
}

// containers derives what servers keep of containers. seen has the paths of those before, by
// name.
func containers(list []corev1.Container, path string, seen map[string]string) ([]structs.PodContainer, error) {
	var all []structs.PodContainer
	for i := range list {
		c, at := &list[i], index(path, i)
		if err := manifest.CheckLabel(at+".name", c.Name); err != nil {
			return nil, err
		}
		if seen[c.Name] != "" {
			return nil, manifest.Refuse(at+".name", "%q is the name of %s too: give each container a name of its own",
				c.Name, seen[c.Name])
		}
		seen[c.Name] = at
		if c.Image == "" {
			return nil, manifest.Refuse(at+".image", "is missing: name an image, such as busybox:1.36")
		}
		out := structs.PodContainer{Name: c.Name, Image: c.Image, TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce}
		for j := range c.Ports {
			p, at := &c.Ports[j], index(at+".ports", j)
			if err := checkPort(at+".containerPort", p.ContainerPort, 1); err != nil {
				return nil, err
			}
			if err := checkPort(at+".hostPort", p.HostPort, 0); err != nil {
				return nil, err
			}
			protocol, err := protocolOf(at+".protocol", p.Protocol)
			if err != nil {
				return nil, err
			}
			out.Ports = append(out.Ports, structs.PodPort{Name: p.Name, Port: structs.Port{ContainerPort: int(p.ContainerPort),
				HostPort: int(p.HostPort), Protocol: protocol}})
		}
		all = append(all, out)
	}
	return all, nil
}

// checkPort checks the number of a port. least is 0 if it can be left out.
func checkPort(path string, port, least int32) error {
	if port < least || port > 65535 {
		return manifest.Refuse(path, "%d not in 1..65535", port)
	}
	return nil
}

// protocolOf returns a protocol as rows have it. A cluster knows SCTP too.
func protocolOf(path string, protocol corev1.Protocol) (string, error) {
	switch protocol {
	case "":
		return "tcp", nil
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return strings.ToLower(string(protocol)), nil
	}
	return "", manifest.Refuse(path, "%.64q must be TCP, UDP or SCTP", string(protocol))
}
