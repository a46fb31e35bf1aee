// Package conductor is the one writer of the replicated state. Requests enter
// a bounded queue; on the leader one loop decides them, a batch at a time, on a
// scratch view over the state that was last applied, proposes all changes of
// the batch as one log entry, and answers once the entry is applied. DESIGN.md
// has the rules and why they hold.
//
// server/service and server/dispatch call it. It does no network I/O, knows no
// HTTP, and never writes the state store itself: only applied entries do.
package conductor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// proposer commits entries. server/raftlog satisfies it.
type proposer interface {
	// Propose appends data to the replicated log and returns once the state
	// store has applied it, or with the error with which it was rejected. On
	// any other error the outcome is unknown.
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
	// Room returns the error with which requests are refused while the disk is
	// nearly full; nil means that it never is.
	Room     func() error
	Observer observer // is told what the loop does; nil for nobody
}

// observer counts what is decided. server/metrics satisfies it. Its methods have
// to be quick, for the loop calls them; Refused is called from elsewhere, too.
type observer interface {
	Decided(requests int, took time.Duration) // a batch
	Committed(took time.Duration, size int)   // an entry of so many bytes, from proposing until it is applied
	Refused(code structs.Code)                // a request
}

// unobserved is the observer that nobody asked for.
type unobserved struct{}

func (unobserved) Decided(int, time.Duration)   {}
func (unobserved) Committed(time.Duration, int) {}
func (unobserved) Refused(structs.Code)         {}

// Conductor decides requests on the leader.
type Conductor struct {
	store    *state.Store
	proposer proposer
	log      hclog.Logger
	now      func() time.Time
	room     func() error
	observer observer

	queue   chan *call
	reports atomic.Int64 // agents' reports in the queue

	lineage string // of the leadership that runs; Lead's own

	mu      sync.RWMutex // guards leading
	leading bool         // Lead runs and takes calls
}

// Request is one thing to decide. A refusal is an error with a code; it leaves
// no change. T is what the one who asked gets.
type Request[T any] interface {
	decide(t *tx) (T, error)
}

// call is a request in the queue.
type call struct {
	ctx     context.Context
	request any // for the log, which tells its type
	decide  func(t *tx) (any, error)
	report  bool // an agent's, which comes again if it is refused
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
		c.Observer = unobserved{}
	}
	return &Conductor{
		store: c.Store, proposer: c.Proposer, log: c.Logger, now: c.Now, room: c.Room, observer: c.Observer,
		queue: make(chan *call, structs.MaxQueue),
	}
}

// Do has the request decided and committed, and returns its result. Besides the
// request's own refusals it returns CodeRateLimited if the queue is full,
// CodeNoSpace if the disk is, and
// CodeNoLeader if this server isn't the leader or ceased to be it meanwhile;
// in the latter case (ErrUnknown is in the chain) the outcome is unknown.
func Do[T any](ctx context.Context, c *Conductor, r Request[T]) (T, error) {
	_, report := any(r).(ReportStatus)
	call := &call{
		ctx: ctx, request: r, report: report, done: make(chan struct{}),
		decide: func(t *tx) (any, error) { return r.decide(t) },
	}
	var zero T
	if err := c.enqueue(call); err != nil {
		c.observer.Refused(structs.CodeOf(err))
		return zero, err
	}
	// The loop answers every call that it has taken, also those whose context
	// has ended: their outcome must not be guessed.
	<-call.done
	if call.err != nil {
		return zero, call.err
	}
	return call.result.(T), nil
}

// ErrUnknown is in the chain of an error after which a request may or may not
// have been carried out.
var ErrUnknown = errors.New("the outcome is unknown")

// errNotLeader refuses a call that was not decided at all.
func errNotLeader() error {
	return structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
}

// enqueue puts the call into the queue. Agents' reports are refused first:
// they leave a quarter of the queue to users.
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

// Lead decides requests until ctx ends or an entry fails. The caller has made
// sure that the state store holds all entries of earlier terms (a Barrier in
// this term), and calls Lead again only after doing so again. term is the Raft
// term in which this server leads.
func (c *Conductor) Lead(ctx context.Context, term uint64) error {
	clock := c.clock()
	c.lineage = structs.NewID()
	c.setLeading(true)
	var next *call // taken from the queue and not yet decided
	defer func() {
		c.setLeading(false)
		if next != nil {
			next.answer(nil, errNotLeader())
		}
		for {
			select {
			case call := <-c.queue:
				c.take(call)
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
				c.take(next)
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

// take notes that the call has left the queue.
func (c *Conductor) take(call *call) {
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

// clock returns the clock of one leadership: UTC, whole seconds, and never
// before a time that is already in the state, whatever the wall clock does.
func (c *Conductor) clock() func() time.Time {
	last := c.store.Snapshot().LastTime()
	return func() time.Time {
		if now := c.now().UTC().Truncate(time.Second); now.After(last) {
			last = now
		}
		return last
	}
}
