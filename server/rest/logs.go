package rest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// mediaLines is the media type of a stream of JSON documents, one on each line.
const mediaLines = "application/x-ndjson"

// sessionCalls handles the requests that open a session with the host of a container.
type sessionCalls struct {
	// of returns the operations on the containers that the requests are about.
	of func(q *web.Request) service.Sessions
}

var (
	ofContainers = sessionCalls{func(q *web.Request) service.Sessions { return q.Service.Sessions() }}
	ofPods       = sessionCalls{func(q *web.Request) service.Sessions { return q.Service.Sessions().OfPod(q.Query.Text("container")) }}
)

// sessionRoutes are the routes that open a session with the host of a container, or of a
// container of a pod.
func sessionRoutes() []*web.Route {
	part := wire.Arg{Name: "container", Kind: wire.ArgText,
		Doc: "Name of a container of the pod. Default: that of the annotation " + structs.DefaultContainerAnnotation +
			", else the first one."}
	previous := wire.Arg{Name: "previous", Kind: wire.ArgBool, Doc: "The output of the container before its last restart."}
	return slices.Concat(
		ofContainers.routes("containers", "container", sessionActions{
			logs: identity.ContainerLogs, execute: identity.ContainerExecute, attach: identity.ContainerAttach,
			stats: identity.ContainerStats, top: identity.ContainerTop, getArchive: identity.ArchiveGet, putArchive: identity.ArchivePut,
		}, nil, nil),
		ofPods.routes("pods", "container of a pod", sessionActions{
			logs: identity.PodLogs, execute: identity.PodExecute, attach: identity.PodAttach,
			stats: identity.PodStats, top: identity.PodTop, getArchive: identity.PodArchiveGet, putArchive: identity.PodArchivePut,
		}, []wire.Arg{part}, []wire.Arg{previous}),
		[]*web.Route{forwardRoute("pods", "pod", identity.PodForward, service.Sessions.OpenForward)},
	)
}

// sessionActions are the actions of sessionCalls' routes.
type sessionActions struct{ logs, execute, attach, stats, top, getArchive, putArchive identity.Action }

// routes returns the routes below the noun. what names one of its objects. Each route has
// the arguments args, and logs has logArgs in addition.
func (s sessionCalls) routes(noun, what string, may sessionActions, args, logArgs []wire.Arg) []*web.Route {
	get, put := http.MethodGet, http.MethodPut
	socket := []wire.Answer{{Status: http.StatusSwitchingProtocols}}
	below := "/" + noun + "/:id/"
	with := func(more ...[]wire.Arg) []wire.Arg { return slices.Concat(args, slices.Concat(more...)) }
	return []*web.Route{
		{Method: get, Path: below + "logs", Action: may.logs, Handle: s.logs,
			Args: with(logArgs, wire.LogsArgs, web.Consistency), Summary: "Output of a " + what,
			Gives: append(web.OK(structs.OutputBody{}), wire.Answer{Status: http.StatusOK, Media: "text/plain"})},
		{Method: put, Path: below + "execute", Action: may.execute, Handle: s.execute,
			Args: with(wire.ExecArgs, outputArgs), Summary: "Execute a command in a " + what,
			Gives: web.OK(structs.OutputBody{})},
		{Method: get, Path: below + "execute/ws", Action: may.execute, Handle: s.executeWS,
			Args:    with(wire.ExecArgs, wire.TerminalArgs),
			Summary: "Execute a command in a " + what + " with streams in both directions (WebSocket)", Gives: socket},
		{Method: get, Path: below + "attach/ws", Action: may.attach, Handle: s.attachWS, Args: with(attachArgs),
			Summary: "Attach to the main process of a " + what + " (WebSocket)", Gives: socket},
		{Method: get, Path: below + "stats", Action: may.stats, Handle: s.stats,
			Args: with([]wire.Arg{{Name: "stream", Kind: wire.ArgBool,
				Doc: "Send one document a second, each on a line, until the client leaves or the container stops."}}, web.Consistency),
			Summary: "Resource usage of a " + what,
			Gives:   append(web.OK(structs.StatsBody{}), wire.Answer{Status: http.StatusOK, Media: mediaLines})},
		{Method: get, Path: below + "top", Action: may.top, Handle: s.top,
			Args: with([]wire.Arg{{Name: "ps_args", Kind: wire.ArgText,
				Doc: "Arguments of ps: -ef (the default), -e, aux, or -o with columns: " + strings.Join(structs.PSColumns, ", ") + "."}},
				web.Consistency),
			Summary: "The processes of a " + what, Gives: web.OK(structs.TopBody{})},
		{Method: get, Path: below + "archive", Action: may.getArchive, Handle: s.getArchive,
			Args:    with(wire.ArchiveArgs, web.Consistency),
			Summary: "Copy a file or directory out of a " + what, Gives: []wire.Answer{{Status: http.StatusOK, Media: mediaTar}}},
		{Method: put, Path: below + "archive", Action: may.putArchive, Handle: s.putArchive, Args: with(wire.ArchiveArgs),
			Summary: "Copy a tar archive into a directory of a " + what, TakesMedia: mediaTar, Streams: true, Gives: web.OK(nil)},
	}
}

// logs answers with a container's output, as the JSON of 2015 or as a stream of text.
func (s sessionCalls) logs(q *web.Request) error {
	r, err := wire.LogsRequest(q.Query)
	if err != nil {
		return err
	}
	r.Previous = q.Query.Bool("previous", false)
	if !r.Follow && !strings.Contains(q.R.Header.Get("Accept"), "text/plain") {
		text, err := s.of(q).LogsText(q.Context(), &q.Call, q.Ident(), r)
		if err != nil {
			return err
		}
		return web.Output(q, text, structs.OutputBody{})
	}
	session, err := s.of(q).Logs(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	defer session.Close()
	return web.Stream(q, session, "text/plain; charset=utf-8", func(payload []byte) ([]byte, error) { return payload, nil })
}
