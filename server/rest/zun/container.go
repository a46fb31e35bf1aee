package zun

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// createRequest is the body with which Zun's clients create a container.
type createRequest struct {
	Name             *string           `json:"name"`
	Image            string            `json:"image"`
	Command          *structs.Command  `json:"command"`
	Entrypoint       structs.Words     `json:"entrypoint"`
	CPU              structs.MilliCPU  `json:"cpu"`
	Memory           memory            `json:"memory"`
	Environment      map[string]string `json:"environment"`
	Labels           map[string]string `json:"labels"`
	Workdir          structs.Text      `json:"workdir"`
	Hostname         structs.Text      `json:"hostname"`
	ImagePullPolicy  string            `json:"image_pull_policy"`
	ImageDriver      string            `json:"image_driver"`
	RestartPolicy    *restartPolicy    `json:"restart_policy"`
	Interactive      bool              `json:"interactive"`
	TTY              bool              `json:"tty"`
	AutoRemove       bool              `json:"auto_remove"`
	Mounts           []mount           `json:"mounts"`
	ExposedPorts     portSet           `json:"exposed_ports"`
	Healthcheck      *healthcheck      `json:"healthcheck"`
	Hints            map[string]string `json:"hints"` // bay, and labels that the host must carry
	Nets             []network         `json:"nets"`
	SecurityGroups   []string          `json:"security_groups"`
	Runtime          string            `json:"runtime"`
	Disk             *int              `json:"disk"`
	AvailabilityZone string            `json:"availability_zone"`
	AutoHeal         bool              `json:"auto_heal"`
	Privileged       bool              `json:"privileged"`
	Registry         string            `json:"registry"`
	Host             string            `json:"host"`
}

// mount is a volume of a container.
type mount struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Type        string `json:"type"`
	Size        string `json:"size,omitempty"`
}

// network is a network of Neutron.
type network struct {
	Network   string `json:"network"`
	Port      string `json:"port"`
	V4FixedIP string `json:"v4-fixed-ip"`
	V6FixedIP string `json:"v6-fixed-ip"`
}

// memory is an amount of memory, in MiB if it has no unit.
type memory structs.Bytes

// UnmarshalJSON accepts 512, "512" and "512m".
func (n *memory) UnmarshalJSON(b []byte) error {
	v, err := parseMemory(wire.Unquote(b))
	if err == nil {
		*n = memory(v)
	}
	return err
}

// parseMemory reads an amount of memory. Errors are CodeInvalid.
func parseMemory(s string) (structs.Bytes, error) {
	if n, err := strconv.ParseInt(s, 10, 40); err == nil && n >= 0 {
		return structs.Bytes(n << 20), nil
	}
	n, err := structs.ParseBytes(s)
	if err != nil {
		return 0, structs.Errorf(structs.CodeInvalid, "memory %.64q is not a size: write a number of MiB, or a number with k, m or g", s)
	}
	return n, nil
}

// portSet are ports to publish, encoded as {"80/tcp": {}}.
type portSet []structs.Port

// UnmarshalJSON reads the object's keys.
func (p *portSet) UnmarshalJSON(b []byte) error {
	var ports map[string]struct{}
	if err := json.Unmarshal(b, &ports); err != nil {
		return fmt.Errorf("it is not an object of ports, such as {\"80/tcp\": {}}")
	}
	for _, key := range slices.Sorted(maps.Keys(ports)) {
		number, protocol, _ := strings.Cut(key, "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("%.64q is not a port, such as 80/tcp", key)
		}
		*p = append(*p, structs.Port{ContainerPort: n, Protocol: protocol})
	}
	return nil
}

var createShape = wire.NewShape(structs.KindContainer, createRequest{}, ContainerBody{})

// createContainer creates a container. It answers 202 without waiting for the host.
var createContainer = web.Write(func(q *web.Request) (*structs.Container, error) {
	var body createRequest
	once, err := q.Decode(createShape, &body)
	if err != nil {
		return nil, err
	}
	request, err := body.request()
	if err != nil {
		return nil, err
	}
	return q.Service.Containers().Create(q.Context(), &q.Call,
		service.CreateContainer{Body: request, Once: once, Run: q.Query.Bool("run", false)})
}, func(q *web.Request, c *structs.Container) error {
	containers.Locate(q, c)
	return containers.Written(q, http.StatusAccepted, c)
})

// request translates the body to magnum's own request. Fields that magnum doesn't support
// are refused, never ignored. Errors are CodeInvalid and CodeForbidden.
func (z *createRequest) request() (*structs.ContainerRequest, error) {
	for _, f := range []struct {
		name  string
		given bool
		why   string
	}{
		{"nets", len(z.Nets) > 0, "each project has one network on each host, and its containers are on it"},
		{"security_groups", len(z.SecurityGroups) > 0, "there are none here"},
		{"runtime", z.Runtime != "" && z.Runtime != "runc", "there is runc only"},
		{"disk", z.Disk != nil && *z.Disk != 0, "the disk of a container can't be limited"},
		{"availability_zone", z.AvailabilityZone != "", "there are none here; give the labels of hosts as hints"},
		{"auto_heal", z.AutoHeal, "restart_policy always brings a container back that was removed from its host"},
		{"registry", z.Registry != "", "there are no stored registries here; the API's own field registry takes credentials"},
		{"host", z.Host != "", "containers are placed by the labels of hosts: give them as hints"},
	} {
		if f.given {
			return nil, structs.Errorf(structs.CodeInvalid, "%s is not supported: %s", f.name, f.why)
		}
	}
	if z.Privileged {
		return nil, structs.Errorf(structs.CodeForbidden, "privileged containers are not allowed")
	}
	if err := onlyDocker(z.ImageDriver); err != nil {
		return nil, err
	}
	r := &structs.ContainerRequest{
		Name: z.Name, Image: z.Image, Command: z.Command,
		ContainerSpec: structs.ContainerSpec{
			Entrypoint: z.Entrypoint, MilliCPU: z.CPU, Memory: structs.Bytes(z.Memory),
			Environment: z.Environment, Labels: z.Labels, Workdir: z.Workdir, Hostname: z.Hostname, PullPolicy: z.ImagePullPolicy,
			Stdin: z.Interactive, TTY: z.TTY, AutoRemove: z.AutoRemove, Ports: z.ExposedPorts,
		},
	}
	if c := r.Command; c != nil && len(c.Args) == 0 {
		r.Command = nil // the client sends an empty list for no command
	}
	if p := z.RestartPolicy; p != nil {
		policy := p.Name
		if p.MaximumRetryCount != 0 {
			policy += ":" + strconv.Itoa(p.MaximumRetryCount)
		}
		r.RestartPolicy = structs.RestartPolicyOf(policy)
	}
	if h := z.Healthcheck; h != nil {
		r.Healthcheck = &structs.Healthcheck{Interval: given(h.Interval), Retries: given(h.Retries), Timeout: given(h.Timeout)}
		words, err := structs.SplitCommand(h.Cmd)
		if err != nil || len(words) == 0 {
			return nil, structs.Invalid("healthcheck.cmd", h.Cmd, "It is not a command.")
		}
		r.Healthcheck.Test = structs.Command{Args: words, Text: h.Cmd}
	}
	for k, v := range z.Hints {
		if k == "bay" {
			r.Bay = v
			continue
		}
		if r.Constraints == nil {
			r.Constraints = make(map[string]string)
		}
		r.Constraints[k] = v
	}
	for i, m := range z.Mounts {
		if m.Type != "" && m.Type != structs.MountVolume || m.Size != "" || m.Source == "" {
			return nil, structs.Errorf(structs.CodeInvalid,
				"mounts[%d]: only named volumes can be mounted, as source=NAME,destination=PATH without a size; "+
					"a volume that doesn't exist is created", i)
		}
		r.Volumes = append(r.Volumes, structs.Mount{Name: m.Source, Target: m.Destination})
	}
	return r, nil
}

func given(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// patchRequest is the body of a PATCH, an object instead of a list of operations.
type patchRequest struct {
	Name     *string           `json:"name"`
	CPU      *structs.MilliCPU `json:"cpu"`
	Memory   *memory           `json:"memory"`
	AutoHeal bool              `json:"auto_heal"`
}

var patchShape = wire.NewShape(structs.KindContainer, patchRequest{}, ContainerBody{})

func patchContainer(q *web.Request) error {
	raw, err := q.Body()
	if err != nil {
		return err
	}
	var body patchRequest
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '[' {
		return structs.Errorf(structs.CodeInvalid,
			"The request's body is a list: with the header %s a PATCH is an object, such as {\"name\":\"new\"}.", headerVersion)
	}
	if err := patchShape.Decode(raw, &body); err != nil {
		return err
	}
	if body.AutoHeal {
		return structs.Errorf(structs.CodeInvalid,
			"auto_heal is not supported: restart_policy always brings a container back that was removed from its host")
	}
	r := service.PatchContainer{Ident: q.Ident(), Name: body.Name, Memory: (*structs.Bytes)(body.Memory), CPU: body.CPU}
	if body.Name != nil {
		if err := structs.CheckName(*body.Name); err != nil {
			return err
		}
	}
	return changeContainer(q, r)
}

// changeContainer changes a container and answers with it. It waits for the host only if
// the change sets limits.
func changeContainer(q *web.Request, r service.PatchContainer) error {
	return web.Write(func(q *web.Request) (*structs.Container, error) {
		return q.Service.Containers().Patch(q.Context(), &q.Call, r)
	}, func(q *web.Request, c *structs.Container) error {
		if r.Limits() {
			if _, _, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c, q.Service.Patience()); err != nil {
				return err
			}
		}
		return containers.Written(q, http.StatusOK, c)
	})(q)
}

func renameContainer(q *web.Request) error {
	name := q.Query.Text("name")
	if err := structs.CheckName(name); err != nil {
		return err
	}
	return changeContainer(q, service.PatchContainer{Ident: q.Ident(), Name: &name})
}

// rebuildContainer has a container created again.
var rebuildContainer = web.Write(func(q *web.Request) (*structs.Container, error) {
	if err := onlyDocker(q.Query.Text("image_driver")); err != nil {
		return nil, err
	}
	return web.RebuildContainer(q)
}, answerAction)

var deleteContainer = web.Write(web.DeleteContainer, func(q *web.Request, c service.Removed[*structs.Container]) error {
	if !c.Gone {
		if _, _, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c.Row, q.Service.Patience()); err != nil {
			return err
		}
	}
	return q.NoContent()
})

// act makes the handler of an action.
func act(action conductor.Action) func(*web.Request) error {
	return web.Write(web.ActOnContainer(action), func(q *web.Request, c *structs.Container) error {
		if c.Done() {
			return accepted(q) // the container was in this state already
		}
		return answerAction(q, c)
	})
}

// answerAction waits for the result of an action.
func answerAction(q *web.Request, c *structs.Container) error {
	now, _, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c, q.Service.Patience())
	switch {
	case err != nil:
		return err
	case now == nil && !c.Spec.AutoRemove:
		return service.ErrDeleted(c)
	}
	return accepted(q)
}

// accepted answers 202 without a body.
func accepted(q *web.Request) error {
	q.W.WriteHeader(http.StatusAccepted)
	return nil
}
