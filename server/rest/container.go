package rest

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// containerBrief is a container as lists show it; see appendContainer.
type containerBrief struct {
	UUID    string                  `json:"uuid"`
	Name    string                  `json:"name"`
	BayUUID string                  `json:"bay_uuid"`
	ImageID string                  `json:"image_id"`
	Command *structs.Command        `json:"command"`
	Status  structs.ContainerStatus `json:"status"`
	Links   []structs.Link          `json:"links"`
}

var containers = &resource{
	noun: "containers", kind: structs.KindContainer, table: structs.TableContainers,
	sorts: map[string]func(a, b structs.Row) int{
		"name":     by(func(c *structs.Container) string { return c.Name }),
		"status":   by(func(c *structs.Container) string { return string(c.Status()) }),
		"bay_uuid": by(func(c *structs.Container) string { return c.BayID }),
		"image_id": by(func(c *structs.Container) string { return c.Spec.Image }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name":   filterName(func(r structs.Row) string { return r.(*structs.Container).Name }),
		"status": filterStatus(func(r structs.Row) string { return string(r.(*structs.Container).Status()) }),
		"label":  filterLabel(func(r structs.Row) map[string]string { return r.(*structs.Container).Spec.Labels }),
		"bay":    filterBay(func(r structs.Row) string { return r.(*structs.Container).BayID }),
		"host":   filterHost,
	},
	brief: func(v view, r structs.Row) any {
		c := r.(*structs.Container)
		return containerBrief{
			UUID: c.ID, Name: c.Name, BayUUID: c.BayID, ImageID: c.Spec.Image,
			Command: command(c.Spec.Command, c.Spec.CommandText), Status: c.Status(), Links: v.links("containers", c.ID),
		}
	},
	append: appendContainer,
	full: func(v view, r structs.Row) any {
		body := containerBody(v, r.(*structs.Container))
		return &body
	},
}

// command returns a command as bodies show it: null for the image's own.
func command(args []string, text string) *structs.Command {
	if len(args) == 0 && text == "" {
		return nil
	}
	return &structs.Command{Args: args, Text: text}
}

// containerBody returns the container as it is shown.
func containerBody(v view, c *structs.Container) structs.ContainerBody {
	s, seen := &c.Spec, &c.Observed
	body := structs.ContainerBody{
		UUID: c.ID, Name: c.Name, BayUUID: c.BayID, ImageID: s.Image, Command: command(s.Command, s.CommandText),
		Status: c.Status(), Links: v.links("containers", c.ID), StatusReason: wire.OrNull(c.StatusReason()),
		CreatedAt: structs.Time{Time: c.CreatedAt}, UpdatedAt: structs.Time{Time: c.UpdatedAt},
		Addresses: wire.List(seen.Addresses), Ports: wire.List(seen.Ports), ExitCode: seen.ExitCode,
		StartedAt: structs.Time{Time: seen.StartedAt}, FinishedAt: structs.Time{Time: seen.FinishedAt},
		RestartCount: seen.RestartCount, Epoch: c.Epoch,
		Entrypoint: command(s.Entrypoint, ""), Environment: wire.Object(s.Environment), Labels: wire.Object(s.Labels),
		Workdir: wire.OrNull(s.Workdir), Hostname: wire.OrNull(s.Hostname), User: wire.OrNull(s.User), Memory: wire.OrNull(s.Memory),
		RestartPolicy: s.RestartPolicy.String(), Volumes: wire.List(s.Volumes), StopTimeout: s.StopSeconds(),
		TTY: s.TTY, Stdin: s.Stdin, AutoRemove: s.AutoRemove, ImagePullPolicy: s.PullPolicy,
		Constraints: wire.Object(s.Constraints), LogMaxSize: s.LogMaxSize,
		Health: wire.OrNull(seen.Health), Healthcheck: healthcheck(s.Healthcheck), Exclusive: s.Exclusive,
	}
	if len(seen.Ports) == 0 {
		body.Ports = wire.List(s.Ports)
	}
	if h := v.snap.Host(c.HostID); h != nil {
		body.Host = wire.OrNull(h.Name)
	}
	if s.MilliCPU != 0 {
		cores := float64(s.MilliCPU) / 1000
		body.CPU = &cores
	}
	if body.LogMaxSize == 0 {
		body.LogMaxSize = structs.DefaultLogMaxSize
	}
	return body
}

// healthcheck returns a health check as bodies show it: one without a command
// is an empty list, not null.
func healthcheck(h *structs.Healthcheck) *structs.Healthcheck {
	if h == nil || h.Test.Args != nil || h.Test.Text != "" {
		return h
	}
	shown := *h
	shown.Test.Args = []string{}
	return &shown
}

var (
	containerShape = wire.NewShape(structs.KindContainer, structs.ContainerRequest{}, structs.ContainerBody{})
	containerPatch = wire.NewPatchRules(containerShape, structs.ContainerBody{}, nil, []string{"bay_uuid", "image_id"}, []string{"name", "image_id", "command", "memory", "cpu"})
)

func containerRoutes() []*route {
	get := reading(containers, containerBrief{}, structs.ContainerBody{}, identity.ContainerList, identity.ContainerDetail, identity.ContainerGet,
		filterArgName, filterArgStatus, filterArgLabel, filterArgBay, filterArgHost)
	routes := append(get,
		&route{method: http.MethodPost, path: "/containers", action: identity.ContainerCreate, handle: createContainer,
			args:    []wire.Arg{waits, {Name: "run", Kind: wire.ArgBool, Doc: "Start it too."}},
			summary: "Create a container", takes: structs.ContainerRequest{}, gives: created(structs.ContainerBody{})},
		&route{method: http.MethodPatch, path: "/containers/:id", action: identity.ContainerUpdate, handle: patchContainer, args: []wire.Arg{waits},
			summary: "Change a container's name, image, command, memory or cpu", takes: []structs.PatchOp{}, gives: changed(structs.ContainerBody{})},
		&route{method: http.MethodPut, path: "/containers/:id/rename", action: identity.ContainerRename, handle: renameContainer,
			args:    []wire.Arg{{Name: "name", Kind: wire.ArgText, Wants: true, Doc: "The new name."}},
			summary: "Rename a container", gives: ok(structs.ContainerBody{})},
		&route{method: http.MethodPut, path: "/containers/:id/rebuild", action: identity.ContainerRebuild, handle: rebuildContainer,
			args:    []wire.Arg{waits, {Name: "image", Kind: wire.ArgText, Doc: "Another image; default the one that it has."}},
			summary: "Make a container anew", gives: acted(structs.ContainerBody{})},
		&route{method: http.MethodDelete, path: "/containers/:id", action: identity.ContainerDelete, handle: deleteContainer, args: []wire.Arg{
			waits,
			{Name: "force", Kind: wire.ArgBool, Doc: "Kill it if it runs; forget it if its host is lost."},
			{Name: "stop", Kind: wire.ArgBool, Doc: "Stop it first if it runs."},
			{Name: "all_projects", Kind: wire.ArgBool, Doc: "For operators."},
		}, summary: "Delete a container", gives: deleted(structs.ContainerBody{})},
		&route{method: http.MethodGet, path: "/containers/:id/actions", action: identity.ContainerActions, handle: containerActions, args: consistency,
			summary: "What was done to a container, by whom and how it ended", gives: ok(structs.ActionsBody{})},
	)
	timeout := wire.Arg{Name: "timeout", Kind: wire.ArgInt, Doc: "Seconds between SIGTERM and SIGKILL."}
	signal := wire.Arg{Name: "signal", Kind: wire.ArgText, Doc: "A name such as SIGHUP or HUP, or a number; default SIGKILL."}
	for _, a := range []struct {
		action conductor.Action
		policy identity.Action
		args   []wire.Arg
	}{
		{conductor.ActionStart, identity.ContainerStart, nil}, {conductor.ActionStop, identity.ContainerStop, []wire.Arg{timeout}},
		{conductor.ActionReboot, identity.ContainerReboot, []wire.Arg{timeout}}, {conductor.ActionPause, identity.ContainerPause, nil},
		{conductor.ActionUnpause, identity.ContainerUnpause, nil}, {conductor.ActionKill, identity.ContainerKill, []wire.Arg{signal}},
	} {
		routes = append(routes, &route{
			method: http.MethodPut, path: "/containers/:id/" + string(a.action), action: a.policy, handle: act(a.action), args: slices.Concat([]wire.Arg{waits}, a.args),
			summary: structs.Title(string(a.action)) + " a container", gives: acted(structs.ContainerBody{}),
		})
	}
	return routes
}

var createContainer = write(func(q *request) (*structs.Container, error) {
	var body structs.ContainerRequest
	once, err := q.decode(containerShape, &body)
	if err != nil {
		return nil, err
	}
	return q.service.Containers.Create(q.ctx(), &q.call, service.CreateContainer{Body: &body, Once: once, Run: q.query.Bool("run", false)})
}, func(q *request, c *structs.Container) error {
	containers.locate(q, c)
	atMost, said := q.patience()
	if !said {
		return containers.written(q, http.StatusCreated, c)
	}
	status := http.StatusCreated
	now, done, err := q.service.Containers.Settle(q.ctx(), &q.call, c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil:
		return service.ErrDeleted(c)
	case !done:
		status = http.StatusAccepted
	case now.Status() == structs.ContainerError && now.Observed.Generation == c.Generation:
		return service.ErrFailed(now)
	}
	return containers.written(q, status, now)
})

// writeContainerPatch makes the handler of a change of a container. New limits are
// waited for, what is only noted down isn't.
func writeContainerPatch(read func(*request) (service.PatchContainer, error)) func(*request) error {
	return func(q *request) error {
		r, err := read(q)
		if err != nil {
			return err
		}
		return write(func(q *request) (*structs.Container, error) {
			return q.service.Containers.Patch(q.ctx(), &q.call, r)
		}, func(q *request, c *structs.Container) error {
			if !r.Limits() {
				return containers.written(q, http.StatusOK, c)
			}
			atMost, said := q.patience()
			now, done, err := q.service.Containers.Settle(q.ctx(), &q.call, c, atMost)
			switch {
			case err != nil:
				return err
			case now == nil:
				return service.ErrDeleted(c)
			case !done && said:
				return containers.written(q, http.StatusAccepted, now)
			}
			return containers.written(q, http.StatusOK, now)
		})(q)
	}
}

var patchContainer = writeContainerPatch(func(q *request) (service.PatchContainer, error) {
	r := service.PatchContainer{Ident: q.ident()}
	p, err := q.decodePatch(containerPatch)
	if err != nil {
		return r, err
	}
	if err := p.CheckMutable(); err != nil {
		return r, err
	}
	var body structs.ContainerRequest
	if err := p.Apply(&body); err != nil {
		return r, err
	}
	// What is removed gets its default: a generated name, the image's own command, no
	// limit.
	if p.Touches("name") {
		if body.Name != nil {
			if err := structs.CheckName(*body.Name); err != nil {
				return r, err
			}
		}
		r.Name = cmp.Or(body.Name, new(string))
	}
	if p.Touches("image_id") {
		r.Image = &body.ImageID
	}
	if p.Touches("command") {
		r.Command = cmp.Or(body.Command, new(structs.Command))
	}
	if p.Touches("memory") {
		r.Memory = cmp.Or(body.Memory, new(structs.Bytes))
	}
	if p.Touches("cpu") {
		r.CPU = cmp.Or(body.CPU, new(structs.Float))
	}
	return r, nil
})

// renameContainer is a PATCH of the name alone.
var renameContainer = writeContainerPatch(func(q *request) (service.PatchContainer, error) {
	name := q.query.Text("name")
	return service.PatchContainer{Ident: q.ident(), Name: &name}, structs.CheckName(name)
})

// rebuildContainer makes a container again.
var rebuildContainer = write(func(q *request) (*structs.Container, error) {
	r := service.RebuildContainer{Ident: q.ident()}
	if q.query.Has("image") {
		image := q.query.Text("image")
		r.Image = &image
	}
	return q.service.Containers.Rebuild(q.ctx(), &q.call, r)
}, answerAction)

var deleteContainer = write(func(q *request) (service.Removed[*structs.Container], error) {
	return q.service.Containers.Delete(q.ctx(), &q.call, service.DeleteContainer{
		Ident: q.ident(), Stop: q.query.Bool("stop", false), Force: q.query.Bool("force", false), AllProjects: q.query.Bool("all_projects", false),
	})
}, func(q *request, c service.Removed[*structs.Container]) error {
	if c.Gone {
		return q.noContent()
	}
	atMost, said := q.patience()
	now, _, err := q.service.Containers.Settle(q.ctx(), &q.call, c.Row, atMost)
	switch {
	case err != nil:
		return err
	case now != nil && said:
		return containers.written(q, http.StatusAccepted, now)
	}
	return q.noContent()
})

// act makes the handler of an action.
func act(action conductor.Action) func(*request) error {
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
			return q.null() // it was so already
		}
		return answerAction(q, c)
	})
}

// answerAction waits for the result of an action and answers as 2015 did.
func answerAction(q *request, c *structs.Container) error {
	atMost, said := q.patience()
	now, done, err := q.service.Containers.Settle(q.ctx(), &q.call, c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil && c.Spec.AutoRemove:
		return q.null()
	case now == nil:
		return service.ErrDeleted(c)
	case !done && said:
		return containers.written(q, http.StatusAccepted, now)
	}
	return q.null()
}
