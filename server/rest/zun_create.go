package rest

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
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// zunRequest is what Zun's clients send to create a container.
type zunRequest struct {
	Name             *string           `json:"name"`
	Image            string            `json:"image"`
	Command          *structs.Command  `json:"command"`
	Entrypoint       *structs.Command  `json:"entrypoint"`
	CPU              *structs.Float    `json:"cpu"`
	Memory           *zunBytes         `json:"memory"`
	Environment      map[string]string `json:"environment"`
	Labels           map[string]string `json:"labels"`
	Workdir          string            `json:"workdir"`
	Hostname         string            `json:"hostname"`
	ImagePullPolicy  string            `json:"image_pull_policy"`
	ImageDriver      string            `json:"image_driver"`
	RestartPolicy    *zunRestart       `json:"restart_policy"`
	Interactive      structs.Bool      `json:"interactive"`
	TTY              structs.Bool      `json:"tty"`
	AutoRemove       structs.Bool      `json:"auto_remove"`
	Mounts           []zunMount        `json:"mounts"`
	ExposedPorts     zunPorts          `json:"exposed_ports"`
	Healthcheck      *zunHealthcheck   `json:"healthcheck"`
	Hints            map[string]string `json:"hints"` // bay, and labels that the host must carry
	Nets             []zunNet          `json:"nets"`
	SecurityGroups   []string          `json:"security_groups"`
	Runtime          string            `json:"runtime"`
	Disk             *structs.Int      `json:"disk"`
	AvailabilityZone string            `json:"availability_zone"`
	AutoHeal         structs.Bool      `json:"auto_heal"`
	Privileged       structs.Bool      `json:"privileged"`
	Registry         string            `json:"registry"`
	Host             string            `json:"host"`
}

// zunMount is a volume of a container.
type zunMount struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Type        string `json:"type"`
	Size        string `json:"size,omitempty"`
}

// zunNet is a network of Neutron.
type zunNet struct {
	Network   string `json:"network"`
	Port      string `json:"port"`
	V4FixedIP string `json:"v4-fixed-ip"`
	V6FixedIP string `json:"v6-fixed-ip"`
}

// zunBytes is an amount of memory: MiB if it has no unit.
type zunBytes structs.Bytes

// UnmarshalJSON takes 512, "512" and "512m".
func (n *zunBytes) UnmarshalJSON(b []byte) error {
	v, err := zunMemory(wire.Unquote(b))
	if err == nil {
		*n = zunBytes(v)
	}
	return err
}

// zunMemory reads an amount of memory. Errors are CodeInvalid.
func zunMemory(s string) (structs.Bytes, error) {
	if n, err := strconv.ParseInt(s, 10, 40); err == nil && n >= 0 {
		return structs.Bytes(n << 20), nil
	}
	n, err := structs.ParseBytes(s)
	if err != nil {
		return 0, structs.Errorf(structs.CodeInvalid, "memory %.64q is not a size: write MiB, or a number with k, m or g", s)
	}
	return n, nil
}

// zunPorts are ports to publish: {"80/tcp": {}}.
type zunPorts []structs.Port

// UnmarshalJSON reads the object's keys.
func (p *zunPorts) UnmarshalJSON(b []byte) error {
	var ports map[string]struct{}
	if err := json.Unmarshal(b, &ports); err != nil {
		return fmt.Errorf("it is no object of ports, such as {\"80/tcp\": {}}")
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

var zunShape = wire.NewShape(structs.KindContainer, zunRequest{}, zunBody{})

// createZun creates a container.
var createZun = write(func(q *request) (*structs.Container, error) {
	var body zunRequest
	once, err := q.decode(zunShape, &body)
	if err != nil {
		return nil, err
	}
	request, err := body.request()
	if err != nil {
		return nil, err
	}
	return q.service.Containers.Create(q.ctx(), &q.call, service.CreateContainer{Body: request, Once: once, Run: q.query.Bool("run", false)})
}, func(q *request, c *structs.Container) error {
	zunContainers.locate(q, c)
	return zunContainers.written(q, http.StatusAccepted, c)
})

// request returns what the body asks for in our own words. What there is not
// here is refused, never ignored.
func (z *zunRequest) request() (*structs.ContainerRequest, error) {
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
		{"auto_heal", bool(z.AutoHeal), "restart_policy always brings a container back that was removed from its host"},
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
		Name: z.Name, Image: z.Image, Command: z.Command, Entrypoint: z.Entrypoint, CPU: z.CPU, Memory: (*structs.Bytes)(z.Memory),
		Environment: z.Environment, Labels: z.Labels, Workdir: z.Workdir, Hostname: z.Hostname, ImagePullPolicy: z.ImagePullPolicy,
		Stdin: z.Interactive, TTY: z.TTY, AutoRemove: z.AutoRemove, Ports: z.ExposedPorts,
	}
	if c := r.Command; c != nil && len(c.Args) == 0 {
		r.Command = nil // the client's way to say nothing
	}
	if p := z.RestartPolicy; p != nil {
		if r.RestartPolicy = p.Name; p.MaximumRetryCount != 0 {
			r.RestartPolicy += ":" + strconv.Itoa(int(p.MaximumRetryCount))
		}
	}
	if h := z.Healthcheck; h != nil {
		r.Healthcheck = &structs.Healthcheck{Interval: given(h.Interval), Retries: given(h.Retries), Timeout: given(h.Timeout)}
		words, err := structs.SplitCommand(h.Cmd)
		if err != nil || len(words) == 0 {
			return nil, structs.Invalid("healthcheck.cmd", h.Cmd, "It is no command.")
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
			return nil, structs.Errorf(structs.CodeInvalid, "mounts[%d]: only named volumes can be mounted, as source=NAME,destination=PATH; they are made where there are none, without a size", i)
		}
		r.Volumes = append(r.Volumes, structs.Mount{Name: m.Source, Target: m.Destination})
	}
	return r, nil
}

func given(n *structs.Int) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// zunPatch is the body of a PATCH: an object, not a list of operations.
type zunPatch struct {
	Name     *string        `json:"name"`
	CPU      *structs.Float `json:"cpu"`
	Memory   *zunBytes      `json:"memory"`
	AutoHeal structs.Bool   `json:"auto_heal"`
}

var zunPatchShape = wire.NewShape(structs.KindContainer, zunPatch{}, zunBody{})

func patchZun(q *request) error {
	raw, err := q.body()
	if err != nil {
		return err
	}
	var body zunPatch
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '[' {
		return structs.Errorf(structs.CodeInvalid, "The request's body is a list: with the header %s a PATCH is an object, such as {\"name\":\"new\"}.", headerVersion)
	}
	if err := zunPatchShape.Decode(raw, &body); err != nil {
		return err
	}
	if body.AutoHeal {
		return structs.Errorf(structs.CodeInvalid, "auto_heal is not supported: restart_policy always brings a container back that was removed from its host")
	}
	r := service.PatchContainer{Ident: q.ident(), Name: body.Name, Memory: (*structs.Bytes)(body.Memory), CPU: body.CPU}
	if body.Name != nil {
		if err := structs.CheckName(*body.Name); err != nil {
			return err
		}
	}
	return changeZun(q, r)
}

// changeZun changes a container and answers with it. New limits are waited for.
func changeZun(q *request, r service.PatchContainer) error {
	return write(func(q *request) (*structs.Container, error) {
		return q.service.Containers.Patch(q.ctx(), &q.call, r)
	}, func(q *request, c *structs.Container) error {
		if r.Limits() {
			if _, _, err := q.service.Containers.Settle(q.ctx(), &q.call, c, q.service.Patience()); err != nil {
				return err
			}
		}
		return zunContainers.written(q, http.StatusOK, c)
	})(q)
}

func renameZun(q *request) error {
	name := q.query.Text("name")
	if err := structs.CheckName(name); err != nil {
		return err
	}
	return changeZun(q, service.PatchContainer{Ident: q.ident(), Name: &name})
}

// rebuildZun makes a container again.
var rebuildZun = write(func(q *request) (*structs.Container, error) {
	if err := onlyDocker(q.query.Text("image_driver")); err != nil {
		return nil, err
	}
	r := service.RebuildContainer{Ident: q.ident()}
	if q.query.Has("image") {
		image := q.query.Text("image")
		r.Image = &image
	}
	return q.service.Containers.Rebuild(q.ctx(), &q.call, r)
}, answerActionZun)

var deleteZun = write(func(q *request) (service.Removed[*structs.Container], error) {
	return q.service.Containers.Delete(q.ctx(), &q.call, service.DeleteContainer{
		Ident: q.ident(), Stop: q.query.Bool("stop", false), Force: q.query.Bool("force", false), AllProjects: q.query.Bool("all_projects", false),
	})
}, func(q *request, c service.Removed[*structs.Container]) error {
	if !c.Gone {
		if _, _, err := q.service.Containers.Settle(q.ctx(), &q.call, c.Row, q.service.Patience()); err != nil {
			return err
		}
	}
	return q.noContent()
})

// actZun makes the handler of an action.
func actZun(action conductor.Action) func(*request) error {
	return write(func(q *request) (*structs.Container, error) {
		timeout, err := wire.StopTimeout(q.query)
		if err != nil {
			return nil, err
		}
		return q.service.Containers.Act(q.ctx(), &q.call, service.ActOnContainer{
			Ident: q.ident(), Action: action, Timeout: timeout, Signal: q.query.Text("signal"),
		})
	}, func(q *request, c *structs.Container) error {
		if c.Settled() {
			return accepted(q) // it was so already
		}
		return answerActionZun(q, c)
	})
}

// answerActionZun waits for the result of an action.
func answerActionZun(q *request, c *structs.Container) error {
	now, _, err := q.service.Containers.Settle(q.ctx(), &q.call, c, q.service.Patience())
	switch {
	case err != nil:
		return err
	case now == nil && !c.Spec.AutoRemove:
		return service.ErrDeleted(c)
	}
	return accepted(q)
}

// accepted answers what has no body.
func accepted(q *request) error {
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}
