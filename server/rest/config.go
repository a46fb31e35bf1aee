package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/fetch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/service/hostports"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// agents is what rest needs of the servers' side of agents. *dispatch.Dispatch satisfies
// it.
type agents interface {
	Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error)
	Authenticate(ctx context.Context, hostID, secret string) error
	Work(ctx context.Context, p dispatch.Poll) (*structs.Work, error)
	Drained(ctx context.Context, q dispatch.Question) (structs.Drained, error)
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
	Cluster       service.Cluster
	Peers         web.Peers              // nil: there are no other servers
	Member        web.Member             // nil: there are no other servers
	Operations    service.Operations     // nil refuses operators' requests about servers, for tests
	Authenticator identity.Authenticator // nil means identity.None
	LocalTokens   bool                   // callers authenticate with this cluster's own tokens, so that bootstrap gives out the first one
	AuthURI       string                 // URL that gives out tokens, for WWW-Authenticate; "" if there is none
	Rules         func() structs.Rules   // returns the policy that is in force; nil means the default one
	Logger        hclog.Logger
	Version       string        // of the build, shown by GET /
	Hold          time.Duration // how long a request waits for a leader or for an index; 0 means 5s
	EventTick     time.Duration // how often a stream without events sends a tick; 0 means 30s
	HostPatience  time.Duration // how long hosts may take to list images or volumes; 0 means 10s
	MaxImageFile  int64         // limit of an archive of images, in bytes; 0 means structs.MaxImageFile
	MaxSnapshot   int64         // limit of a snapshot file, in bytes; 0 means structs.MaxSnapshot
	BodyTime      time.Duration // how long a request's body may take unless it is streamed; 0 means 30s
	Patience      time.Duration // how long actions and deletes wait for their result by default; 0 means 10s

	// Fetch returns the manifest at a URL that a caller gives. nil means fetch.Manifest.
	Fetch func(ctx context.Context, url string) (string, error)

	Pools     services.Pools // what services of bays get; the zero value means the defaults
	HostPorts hostports.Rule // ports of hosts that members of projects may ask for

	Metrics http.Handler // answers GET /v1/metrics; nil answers 404
	// Observe returns a function that records the requests of a route. took is below 0
	// for a request that waited on purpose. nil records nothing.
	Observe func(method, route string) func(status int, took time.Duration)
	// Leader returns the name and address (host:port) of the leader's REST API, "" while
	// there is no leader. nil means Cluster.Leader.
	Leader     func() (name, address string)
	Leaderless func() string // a sentence: why there is no leader, and what to do; nil gives no reason
	Room       func() error  // why nothing can be written to the disk; nil means that there is room
	Behind     func() uint64 // number of committed entries that this server has not applied; nil means 0
	Pprof      bool          // serve /debug/pprof/ to operators
	// Connections counts connections by credential; nil counts none.
	Connections *admission.Gate
	Audit       web.Auditor    // keeps the audit log; nil keeps none
	Limits      *limits.Limits // bounds rates and bytes in flight; nil bounds none
	Proxies     web.Proxies    // whose headers about their clients are believed
	WriteTime   time.Duration  // how long a client may take to read a piece of a response; 0 means no bound
	// Hosts are names of this server, in addition to localhost and IP addresses. A
	// request with another Host header is refused. nil accepts every name, which is safe
	// if requests need a credential.
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
	if c.Fetch == nil {
		c.Fetch = func(ctx context.Context, url string) (string, error) { return fetch.Manifest(ctx, url) }
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
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	return c
}
