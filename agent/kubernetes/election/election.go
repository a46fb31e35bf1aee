// Package election decides which agent of a Kubernetes cluster is the active one, by a Lease
// of coordination.k8s.io as Kubernetes' own components use it.
//
// Package kubernetes is the only caller. The package makes three calls to the cluster, which
// its caller provides, and never touches anything but the one Lease. It has a loop of its own
// because client-go's needs the clients of all of Kubernetes' types.
//
// The proof that two agents are never active at the same time takes no clock of two machines
// to agree, only to run equally fast. An agent that writes the Lease is active for
// RenewDeadline from when it began to send that write. Another agent takes the Lease once it
// has seen it unchanged for the Duration that is noted in it, which is longer, and has seen
// it first after it was written. The wall clocks in the Lease are for people only.
//
// An agent whose time is over because the API doesn't answer is still the holder as far as it
// knows. It may write nothing, and goes on with the rest: the servers hear what was last known,
// and that the API is away. It is active again when it can renew the Lease, and ends when
// another agent has it.
package election

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/internal/pause"
	"github.com/stackforge/magnum/structs"
)

// Leases are the calls about one Lease. Get answers NotFound as the API does, Create
// AlreadyExists, and Update Conflict unless the resourceVersion is that of the Lease.
type Leases interface {
	Get(ctx context.Context) (*coordinationv1.Lease, error)
	Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// Config configures an Election.
type Config struct {
	Leases          Leases
	Namespace, Name string // of the Lease
	Holder          string // names this process, and no other one of all times

	Duration      time.Duration // after which a Lease that isn't renewed may be taken; default 15s, whole seconds
	RenewDeadline time.Duration // how long a renewal lasts; default 10s, below Duration
	Retry         time.Duration // pause between two tries; default 2s, below RenewDeadline

	Logger hclog.Logger // nil logs nothing

	// Clock tells the time since some moment. Default: the machine's since its boot, sleep
	// included.
	Clock func() time.Duration
}

func (c Config) withDefaults() Config {
	c.Duration = cmp.Or(c.Duration, 15*time.Second)
	c.RenewDeadline = cmp.Or(c.RenewDeadline, 10*time.Second)
	c.Retry = cmp.Or(c.Retry, 2*time.Second)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Clock == nil {
		c.Clock = sinceBoot
	}
	return c
}

func (c Config) validate() error {
	if c.Retry <= 0 || c.Retry >= c.RenewDeadline || c.RenewDeadline >= c.Duration || c.Duration%time.Second != 0 {
		return structs.Errorf(structs.CodeInvalid, "lease: retry %s, renew deadline %s and duration %s have to grow, and the last one be "+
			"in whole seconds", c.Retry, c.RenewDeadline, c.Duration)
	}
	if c.Holder == "" || c.Namespace == "" || c.Name == "" || c.Leases == nil {
		return structs.Errorf(structs.CodeInvalid, "lease: the namespace, the name, the holder or the calls are missing")
	}
	return nil
}

// Election is one agent's part in the election.
type Election struct {
	conf Config

	mu    sync.Mutex
	until time.Duration // by the clock: how long this agent is the active one at most; 0 if it isn't
	lead  bool          // between taking the Lease and the end of what is done as its holder

	// Of the goroutine that leads:
	seen   *coordinationv1.Lease // the newest that this agent has seen; nil for none
	seenAt time.Duration         // by the clock: when it was first seen
}

// New returns an election. It starts nothing. CodeInvalid.
func New(conf Config) (*Election, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	return &Election{conf: conf}, nil
}

// ErrNotActive says that this agent isn't the active one.
var ErrNotActive = errors.New("this agent is not the active one of its cluster")

// Allowed fails unless this agent is the active one now. It is to be asked before each write
// to the cluster: an agent that was frozen may go on in the midst of its work before its
// context is seen to have ended. ErrNotActive.
func (e *Election) Allowed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.lead || e.conf.Clock() >= e.until {
		return ErrNotActive
	}
	return nil
}

// Lead waits until this agent is the active one, and calls f with a context that ends once the
// Lease is seen to be another agent's. Until then, what f does has to ask Allowed before it
// writes. Lead waits for f to return. It returns f's error; nil if ctx has ended or the Lease
// was lost meanwhile. No other call of Lead may be in progress.
func (e *Election) Lead(ctx context.Context, f func(ctx context.Context) error) error {
	for complained := false; !e.acquire(ctx, &complained); {
		if pause.For(ctx, e.nextTry()) != nil {
			return nil
		}
	}
	leading, end := context.WithCancel(ctx)
	defer end()
	renewing, stop := context.WithCancel(leading)
	var renewal sync.WaitGroup
	renewal.Go(func() { e.renew(renewing, end) })
	err := f(leading)
	over := leading.Err() != nil
	stop()
	renewal.Wait()
	e.release(ctx)
	if over {
		return nil
	}
	return err
}

// nextTry returns the pause before the next try to take the Lease: jittered, and not longer
// than until the Lease may be taken.
func (e *Election) nextTry() time.Duration {
	next := e.conf.Retry + rand.N(e.conf.Retry/4)
	const least = 10 * time.Millisecond // the instant itself would be too early
	if until := e.othersUntil() - e.conf.Clock(); until > 0 {
		return min(next, until+least)
	}
	return next
}

// othersUntil returns until when, by the clock, another agent may be the active one by the
// Lease that was seen; 0 if none may.
func (e *Election) othersUntil() time.Duration {
	if e.seen == nil || holderOf(e.seen) == "" || holderOf(e.seen) == e.conf.Holder {
		return 0
	}
	duration := e.conf.Duration
	if seconds := e.seen.Spec.LeaseDurationSeconds; seconds != nil && *seconds > 0 {
		duration = time.Duration(*seconds) * time.Second
	}
	return e.seenAt + duration
}

// holderOf returns who holds a Lease; "" if nobody does.
func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// acquire tries once to take the Lease. It warns of the first failure in a row.
func (e *Election) acquire(ctx context.Context, complained *bool) bool {
	callCtx, cancel := context.WithTimeout(ctx, e.conf.RenewDeadline)
	defer cancel()
	taken, err := e.tryAcquire(callCtx)
	switch {
	case ctx.Err() != nil && !taken:
		return false
	case err == nil, apierrors.IsConflict(err), apierrors.IsAlreadyExists(err): // another agent was faster
		*complained = false
	case !*complained:
		*complained = true
		e.conf.Logger.Warn("the lease of the active agent can't be had; trying again", "namespace", e.conf.Namespace, "lease", e.conf.Name,
			"error", err)
	}
	return taken
}

// tryAcquire takes the Lease if nobody holds it.
func (e *Election) tryAcquire(ctx context.Context) (bool, error) {
	now, err := e.conf.Leases.Get(ctx)
	if apierrors.IsNotFound(err) {
		if e.othersUntil() > e.conf.Clock() { // somebody has removed it, and its holder may not know that yet
			return false, nil
		}
		sent := e.conf.Clock()
		made, err := e.conf.Leases.Create(ctx, e.mine(&coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.conf.Namespace, Name: e.conf.Name},
		}))
		if err != nil {
			return false, err
		}
		e.extend(made, sent)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	at := e.conf.Clock() // after the answer: the Lease was written before
	if e.seen == nil || e.seen.UID != now.UID || e.seen.ResourceVersion != now.ResourceVersion {
		e.seenAt = at
	}
	e.seen = now
	if e.othersUntil() >= at {
		return false, nil
	}
	sent := e.conf.Clock()
	updated, err := e.conf.Leases.Update(ctx, e.mine(now))
	if err != nil {
		return false, err
	}
	e.extend(updated, sent)
	return true, nil
}

// mine returns a copy of a Lease that this agent holds from now on.
func (e *Election) mine(lease *coordinationv1.Lease) *coordinationv1.Lease {
	lease = lease.DeepCopy()
	now := metav1.NowMicro()
	if was := holderOf(lease); was != e.conf.Holder {
		lease.Spec.AcquireTime = &now
		var transitions int32
		if n := lease.Spec.LeaseTransitions; n != nil {
			transitions = *n + 1
		}
		lease.Spec.LeaseTransitions = &transitions
	}
	lease.Spec.HolderIdentity = new(e.conf.Holder)
	lease.Spec.LeaseDurationSeconds = new(int32(e.conf.Duration / time.Second))
	lease.Spec.RenewTime = &now
	return lease
}

// extend notes a write of the Lease that was begun to be sent at sent.
func (e *Election) extend(lease *coordinationv1.Lease, sent time.Duration) {
	e.seen, e.seenAt = lease, e.conf.Clock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lead, e.until = true, sent+e.conf.RenewDeadline
}

// left returns how long this agent is still the active one.
func (e *Election) left() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.until - e.conf.Clock()
}

// renew renews the Lease until ctx ends, and calls end when the Lease is lost. Who can't renew
// it in time goes on trying: while the API doesn't answer, nobody has taken it.
func (e *Election) renew(ctx context.Context, end func()) {
	lapsed := false
	for wait := e.conf.Retry; ; {
		if pause.For(ctx, wait) != nil {
			return
		}
		// Half of the time at most: a call that hangs leaves room for another try.
		callCtx, cancel := context.WithTimeout(ctx, e.conf.RenewDeadline/2)
		err := e.renewOnce(callCtx)
		cancel()
		wait = e.conf.Retry
		if err != nil && !lapsed && e.left() <= 0 {
			lapsed = true
			e.conf.Logger.Warn("the lease was not renewed in time: this agent writes nothing until it is", "namespace", e.conf.Namespace,
				"lease", e.conf.Name)
		}
		switch {
		case err == nil && lapsed:
			lapsed = false
			e.conf.Logger.Info("the lease is renewed", "namespace", e.conf.Namespace, "lease", e.conf.Name)
		case err == nil:
		case errors.Is(err, errTaken):
			e.conf.Logger.Warn("the lease is lost", "namespace", e.conf.Namespace, "lease", e.conf.Name, "holder", holderOf(e.seen))
			end()
			return
		case ctx.Err() == nil:
			if !lapsed {
				e.conf.Logger.Warn("the lease is not renewed; trying again", "namespace", e.conf.Namespace, "lease", e.conf.Name, "error",
					err)
			}
			wait = min(wait, renewPause)
		}
	}
}

// renewPause is the longest pause after a renewal that has failed.
const renewPause = 500 * time.Millisecond

// errTaken says that the Lease is no longer this agent's.
var errTaken = errors.New("the lease is another agent's, or somebody has removed it")

// renewOnce tries once to renew the Lease. errTaken.
func (e *Election) renewOnce(ctx context.Context) error {
	sent := e.conf.Clock()
	updated, err := e.conf.Leases.Update(ctx, e.mine(e.seen))
	switch {
	case apierrors.IsNotFound(err):
		return errTaken
	case apierrors.IsConflict(err):
		// Somebody else has written it, or an earlier try was carried out although it failed.
		now, readErr := e.conf.Leases.Get(ctx)
		if readErr != nil {
			return fmt.Errorf("%w; and reading it: %w", err, readErr)
		}
		e.seen, e.seenAt = now, e.conf.Clock()
		if holderOf(now) != e.conf.Holder {
			return errTaken
		}
		sent = e.conf.Clock()
		updated, err = e.conf.Leases.Update(ctx, e.mine(now))
	}
	if err != nil {
		return err
	}
	e.extend(updated, sent)
	return nil
}

// releaseLimit bounds the call by which an agent gives the Lease back.
const releaseLimit = 2 * time.Second

// release ends this agent's time, and gives the Lease back if it is still this agent's: then
// another agent needn't wait for its end. Nothing that was done under it goes on.
func (e *Election) release(ctx context.Context) {
	held := e.Allowed() == nil
	e.mu.Lock()
	e.lead, e.until = false, 0
	e.mu.Unlock()
	if !held {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
	defer cancel()
	free := e.seen.DeepCopy()
	now := metav1.NowMicro()
	free.Spec.HolderIdentity, free.Spec.LeaseDurationSeconds, free.Spec.RenewTime = new(""), new(int32(1)), &now
	if _, err := e.conf.Leases.Update(ctx, free); err != nil { // it ends by itself
		e.conf.Logger.Debug("the lease is not given back", "error", err)
	}
}
