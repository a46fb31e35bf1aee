package rest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// maxOutput is how many bytes of output an answer in JSON holds. What is longer
// is for a stream.
const maxOutput = 16 << 20

// target finds the container of a session, and makes sure that its host can
// serve one. Errors: CodeNotFound, CodeConflict, CodeUnavailable.
func (q *request) target() (*structs.Container, error) {
	if err := q.await(); err != nil {
		return nil, err
	}
	snap := q.Store.Snapshot()
	row, err := conductor.Lookup(snap, q.caller(), structs.KindContainer, q.ident())
	if err != nil {
		return nil, err
	}
	c := row.(*structs.Container)
	host := snap.Host(c.HostID)
	switch {
	case host == nil:
		return nil, structs.Errorf(structs.CodeConflict, "Container %s has no host yet: %s", q.ident(), cmp.Or(c.StatusReason(), "it is waiting for one")).About(structs.KindContainer)
	case c.Status() == structs.ContainerUnknown: // also for a moment after the host is back
		return nil, unreachable(q.ident(), cmp.Or(c.StatusReason(), "its host is lost"))
	case host.State == structs.HostLost:
		return nil, unreachable(q.ident(), fmt.Sprintf("host %s is lost: %s", host.Name, cmp.Or(host.StateReason, "its agent is silent")))
	case c.Gone:
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is no longer on its host: start it to have it made anew", q.ident()).About(structs.KindContainer)
	}
	return c, nil
}

func unreachable(ident, why string) error {
	return structs.Errorf(structs.CodeUnavailable, "Container %s can't be reached: %s", ident, why).About(structs.KindContainer)
}

// because returns a reason in brackets, "" if there is none.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// logsTarget finds a container that has been started.
func (q *request) logsTarget() (*structs.Container, error) {
	c, err := q.target()
	if err == nil && c.Observed.StartedAt.IsZero() {
		err = structs.Errorf(structs.CodeConflict, "Container %s has not been started yet, so it has no logs%s: start it", q.ident(), because(c.StatusReason())).About(structs.KindContainer)
	}
	return c, err
}

// execTarget finds a container that runs.
func (q *request) execTarget() (*structs.Container, error) {
	c, err := q.target()
	if err == nil && c.Status() != structs.ContainerRunning {
		err = q.doesNotRun(c, "commands can only be executed in one that is Running")
	}
	return c, err
}

// attachTarget finds a container that runs.
func (q *request) attachTarget() (*structs.Container, error) {
	c, err := q.target()
	if err == nil && c.Status() != structs.ContainerRunning {
		err = q.doesNotRun(c, "only one that is Running can be attached to")
	}
	return c, err
}

// unstartedTarget finds a container that runs, or is on its host and was never
// started.
func (q *request) unstartedTarget() (*structs.Container, error) {
	c, err := q.target()
	if err == nil && c.Status() != structs.ContainerRunning && (c.Status() != structs.ContainerStopped || !c.Observed.StartedAt.IsZero()) {
		err = q.doesNotRun(c, "only one that is Running, or was created and never started, can be attached to")
	}
	return c, err
}

// liveTarget finds a container that has a process, be it paused.
func (q *request) liveTarget() (*structs.Container, error) {
	c, err := q.target()
	if err == nil && c.Status() != structs.ContainerRunning && c.Status() != structs.ContainerPaused {
		err = q.doesNotRun(c, "only one that is Running or Paused has processes")
	}
	return c, err
}

func (q *request) doesNotRun(c *structs.Container, rule string) error {
	return structs.Errorf(structs.CodeConflict, "Container %s is %s%s: %s", q.ident(), c.Status(), because(c.StatusReason()), rule).About(structs.KindContainer)
}

// logsArgs are the query arguments of logs.
var logsArgs = []wire.Arg{
	{Name: "stdout", Kind: wire.ArgBool, Doc: "Standard output, default true."},
	{Name: "stderr", Kind: wire.ArgBool, Doc: "Standard error, default true."},
	{Name: "timestamps", Kind: wire.ArgBool, Doc: "Begin each line with its time."},
	{Name: "tail", Kind: wire.ArgText, Doc: "Lines from the end; default all."},
	{Name: "since", Kind: wire.ArgText, Doc: "RFC 3339, seconds since 1970, or a duration before now such as 10m."},
	{Name: "follow", Kind: wire.ArgBool, Doc: "Stream what comes, until the container ends."},
}

// logsRequest reads the query arguments of logs. Errors are CodeInvalid.
func (q *request) logsRequest() (*structs.LogsRequest, error) {
	r := &structs.LogsRequest{
		Stdout: q.query.Bool("stdout", true), Stderr: q.query.Bool("stderr", true),
		Timestamps: q.query.Bool("timestamps", false), Follow: q.query.Bool("follow", false), Tail: -1,
	}
	if !r.Stdout && !r.Stderr {
		return nil, structs.Errorf(structs.CodeInvalid, "stdout and stderr are both false: there is nothing left to show")
	}
	if tail := q.query.Text("tail"); tail != "" && tail != "all" {
		n, ok := readCount(tail)
		if !ok {
			return nil, wire.Invalid("tail", tail, "It is a number of lines, or all.")
		}
		r.Tail = n
	}
	since := q.query.Text("since")
	if since == "" {
		return r, nil
	}
	if seconds, ok := readCount(since); ok {
		r.Since = time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
		return r, nil
	}
	if d, err := time.ParseDuration(since); err == nil && d >= 0 {
		r.Since = since
		return r, nil
	}
	if _, err := time.Parse(time.RFC3339Nano, since); err != nil {
		return nil, wire.Invalid("since", since, "It is a time such as 2015-04-20T19:06:08Z, seconds since 1970, or a duration before now such as 10m.")
	}
	r.Since = since
	return r, nil
}

// readCount reads a number of up to nine digits, or ten for times.
func readCount(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || i == 10 {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}

// execArgs are the query arguments of execute.
var execArgs = []wire.Arg{
	commandArg,
	{Name: "user", Kind: wire.ArgText, Doc: "User, or user:group, in the container."},
	{Name: "workdir", Kind: wire.ArgText, Doc: "Directory to execute it in."},
	{Name: "env", Kind: wire.ArgText, Many: true, Doc: "KEY=VALUE."},
}

var commandArg = wire.Arg{Name: "command", Kind: wire.ArgText, Wants: true, Array: true, Doc: "What to execute: a string, split as a shell does without expansions, or a JSON array."}

// execRequest reads the query arguments of execute. Errors are CodeInvalid.
func (q *request) execRequest() (*structs.ExecRequest, error) {
	r := &structs.ExecRequest{User: q.query.Text("user"), Workdir: q.query.Text("workdir"), Env: q.query.Values["env"]}
	if err := structs.CheckLine("user", r.User, structs.MaxText); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"workdir", r.Workdir, structs.MaxText}, {"command", q.query.Text("command"), structs.MaxCommand},
		{"env", strings.Join(r.Env, "\n"), structs.MaxEnvironment},
	} {
		if err := structs.CheckText(f.name, f.value, f.most); err != nil {
			return nil, err
		}
	}
	text := q.query.Text("command")
	if !strings.HasPrefix(text, "[") || json.Unmarshal([]byte(text), &r.Command) != nil {
		words, err := structs.SplitCommand(text)
		if err != nil {
			return nil, wire.Invalid("command", text, "%v.", err)
		}
		r.Command = words
	}
	if len(r.Command) == 0 || r.Command[0] == "" {
		return nil, wire.Invalid("command", text, "It names no program.")
	}
	for _, word := range r.Command {
		if strings.ContainsRune(word, 0) {
			return nil, wire.Invalid("command", text, "It has a NUL byte in it.")
		}
	}
	if r.Workdir != "" && !strings.HasPrefix(r.Workdir, "/") {
		return nil, wire.Invalid("workdir", r.Workdir, "It is not an absolute path.")
	}
	for _, e := range r.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
			return nil, wire.Invalid("env", e, "It is written as KEY=VALUE.")
		}
	}
	return r, nil
}

// control reads a control message.
func control(payload []byte) (structs.Control, error) {
	var m structs.Control
	if err := json.Unmarshal(payload, &m); err != nil {
		return m, structs.Errorf(structs.CodeUnavailable, "the host's agent sent a control message that can't be read: %w", err)
	}
	if m.Error != "" {
		code := m.Code
		if statusOf[code] == 0 {
			code = structs.CodeInternal
		}
		kind := structs.KindContainer
		if m.Kind == structs.KindPath {
			kind = m.Kind
		}
		return m, structs.Errorf(code, "%s", m.Error).About(kind)
	}
	return m, nil
}
