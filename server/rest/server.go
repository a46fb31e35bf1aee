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
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// cluster is what rest asks of the replication. server/raftlog satisfies it.
type cluster interface {
	IsLeader() bool
	// ReadIndex returns an index that holds all that was committed before the
	// call. It fails while there is no leader.
	ReadIndex(ctx context.Context) (uint64, error)
	// Leader returns the leader's ID and address, "" while there is none.
	Leader() (id, addr string)
}

// agents is what rest asks of the servers' side of the agents.
// *dispatch.Dispatch satisfies it.
type agents interface {
	Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error)
	Authenticate(ctx context.Context, hostID, secret string) error
	Work(ctx context.Context, p dispatch.Poll) (*structs.Work, error)
	Report(ctx context.Context, hostID string, r structs.StatusReport) (structs.StatusReported, error)
	Open(ctx context.Context, hostID string, offer structs.SessionOffer) (*dispatch.Session, error)
	Expects(hostID, sid string) error
	Accept(ctx context.Context, hostID, sid string, conn *websocket.Conn) error
}

// Config is what a Server needs.
type Config struct {
	Store         *state.Store
	Conductor     *conductor.Conductor
	Dispatch      agents
	Cluster       cluster
	Authenticator identity.Authenticator // nil means identity.None
	AuthURI       string                 // of who gives tokens out, for WWW-Authenticate; "" if nobody does
	Logger        hclog.Logger
	Version       string        // of the build, shown by GET /
	Hold          time.Duration // how long a request waits for a leader or for an index; 0 means 5s
	EventTick     time.Duration // how often a stream of events without any says that it lives; 0 means 30s
	Patience      time.Duration // how long actions and deletes wait for their result if they don't say; 0 means 10s
}

func (c Config) withDefaults() Config {
	if c.Authenticator == nil {
		c.Authenticator = identity.None{}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Hold == 0 {
		c.Hold = 5 * time.Second
	}
	if c.EventTick == 0 {
		c.EventTick = defaultTick
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	return c
}

// Server serves the REST API.
type Server struct {
	Config
	router   *httprouter.Router
	routes   []*route
	siblings map[string]*route // by method and path: static routes that share their place with a parameter
	document []byte            // the OpenAPI document

	zun       *httprouter.Router // of the second spelling of the API
	zunRoutes []*route
	terminals terminals
}

// New returns a Server. It starts nothing.
func New(c Config) *Server {
	s := &Server{Config: c.withDefaults(), routes: newRoutes()}
	s.router, s.siblings = newRouter(s, s.routes)
	s.zunRoutes = newZunRoutes()
	s.zun, _ = newRouter(s, s.zunRoutes)
	s.document = newDocument(s.routes, s.Version)
	return s
}

// Handler returns the handler of all routes. Parked requests end with their
// request's context: a server that stops cancels the http.Server's BaseContext.
func (s *Server) Handler() http.Handler { return s }

// Route is one route, for tests and documents.
type Route struct {
	Method string
	Path   string // with :parameters
	Action identity.Action
}

// Routes lists all routes.
func (s *Server) Routes() []Route { return listRoutes(s.routes) }

// ZunRoutes lists the routes of the second spelling of the API.
func (s *Server) ZunRoutes() []Route { return listRoutes(s.zunRoutes) }

func listRoutes(routes []*route) []Route {
	var out []Route
	for _, rt := range routes {
		out = append(out, Route{Method: rt.method, Path: rt.fullPath(), Action: rt.action})
	}
	return out
}
