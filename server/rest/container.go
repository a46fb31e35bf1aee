package rest

import (
	"cmp"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
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
		body := v.container(r.(*structs.Container))
		return &body
	},
}

// filterHost takes a host's UUID or the name that containers show. It looks no
// host up: which hosts there are is for operators to know.
func filterHost(v view, value string) (func(structs.Row) bool, error) {
	return func(r structs.Row) bool {
		h := v.snap.Host(r.(*structs.Container).HostID)
		return h != nil && (h.ID == value || h.Name == value)
	}, nil
}

// command returns a command as bodies show it: null for the image's own.
func command(args []string, text string) *structs.Command {
	if len(args) == 0 && text == "" {
		return nil
	}
	return &structs.Command{Args: args, Text: text}
}

// container returns the container as it is shown.
func (v view) container(c *structs.Container) structs.ContainerBody {
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

func createContainer(q *request) error {
	var body structs.ContainerRequest
	once, err := q.decode(containerShape, &body)
	if err != nil {
		return err
	}
	c, err := q.createContainer(&body, once)
	if err != nil {
		return err
	}
	containers.locate(q, c)
	if !q.query.Has("wait") {
		return containers.written(q, http.StatusCreated, c)
	}
	return q.finish(c, q.query.Duration("wait", 0), http.StatusCreated)
}

// createContainer has the container made that the body asks for.
func (q *request) createContainer(body *structs.ContainerRequest, once conductor.Once) (*structs.Container, error) {
	r := conductor.CreateContainer{Caller: q.caller(), Once: once, UUID: body.UUID, Bay: body.BayUUID, Run: q.query.Bool("run", false)}
	var err error
	if r.Name, err = checkIdentity(body.UUID, body.Name); err != nil {
		return nil, err
	}
	if r.Spec, err = body.Spec(); err != nil {
		return nil, err
	}
	if body.Bay != "" {
		if r.Bay != "" && r.Bay != body.Bay {
			return nil, structs.Errorf(structs.CodeInvalid, "bay %q and bay_uuid %q are two spellings of one field: give one of them", wire.Short(body.Bay), wire.Short(body.BayUUID))
		}
		r.Bay = body.Bay
	}
	if err := structs.CheckLine("bay_uuid", r.Bay, structs.MaxText); err != nil {
		return nil, err
	}
	minted := r.UUID == ""
	if minted {
		r.UUID = q.newID()
	}
	return create(q, r.UUID, minted, r)
}

// finish waits for what was asked of a container and answers with it: with the
// status if it is done, 202 if it isn't yet.
func (q *request) finish(c *structs.Container, atMost time.Duration, status int) error {
	now, done, err := q.settleContainer(c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil:
		return deletedMeanwhile(c)
	case !done:
		status = http.StatusAccepted
	case now.Status() == structs.ContainerError && now.Observed.Generation == c.Generation:
		return failed(now)
	}
	return containers.written(q, status, now)
}

func deletedMeanwhile(c *structs.Container) error {
	return structs.Errorf(structs.CodeConflict, "Container %s was deleted meanwhile.", c.Name).About(structs.KindContainer)
}

func patchContainer(q *request) error {
	p, err := q.decodePatch(containerPatch)
	if err != nil {
		return err
	}
	if err := p.CheckMutable(); err != nil {
		return err
	}
	var body structs.ContainerRequest
	if err := p.Apply(&body); err != nil {
		return err
	}
	r := conductor.PatchContainer{Caller: q.caller(), Ident: q.ident()}
	if p.Touches("name") {
		if _, err := checkIdentity("", body.Name); err != nil {
			return err
		}
		if r.Name = body.Name; r.Name == nil {
			r.Name = new(string) // removed: a generated one
		}
	}
	if p.Touches("image_id") {
		r.Image = &body.ImageID
	} else {
		body.ImageID = "unchanged" // for the check below, which wants one
	}
	spec, err := body.Spec()
	if err != nil {
		return err
	}
	if p.Touches("command") {
		if r.Command = body.Command; r.Command == nil {
			r.Command = new(structs.Command) // removed: the image's own
		}
	}
	if p.Touches("memory") {
		r.Memory = &spec.Memory
	}
	if p.Touches("cpu") {
		r.MilliCPU = &spec.MilliCPU
	}
	return q.patchContainer(r)
}

// patchContainer carries a change of a container out and answers with the
// container. New limits are waited for, what is only noted down isn't.
func (q *request) patchContainer(r conductor.PatchContainer) error {
	c, err := decide(q, r)
	if err != nil {
		return err
	}
	if r.Memory == nil && r.MilliCPU == nil {
		return containers.written(q, http.StatusOK, c)
	}
	atMost, said := q.patience()
	now, done, err := q.settleContainer(c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil:
		return deletedMeanwhile(c)
	case !done && said:
		return containers.written(q, http.StatusAccepted, now)
	}
	return containers.written(q, http.StatusOK, now)
}

// renameContainer is a PATCH of the name alone.
func renameContainer(q *request) error {
	name := q.query.Text("name")
	if err := structs.CheckName(name); err != nil {
		return err
	}
	return q.patchContainer(conductor.PatchContainer{Caller: q.caller(), Ident: q.ident(), Name: &name})
}

// rebuildContainer makes a container anew.
func rebuildContainer(q *request) error {
	r := conductor.RebuildContainer{Caller: q.caller(), Ident: q.ident(), Image: q.query.Text("image")}
	if q.query.Has("image") {
		if err := structs.CheckImage(r.Image); err != nil {
			return err
		}
	}
	c, err := decide(q, r)
	if err != nil {
		return err
	}
	return q.acted(c)
}

func deleteContainer(q *request) error {
	if q.query.Bool("all_projects", false) {
		if err := identity.Check(q.caller(), identity.AllProjects); err != nil {
			return err
		}
	}
	c, gone, err := remove(q, conductor.DeleteContainer{
		Caller: q.caller(), Ident: q.ident(), Stop: q.query.Bool("stop", false), Force: q.query.Bool("force", false),
	})
	if err != nil {
		return err
	}
	if gone {
		return q.noContent()
	}
	atMost, said := q.patience()
	now, _, err := q.settleContainer(c, atMost)
	switch {
	case err != nil:
		return err
	case now != nil && said:
		return containers.written(q, http.StatusAccepted, now)
	}
	return q.noContent()
}

// act makes the handler of an action.
func act(action conductor.Action) func(*request) error {
	return func(q *request) error {
		r := conductor.ActOnContainer{Caller: q.caller(), Ident: q.ident(), Action: action}
		if q.query.Has("timeout") {
			seconds := int(min(q.query.Int("timeout", 0), structs.MaxStopTimeout+1))
			if seconds > structs.MaxStopTimeout {
				return wire.Invalid("timeout", q.query.Text("timeout"), "Value should be lesser or equal to %d seconds", structs.MaxStopTimeout)
			}
			r.Timeout = &seconds
		}
		if action == conductor.ActionKill {
			signal, err := structs.ParseSignal(cmp.Or(q.query.Text("signal"), "SIGKILL"))
			if err != nil {
				return err
			}
			r.Signal = signal
		}
		// The record of the action has the request's ID: a repeat finds it.
		c, err := onLeader(q, true, func(unsure bool) (*structs.Container, error) {
			var again conductor.Request[*structs.Container] = r
			if unsure {
				again = conductor.Again[*structs.Container]{Request: r, Known: q.asOf}
			}
			c, err := conductor.Do(q.r.Context(), q.Conductor, again)
			if unsure && structs.CodeOf(err) == structs.CodeNotFound {
				// The record went with the container.
				err = structs.Errorf(structs.CodeUnavailable, "the container has gone meanwhile, and an earlier try of this request may have been carried out before (%w)", conductor.ErrUnknown)
			}
			return c, err
		})
		if err != nil {
			return err
		}
		if c.Settled() {
			return q.null() // it was so already
		}
		return q.acted(c)
	}
}

// acted waits for the result of an action and answers as 2015 did.
func (q *request) acted(c *structs.Container) error {
	atMost, said := q.patience()
	now, done, err := q.settleContainer(c, atMost)
	switch {
	case err != nil:
		return err
	case now == nil && c.Spec.AutoRemove:
		return q.null()
	case now == nil:
		return deletedMeanwhile(c)
	case !done && said:
		return containers.written(q, http.StatusAccepted, now)
	}
	return q.null()
}
