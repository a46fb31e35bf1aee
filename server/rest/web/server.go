package web

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Peers is how rest reaches other servers. *peer.Client satisfies it.
type Peers interface {
	Forward(ctx context.Context, leaderID string, f peer.Forwarded) (result []byte, index uint64, err error)
	// Relay serves the request, which upgrades, from another server. CodeNotFound
	// if there is none of that ID.
	Relay(w http.ResponseWriter, r *http.Request, serverID string) error
}

// Member is what other servers may ask of this one. package server has it.
type Member interface {
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

// hostAuthenticator knows hosts by their secrets. *dispatch.Dispatch is one.
type hostAuthenticator interface {
	Authenticate(ctx context.Context, hostID, secret string) error
}

// Config is what a Server needs. Fields that may be nil say so.
type Config struct {
	Service       *service.Service
	Store         *state.Store // for the index of answers
	Agents        hostAuthenticator
	Cluster       peer.Cluster
	Peers         Peers  // nil: there are no other servers
	Member        Member // nil: likewise
	Authenticator identity.Authenticator
	AuthURI       string // of who gives tokens out, for WWW-Authenticate; "" if nobody does
	Logger        hclog.Logger
	BodyTime      time.Duration // how long a request's body may take, unless it is streamed; 0 means 30s
	// Observe returns what notes the requests of a route: their status and what
	// they took, below 0 if they waited on purpose.
	Observe     func(method, route string) func(status int, took time.Duration)
	Pprof       bool            // serves /debug/pprof/ to operators
	Connections *admission.Gate // is told whose a connection is; nil if nobody counts them
	// Hosts are names of this server, besides localhost and IP addresses: a request
	// that asks another one is refused. nil looks at no name.
	Hosts []string
}

// Server serves routes.
type Server struct {
	config   Config
	router   *httprouter.Router
	siblings map[string]*Route // by method and path: static routes that share their place with a parameter
	routes   []*Route          // that are observed, of our own spelling
	dialects []*Dialect

	open     bool            // everybody is let in
	ownHosts map[string]bool // Hosts; nil if the Host is not looked at
	origins  http.CrossOriginProtection
	others   *Route // stands for what is no route, when requests are observed
}

// New returns a server of the routes, of those for other servers, and of
// dialects. It starts nothing.
func New(c Config, routes, peers []*Route, dialects ...*Dialect) *Server {
	c.BodyTime = cmp.Or(c.BodyTime, bodyTime)
	s := &Server{config: c, routes: routes, dialects: dialects, others: &Route{}, ownHosts: hostNames(c.Hosts)}
	s.router, s.siblings = newRouter(s, slices.Concat(routes, peers))
	for _, d := range dialects {
		for _, rt := range d.Routes {
			rt.Dialect = d
		}
		d.router, _ = newRouter(s, d.Routes)
	}
	_, s.open = c.Authenticator.(identity.None)
	s.observeRoutes()
	return s
}

// allRoutes returns the routes that are observed, of every spelling.
func (s *Server) allRoutes() []*Route {
	all := slices.Clone(s.routes)
	for _, d := range s.dialects {
		all = append(all, d.Routes...)
	}
	return all
}

// Dialect is a second spelling of the API: routes that stand before our own for
// requests that ask for it.
type Dialect struct {
	// Asked reports whether a request speaks the dialect, and says in the answer's
	// header that it is understood.
	Asked func(r *http.Request, answer http.Header) bool
	// Query returns the query as our own spelling has it.
	Query     func(raw string) string
	Arguments bool // those of an action may stand in a body
	Routes    []*Route

	router *httprouter.Router
}

// serve serves the request if it is one of the dialect.
func (d *Dialect) serve(w *ResponseWriter, r *http.Request, path string) bool {
	if !d.Asked(r, w.Header()) {
		return false
	}
	handle, params, _ := d.router.Lookup(r.Method, path)
	if handle == nil {
		return false
	}
	handle(w, r, params)
	return true
}
