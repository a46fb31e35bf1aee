package rest

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// attachArgs are the query arguments of attach.
var attachArgs = slices.Concat([]wire.Arg{
	{Name: "stdin", Kind: wire.ArgBool, Doc: "Give the process what comes on channel 0; default true if the container was created with stdin."},
	{Name: "unstarted", Kind: wire.ArgBool, Doc: "Join a container that was never started, too: {\"attached\": true} on channel 3 says when; start it then, and all of its output comes."},
}, wire.TerminalArgs[2:])

// containerAttachWS joins a user to a container's own process: the same
// WebSocket as that of an execute.
func containerAttachWS(q *request) error {
	if err := q.checkUpgrade(); err != nil {
		return err
	}
	width, height, err := wire.TerminalSize(q.query)
	if err != nil {
		return err
	}
	a := service.Attach{Width: width, Height: height, Unstarted: q.query.Bool("unstarted", false)}
	if q.query.Has("stdin") {
		stdin := q.query.Bool("stdin", false)
		a.Stdin = &stdin
	}
	offer, err := q.service.Sessions.AttachOffer(q.ctx(), &q.call, q.ident(), a)
	if err != nil {
		return err
	}
	session, err := q.service.Sessions.Open(q.ctx(), offer)
	if err != nil {
		return err
	}
	defer session.Close()
	return terminal(q, session)
}

// containerStats answers with what a container uses: once, or each second.
func containerStats(q *request) error {
	if !q.query.Bool("stream", false) {
		_, stats, err := q.service.Sessions.Stats(q.ctx(), &q.call, q.ident())
		if err != nil {
			return err
		}
		return q.json(http.StatusOK, stats)
	}
	session, err := q.service.Sessions.StatsStream(q.ctx(), &q.call, q.ident())
	if err != nil {
		return err
	}
	defer session.Close()
	return stream(q, session, mediaLines, func(payload []byte) ([]byte, error) {
		var stats structs.StatsBody
		if err := json.Unmarshal(payload, &stats); err != nil {
			return nil, service.ErrDocument(err)
		}
		line, err := json.Marshal(stats)
		return append(line, '\n'), err
	})
}

// containerTop answers with a container's processes.
func containerTop(q *request) error {
	args, err := structs.ParsePS(q.query.Text("ps_args"))
	if err != nil {
		return err
	}
	top, err := q.service.Sessions.Top(q.ctx(), &q.call, q.ident(), args)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, top)
}
