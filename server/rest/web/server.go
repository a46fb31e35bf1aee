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

	"github.com/stackforge/magnum/internal/shares"
	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Peers forwards and relays requests to other servers. *peer.Client satisfies it.
type Peers interface {
	Forward(ctx context.Context, leaderID string, f peer.Forwarded) (result []byte, index uint64, err error)
	// Relay has another server serve the request, and passes on the bytes of both
	// directions. CodeNotFound if no server has that ID.
	Relay(w http.ResponseWriter, r *http.Request, serverID string) error
}

// Member is what other servers may ask of this one. Package server implements it.
type Member interface {
	// ID returns this server's ID.
	ID() string
	// FromServer reports whether, by its TLS certificate, a server is at the other end
	// of a connection. It is true if this server has no TLS. connection is nil without
	// TLS.
	FromServer(connection *tls.ConnectionState) bool
	// Secret returns the peer secret, "" while this server has no state.
	Secret() string
	// ReadIndex returns the read index if this server is the leader. CodeNoLeader.
	ReadIndex(ctx context.Context) (uint64, error)
	// LeaderIndex returns the leader's index if this server is the leader.
	// CodeNoLeader.
	LeaderIndex(ctx context.Context) (uint64, error)
	// TakeHeartbeats takes what a follower has received of hosts. CodeNoLeader.
	TakeHeartbeats(ctx context.Context, hosts map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged, error)
	// Silent returns which of the hosts have sent this server no heartbeat either.
	Silent(hosts []string) []string
	// Followed returns which of the hosts have polled this server with the index or a later
	// one. It waits until there is one, but not longer than given.
	Followed(ctx context.Context, hosts []string, index uint64, wait time.Duration) []string
	// Offer leaves a session of another server for a host's next poll here.
	Offer(hostID string, offer structs.SessionOffer)
	Progress() structs.PeerProgress
	// Identity returns this server's IDs, with a proof over the nonce.
	Identity(nonce string) structs.PeerIdentity
	// Grant gives or releases this server's grant for a proposed cluster. proof is from
	// the request. CodeForbidden, CodeConflict.
	Grant(proof string, g structs.PeerGrant) error
}

// hostAuthenticator authenticates hosts by their secrets. *dispatch.Dispatch satisfies
// it.
type hostAuthenticator interface {
	Authenticate(ctx context.Context, hostID, secret string) error
}

// Config is what a Server needs. Fields that may be nil say so.
type Config struct {
	Service       *service.Service
	Store         *state.Store // for the index of responses
	Agents        hostAuthenticator
	Cluster       peer.Cluster
	Peers         Peers  // nil: there are no other servers
	Member        Member // nil: there are no other servers
	Authenticator identity.Authenticator
	AuthURI       string // URL that gives out tokens, for WWW-Authenticate; "" if there is none
	// Rules returns the policy that is in force; nil means the default one.
	Rules    func() structs.Rules
	Logger   hclog.Logger
	BodyTime time.Duration // how long a request's body may take unless it is streamed; 0 means 30s
	// Observe returns a function that records the requests of a route. took is below 0
	// for a request that waited on purpose.
	Observe     func(method, route string) func(status int, took time.Duration)
	Pprof       bool            // serve /debug/pprof/ to operators
	Connections *admission.Gate // counts connections by credential; nil counts none
	Audit       Auditor         // keeps the audit log; nil keeps none
	Limits      *limits.Limits  // bounds rates and bytes in flight; nil bounds none
	Proxies     Proxies         // whose headers about their clients are believed
	// WriteTime is how long a client may take to read a piece of a response, at most 64 KiB;
	// 0 means no bound. The WriteTimeout of the http.Server must not be shorter.
	WriteTime time.Duration
	// Hosts are names of this server, in addition to localhost and IP addresses. A
	// request with another Host header is refused. nil accepts every name.
	Hosts []string
}

// Server serves routes.
type Server struct {
	config   Config
	router   *httprouter.Router
	siblings map[string]*Route // by method and path: static routes at the place of a parameter
	routes   []*Route          // observed routes of magnum's own API
	dialects []*Dialect

	open     bool            // there is no authentication
	ownHosts map[string]bool // Hosts; nil if the Host header isn't checked
	origins  http.CrossOriginProtection
	others   *Route // observes requests without a route
	failures *failures

	terminals shares.Shares
}

// New returns a server of the API's routes, of the routes for other servers, and of
// dialects. It starts nothing.
func New(c Config, routes, peers []*Route, dialects ...*Dialect) *Server {
	c.BodyTime = cmp.Or(c.BodyTime, bodyTime)
	s := &Server{config: c, routes: routes, dialects: dialects, others: &Route{}, ownHosts: hostNames(c.Hosts),
		failures: newFailures(c.Logger)}
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

// unread counts a response that its client didn't read.
func (s *Server) unread() { s.config.Limits.Count(limits.Unread) }

// allRoutes returns the observed routes of the API and all dialects.
func (s *Server) allRoutes() []*Route {
	all := slices.Clone(s.routes)
	for _, d := range s.dialects {
		all = append(all, d.Routes...)
	}
	return all
}

// Dialect is another spelling of the API. Its routes come before those of magnum's own
// API for requests that ask for the dialect.
type Dialect struct {
	// Asked reports whether a request asks for the dialect, and confirms it in the
	// response's header.
	Asked func(r *http.Request, answer http.Header) bool
	// Query translates a query of the dialect.
	Query     func(raw string) string
	Arguments bool // an action's arguments may be in its body
	Routes    []*Route

	router *httprouter.Router
}

// serve serves the request if the dialect has a route for it, and reports whether it has.
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
