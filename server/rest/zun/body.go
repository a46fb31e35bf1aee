package zun

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// ContainerBody is a container in the form of Zun's API, in lists and alone.
type ContainerBody struct {
	UUID            string               `json:"uuid"`
	Name            string               `json:"name"`
	Image           string               `json:"image"`
	ImageDriver     string               `json:"image_driver"`
	ImagePullPolicy string               `json:"image_pull_policy"`
	Status          string               `json:"status"`
	StatusReason    *string              `json:"status_reason"`
	StatusDetail    *string              `json:"status_detail"`
	TaskState       *string              `json:"task_state"`
	Command         []string             `json:"command"`
	Entrypoint      []string             `json:"entrypoint"`
	CPU             structs.MilliCPU     `json:"cpu"`
	Memory          *string              `json:"memory"` // MiB
	Disk            int                  `json:"disk"`
	Environment     map[string]string    `json:"environment"`
	Labels          map[string]string    `json:"labels"`
	Workdir         structs.Text         `json:"workdir"`
	Hostname        structs.Text         `json:"hostname"`
	Addresses       map[string][]address `json:"addresses"` // by the ID of the project, which stands for its network
	Ports           []int                `json:"ports"`     // ports of the container that are published
	RestartPolicy   restartPolicy        `json:"restart_policy"`
	Interactive     bool                 `json:"interactive"`
	TTY             bool                 `json:"tty"`
	AutoRemove      bool                 `json:"auto_remove"`
	AutoHeal        bool                 `json:"auto_heal"`
	Privileged      bool                 `json:"privileged"`
	Runtime         *string              `json:"runtime"`
	SecurityGroups  []string             `json:"security_groups"`
	Mounts          []mount              `json:"mounts"`
	Healthcheck     *healthcheck         `json:"healthcheck"`
	RegistryID      *string              `json:"registry_id"`
	Host            *string              `json:"host"`
	ProjectID       string               `json:"project_id"`
	UserID          string               `json:"user_id"`
	CreatedAt       structs.Time         `json:"created_at"`
	UpdatedAt       structs.Time         `json:"updated_at"`
	StartedAt       structs.Time         `json:"started_at"`
	Links           []structs.Link       `json:"links"`
}

// address is an address of a container.
type address struct {
	Addr    string `json:"addr"`
	Version int    `json:"version"` // 4 or 6
}

// restartPolicy is a restart policy, whose count is encoded as a string.
type restartPolicy struct {
	Name              string `json:"Name"`
	MaximumRetryCount int    `json:"MaximumRetryCount"`
}

// MarshalJSON writes the count as a string, as the client sends it.
func (p restartPolicy) MarshalJSON() ([]byte, error) {
	return []byte(`{"Name":` + strconv.Quote(p.Name) + `,"MaximumRetryCount":"` + strconv.Itoa(p.MaximumRetryCount) + `"}`), nil
}

// healthcheck is a health check with its times in seconds.
type healthcheck struct {
	Cmd      string `json:"cmd"`
	Interval *int   `json:"interval,omitempty"`
	Retries  *int   `json:"retries,omitempty"`
	Timeout  *int   `json:"timeout,omitempty"`
}

// containers lists and shows containers in the form of Zun's API.
var containers = &web.Resource{
	Noun: "containers", Kind: structs.KindContainer, Table: structs.TableContainers,
	Sorts: map[string]func(a, b structs.Row) int{
		"name":   web.By(func(c *structs.Container) string { return c.Name }),
		"status": web.By(func(c *structs.Container) string { return string(c.Status()) }),
		"image":  web.By(func(c *structs.Container) string { return c.Spec.Image }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name":       web.FilterName(func(r structs.Row) string { return r.(*structs.Container).Name }),
		"host":       web.FilterHost,
		"status":     filterField(statusOf),
		"image":      filterField(func(c *structs.Container) string { return c.Spec.Image }),
		"project_id": filterField(func(c *structs.Container) string { return c.ProjectID }),
		"user_id":    filterField(func(c *structs.Container) string { return c.UserID }),
		"task_state": filterField(func(*structs.Container) string { return "" }),
		"memory": func(_ web.View, value string) (func(structs.Row) bool, error) {
			want, err := parseMemory(value)
			return func(r structs.Row) bool { return r.(*structs.Container).Spec.Memory == want }, err
		},
		"auto_remove": func(_ web.View, value string) (func(structs.Row) bool, error) {
			want, _ := wire.ReadBool(value) // CheckQuery has refused invalid values
			return func(r structs.Row) bool { return r.(*structs.Container).Spec.AutoRemove == want }, nil
		},
	},
	Summary: func(v web.View, r structs.Row) any { return bodyOf(v, r.(*structs.Container)) },
	Detail:  func(v web.View, r structs.Row) any { return bodyOf(v, r.(*structs.Container)) },
}

// filterField returns a filter by a field that ignores case.
func filterField(of func(*structs.Container) string) func(web.View, string) (func(structs.Row) bool, error) {
	return func(_ web.View, want string) (func(structs.Row) bool, error) {
		return func(r structs.Row) bool { return strings.EqualFold(of(r.(*structs.Container)), want) }, nil
	}
}

// statusOf returns a container's status in Zun's words. The client waits for Created
// where magnum says Stopped.
func statusOf(c *structs.Container) string {
	if c.Status() == structs.ContainerStopped && c.Desired == structs.DesiredCreated {
		return "Created"
	}
	return string(c.Status())
}

// bodyOf returns the body of a container.
func bodyOf(v web.View, c *structs.Container) ContainerBody {
	s := &c.Spec
	body := ContainerBody{
		UUID: c.ID, Name: c.Name, Image: s.Image, ImageDriver: "docker", ImagePullPolicy: s.PullPolicy,
		Status: statusOf(c), StatusReason: wire.OrNull(c.StatusReason()), StatusDetail: wire.OrNull(c.Observed.Health),
		Command: wire.List(s.Command), Entrypoint: wire.List([]string(s.Entrypoint)), Environment: wire.Object(s.Environment),
		Labels:  wire.Object(s.Labels),
		Workdir: s.Workdir, Hostname: s.Hostname, Addresses: map[string][]address{}, Ports: []int{},
		RestartPolicy: restartPolicy{s.RestartPolicy.Name, s.RestartPolicy.MaxRetries},
		Interactive:   s.Stdin, TTY: s.TTY, AutoRemove: s.AutoRemove, CPU: s.MilliCPU, SecurityGroups: []string{}, Mounts: []mount{},
		ProjectID: c.ProjectID, UserID: c.UserID, CreatedAt: structs.Time{Time: c.CreatedAt}, UpdatedAt: structs.Time{Time: c.UpdatedAt},
		StartedAt: structs.Time{Time: c.Observed.StartedAt}, Links: v.Links("containers", c.ID),
	}
	if s.Memory != 0 {
		body.Memory = wire.OrNull(strconv.FormatInt(int64(s.Memory+1<<20-1)>>20, 10))
	}
	for _, a := range c.Observed.Addresses {
		version := 4
		if ip, err := netip.ParseAddr(a); err == nil && ip.Is6() {
			version = 6
		}
		body.Addresses[c.ProjectID] = append(body.Addresses[c.ProjectID], address{a, version})
	}
	for _, p := range s.Ports {
		body.Ports = append(body.Ports, p.ContainerPort)
	}
	for _, m := range s.Volumes {
		body.Mounts = append(body.Mounts, mount{Source: m.Name, Destination: m.Target, Type: m.Type})
	}
	if h := s.Healthcheck; h != nil {
		interval, retries, timeout := h.Interval, h.Retries, h.Timeout
		body.Healthcheck = &healthcheck{Cmd: cmp.Or(h.Test.Text, strings.Join(h.Test.Args, " ")), Interval: &interval, Retries: &retries,
			Timeout: &timeout}
	}
	if h := v.Snap.Host(c.HostID); h != nil {
		body.Host = wire.OrNull(h.Name)
	}
	return body
}
