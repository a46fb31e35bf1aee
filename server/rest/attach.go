package rest

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// attachArgs are the query arguments of attach.
var attachArgs = slices.Concat([]wire.Arg{
	{Name: "stdin", Kind: wire.ArgBool,
		Doc: "Send the messages of channel 0 to the process; default true if the container was created with stdin."},
	{Name: "unstarted", Kind: wire.ArgBool, Doc: "Also attach to a container that was never started: " +
		"channel 3 then says {\"attached\": true}. Start the container after that to get all of its output."},
}, wire.TerminalArgs[2:])

// attachWS connects a user to a container's main process. The WebSocket is the
// same as that of an execute.
func (s sessionCalls) attachWS(q *web.Request) error {
	if err := q.CheckUpgrade(); err != nil {
		return err
	}
	width, height, err := wire.TerminalSize(q.Query)
	if err != nil {
		return err
	}
	a := service.Attach{Width: width, Height: height, Unstarted: q.Query.Bool("unstarted", false)}
	if q.Query.Has("stdin") {
		stdin := q.Query.Bool("stdin", false)
		a.Stdin = &stdin
	}
	offer, err := s.of(q).AttachOffer(q.Context(), &q.Call, q.Ident(), a)
	if err != nil {
		return err
	}
	session, err := s.of(q).Open(q.Context(), offer)
	if err != nil {
		return err
	}
	defer session.Close()
	return terminal(q, session)
}

// stats answers with a container's resource usage, once or every second.
func (s sessionCalls) stats(q *web.Request) error {
	if !q.Query.Bool("stream", false) {
		_, stats, err := s.of(q).Stats(q.Context(), &q.Call, q.Ident())
		if err != nil {
			return err
		}
		return q.JSON(http.StatusOK, stats)
	}
	session, err := s.of(q).StatsStream(q.Context(), &q.Call, q.Ident())
	if err != nil {
		return err
	}
	defer session.Close()
	return web.Stream(q, session, mediaLines, func(payload []byte) ([]byte, error) {
		var stats structs.StatsBody
		if err := json.Unmarshal(payload, &stats); err != nil {
			return nil, service.ErrDocument(err)
		}
		line, err := json.Marshal(stats)
		return append(line, '\n'), err
	})
}

// top answers with a container's processes.
func (s sessionCalls) top(q *web.Request) error {
	args, err := structs.ParsePS(q.Query.Text("ps_args"))
	if err != nil {
		return err
	}
	top, err := s.of(q).Top(q.Context(), &q.Call, q.Ident(), args)
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, top)
}
