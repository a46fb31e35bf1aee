// Package rest is the HTTP side of a server: the REST API for users and operators, and
// the routes of agents and other servers. Each noun has a file with its routes, its
// response bodies and its handlers. A handler reads a request, has server/service carry
// it out, and answers.
//
// Package server wires it and listens. rest holds no state but its configuration, and
// never writes the state store. server/rest/web does what all requests share,
// server/rest/wire reads and writes bodies, server/rest/operator has the routes of those who
// run the servers, and server/rest/zun is the dialect of OpenStack's container client.
package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/operator"
	"github.com/stackforge/magnum/server/rest/quota"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/zun"
	"github.com/stackforge/magnum/server/service"
)

// Server serves the REST API.
type Server struct {
	web     *web.Server
	routes  []*web.Route // magnum's own API, which the OpenAPI document describes
	peers   []*web.Route // for other servers
	service *service.Service
	zun     *web.Dialect
}

// New returns a Server. It starts nothing.
func New(c Config) *Server {
	c = c.withDefaults()
	zun, terminals := zun.New()
	s := &Server{zun: zun, service: service.New(service.Config{
		Store: c.Store, Conductor: c.Conductor, Dispatch: c.Dispatch, Cluster: c.Cluster, Operations: c.Operations,
		Single: c.Peers == nil, LocalTokens: c.LocalTokens, Logger: c.Logger,
		Hold: c.Hold, Patience: c.Patience, HostPatience: c.HostPatience, MaxImageFile: c.MaxImageFile, Fetch: c.Fetch,
		Leader: c.Leader, Leaderless: c.Leaderless, Pools: c.Pools, HostPorts: c.HostPorts,
	})}
	d := &document{}
	routes := slices.Concat(
		root{version: c.Version, document: d}.routes(),
		bayRoutes(), bayConfigRoutes(), bayModelRoutes(), nodeRoutes(), hostRoutes(),
		containerRoutes(), podRoutes(), rcRoutes(), bayServiceRoutes(), sessionRoutes(), imageRoutes(), volumeRoutes(), actionRoutes(),
		events{tick: c.EventTick}.routes(),
		operator.Routes(operator.Config{MaxSnapshot: c.MaxSnapshot, Peers: c.Peers, Cluster: c.Cluster, Metrics: c.Metrics,
			Leader: c.Leader, Room: c.Room, Behind: c.Behind, Logger: c.Logger}),
		terminals, quota.Routes(), tokenRoutes(), agentCalls{dispatch: c.Dispatch, peers: c.Peers, log: c.Logger}.routes(),
	)
	web.TakeAllProjects(routes)
	web.TakeAllProjects(zun.Routes)
	d.describe(c.Version, routes)
	s.routes, s.peers = routes, peerCalls{c.Member}.routes()
	s.web = web.New(web.Config{
		Service: s.service, Store: c.Store, Agents: c.Dispatch, Cluster: c.Cluster, Peers: c.Peers, Member: c.Member,
		Authenticator: c.Authenticator, AuthURI: c.AuthURI, Rules: c.Rules, Logger: c.Logger, BodyTime: c.BodyTime, Observe: c.Observe,
		Pprof: c.Pprof, Connections: c.Connections, Hosts: c.Hosts, Audit: c.Audit, Limits: c.Limits, Proxies: c.Proxies,
		WriteTime: c.WriteTime,
	}, s.routes, s.peers, s.zun)
	return s
}

// Handler returns the handler of all routes. Requests that wait end with their context: a
// server that stops cancels the BaseContext of its http.Server.
func (s *Server) Handler() http.Handler { return s.web }

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.web.ServeHTTP(w, r) }

// Parked returns how many blocking reads are waiting for a change.
func (s *Server) Parked() int { return s.service.Parked() }

// Route is one route, for tests and documents.
type Route struct {
	Method string
	Path   string // with :parameters
	Action identity.Action
}

// Routes returns all routes of the API and of agents.
func (s *Server) Routes() []Route { return listRoutes(s.routes) }

// ZunRoutes returns the routes of the dialect of OpenStack's container client.
func (s *Server) ZunRoutes() []Route { return listRoutes(s.zun.Routes) }

func listRoutes(routes []*web.Route) []Route {
	var out []Route
	for _, rt := range routes {
		out = append(out, Route{Method: rt.Method, Path: rt.FullPath(), Action: rt.Action})
	}
	return out
}
