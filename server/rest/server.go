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
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// cluster is what rest asks of the replication. server/raftlog satisfies it.
type cluster interface {
	IsLeader() bool
	// Alone reports whether this server is the cluster's only one.
	Alone() bool
	// ReadIndex returns an index that holds all that was committed before the
	// call. It fails while there is no leader.
	ReadIndex(ctx context.Context) (uint64, error)
	// LeaderIndex returns an index that holds all that any server acknowledged
	// before the call, on the leader's word. It takes at most a second. CodeNoLeader.
	LeaderIndex(ctx context.Context) (uint64, error)
	// Leader returns the leader's ID and address, "" while there is none.
	Leader() (id, addr string)
	// Changed returns a channel that is closed when there is another leader, or
	// none any more.
	Changed() <-chan struct{}
}

// peers is how rest reaches other servers. *peer.Client satisfies it.
type peers interface {
	Forward(ctx context.Context, leaderID string, f peer.Forwarded) (result []byte, index uint64, err error)
	// Relay serves the request, which upgrades, from another server. CodeNotFound
	// if there is none of that ID.
	Relay(w http.ResponseWriter, r *http.Request, serverID string) error
}

// member is what other servers may ask of this one. package server has it.
type member interface {
	// ID is this server's own.
	ID() string
	// FromServer reports whether a server is at the other end of a connection as
	// far as its TLS, nil if there is none, can tell: yes if this server has none.
	FromServer(connection *tls.ConnectionState) bool
	// Secret returns the peer secret, "" while this server has no state.
	Secret() string
	// ReadIndex is the cluster's, of this server alone. CodeNoLeader.
	ReadIndex(ctx context.Context) (uint64, error)
	// LeaderIndex is the cluster's, of this server alone. CodeNoLeader.
	LeaderIndex(ctx context.Context) (uint64, error)
	// Heard takes what a follower has heard of hosts. CodeNoLeader.
	Heard(ctx context.Context, hosts map[string]structs.PeerPulse) (structs.PeerAcknowledged, error)
	// Silent returns which of the hosts this server has not heard of either.
	Silent(hosts []string) []string
	// Offer leaves a session of another server for a host's next poll here.
	Offer(hostID string, offer structs.SessionOffer)
	Progress() structs.PeerProgress
	// Identity says who this server is, with a proof over the nonce.
	Identity(nonce string) structs.PeerIdentity
	// Grant gives this server's part in a new cluster to it, or takes it back.
	// proof is what the asker has shown. CodeForbidden, CodeConflict.
	Grant(proof string, g structs.PeerGrant) error
}

// operations is what operators ask of the servers. package server has it.
type operations interface {
	// Members returns the servers and agents that gossip, this server among them.
	Members() []structs.MemberBody
	// Peers returns the servers of the log's configuration, and how far each is.
	Peers(ctx context.Context) ([]structs.RaftPeerBody, error)
	// Peer returns the id of the peer of a uuid or name. CodeNotFound,
	// CodeConflict.
	Peer(ident string) (id string, err error)
	// RemovePeer takes a server out of the cluster for good; the leader can.
	// Without force not one whose loss leaves no majority that answers.
	// CodeNotFound, CodeConflict, CodeNoLeader, CodeUnavailable.
	RemovePeer(ctx context.Context, id string, force bool) error
	// Transfer hands leadership to a peer, with "" to the one that is most up to
	// date; the leader can. CodeNotFound, CodeConflict, CodeNoLeader,
	// CodeUnavailable.
	Transfer(ctx context.Context, id string) error
	// Save writes a state as a snapshot file.
	Save(w io.Writer, s *state.Snapshot) error
	// Restore replaces the state of all servers by that of a snapshot file; the
	// leader can. With keep the cluster keeps its own id. CodeInvalid for what is
	// no sound snapshot, CodeConflict, CodeNoSpace, CodeNoLeader, CodeUnavailable.
	Restore(ctx context.Context, file io.Reader, keep bool) (structs.RestoredBody, error)
	// PeerSecret is what another server knows this one by.
	PeerSecret() string
}

// agents is what rest asks of the servers' side of the agents.
// *dispatch.Dispatch satisfies it.
type agents interface {
	Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error)
	Authenticate(ctx context.Context, hostID, secret string) error
	Work(ctx context.Context, p dispatch.Poll) (*structs.Work, error)
	Report(ctx context.Context, hostID string, r structs.StatusReport) (structs.StatusReported, error)
	ReportQuarantine(ctx context.Context, hostID string, r structs.QuarantineReport) (structs.QuarantineReported, error)
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
	Peers         peers                  // nil: there are no other servers
	Member        member                 // nil: likewise
	Operations    operations             // nil: there is nothing to operate, in tests
	Authenticator identity.Authenticator // nil means identity.None
	LocalTokens   bool                   // callers are known by tokens of this cluster's own, so that the first one can be given out
	AuthURI       string                 // of who gives tokens out, for WWW-Authenticate; "" if nobody does
	Logger        hclog.Logger
	Version       string        // of the build, shown by GET /
	Hold          time.Duration // how long a request waits for a leader or for an index; 0 means 5s
	EventTick     time.Duration // how often a stream of events without any says that it lives; 0 means 30s
	HostPatience  time.Duration // how long hosts are asked for a list of images or volumes; 0 means 10s
	MaxImageFile  int64         // bytes of an archive of images; 0 means structs.MaxImageFile
	MaxSnapshot   int64         // bytes of a snapshot file; 0 means structs.MaxSnapshot
	BodyTime      time.Duration // how long a request's body may take, unless it is streamed; 0 means 30s
	Patience      time.Duration // how long actions and deletes wait for their result if they don't say; 0 means 10s

	Metrics http.Handler // answers GET /v1/metrics; nil says that there is nothing
	// Observe returns what notes the requests of a route: their status and what
	// they took, below 0 if they waited on purpose. nil notes nothing.
	Observe    func(method, route string) func(status int, took time.Duration)
	Leader     func() (name, address string) // of the leader's REST API, host:port, "" while there is none; nil says what Cluster does
	Leaderless func() string                 // why nobody leads and what to do, a sentence; nil knows nothing of it
	Room       func() error                  // why nothing can be written to the disk; nil means that there is room
	Behind     func() uint64                 // committed entries that this server has not applied; nil means none
	Pprof      bool                          // serves /debug/pprof/ to operators
	// Connections is told whose a connection is; nil if nobody counts them.
	Connections *admission.Gate
	// Hosts are names of this server, besides localhost and IP addresses: a request
	// that asks another one is refused. nil looks at no name, which is right where
	// requests need a credential.
	Hosts []string
}

func (c Config) withDefaults() Config {
	if c.Authenticator == nil {
		c.Authenticator = identity.None{}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Observe == nil {
		c.Observe = func(string, string) func(int, time.Duration) { return func(int, time.Duration) {} }
	}
	if c.Leader == nil {
		c.Leader = func() (name, address string) { return c.Cluster.Leader() }
	}
	if c.Leaderless == nil {
		c.Leaderless = func() string { return "there is no leader at the moment: try again in a second" }
	}
	if c.Room == nil {
		c.Room = func() error { return nil }
	}
	if c.Behind == nil {
		c.Behind = func() uint64 { return 0 }
	}
	if c.Hold == 0 {
		c.Hold = 5 * time.Second
	}
	if c.EventTick == 0 {
		c.EventTick = defaultTick
	}
	if c.MaxImageFile == 0 {
		c.MaxImageFile = structs.MaxImageFile
	}
	if c.MaxSnapshot == 0 {
		c.MaxSnapshot = structs.MaxSnapshot
	}
	if c.HostPatience == 0 {
		c.HostPatience = 10 * time.Second
	}
	if c.BodyTime == 0 {
		c.BodyTime = bodyTime
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	return c
}

// Server serves the REST API.
type Server struct {
	Config
	router     *httprouter.Router
	routes     []*route
	peerRoutes []*route
	siblings   map[string]*route // by method and path: static routes that share their place with a parameter
	document   []byte            // the OpenAPI document

	zun       *httprouter.Router // of the second spelling of the API
	zunRoutes []*route
	terminals terminals

	open     bool            // everybody is let in
	ownHosts map[string]bool // Hosts; nil if the Host is not looked at
	origins  http.CrossOriginProtection

	parked atomic.Int64 // blocking reads
	others *route       // stands for what is no route, when requests are observed
}

// New returns a Server. It starts nothing.
func New(c Config) *Server {
	s := &Server{Config: c.withDefaults(), routes: newRoutes()}
	s.peerRoutes = peerRoutes()
	s.router, s.siblings = newRouter(s, slices.Concat(s.routes, s.peerRoutes))
	s.zunRoutes = newZunRoutes()
	s.zun, _ = newRouter(s, s.zunRoutes)
	var operations []wire.Operation
	for _, rt := range s.routes {
		operations = append(operations, rt.operation())
	}
	s.document = wire.NewDocument("Magnum", cmp.Or(s.Version, "unknown"),
		"The REST API of magnum. Every path is served also without /v1, and every list also with a slash at its end.", operations)
	s.others = &route{}
	s.ownHosts = hostNames(s.Hosts)
	_, s.open = s.Authenticator.(identity.None)
	s.observeRoutes()
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
