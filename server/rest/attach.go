package rest

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// attachArgs are the query arguments of attach.
var attachArgs = slices.Concat([]wire.Arg{
	{Name: "stdin", Kind: wire.ArgBool, Doc: "Give the process what comes on channel 0; default true if the container was created with stdin."},
	{Name: "unstarted", Kind: wire.ArgBool, Doc: "Join a container that was never started, too: {\"attached\": true} on channel 3 says when; start it then, and all of its output comes."},
}, terminalArgs[2:])

// containerAttachWS joins a user to a container's own process: the same
// WebSocket as that of an execute.
func containerAttachWS(q *request) error {
	if err := q.checkUpgrade(); err != nil {
		return err
	}
	width, height, err := q.terminalSize()
	if err != nil {
		return err
	}
	unstarted := q.query.Bool("unstarted", false)
	target := q.attachTarget
	if unstarted {
		target = q.unstartedTarget
	}
	c, err := target()
	if err != nil {
		return err
	}
	r := &structs.ExecRequest{TTY: c.Spec.TTY, Stdin: q.query.Bool("stdin", c.Spec.Stdin), Width: width, Height: height}
	if r.Stdin && !c.Spec.Stdin {
		return structs.Errorf(structs.CodeConflict, "Container %s was created without stdin: attach without it, or create it anew with stdin", q.ident()).About(structs.KindContainer)
	}
	session, err := q.Dispatch.Open(q.r.Context(), c.HostID, structs.SessionOffer{
		Kind: structs.SessionAttach, ContainerID: c.ID, Epoch: c.Epoch, Exec: r, Unstarted: unstarted,
	})
	if err != nil {
		return err
	}
	defer session.Close()
	return q.terminal(session)
}

// mediaLines is the type of a stream of JSON documents, one on each line.
const mediaLines = "application/x-ndjson"

// containerStats answers with what a container uses: once, or each second.
func containerStats(q *request) error {
	c, err := q.liveTarget()
	if err != nil {
		return err
	}
	streamed := q.query.Bool("stream", false)
	session, err := q.Dispatch.Open(q.r.Context(), c.HostID, structs.SessionOffer{
		Kind: structs.SessionStats, ContainerID: c.ID, Epoch: c.Epoch, Stream: streamed,
	})
	if err != nil {
		return err
	}
	defer session.Close()
	if streamed {
		return q.stream(session, mediaLines, func(payload []byte) ([]byte, error) {
			var stats structs.StatsBody
			if err := json.Unmarshal(payload, &stats); err != nil {
				return nil, badDocument(err)
			}
			line, err := json.Marshal(stats)
			return append(line, '\n'), err
		})
	}
	var stats structs.StatsBody
	if err := q.readDocument(session, &stats); err != nil {
		return err
	}
	return q.json(http.StatusOK, stats)
}

// containerTop answers with a container's processes.
func containerTop(q *request) error {
	args, err := q.psArgs()
	if err != nil {
		return err
	}
	top, err := q.top(args)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, top)
}

// psArgs reads the arguments of ps. Errors are CodeInvalid.
func (q *request) psArgs() (structs.PS, error) { return structs.ParsePS(q.query.Text("ps_args")) }

// top asks the container's host for its processes.
func (q *request) top(args structs.PS) (structs.TopBody, error) {
	var top structs.TopBody
	c, err := q.liveTarget()
	if err != nil {
		return top, err
	}
	session, err := q.Dispatch.Open(q.r.Context(), c.HostID, structs.SessionOffer{
		Kind: structs.SessionTop, ContainerID: c.ID, Epoch: c.Epoch, Args: args.String(),
	})
	if err != nil {
		return top, err
	}
	defer session.Close()
	if err := q.readDocument(session, &top); err != nil {
		return top, err
	}
	top.Titles, top.Processes = wire.List(top.Titles), wire.List(top.Processes)
	return top, nil
}

// readDocument reads the one document that a session is for.
func (q *request) readDocument(session *dispatch.Session, target any) error {
	var out output
	if err := out.read(q.r.Context(), session); err != nil {
		return err
	}
	if err := json.Unmarshal(out.stdout, target); err != nil {
		return badDocument(err)
	}
	return nil
}

func badDocument(err error) error {
	return structs.Errorf(structs.CodeUnavailable, "the host's agent sent a document that can't be read: %w", err)
}
