package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
)

// TestRoute is a route of a server under test, with a handler that tests replace.
type TestRoute struct {
	Method, Path string // with :parameters
	Action       identity.Action
	Zun          bool
	Args         []string // names of its query arguments
	Wants        []string // names of mandatory query arguments
	Takes        string   // type of the request body; "" if there is none
	Streams      bool
	ShortLived   bool
	Gives        []string // types of its answers, but JSON
	Handle       func(func(http.ResponseWriter, *http.Request) error)
}

// TestRoutes returns all routes of the server, with those for other servers and for
// profiles.
func (s *Server) TestRoutes() []TestRoute {
	var out []TestRoute
	for _, routes := range [][]*web.Route{s.routes, s.zun.Routes, s.peers} {
		for _, rt := range routes {
			tr := TestRoute{Method: rt.Method, Path: rt.FullPath(), Action: rt.Action, Zun: rt.Dialect != nil, Takes: rt.TakesMedia,
				Streams: rt.Streams, ShortLived: web.IsShortLived(rt.Action)}
			if rt.Takes != nil {
				tr.Takes = "application/json"
			}
			for _, a := range rt.Args {
				tr.Args = append(tr.Args, a.Name)
				if a.Wants {
					tr.Wants = append(tr.Wants, a.Name)
				}
			}
			for _, a := range rt.Gives {
				if a.Media != "" {
					tr.Gives = append(tr.Gives, a.Media)
				}
			}
			tr.Handle = func(h func(http.ResponseWriter, *http.Request) error) {
				rt.Handle = func(q *web.Request) error { return h(q.W, q.R) }
			}
			out = append(out, tr)
		}
	}
	return out
}
