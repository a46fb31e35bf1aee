package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
}

// Delete deletes the container of a uuid or name. CodeNotFound, CodeConflict: it
// runs and neither Force nor Stop is set.
func (t Containers) Delete(ctx context.Context, ident string, o DeleteOptions) (Meta, error) {
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	if o.Stop {
		q.Set("stop", "true")
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

// logsQuery returns the query of GET .../logs.
func logsQuery(o structs.LogsRequest) url.Values {
	q := url.Values{}
	q.Set("stdout", strconv.FormatBool(o.Stdout))
	q.Set("stderr", strconv.FormatBool(o.Stderr))
	if o.Timestamps {
		q.Set("timestamps", "true")
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	if o.Tail >= 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.Since != "" {
		q.Set("since", o.Since)
	}
	return q
}

// Logs returns the output of a container as a stream of text, with standard output
// and standard error merged. The caller closes the stream. With Follow the stream
// ends when the container ends. CodeNotFound, CodeUnavailable: the container's host
// is lost.
func (t Containers) Logs(ctx context.Context, ident string, o structs.LogsRequest) (io.ReadCloser, error) {
	path, err := objectPath("containers", ident, "logs")
	if err != nil {
		return nil, err
	}
	resp, err := t.c.stream(ctx, call{
		method: http.MethodGet, path: path, query: logsQuery(o),
		header: http.Header{"Accept": {"text/plain"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// execQuery returns the query of an execute. The command is encoded as a JSON
// array, so that no shell rules apply to it.
func execQuery(req structs.ExecRequest) (url.Values, error) {
	if len(req.Command) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "command is empty: give a program to execute").About(structs.KindContainer)
	}
	argv, err := json.Marshal(req.Command)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "encoding command as JSON: %w", err)
	}
	q := url.Values{"command": {string(argv)}}
	for _, e := range req.Env {
		q.Add("env", e)
	}
	if req.User != "" {
		q.Set("user", req.User)
	}
	if req.Workdir != "" {
		q.Set("workdir", req.Workdir)
	}
	return q, nil
}

// ExecTimeout limits the run time of a command of Execute.
const ExecTimeout = 24 * time.Hour

// Execute runs a command in a container to its end and returns its output and exit
// code. The body has standard output in Stdout and standard error in Stderr, with
// the bytes that the command wrote, up to 16 MiB in all; see Truncated. TTY and
// Stdin are ignored. ExecuteInteractive has neither limit. CodeNotFound,
// CodeConflict: the container does not run.
func (t Containers) Execute(ctx context.Context, ident string, req structs.ExecRequest) (*structs.OutputBody, Meta, error) {
	path, err := objectPath("containers", ident, "execute")
	if err != nil {
		return nil, Meta{}, err
	}
	q, err := execQuery(req)
	if err != nil {
		return nil, Meta{}, err
	}
	q.Set("split", "true")
	q.Set("encoding", structs.EncodingBase64)
	body := new(structs.OutputBody)
	meta, err := t.c.do(ctx, call{method: http.MethodPut, path: path, query: q, wait: ExecTimeout}, body)
	if err == nil && body.Encoding == structs.EncodingBase64 {
		err = decodeOutput(body)
	}
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// decodeOutput decodes the base64 outputs of a body.
func decodeOutput(body *structs.OutputBody) error {
	for _, text := range []*string{&body.Output, body.Stdout, body.Stderr} {
		if text == nil {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			return structs.Errorf(structs.CodeInternal, "the command's output can't be decoded: %w", err)
		}
		*text = string(b)
	}
	body.Encoding = ""
	return nil
}

// Actions returns the recorded actions on a container, newest first. CodeNotFound.
func (t Containers) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	path, err := objectPath("containers", ident, "actions")
	if err != nil {
		return nil, Meta{}, err
	}
	var body struct {
		Actions []json.RawMessage `json:"actions"`
	}
	meta, err := t.c.do(ctx, call{method: http.MethodGet, path: path}, &body)
	if err != nil {
		return nil, meta, err
	}
	meta.Items = body.Actions
	actions := make([]structs.ActionBody, len(body.Actions))
	for i, raw := range body.Actions {
		if err := json.Unmarshal(raw, &actions[i]); err != nil {
			return nil, meta, structs.Errorf(structs.CodeInternal, "an action of container %s can't be decoded: %w", ident, err)
		}
	}
	return actions, meta, nil
}
