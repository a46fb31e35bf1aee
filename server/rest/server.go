// Package rest is the HTTP side of a server: the REST API for users and
// operators and the routes of the agents. It authenticates, decodes and checks
// requests, has the conductor decide those that write, answers those that read
// from this server's own state, and turns error codes into statuses.
//
// package server wires it and listens. It holds no state but its configuration,
// never writes the state store, and never redirects: the clients of 2015 can't
// follow.
package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/service"
)

// Server serves the REST API.
type Server struct {
	web     *webServer
	service *service.Service
	zun     *dialect
}

// New returns a Server. It starts nothing.
func New(c Config) *Server {
	c = c.withDefaults()
	zun, terminals := newZun()
	s := &Server{zun: zun, service: service.New(service.Config{
		Store: c.Store, Conductor: c.Conductor, Dispatch: c.Dispatch, Cluster: c.Cluster, Operations: c.Operations,
		Single: c.Peers == nil, LocalTokens: c.LocalTokens, Logger: c.Logger,
		Hold: c.Hold, Patience: c.Patience, HostPatience: c.HostPatience, MaxImageFile: c.MaxImageFile,
		Leader: c.Leader, Leaderless: c.Leaderless,
	})}
	d := &document{}
	routes := slices.Concat(
		root{version: c.Version, document: d}.routes(),
		bayRoutes(), bayModelRoutes(), nodeRoutes(), hostRoutes(),
		containerRoutes(), sessionRoutes(), imageRoutes(), volumeRoutes(),
		events{tick: c.EventTick}.routes(),
		operatorRoutes(c.Leader), snapshots{most: c.MaxSnapshot, peers: c.Peers, cluster: c.Cluster, log: c.Logger}.routes(),
		metrics{c.Metrics}.routes(), status{leader: c.Leader, room: c.Room, behind: c.Behind}.routes(),
		terminals, tokenRoutes(), agentCalls{dispatch: c.Dispatch, peers: c.Peers, log: c.Logger}.routes(),
	)
	d.describe(c.Version, routes)
	s.web = newWebServer(webConfig{
		Service: s.service, Store: c.Store, Agents: c.Dispatch, Cluster: c.Cluster, Peers: c.Peers, Member: c.Member,
		Authenticator: c.Authenticator, AuthURI: c.AuthURI, Logger: c.Logger, BodyTime: c.BodyTime, Observe: c.Observe,
		Pprof: c.Pprof, Connections: c.Connections, Hosts: c.Hosts,
	}, routes, peerCalls{c.Member}.routes(), s.zun)
	return s
}

// Handler returns the handler of all routes. Parked requests end with their
// request's context: a server that stops cancels the http.Server's BaseContext.
func (s *Server) Handler() http.Handler { return s.web }

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.web.ServeHTTP(w, r) }

// Parked returns how many blocking reads wait for a change.
func (s *Server) Parked() int { return s.service.Parked() }

// Route is one route, for tests and documents.
type Route struct {
	Method string
	Path   string // with :parameters
	Action identity.Action
}

// Routes lists all routes.
func (s *Server) Routes() []Route { return listRoutes(s.web.routes) }

// ZunRoutes lists the routes of the second spelling of the API.
func (s *Server) ZunRoutes() []Route { return listRoutes(s.zun.routes) }

func listRoutes(routes []*route) []Route {
	var out []Route
	for _, rt := range routes {
		out = append(out, Route{Method: rt.method, Path: rt.fullPath(), Action: rt.action})
	}
	return out
}
