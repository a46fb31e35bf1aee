package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// mediaLines is the type of a stream of JSON documents, one on each line.
const mediaLines = "application/x-ndjson"

// sessionRoutes are those on which hosts are asked about one container.
func sessionRoutes() []*route {
	get, put := http.MethodGet, http.MethodPut
	socket := []wire.Answer{{Status: http.StatusSwitchingProtocols}}
	return []*route{
		{method: get, path: "/containers/:id/logs", action: identity.ContainerLogs, handle: containerLogs, args: slices.Concat(wire.LogsArgs, consistency), summary: "Output of a container",
			gives: append(ok(structs.OutputBody{}), wire.Answer{Status: http.StatusOK, Media: "text/plain"})},
		{method: put, path: "/containers/:id/execute", action: identity.ContainerExecute, handle: containerExecute,
			args: slices.Concat(wire.ExecArgs, outputArgs), summary: "Execute a command in a container", gives: ok(structs.OutputBody{})},
		{method: get, path: "/containers/:id/execute/ws", action: identity.ContainerExecute, handle: containerExecuteWS, args: slices.Concat(wire.ExecArgs, wire.TerminalArgs),
			summary: "Execute a command with streams in both directions (WebSocket)", gives: socket},
		{method: get, path: "/containers/:id/attach/ws", action: identity.ContainerAttach, handle: containerAttachWS, args: attachArgs,
			summary: "Attach to a container's own process (WebSocket)", gives: socket},
		{method: get, path: "/containers/:id/stats", action: identity.ContainerStats, handle: containerStats,
			args:    slices.Concat([]wire.Arg{{Name: "stream", Kind: wire.ArgBool, Doc: "One document a second, each on a line, until somebody leaves."}}, consistency),
			summary: "What a container uses of its host", gives: append(ok(structs.StatsBody{}), wire.Answer{Status: http.StatusOK, Media: mediaLines})},
		{method: get, path: "/containers/:id/top", action: identity.ContainerTop, handle: containerTop,
			args:    slices.Concat([]wire.Arg{{Name: "ps_args", Kind: wire.ArgText, Doc: "Of ps: -ef (the default), -e, aux, or -o with columns: " + strings.Join(structs.PSColumns, ", ") + "."}}, consistency),
			summary: "The processes of a container", gives: ok(structs.TopBody{})},
		{method: get, path: "/containers/:id/archive", action: identity.ArchiveGet, handle: getArchive, args: slices.Concat(archiveArgs, consistency),
			summary: "Copy a file or directory out of a container", gives: []wire.Answer{{Status: http.StatusOK, Media: mediaTar}}},
		{method: put, path: "/containers/:id/archive", action: identity.ArchivePut, handle: putArchive, args: archiveArgs,
			summary: "Copy a tar archive into a directory of a container", takesMedia: mediaTar, streams: true, gives: ok(nil)},
	}
}

// containerLogs answers with a container's output: as the JSON of 2015, or as a
// stream of text.
func containerLogs(q *request) error {
	r, err := wire.LogsRequest(q.query)
	if err != nil {
		return err
	}
	if !r.Follow && !strings.Contains(q.r.Header.Get("Accept"), "text/plain") {
		text, err := q.service.Sessions.LogsText(q.ctx(), &q.call, q.ident(), r)
		if err != nil {
			return err
		}
		return q.json(http.StatusOK, structs.OutputBody{Output: text})
	}
	session, err := q.service.Sessions.Logs(q.ctx(), &q.call, q.ident(), r)
	if err != nil {
		return err
	}
	defer session.Close()
	return stream(q, session, "text/plain; charset=utf-8", func(payload []byte) ([]byte, error) { return payload, nil })
}

// message is one message of a session.
type message struct {
	channel byte
	payload []byte
	err     error
}

// firstMessage is how long a stream waits for its first message before it
// begins the answer: a failure that comes at once still gets a status.
const firstMessage = 250 * time.Millisecond

// stream writes the session's output as it comes, each message as shown makes
// it.
func stream(q *request, session *dispatch.Session, media string, shown func(payload []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(q.ctx())
	messages := make(chan message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m message
			m.channel, m.payload, m.err = session.Read(ctx)
			m.payload = append([]byte(nil), m.payload...) // Read's is its own
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
			if m.err != nil {
				return
			}
		}
	}()
	defer func() { <-done }()
	defer cancel()

	begin := time.NewTimer(firstMessage)
	defer begin.Stop()
	out := http.NewResponseController(q.w)
	start := func() {
		if q.w.status == 0 {
			q.w.Header().Set("Content-Type", media)
			q.w.Header().Set("X-Content-Type-Options", "nosniff")
			q.w.WriteHeader(http.StatusOK)
		}
	}
	for {
		var m message
		select {
		case m = <-messages:
		case <-ctx.Done():
			return structs.Errorf(structs.CodeUnavailable, "the stream was cut short: %w", context.Cause(ctx))
		case <-begin.C:
			start()
			if err := out.Flush(); err != nil {
				return err
			}
			continue
		}
		if m.err != nil {
			return m.err
		}
		if m.channel == structs.ChannelControl {
			last, err := service.Control(m.payload)
			if err != nil {
				return err
			}
			if last.Done || last.ExitCode != nil {
				start()
				return nil
			}
			continue
		}
		text, err := shown(m.payload)
		if err != nil {
			return err
		}
		start()
		if _, err := q.w.Write(text); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
