package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Containers accesses the containers of the caller's project.
type Containers struct{ c *Client }

// Containers returns the client of containers.
func (c *Client) Containers() Containers { return Containers{c} }

func (t Containers) process(ident string) process {
	return process{c: t.c, noun: "containers", kind: structs.KindContainer, ident: ident}
}

// List returns the containers that the options ask for. Without Detail only the
// fields up to Status, and Links, are set.
func (t Containers) List(ctx context.Context, o QueryOptions) ([]structs.ContainerBody, Meta, error) {
	return list[structs.ContainerBody](ctx, t.c, "containers", o)
}

// Get returns the container of a uuid or name. CodeNotFound, CodeConflict: several
// containers have the name.
func (t Containers) Get(ctx context.Context, ident string, o QueryOptions) (*structs.ContainerBody, Meta, error) {
	return get[structs.ContainerBody](ctx, t.c, "containers", ident, o)
}

// CreateOptions are the options of Create.
type CreateOptions struct {
	WriteOptions
	Run bool // also start the container
}

// Create creates a container. CodeInvalid, CodeQuota, CodeConflict: the
// Idempotency-Key was used with another request.
func (t Containers) Create(ctx context.Context, req *structs.ContainerRequest, o CreateOptions) (*structs.ContainerBody, Meta, error) {
	return t.CreateJSON(ctx, req, o)
}

// CreateJSON creates a container from a value that encodes as the JSON of a
// structs.ContainerRequest. It can carry fields that this client does not know.
func (t Containers) CreateJSON(ctx context.Context, req any, o CreateOptions) (*structs.ContainerBody, Meta, error) {
	q := url.Values{}
	if o.Run {
		q.Set("run", "true")
	}
	return create[structs.ContainerBody](ctx, t.c, "containers", q, req, o.WriteOptions)
}

// Update changes the container of a uuid or name. CodeInvalid, CodeNotFound,
// CodeConflict.
func (t Containers) Update(ctx context.Context, ident string, ops []structs.PatchOp, o WriteOptions) (*structs.ContainerBody, Meta, error) {
	return update[structs.ContainerBody](ctx, t.c, "containers", ident, ops, o)
}

// DeleteOptions are the options of Delete.
type DeleteOptions struct {
	WriteOptions
	Force bool // kill the container if it runs
	Stop  bool // stop the container first if it runs
	// AllProjects looks for a name in all projects; for operators, and for containers only.
	AllProjects bool
}

// Delete deletes the container of a uuid or name. CodeNotFound, CodeConflict: it
// runs and neither Force nor Stop is set, or several have the name; CodeForbidden for
// AllProjects.
func (t Containers) Delete(ctx context.Context, ident string, o DeleteOptions) (Meta, error) {
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	if o.Stop {
		q.Set("stop", "true")
	}
	if o.AllProjects {
		q.Set("all_projects", "true")
	}
	return remove(ctx, t.c, "containers", ident, q, o.WriteOptions)
}

// Action is an action on a container.
type Action string

// The actions.
const (
	Start   Action = "start"
	Stop    Action = "stop"
	Reboot  Action = "reboot"
	Pause   Action = "pause"
	Unpause Action = "unpause"
	Kill    Action = "kill"
)

// ActionOptions are the options of Action.
type ActionOptions struct {
	WriteOptions
	StopTimeout *int   // for Stop and Reboot: seconds between SIGTERM and SIGKILL; nil means the container's own
	Signal      string // for Kill: a name such as SIGHUP or HUP, or a number; "" means SIGKILL
}

// Action runs an action on the container of a uuid or name. CodeNotFound,
// CodeConflict: the container's state forbids the action.
func (t Containers) Action(ctx context.Context, ident string, action Action, o ActionOptions) (Meta, error) {
	path, err := objectPath("containers", ident, string(action))
	if err != nil {
		return Meta{}, err
	}
	q := o.query(nil)
	if o.StopTimeout != nil {
		q.Set("timeout", strconv.Itoa(*o.StopTimeout))
	}
	if o.Signal != "" {
		q.Set("signal", o.Signal)
	}
	return t.c.do(ctx, call{method: http.MethodPut, path: path, query: q, wait: o.Wait}, nil)
}

// Rename changes the name of the container of a uuid or name. CodeInvalid,
// CodeNotFound.
func (t Containers) Rename(ctx context.Context, ident, name string) (*structs.ContainerBody, Meta, error) {
	path, err := objectPath("containers", ident, "rename")
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.ContainerBody)
	meta, err := t.c.do(ctx, call{method: http.MethodPut, path: path, query: url.Values{"name": {name}}}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Rebuild recreates the container of a uuid or name from an image; "" means the
// image that it has. CodeInvalid, CodeNotFound, CodeConflict.
func (t Containers) Rebuild(ctx context.Context, ident, image string, o WriteOptions) (Meta, error) {
	path, err := objectPath("containers", ident, "rebuild")
	if err != nil {
		return Meta{}, err
	}
	q := o.query(nil)
	if image != "" {
		q.Set("image", image)
	}
	return t.c.do(ctx, call{method: http.MethodPut, path: path, query: q, wait: o.Wait}, nil)
}

// Logs returns the output of a container as a stream of text, with standard output
// and standard error merged. The caller closes the stream. With Follow the stream
// ends when the container ends. CodeNotFound, CodeUnavailable: the container's host
// is lost.
func (t Containers) Logs(ctx context.Context, ident string, o structs.LogsRequest) (io.ReadCloser, error) {
	return t.process(ident).logs(ctx, o)
}

// ExecTimeout limits the run time of a command of Execute.
const ExecTimeout = 24 * time.Hour

// Execute runs a command in a container to its end and returns its output and exit
// code. The body has standard output in Stdout and standard error in Stderr, with
// the bytes that the command wrote, up to 16 MiB in all; see Truncated. TTY and
// Stdin are ignored. ExecuteInteractive has neither limit. CodeNotFound,
// CodeConflict: the container does not run.
func (t Containers) Execute(ctx context.Context, ident string, req structs.ExecRequest) (*structs.OutputBody, Meta, error) {
	return t.process(ident).execute(ctx, req)
}

// Actions returns the recorded actions on a container, newest first. CodeNotFound.
func (t Containers) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "containers", structs.KindContainer, ident)
}
