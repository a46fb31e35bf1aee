package rest

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// containerBrief is the summary of a container; see appendContainerSummary. The type's
// name is that of a schema in the OpenAPI document.
type containerBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name string `json:"name"`
	//api:doc UUID of the container's bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Image of the container.
	ImageID string           `json:"image_id"`
	Command *structs.Command `json:"command"`
	//api:doc Current status.
	Status structs.ContainerStatus `json:"status"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

var containers = &web.Resource{
	Noun: "containers", Kind: structs.KindContainer, Table: structs.TableContainers,
	Sorts: map[string]func(a, b structs.Row) int{
		"name":     web.By(func(c *structs.Container) string { return c.Name }),
		"status":   web.By(func(c *structs.Container) string { return string(c.Status()) }),
		"bay_uuid": web.By(func(c *structs.Container) string { return c.BayID }),
		"image_id": web.By(func(c *structs.Container) string { return c.Spec.Image }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.Container).Name }),
		"status": web.FilterStatus(func(r structs.Row) string { return string(r.(*structs.Container).Status()) },
			structs.ContainerCreating, structs.ContainerRunning, structs.ContainerStopped, structs.ContainerPaused,
			structs.ContainerError, structs.ContainerUnknown, structs.ContainerDeleting),
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.Container).Spec.Labels }),
		"bay":   web.FilterBay(func(r structs.Row) string { return r.(*structs.Container).BayID }),
		"host":  web.FilterHost,
	},
	Summary: func(v web.View, r structs.Row) any {
		c := r.(*structs.Container)
		return containerBrief{
			UUID: c.ID, Name: c.Name, BayUUID: c.BayID, ImageID: c.Spec.Image,
			Command: command(c.Spec.Command, c.Spec.CommandText), Status: c.Status(), Links: v.Links("containers", c.ID),
		}
	},
	AppendSummary: appendContainerSummary,
	Detail: func(v web.View, r structs.Row) any {
		body := containerBody(v, r.(*structs.Container))
		return &body
	},
}

// command returns the command of a body, nil for the image's own.
func command(args []string, text string) *structs.Command {
	if len(args) == 0 && text == "" {
		return nil
	}
	return &structs.Command{Args: args, Text: text}
}

// containerBody returns the detail of a container.
func containerBody(v web.View, c *structs.Container) structs.ContainerBody {
	s, seen := &c.Spec, &c.Observed
	body := structs.ContainerBody{
		UUID: c.ID, Name: c.Name, BayUUID: c.BayID, ImageID: s.Image, Command: command(s.Command, s.CommandText),
		Status: c.Status(), Links: v.Links("containers", c.ID), StatusReason: wire.OrNull(c.StatusReason()),
		CreatedAt: structs.Time{Time: c.CreatedAt}, UpdatedAt: structs.Time{Time: c.UpdatedAt},
		Addresses: wire.List(seen.Addresses), Ports: wire.List(seen.Ports), ExitCode: seen.ExitCode,
		StartedAt: structs.Time{Time: seen.StartedAt}, FinishedAt: structs.Time{Time: seen.FinishedAt},
		RestartCount: seen.RestartCount, Epoch: c.Epoch, ContainerSpec: s.Shown(),
		Health: wire.OrNull(seen.Health), Healthcheck: s.Healthcheck, Exclusive: s.Exclusive,
	}
	if len(seen.Ports) == 0 {
		body.Ports = wire.List(s.Ports)
	}
	if h := v.Snap.Host(c.HostID); h != nil {
		body.Host = wire.OrNull(h.Name)
	}
	return body
}

var (
	containerShape = wire.NewShape(structs.KindContainer, structs.ContainerRequest{}, structs.ContainerBody{})
	containerPatch = wire.NewPatchRules(containerShape, structs.ContainerBody{}, nil, []string{"bay_uuid", "image_id"},
		[]string{"name", "image_id", "command", "memory", "cpu"})
)

func containerRoutes() []*web.Route {
	get := web.Reading(containers, containerBrief{}, structs.ContainerBody{},
		identity.ContainerList, identity.ContainerDetail, identity.ContainerGet, web.FilterArgName,
		web.FilterArgStatus, web.FilterArgLabel, web.FilterArgBay, web.FilterArgHost)
	routes := append(get,
		&web.Route{Method: http.MethodPost, Path: "/containers", Action: identity.ContainerCreate, Handle: createContainer,
			Args:    []wire.Arg{web.Waits, {Name: "run", Kind: wire.ArgBool, Doc: "Start the container, too."}},
			Summary: "Create a container", Takes: structs.ContainerRequest{}, Gives: web.Created(structs.ContainerBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/containers/:id", Action: identity.ContainerUpdate, Handle: patchContainer,
			Args:    []wire.Arg{web.Waits},
			Summary: "Change a container's name, image, command, memory or cpu", Takes: []structs.PatchOp{},
			Gives: web.Changed(structs.ContainerBody{})},
		&web.Route{Method: http.MethodPut, Path: "/containers/:id/rename", Action: identity.ContainerRename, Handle: renameContainer,
			Args:    []wire.Arg{{Name: "name", Kind: wire.ArgText, Wants: true, Doc: "The new name."}},
			Summary: "Rename a container", Gives: web.OK(structs.ContainerBody{})},
		&web.Route{Method: http.MethodPut, Path: "/containers/:id/rebuild", Action: identity.ContainerRebuild, Handle: rebuildContainer,
			Args:    []wire.Arg{web.Waits, {Name: "image", Kind: wire.ArgText, Doc: "Another image; default the present one."}},
			Summary: "Create a container again on its host", Gives: web.Acted(structs.ContainerBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/containers/:id", Action: identity.ContainerDelete, Handle: deleteContainer,
			Args: []wire.Arg{
				web.Waits,
				{Name: "force", Kind: wire.ArgBool, Doc: "Kill it if it runs; forget it if its host is lost."},
				{Name: "stop", Kind: wire.ArgBool, Doc: "Stop it first if it runs."},
			}, Summary: "Delete a container", Gives: web.Deleted(structs.ContainerBody{})},
		&web.Route{Method: http.MethodGet, Path: "/containers/:id/actions", Action: identity.ContainerActions, Handle: containerActions,
			Args:    web.Consistency,
			Summary: "The actions on a container: who requested them and how they ended", Gives: web.OK(structs.ActionsBody{})},
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
		routes = append(routes, &web.Route{
			Method: http.MethodPut, Path: "/containers/:id/" + string(a.action), Action: a.policy, Handle: act(a.action),
			Args:    slices.Concat([]wire.Arg{web.Waits}, a.args),
			Summary: structs.Title(string(a.action)) + " a container", Gives: web.Acted(structs.ContainerBody{}),
		})
	}
	return routes
}

var createContainer = web.Write(func(q *web.Request) (*structs.Container, error) {
	var body structs.ContainerRequest
	once, err := q.Decode(containerShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.Containers().Create(q.Context(), &q.Call,
		service.CreateContainer{Body: &body, Once: once, Run: q.Query.Bool("run", false)})
}, func(q *web.Request, c *structs.Container) error {
	containers.Locate(q, c)
	atMost, said := q.Patience()
	if !said {
		return containers.Written(q, http.StatusCreated, c)
	}
	status := http.StatusCreated
	now, done, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c, atMost)
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
	return containers.Written(q, status, now)
})

// writeContainerPatch makes the handler of a change of a container. It waits for the host
// only if the change sets limits.
func writeContainerPatch(read func(*web.Request) (service.PatchContainer, error)) func(*web.Request) error {
	return func(q *web.Request) error {
		r, err := read(q)
		if err != nil {
			return err
		}
		return web.Write(func(q *web.Request) (*structs.Container, error) {
			return q.Service.Containers().Patch(q.Context(), &q.Call, r)
		}, func(q *web.Request, c *structs.Container) error {
			if !r.Limits() {
				return containers.Written(q, http.StatusOK, c)
			}
			atMost, said := q.Patience()
			now, done, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c, atMost)
			switch {
			case err != nil:
				return err
			case now == nil:
				return service.ErrDeleted(c)
			case !done && said:
				return containers.Written(q, http.StatusAccepted, now)
			}
			return containers.Written(q, http.StatusOK, now)
		})(q)
	}
}

var patchContainer = writeContainerPatch(func(q *web.Request) (service.PatchContainer, error) {
	r := service.PatchContainer{Ident: q.Ident()}
	p, err := q.DecodePatch(containerPatch)
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
	// A removed field gets its default: a generated name, the image's own command, no
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
		r.Image = &body.ContainerSpec.Image
	}
	if p.Touches("command") {
		r.Command = cmp.Or(body.Command, new(structs.Command))
	}
	if p.Touches("memory") {
		r.Memory = &body.Memory
	}
	if p.Touches("cpu") {
		r.CPU = &body.MilliCPU
	}
	return r, nil
})

// renameContainer is a PATCH of the name alone.
var renameContainer = writeContainerPatch(func(q *web.Request) (service.PatchContainer, error) {
	name := q.Query.Text("name")
	return service.PatchContainer{Ident: q.Ident(), Name: &name}, structs.CheckName(name)
})

// rebuildContainer has a container created again.
var rebuildContainer = web.Write(web.RebuildContainer, answerAction)

var deleteContainer = web.Write(web.DeleteContainer, func(q *web.Request, c service.Removed[*structs.Container]) error {
	if c.Gone {
		return q.NoContent()
	}
	atMost, said := q.Patience()
	now, _, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c.Row, atMost)
	switch {
	case err != nil:
		return err
	case now != nil && said:
		return containers.Written(q, http.StatusAccepted, now)
	}
	return q.NoContent()
})

// act makes the handler of an action.
func act(action conductor.Action) func(*web.Request) error {
	return web.Write(web.ActOnContainer(action), func(q *web.Request, c *structs.Container) error {
		if c.Done() {
			return q.Null() // the container was in this state already
		}
		return answerAction(q, c)
	})
}

// answerAction waits for the result of an action and answers as 2015 did.
func answerAction(q *web.Request, c *structs.Container) error {
	atMost, said := q.Patience()
	now, done, err := q.Service.Containers().AwaitDone(q.Context(), &q.Call, c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil && c.Spec.AutoRemove:
		return q.Null()
	case now == nil:
		return service.ErrDeleted(c)
	case !done && said:
		return containers.Written(q, http.StatusAccepted, now)
	}
	return q.Null()
}
