package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/stackforge/magnum/structs"
)

// process is what sessions are opened with: a container, or a container of a pod. Its
// methods are documented at Containers.
type process struct {
	c                 *Client
	noun, kind, ident string
	container         string // of a pod; "" means the server's default
}

// request returns the path and the query of a request about the process. It may change
// q.
func (p process) request(q url.Values, action ...string) (string, url.Values, error) {
	path, err := objectPath(p.noun, p.ident, action...)
	if p.container != "" {
		q.Set("container", p.container)
	}
	return path, q, err
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
	if o.Previous {
		q.Set("previous", "true")
	}
	return q
}

func (p process) logs(ctx context.Context, o structs.LogsRequest) (io.ReadCloser, error) {
	path, q, err := p.request(logsQuery(o), "logs")
	if err != nil {
		return nil, err
	}
	resp, err := p.c.stream(ctx, call{
		method: http.MethodGet, path: path, query: q,
		header: http.Header{"Accept": {"text/plain"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// execQuery returns the query of an execute. The command is encoded as a JSON
// array, so that no shell rules apply to it.
func execQuery(kind string, req structs.ExecRequest) (url.Values, error) {
	if len(req.Command) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "command is empty: give a program to execute").About(kind)
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

func (p process) execute(ctx context.Context, req structs.ExecRequest) (*structs.OutputBody, Meta, error) {
	q, err := execQuery(p.kind, req)
	if err != nil {
		return nil, Meta{}, err
	}
	q.Set("split", "true")
	q.Set("encoding", structs.EncodingBase64)
	path, q, err := p.request(q, "execute")
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.OutputBody)
	meta, err := p.c.do(ctx, call{method: http.MethodPut, path: path, query: q, wait: ExecTimeout}, body)
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

func (p process) executeInteractive(ctx context.Context, req structs.ExecRequest, s Streams) (int, error) {
	q, err := execQuery(p.kind, req)
	if err != nil {
		return 0, err
	}
	q.Set("tty", strconv.FormatBool(req.TTY))
	q.Set("stdin", strconv.FormatBool(req.Stdin && s.Stdin != nil))
	setSize(q, structs.Resize{Width: req.Width, Height: req.Height})
	path, q, err := p.request(q, "execute", "ws")
	if err != nil {
		return 0, err
	}
	conn, err := p.c.dial(ctx, path, q, nil)
	if err != nil {
		return 0, err
	}
	if !req.Stdin {
		s.Stdin = nil
	}
	code, err := p.runSession(ctx, conn, s, nil)
	if err == nil && code == nil {
		err = structs.Errorf(structs.CodeInternal, "the session ended without the command's exit code")
	}
	if err != nil {
		return 0, err
	}
	return *code, nil
}

func (p process) attach(ctx context.Context, o AttachOptions) (*int, error) {
	q := url.Values{"stdin": {strconv.FormatBool(o.Stdin != nil)}}
	if o.Unstarted {
		q.Set("unstarted", "true")
	}
	setSize(q, structs.Resize{Width: o.Width, Height: o.Height})
	path, q, err := p.request(q, "attach", "ws")
	if err != nil {
		return nil, err
	}
	conn, err := p.c.dial(ctx, path, q, nil)
	if err != nil {
		return nil, err
	}
	if o.Attached != nil {
		o.Attached()
	}
	return p.runSession(ctx, conn, o.Streams, o.Joined)
}

// actions returns the recorded actions on an object, newest first.
func actions(ctx context.Context, c *Client, noun, kind, ident string) ([]structs.ActionBody, Meta, error) {
	path, err := objectPath(noun, ident, "actions")
	if err != nil {
		return nil, Meta{}, err
	}
	var body struct {
		Actions []json.RawMessage `json:"actions"`
	}
	meta, err := c.do(ctx, call{method: http.MethodGet, path: path}, &body)
	if err != nil {
		return nil, meta, err
	}
	meta.Items = body.Actions
	all := make([]structs.ActionBody, len(body.Actions))
	for i, raw := range body.Actions {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, meta, structs.Errorf(structs.CodeInternal, "an action of %s %s can't be decoded: %w", kind, ident, err)
		}
	}
	return all, meta, nil
}
