// Package service is the application layer: the operations of the API as typed
// requests, without a protocol. It makes reads as fresh as they have to be, carries out
// writes on the leader (here, or by having the call forwarded), makes retries safe,
// waits for results, and opens sessions with hosts about containers, images and
// volumes.
//
// server/rest and server/rest/zun call it. It never decides a change, which is the
// work of server/conductor, never writes the state store, and knows no HTTP. DESIGN.md
// describes how a write reaches the leader.
package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/service/hostports"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Cluster is what the service needs of the replicated log. server/raftlog satisfies
// it.
type Cluster interface {
	IsLeader() bool
	// Alone reports whether this server is the cluster's only one.
	Alone() bool
	// ReadIndex returns an index that includes everything committed before the call.
	// It fails while there is no leader.
	ReadIndex(ctx context.Context) (uint64, error)
	// LeaderIndex asks the leader for an index that includes everything that any
	// server acknowledged before the call. It takes at most a second. CodeNoLeader.
	LeaderIndex(ctx context.Context) (uint64, error)
	// Leader returns the leader's ID and address, "" while there is no leader.
	Leader() (id, addr string)
	// Changed returns a channel that is closed when the leader changes or is lost.
	Changed() <-chan struct{}
}

// Dispatcher is what the service needs of the servers' side of agents.
// *dispatch.Dispatch satisfies it.
type Dispatcher interface {
	Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error)
	Report(ctx context.Context, hostID string, r structs.StatusReport) (structs.StatusReported, error)
	ReportQuarantine(ctx context.Context, hostID string, r structs.QuarantineReport) (structs.QuarantineReported, error)
	Open(ctx context.Context, hostID string, offer structs.SessionOffer) (*dispatch.Session, error)
}

// Config is what a Service needs. All fields but Operations are mandatory.
type Config struct {
	Store        *state.Store
	Conductor    *conductor.Conductor
	Dispatch     Dispatcher
	Cluster      Cluster
	Operations   Operations // nil refuses operators' requests about servers, for tests
	Single       bool       // there are no other servers, and never will be: nothing is forwarded
	LocalTokens  bool       // callers authenticate with this cluster's own tokens, so that Bootstrap gives out the first one
	Logger       hclog.Logger
	Hold         time.Duration // how long a call waits for a leader or for an index
	Patience     time.Duration // how long actions and deletes wait for their result by default
	HostPatience time.Duration // how long hosts may take to list images or volumes
	MaxImageFile int64         // limit of an archive of images, in bytes
	// Fetch returns the manifest at a URL, within fetchTime. Errors are CodeInvalid.
	Fetch     func(ctx context.Context, url string) (string, error)
	Pools     services.Pools // what services of bays get; the zero value means the defaults
	HostPorts hostports.Rule // ports of hosts that members of projects may ask for
	// Leader returns the name and address of the leader's REST API, "" while they
	// aren't known.
	Leader func() (name, address string)
	// Leaderless returns a sentence that says why there is no leader, and what to do.
	Leaderless func() string
}

// Service carries out the requests of callers. Each noun has a method that returns its
// operations.
type Service struct {
	config Config
	parked atomic.Int64 // blocking reads
}

// New returns a Service. It starts nothing.
func New(c Config) *Service {
	return &Service{config: c}
}

// Snapshot returns this server's present state. A read calls Await before.
func (s *Service) Snapshot() *state.Snapshot { return s.config.Store.Snapshot() }

// Index returns the index of this server's state.
func (s *Service) Index() uint64 { return s.config.Store.Index() }

// Parked returns how many blocking reads are waiting for a change.
func (s *Service) Parked() int { return int(s.parked.Load()) }

// Patience returns how long actions and deletes wait for their result by default.
func (s *Service) Patience() time.Duration { return s.config.Patience }
