// Package manifest reads the manifests of pods.
package manifest

import (
	"encoding/json"
	"reflect"

	"github.com/stackforge/magnum/structs"
)

// Pod is what a manifest of a pod says.
type Pod struct {
	Name         string
	GenerateName string
	Labels       map[string]string
	Annotations  map[string]string
	Spec         structs.PodSpec
}

// ParsePod reads a manifest, of which it knows only the fields below. CodeInvalid.
func ParsePod(text string) (*Pod, error) {
	var m struct {
		Metadata struct {
			Name, GenerateName  string
			Labels, Annotations map[string]string
		}
		Spec struct {
			RestartPolicy              string
			InitContainers, Containers []struct {
				Name, Image string
				Args        []string
				Resources   struct {
					Requests struct{ Memory int64 }
				}
				Ports []struct{ ContainerPort, HostPort int }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "manifest: it is no JSON: %w", err)
	}
	if m.Metadata.Name == "" && m.Metadata.GenerateName == "" {
		return nil, structs.Errorf(structs.CodeInvalid, "metadata.name: it is missing")
	}
	if len(m.Spec.Containers) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "spec.containers: there is none")
	}
	p := &Pod{Name: m.Metadata.Name, GenerateName: m.Metadata.GenerateName, Labels: m.Metadata.Labels, Annotations: m.Metadata.Annotations,
		Spec: structs.PodSpec{RestartPolicy: m.Spec.RestartPolicy, GracePeriod: 30, Hostname: m.Metadata.Name}}
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = structs.PodRestartAlways
	}
	for i, list := range [...]*[]structs.PodContainer{&p.Spec.InitContainers, &p.Spec.Containers} {
		from := m.Spec.InitContainers
		if i == 1 {
			from = m.Spec.Containers
		}
		for _, c := range from {
			made := structs.PodContainer{Name: c.Name, Image: c.Image, Args: c.Args, PullPolicy: structs.PullIfNotPresent,
				Requests: structs.Resources{Memory: c.Resources.Requests.Memory}}
			for _, port := range c.Ports {
				made.Ports = append(made.Ports, structs.PodPort{Port: structs.Port{ContainerPort: port.ContainerPort,
					HostPort: port.HostPort, Protocol: "tcp"}})
			}
			*list = append(*list, made)
		}
	}
	return p, nil
}

// Change returns nil if the specs differ in nothing but images and the deadline.
func Change(old, changed *structs.PodSpec) error {
	was, now := *old, *changed
	now.ActiveDeadline = was.ActiveDeadline
	for _, pair := range [][2]*[]structs.PodContainer{{&was.InitContainers, &now.InitContainers}, {&was.Containers, &now.Containers}} {
		for i := range pair {
			copied := append([]structs.PodContainer(nil), *pair[i]...)
			for j := range copied {
				copied[j].Image = ""
			}
			*pair[i] = copied
		}
	}
	if !reflect.DeepEqual(was, now) {
		return structs.Errorf(structs.CodeInvalid, "spec: only images and activeDeadlineSeconds can be changed")
	}
	return nil
}
