package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// mediaLines is the media type of a stream of JSON documents, one on each line.
const mediaLines = "application/x-ndjson"

// sessionRoutes are the routes that open a session with a container's host.
func sessionRoutes() []*web.Route {
	get, put := http.MethodGet, http.MethodPut
	socket := []wire.Answer{{Status: http.StatusSwitchingProtocols}}
	return []*web.Route{
		{Method: get, Path: "/containers/:id/logs", Action: identity.ContainerLogs, Handle: containerLogs,
			Args: slices.Concat(wire.LogsArgs, web.Consistency), Summary: "Output of a container",
			Gives: append(web.OK(structs.OutputBody{}), wire.Answer{Status: http.StatusOK, Media: "text/plain"})},
		{Method: put, Path: "/containers/:id/execute", Action: identity.ContainerExecute, Handle: containerExecute,
			Args: slices.Concat(wire.ExecArgs, outputArgs), Summary: "Execute a command in a container",
			Gives: web.OK(structs.OutputBody{})},
		{Method: get, Path: "/containers/:id/execute/ws", Action: identity.ContainerExecute, Handle: containerExecuteWS,
			Args:    slices.Concat(wire.ExecArgs, wire.TerminalArgs),
			Summary: "Execute a command with streams in both directions (WebSocket)", Gives: socket},
		{Method: get, Path: "/containers/:id/attach/ws", Action: identity.ContainerAttach, Handle: containerAttachWS, Args: attachArgs,
			Summary: "Attach to a container's main process (WebSocket)", Gives: socket},
		{Method: get, Path: "/containers/:id/stats", Action: identity.ContainerStats, Handle: containerStats,
			Args: slices.Concat([]wire.Arg{{Name: "stream", Kind: wire.ArgBool,
				Doc: "Send one document a second, each on a line, until the client leaves or the container stops."}}, web.Consistency),
			Summary: "A container's resource usage",
			Gives:   append(web.OK(structs.StatsBody{}), wire.Answer{Status: http.StatusOK, Media: mediaLines})},
		{Method: get, Path: "/containers/:id/top", Action: identity.ContainerTop, Handle: containerTop,
			Args: slices.Concat([]wire.Arg{{Name: "ps_args", Kind: wire.ArgText,
				Doc: "Arguments of ps: -ef (the default), -e, aux, or -o with columns: " + strings.Join(structs.PSColumns, ", ") + "."}},
				web.Consistency),
			Summary: "The processes of a container", Gives: web.OK(structs.TopBody{})},
		{Method: get, Path: "/containers/:id/archive", Action: identity.ArchiveGet, Handle: getArchive,
			Args:    slices.Concat(wire.ArchiveArgs, web.Consistency),
			Summary: "Copy a file or directory out of a container", Gives: []wire.Answer{{Status: http.StatusOK, Media: mediaTar}}},
		{Method: put, Path: "/containers/:id/archive", Action: identity.ArchivePut, Handle: putArchive, Args: wire.ArchiveArgs,
			Summary: "Copy a tar archive into a directory of a container", TakesMedia: mediaTar, Streams: true, Gives: web.OK(nil)},
	}
}

// containerLogs answers with a container's output, as the JSON of 2015 or as a stream of
// text.
func containerLogs(q *web.Request) error {
	r, err := wire.LogsRequest(q.Query)
	if err != nil {
		return err
	}
	if !r.Follow && !strings.Contains(q.R.Header.Get("Accept"), "text/plain") {
		text, err := q.Service.Sessions().LogsText(q.Context(), &q.Call, q.Ident(), r)
		if err != nil {
			return err
		}
		return q.JSON(http.StatusOK, structs.OutputBody{Output: text})
	}
	session, err := q.Service.Sessions().Logs(q.Context(), &q.Call, q.Ident(), r)
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

// firstMessage is how long a stream waits for its first message before it begins the
// response, so that an early failure still gets an error status.
const firstMessage = 250 * time.Millisecond

// stream writes the session's output as it comes. shown encodes each message.
func stream(q *web.Request, session *dispatch.Session, media string, shown func(payload []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(q.Context())
	messages := make(chan message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m message
			m.channel, m.payload, m.err = session.Read(ctx)
			m.payload = append([]byte(nil), m.payload...) // the next Read overwrites it
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
	out := http.NewResponseController(q.W)
	start := func() {
		if q.W.Status == 0 {
			q.W.Header().Set("Content-Type", media)
			q.W.Header().Set("X-Content-Type-Options", "nosniff")
			q.W.WriteHeader(http.StatusOK)
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
		if _, err := q.W.Write(text); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
