// Package conductor is the only writer of the replicated state. Requests enter a bounded
// queue. On the leader, one loop decides them in batches, in a scratch view over the last
// applied state, proposes all changes of a batch as one log entry, and answers once the
// entry is applied. DESIGN.md has the rules and the reasons.
//
// server/service and server/dispatch call it. It does no network I/O, knows no HTTP, and
// never writes to the state store itself: only applied entries do.
package conductor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// proposer commits entries. server/raftlog satisfies it.
type proposer interface {
	// Propose appends data to the replicated log and returns once the state store has
	// applied it, or with the error with which the store rejected it. After any other error
	// the outcome is unknown.
	Propose(ctx context.Context, data []byte) (index uint64, err error)
	// VerifyLeader returns nil if this server was still the leader at some
	// moment after the call began.
	VerifyLeader(ctx context.Context) error
}

// Config is what a Conductor needs.
type Config struct {
	Store    *state.Store
	Proposer proposer
	Logger   hclog.Logger
	Now      func() time.Time // the wall clock, for timestamps; nil means time.Now
	// Room returns the error with which requests are refused while the disk is nearly full.
	// nil means that the disk never is.
	Room     func() error
	Observer observer         // counts the loop's work; nil means none
	Quota    *structs.Amounts // limits of projects for which nobody has set any; nil means that nothing is limited
}

// observer counts the conductor's work. server/metrics implements it. Its methods must be
// quick, because the loop calls them. Refused is also called from other goroutines.
type observer interface {
	Decided(requests int, took time.Duration) // one batch
	Committed(took time.Duration, size int)   // one entry of size bytes; took is the time from propose to apply
	Refused(code structs.Code)                // one request
}

// noObserver is the observer if Config has none.
type noObserver struct{}

func (noObserver) Decided(int, time.Duration)   {}
func (noObserver) Committed(time.Duration, int) {}
func (noObserver) Refused(structs.Code)         {}

// Conductor decides requests on the leader.
type Conductor struct {
	store    *state.Store
	proposer proposer
	log      hclog.Logger
	now      func() time.Time
	room     func() error
	observer observer
	quota    structs.Amounts

	queue   chan *call
	reports atomic.Int64 // agents' reports in the queue

	lineage   string // of the current leadership; used by Lead only
	lastBatch int    // number of requests in the last batch; used by Lead only

	mu      sync.RWMutex // guards leading
	leading bool         // Lead runs and accepts calls
}

// Request is one thing to decide. A refusal has a code, and leaves no change. T is the
// result.
type Request[T any] interface {
	decide(t *scratch.Tx) (T, error)
}

// call is a request in the queue.
type call struct {
	ctx     context.Context
	request any // the log names its type
	decide  func(t *scratch.Tx) (any, error)
	report  bool // an agent's report, which the agent repeats if it is refused
	free    bool // quotas don't bind it: it only carries out what was decided, or tells what happened
	result  any
	err     error
	done    chan struct{}
}

// New returns a Conductor; nothing is decided until Lead runs.
func New(c Config) *Conductor {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Room == nil {
		c.Room = func() error { return nil }
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	if c.Quota == nil {
		none := structs.UnlimitedAmounts()
		c.Quota = &none
	}
	return &Conductor{
		store: c.Store, proposer: c.Proposer, log: c.Logger, now: c.Now, room: c.Room, observer: c.Observer, quota: *c.Quota,
		queue: make(chan *call, structs.MaxQueue),
	}
}

// Do has the request decided and committed, and returns its result. Besides the request's
// own refusals it returns CodeRateLimited if the queue is full, CodeNoSpace if the disk is
// full, and CodeNoLeader if this server isn't the leader or has lost the leadership
// meanwhile. In the latter case ErrUnknown is in the chain, and the outcome is unknown.
func Do[T any](ctx context.Context, c *Conductor, r Request[T]) (T, error) {
	_, report := any(r).(ReportStatus)
	_, step := any(r).(Settle)
	call := &call{
		ctx: ctx, request: r, report: report, free: report || step, done: make(chan struct{}),
		decide: func(t *scratch.Tx) (any, error) { return r.decide(t) },
	}
	var zero T
	if err := c.enqueue(call); err != nil {
		c.observer.Refused(structs.CodeOf(err))
		return zero, err
	}
	// The loop answers every call that it has dequeued, even if the call's context has
	// ended: the outcome must not be guessed.
	<-call.done
	if call.err != nil {
		return zero, call.err
	}
	return call.result.(T), nil
}

// ErrUnknown is in the chain of an error that leaves the request's outcome unknown.
var ErrUnknown = errors.New("the outcome is unknown")

// errNotLeader returns the error for a call that was not decided at all.
func errNotLeader() error {
	return structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
}

// enqueue puts the call into the queue. Agents' reports are refused first: they leave a
// quarter of the queue to users.
func (c *Conductor) enqueue(call *call) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.leading {
		return errNotLeader()
	}
	if err := c.room(); err != nil {
		return err
	}
	if call.report && c.reports.Load() >= structs.MaxQueue*3/4 {
		return structs.Errorf(structs.CodeRateLimited, "the servers are busy: try again in a second")
	}
	select {
	case c.queue <- call:
		if call.report {
			c.reports.Add(1)
		}
		return nil
	default:
		return structs.Errorf(structs.CodeRateLimited, "the servers are busy with %d requests: try again in a second", structs.MaxQueue)
	}
}

// Lead decides requests until ctx ends or an entry fails. The caller has made sure that the
// state store contains all entries of earlier terms (a barrier in this term), and does so
// again before it calls Lead again. term is the Raft term in which this server leads.
func (c *Conductor) Lead(ctx context.Context, term uint64) error {
	clock := c.clock()
	c.lineage = structs.NewID()
	c.setLeading(true)
	var next *call // dequeued and not yet decided
	defer func() {
		c.setLeading(false)
		if next != nil {
			next.answer(nil, errNotLeader())
		}
		for {
			select {
			case call := <-c.queue:
				c.dequeued(call)
				call.answer(nil, errNotLeader())
			default:
				return
			}
		}
	}()
	for {
		if next == nil {
			select {
			case <-ctx.Done():
				return nil
			case next = <-c.queue:
				c.dequeued(next)
			}
		}
		var err error
		if next, err = c.run(ctx, term, clock, next); err != nil {
			return err
		}
	}
}

func (c *Conductor) setLeading(leading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading = leading
}

func (c *Conductor) dequeued(call *call) {
	if call.report {
		c.reports.Add(-1)
	}
}

// Waiting returns how many requests wait to be decided.
func (c *Conductor) Waiting() int { return len(c.queue) }

func (call *call) answer(result any, err error) {
	call.result, call.err = result, err
	close(call.done)
}

// clock returns the clock of one leadership: UTC, whole seconds, and never before a time in
// the state, whatever the wall clock says.
func (c *Conductor) clock() func() time.Time {
	last := c.store.Snapshot().LastTime()
	return func() time.Time {
		if now := c.now().UTC().Truncate(time.Second); now.After(last) {
			last = now
		}
		return last
	}
}
