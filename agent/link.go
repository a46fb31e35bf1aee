package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// errStale says that a registration has ended, because the host has registered again.
var errStale = errors.New("the registration is over")

// link is the agent's connection to the servers: the registration, and the calls made
// under it.
type link struct {
	conf    Config
	api     *api.Agent
	dir     *dataDir
	journal *journal
	log     hclog.Logger
	// describe returns the host's fingerprint. It fails while the engine is away.
	describe func(context.Context) (structs.Fingerprint, error)
	// startedAt is when this instance of the agent started. Polls are numbered by the time
	// since then.
	startedAt time.Time
	instance  string // the ID of this instance of the agent
	// registered is called with each new registration's number.
	registered func(uint64)
	// leaveGossip is closed when the servers advise against gossip; nil without it.
	leaveGossip chan struct{}
	advisedOnce sync.Once
	fatal       chan error // capacity 1: the error that ends the agent
	// pollState returns the host's state and is called before each poll. renewed is called
	// when the lease was renewed. Both are set before poll is called.
	pollState func() pollState
	renewed   func(until time.Time, grace time.Duration)
	// leftBay is called when the host has left its bay; may be nil.
	leftBay func()

	register sync.Mutex // held while registering
	position sync.Mutex // held while the journal's position is changed

	mu           sync.Mutex
	registration uint64
	lostAfter    time.Duration
	lease        time.Duration           // the lease's length, from sending a poll that is acknowledged
	confirmAt    time.Time               // when a confirmed answer was last asked for
	nudge        context.CancelCauseFunc // ends the poll in progress; nil if there is none
	full         bool                    // a full answer is needed
	fullAt       time.Time               // when a full answer was last asked for
}

// minLostAfter is the least host_lost_after that the agent takes: polls with no wait
// would be a busy loop.
const minLostAfter = time.Second

// current returns the number of the registration, and host_lost_after.
func (l *link) current() (registration uint64, lostAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.registration, l.lostAfter
}

// renew registers the host, unless it has registered since the registration numbered
// stale. It tries until it succeeds. It returns only ctx's error, also when it has ended
// the agent.
func (l *link) renew(ctx context.Context, stale uint64) error {
	l.register.Lock()
	defer l.register.Unlock()
	if now, _ := l.current(); now != stale {
		return nil
	}
	retry := backoff{min: 100 * time.Millisecond, max: l.conf.Backoff}
	for {
		answer, err := l.tryRegister(ctx, stale)
		if err == nil {
			l.mu.Lock()
			l.registration, l.lostAfter = answer.Registration, max(answer.HostLostAfter, minLostAfter)
			l.lease = min(answer.Lease, l.lostAfter)
			if stale != 0 {
				l.full, l.fullAt = true, time.Time{} // the servers may have taken the host for lost, or be of another history
			}
			l.mu.Unlock()
			l.registered(answer.Registration)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var e *structs.Error
		if errors.Is(err, errOtherEngine) || errors.As(err, &e) &&
			(e.Code == structs.CodeConflict && e.Kind == structs.KindEngine || e.Hint == structs.HintDeleted) {
			return l.end(ctx, err) // another try would get the same answer
		}
		l.complain("registering failed", err)
		if err := retry.wait(ctx, retryAfter(err)); err != nil {
			return err
		}
	}
}

// tryRegister makes one attempt to register, after the registration numbered stale.
func (l *link) tryRegister(ctx context.Context, stale uint64) (*structs.HostRegistered, error) {
	fingerprint, err := l.describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("the engine can't be asked: %w", err)
	}
	if err := l.sameHost(fingerprint.Engine); err != nil {
		return nil, err
	}
	found, err := l.owners(ctx)
	if err != nil {
		return nil, fmt.Errorf("the engine can't be asked: %w", err)
	}
	server, at := l.api.Server(), l.journal.position()
	if l.dir.next != nil {
		at = position{} // a new host has followed no cluster
	}
	hostID, secret := l.dir.registersAs()
	answer, err := l.api.Register(ctx, structs.HostRegister{
		HostID: hostID, Name: l.name(fingerprint), JoinToken: l.conf.JoinToken, Secret: secret, Fingerprint: fingerprint,
		Follows:  l.asFollowing(at),
		Instance: l.instance, Registration: stale, Found: found,
	})
	if err != nil {
		return nil, err
	}
	if err := l.dir.registered(fingerprint.Engine, l.journal); err != nil {
		return nil, err
	}
	if err := l.begin(answer); err != nil {
		l.api.Leave(server)
		return nil, err
	}
	l.api.Use(l.dir.hostID, l.dir.secret, answer.Registration)
	l.api.SetServers(answer.Servers)
	if answer.NoGossip && l.leaveGossip != nil {
		l.advisedOnce.Do(func() {
			l.log.Info("the servers have more hosts than gossip supports: going on without gossip")
			close(l.leaveGossip)
		})
	}
	if answer.Registration >= lease.MaxRegistration {
		l.log.Error("this host has registered too often for leases: containers with exclusive: lease do not run here; drain and fence "+
			"it, and let it join again with an empty data directory",
			"host_id", l.dir.hostID, "registration", answer.Registration)
	}
	l.log.Info("registered", "host_id", l.dir.hostID, "registration", answer.Registration, "server", server, "cluster_id", answer.ClusterID)
	return answer, nil
}

// name returns the host's name.
func (l *link) name(f structs.Fingerprint) string {
	if l.conf.Cluster != nil {
		return clusterName(l.conf.Name, f)
	}
	return l.conf.Name
}

// begin takes over what a registration's answer says about the cluster. CodeForbidden.
func (l *link) begin(answer *structs.HostRegistered) error {
	l.position.Lock()
	defer l.position.Unlock()
	if err := l.accept(answer.ClusterID, answer.Incarnation); err != nil || !answer.Diverged {
		return err
	}
	at := l.journal.position()
	l.log.Warn("this host has followed another history of the cluster than the servers have: containers that they do not know go into "+
		"quarantine",
		"followed", at.Index, "index", answer.Index)
	at.Index, at.Lineage, at.Quarantine = answer.Index, answer.Lineage, true
	return l.journal.advance(at)
}

// noteJudged notes that everything on the engine was judged after the agent had followed
// another history.
func (l *link) noteJudged() {
	l.position.Lock()
	defer l.position.Unlock()
	at := l.journal.position()
	at.Quarantine = false
	if err := l.journal.advance(at); err != nil {
		l.log.Error("journal not written", "error", err) // it is judged again after the next answer
	}
}

// asFollowing returns the agent's position in its cluster, and what it may follow.
func (l *link) asFollowing(at position) structs.Following {
	return structs.Following{ClusterID: at.ClusterID, Incarnation: at.Incarnation, Restore: l.conf.FollowRestore, Lineage: at.Lineage,
		Index: at.Index}
}

// accept checks that an answer is of the agent's cluster, which is the first that it has
// joined. It follows the cluster to a later incarnation if the operator allows that. The
// caller holds position. CodeForbidden.
func (l *link) accept(clusterID string, incarnation uint64) error {
	at := l.journal.position()
	if err := l.asFollowing(at).Check(clusterID, incarnation); err != nil {
		return err
	}
	switch {
	case at.ClusterID == "":
		return l.journal.advance(position{ClusterID: clusterID, Incarnation: incarnation})
	case incarnation > at.Incarnation:
		l.log.Warn("following a cluster that was restored from a snapshot; containers that it does not know go into quarantine",
			"incarnation", incarnation)
		return l.journal.advance(position{ClusterID: clusterID, Incarnation: incarnation, Quarantine: true})
	}
	return nil
}

// complain logs a failed call: as an error if an operator should act.
func (l *link) complain(msg string, err error) {
	switch structs.CodeOf(err) {
	case structs.CodeForbidden, structs.CodeUnauthenticated, structs.CodeConflict, structs.CodeInvalid:
		l.log.Error(msg, "server", l.api.Server(), "error", err)
	default:
		l.log.Warn(msg, "server", l.api.Server(), "error", err)
	}
}

// retryAfter returns how long the server asks to be left alone, at most 10 s: another
// server may be well.
func retryAfter(err error) time.Duration {
	var e *structs.Error
	if errors.As(err, &e) && structs.CodeOf(err) == structs.CodeRateLimited {
		return min(e.RetryAfter, 10*time.Second)
	}
	return 0
}

// isStale reports whether an error means that the host has to register again.
func isStale(err error) bool {
	code := structs.CodeOf(err)
	return code == structs.CodeUnauthenticated || code == structs.CodeConflict
}

// fullPause is the least time between two polls that ask for a full answer because the
// engine has containers without an assignment.
const fullPause = 30 * time.Second

// needFull has the next poll ask for a full answer.
func (l *link) needFull() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = true
}

// takeFull reports whether the next poll has to ask for a full answer.
func (l *link) takeFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.full || !l.fullAt.IsZero() && time.Since(l.fullAt) < fullPause {
		return false
	}
	l.full, l.fullAt = false, time.Now()
	return true
}

// poll polls for work until ctx ends, and passes each answer that the agent follows to
// take, in order. diverged says that the agent has followed another history before. What take
// returns is told with the next poll: whether the host serves what the answer said of services.
func (l *link) poll(ctx context.Context, take func(w *structs.Work, server string, diverged bool, sent pollState) (serves bool)) error {
	retry := backoff{min: 50 * time.Millisecond, max: l.conf.Backoff}
	first := true // no answer yet: ask for all assignments
	behind := false
	for ctx.Err() == nil {
		at := l.journal.position()
		registration, lostAfter := l.current()
		req := api.WorkRequest{Incarnation: at.Incarnation, Index: at.Index, Wait: lostAfter / 3, Lineage: at.Lineage, Seen: at.Index,
			Behind: behind}
		if l.takeFull() || first {
			req.Index = 0
		}
		sent := l.ask(&req, registration)
		pollCtx, done := l.nudgeable(ctx)
		w, server, err := l.api.Work(pollCtx, req)
		nudged := context.Cause(pollCtx) == errNudged
		done()
		if err == nil {
			err = l.follow(w, req.Index == 0)
			if err != nil {
				l.api.Leave(server)
			}
		}
		switch {
		case err == nil:
			retry.reset()
			first = false
			if len(w.Servers) > 0 {
				l.api.SetServers(w.Servers)
			}
			l.adopt(w)
			l.extend(w, registration, req.Sent)
			behind = !take(w, server, l.journal.position().Quarantine, sent)
			continue
		case ctx.Err() != nil:
			return nil
		case nudged:
			continue
		case isStale(err):
			l.complain("the server does not know this registration; registering again", err)
			// Two agents with copies of one data directory take the registration from
			// each other: the pause slows them down.
			if retry.wait(ctx, 0) != nil || l.renew(ctx, registration) != nil {
				return nil
			}
			first = true
			continue
		}
		l.complain("polling for work failed", err)
		if retry.wait(ctx, retryAfter(err)) != nil {
			return nil
		}
	}
	return nil
}

// adopt takes over the host_lost_after and the lease's length of an answer.
func (l *link) adopt(w *structs.Work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.HostLostAfter > 0 {
		l.lostAfter = max(w.HostLostAfter, minLostAfter)
	}
	if w.Lease > 0 {
		l.lease = min(w.Lease, l.lostAfter)
	}
}

// follow decides whether the agent follows an answer, and writes the new position.
// CodeForbidden for another cluster, CodeUnavailable for an older state.
func (l *link) follow(w *structs.Work, wantFull bool) error {
	l.position.Lock()
	defer l.position.Unlock()
	if err := l.accept(w.ClusterID, w.Incarnation); err != nil {
		return err
	}
	at := l.journal.position()
	switch {
	case w.Index < at.Index:
		return structs.Errorf(structs.CodeUnavailable, "the server answers from index %d, this host has followed %d; its answer is dropped",
			w.Index, at.Index)
	case wantFull && !w.Full:
		return structs.Errorf(structs.CodeUnavailable, "the server was asked for all assignments and sent some; its answer is dropped")
	}
	if at.Lineage != "" && w.Lineage == "" {
		at.Quarantine = true // a state from before lineages can't be the one that was followed
	}
	left := w.BayID != nil && at.BayID != *w.BayID
	at.Index, at.Lineage = w.Index, w.Lineage
	if left {
		at.BayID = *w.BayID
	}
	if err := l.journal.advance(at); err != nil {
		return err
	}
	if left && l.leftBay != nil {
		l.leftBay()
	}
	return nil
}

// report sends a status report until a server has taken it. errStale if the host has
// registered again, ctx's error.
func (l *link) report(ctx context.Context, report structs.StatusReport) error {
	return l.callUnder(ctx, report.Registration, func() error {
		_, err := l.api.Report(ctx, report)
		return err
	}, func(error) bool { return true })
}

// reportQuarantine is report for the quarantine. It returns the error of a server that
// refuses the report.
func (l *link) reportQuarantine(ctx context.Context, report structs.QuarantineReport) error {
	return l.callUnder(ctx, report.Registration, func() error { return l.api.ReportQuarantine(ctx, report) }, func(err error) bool {
		switch structs.CodeOf(err) {
		case structs.CodeNotFound, structs.CodeInvalid, structs.CodeTooLarge, structs.CodeForbidden:
			return false
		}
		return true
	})
}

// callUnder makes a call under a registration until a server has answered it. It returns
// errors for which again is false.
func (l *link) callUnder(ctx context.Context, under uint64, call func() error, again func(error) bool) error {
	retry := backoff{min: 50 * time.Millisecond, max: l.conf.Backoff}
	for {
		registration, _ := l.current()
		if registration != under {
			return errStale
		}
		err := call()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isStale(err):
			if err := l.renew(ctx, registration); err != nil {
				return err
			}
			continue
		case !again(err):
			return err
		}
		l.complain("reporting failed", err)
		if err := retry.wait(ctx, retryAfter(err)); err != nil {
			return err
		}
	}
}
