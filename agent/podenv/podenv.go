// Package podenv works out the environment and the command of a pod's container, as
// Kubernetes does: references to variables, to fields of the pod and to its resources.
// Package agent calls it before it creates the container. Package podenv does no I/O.
package podenv

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// Pod is what the values of a pod's variables come from. Fields that aren't known yet
// may be zero, and give empty values.
type Pod struct {
	Name        string // metadata.name
	ProjectID   string // metadata.namespace
	ID          string // metadata.uid
	Labels      map[string]string
	Annotations map[string]string
	HostName    string   // spec.nodeName
	HostIPs     []string // status.hostIPs, the first of which is status.hostIP
	IPs         []string // status.podIPs, the first of which is status.podIP
	Spec        *structs.PodSpec
	Services    map[string]string // variables of services, which references may name
	Capacity    structs.Resources // of the host: what a container without a limit may use
}

// Process is how a container's process is started.
type Process struct {
	Env     map[string]string
	Command []string // nil means the image's entrypoint
	Args    []string // nil means the image's command, unless Command is set
}

// Process returns the expanded environment, command and arguments of a container, without
// the variables of services. A value sees those and the variables before it; Command and
// Args see all of them. CodeInvalid if a
// reference names nothing, or if the result has more bytes than containers may have
// (structs.MaxEnvironment, structs.MaxVariable, structs.MaxCommand).
func (p *Pod) Process(c *structs.PodContainer) (Process, error) {
	result := Process{Env: make(map[string]string, len(c.Env))}
	vars := make(map[string]string, len(c.Env)+len(p.Services)) // that references may name
	maps.Copy(vars, p.Services)
	left := structs.MaxEnvironment
	for i := range c.Env {
		v := &c.Env[i]
		if old, again := result.Env[v.Name]; again {
			left += len(v.Name) + len(old)
		}
		left -= len(v.Name)
		value, err := p.value(v, vars, left)
		if err == nil && strings.ContainsRune(value, 0) {
			err = structs.Errorf(structs.CodeInvalid, "the value contains a NUL byte")
		}
		if n := len(v.Name) + len("=") + len(value); err == nil && n > structs.MaxVariable {
			err = structs.Errorf(structs.CodeInvalid, "it has %d bytes with its name, more than the %d that Linux lets a program have",
				n, structs.MaxVariable)
		}
		if err != nil {
			return Process{}, fmt.Errorf("container %q: variable %q: %w", c.Name, v.Name, err)
		}
		result.Env[v.Name], vars[v.Name] = value, value
		left -= len(value)
	}
	left = structs.MaxCommand
	for _, list := range []struct {
		what string
		from []string
		to   *[]string
	}{{"command", c.Command, &result.Command}, {"args", c.Args, &result.Args}} {
		for i, word := range list.from {
			word, err := Expand(word, vars, left)
			if err != nil {
				return Process{}, fmt.Errorf("container %q: %s[%d]: %w", c.Name, list.what, i, err)
			}
			left -= len(word)
			*list.to = append(*list.to, word)
		}
	}
	return result, nil
}

// value returns the value of a variable, of at most limit bytes.
func (p *Pod) value(v *structs.EnvVar, vars map[string]string, limit int) (string, error) {
	var value string
	var err error
	switch {
	case v.Resource != nil:
		value, err = p.resource(v.Resource)
	case v.Field != "":
		value, err = p.field(v.Field)
	default:
		return Expand(v.Value, vars, limit)
	}
	if err == nil && len(value) > limit {
		err = structs.Errorf(structs.CodeInvalid, "the environment has more than %d bytes", structs.MaxEnvironment)
	}
	return value, err
}

// field returns the value of a field of the pod. CodeInvalid for a field that variables
// can't have. A label or annotation that the pod doesn't have is "".
func (p *Pod) field(path string) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return p.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return p.Annotations[key], nil
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.ProjectID, nil
	case "metadata.uid":
		return p.ID, nil
	case "spec.nodeName":
		return p.HostName, nil
	case "spec.serviceAccountName":
		return "default", nil
	case "status.hostIP":
		return first(p.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(p.HostIPs, ","), nil
	case "status.podIP":
		return first(p.IPs), nil
	case "status.podIPs":
		return strings.Join(p.IPs, ","), nil
	}
	return "", structs.Errorf(structs.CodeInvalid, "field %q can't be the value of a variable", path)
}

// subscript returns KEY of a path FIELD['KEY'].
func subscript(path, field string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

func first(of []string) string {
	if len(of) == 0 {
		return ""
	}
	return of[0]
}

// resource returns a request or limit of a container, divided by the divisor and rounded
// up. A missing limit is the host's capacity; a missing request is 0.
func (p *Pod) resource(r *structs.ResourceRef) (string, error) {
	c := p.container(r.Container)
	if c == nil {
		return "", structs.Errorf(structs.CodeInvalid, "the pod has no container %q", r.Container)
	}
	amount, divisor := int64(0), int64(1)
	switch r.Resource {
	case "limits.memory":
		if amount = c.Limits.Memory; amount == 0 {
			amount = p.Capacity.Memory
		}
	case "limits.cpu":
		if amount, divisor = c.Limits.MilliCPU, 1000; amount == 0 {
			amount = p.Capacity.MilliCPU
		}
	case "requests.memory":
		amount = c.Requests.Memory
	case "requests.cpu":
		amount, divisor = c.Requests.MilliCPU, 1000
	default:
		return "", structs.Errorf(structs.CodeInvalid, "resource %q can't be the value of a variable", r.Resource)
	}
	if r.Divisor > 0 {
		divisor = r.Divisor
	}
	whole := amount / divisor
	if amount%divisor != 0 {
		whole++
	}
	return strconv.FormatInt(whole, 10), nil
}

// container returns a container or init container of the pod, nil if there is none.
func (p *Pod) container(name string) *structs.PodContainer {
	for _, list := range [][]structs.PodContainer{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
