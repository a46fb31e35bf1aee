package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// confirmPause is the least time between two polls that ask for a confirmed answer.
// Servers without a leader can't give one.
const confirmPause = 500 * time.Millisecond

// eagerWait is the wait of a poll while the host needs a lease and holds none.
const eagerWait = 250 * time.Millisecond

// errNudged ends a poll so that another one is sent at once.
var errNudged = errors.New("another poll is to be sent")

// pollState is the state of the host when a poll is sent.
type pollState struct {
	lease.State
	needsLease        bool // containers need a lease
	needsConfirmation bool // a confirmed full answer is needed
}

// ask adds to a poll what the lease needs, and returns the state in which the poll is
// sent.
func (l *link) ask(req *api.WorkRequest, registration uint64) pollState {
	if l.pollState == nil {
		return pollState{}
	}
	at := l.pollState()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.needsConfirmation && time.Since(l.confirmAt) >= confirmPause {
		l.confirmAt = time.Now()
		req.Index = 0
	} else if at.needsConfirmation {
		req.Wait = min(req.Wait, confirmPause)
	}
	if at.needsLease && l.lease > 0 && registration < lease.MaxRegistration {
		req.Sent = lease.Number(registration, time.Since(l.startedAt))
		req.Wait = min(req.Wait, l.lease/4)
		if !at.Held {
			req.Wait = min(req.Wait, eagerWait)
		}
	}
	return at
}

// extend takes over an acknowledgement. The lease lasts from when the acknowledged poll
// was sent. An acknowledgement of another registration counts for nothing.
func (l *link) extend(w *structs.Work, registration, sent uint64) {
	since, ok := lease.SentAt(w.Acknowledged, registration, sent)
	if !ok || l.renewed == nil {
		return
	}
	l.renewed(l.startedAt.Add(since).Add(w.Lease), lease.GraceOf(w.Lease))
}

// nudgeable returns a context for a poll. hurry ends it.
func (l *link) nudgeable(ctx context.Context) (poll context.Context, done func()) {
	poll, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nudge = cancel
	return poll, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nudge = nil
		cancel(nil)
	}
}

// hurry ends the poll in progress; the next one follows at once.
func (l *link) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nudge != nil {
		l.nudge(errNudged)
	}
}
