// Package service is the application: what a caller may ask of a cluster, with
// typed requests and without a protocol. It finds out how fresh a read has to be,
// carries writes out on the leader (here, or by having the call forwarded), makes
// their retries safe, waits for results, and speaks to the hosts about containers,
// images and volumes.
//
// Every spelling of the API calls it: server/rest and server/rest/zun. It decides
// nothing itself, which is server/conductor's, never writes the state store, and
// knows no HTTP. DESIGN.md tells how a write comes to the leader.
package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Cluster is what the service asks of the replication. server/raftlog satisfies
// it.
type Cluster interface {
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

// Dispatcher is what the service asks of the servers' side of the agents.
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
	Operations   Operations // nil: there is nothing to operate, in tests
	Single       bool       // there are no other servers, and never will be: nothing is forwarded
	LocalTokens  bool       // callers are known by tokens of this cluster's own, so that the first one can be given out
	Logger       hclog.Logger
	Hold         time.Duration // how long a call waits for a leader or for an index
	Patience     time.Duration // how long actions and deletes wait for their result if they don't say
	HostPatience time.Duration // how long hosts are asked for a list of images or volumes
	MaxImageFile int64         // bytes of an archive of images
	// Leader returns the name and address of the leader's REST API, "" while it
	// isn't known.
	Leader func() (name, address string)
	// Leaderless says why nobody leads and what to do, a sentence.
	Leaderless func() string
}

// Service carries out what callers ask. Each noun is a method, which stands with it.
type Service struct {
	config Config
	parked atomic.Int64 // blocking reads
}

// New returns a Service. It starts nothing.
func New(c Config) *Service {
	return &Service{config: c}
}

// Snapshot returns this server's state as it is. A read calls Await before.
func (s *Service) Snapshot() *state.Snapshot { return s.config.Store.Snapshot() }

// Index returns the index of this server's state.
func (s *Service) Index() uint64 { return s.config.Store.Index() }

// Parked returns how many blocking reads wait for a change.
func (s *Service) Parked() int { return int(s.parked.Load()) }

// Patience returns how long actions and deletes wait for their result if their
// caller doesn't say.
func (s *Service) Patience() time.Duration { return s.config.Patience }
