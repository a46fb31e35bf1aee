// Package lease keeps a host's right to run exclusive containers, of which at most one
// copy may run at any instant on all hosts together.
//
// Package agent reports what servers have confirmed and acknowledged, and asks what may
// run and start. The agent starts and stops the containers itself. The rules and their
// proof are in DESIGN.md of package agent; server/dispatch/lease.go has the servers'
// half. Package lease never calls servers.
package lease

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// State is the part of the lease's state that a poll has to report. An answer proves
// something only about the state in which its poll was sent.
type State struct {
	Round uint64 // raised whenever a confirmation is lost: an answer to an earlier poll confirms nothing

	// Confirmed: a confirmed full answer to a poll of this round has said what is to run
	// here.
	Confirmed bool
	Held      bool // the host has a lease
	// HeldConfirmed: a confirmed full answer to a poll sent under the held lease has said
	// what is to run here.
	HeldConfirmed bool
}

// Lease is the lease of a host. All methods are safe for concurrent use.
type Lease struct {
	changed func() // called without a lock when containers may start to run, or may not run any more
	log     hclog.Logger

	mu    sync.Mutex
	state State
	// revoked: the lease has ended since HeldConfirmed was last true. Running containers
	// that need a lease must stop, even if the host has a new lease by now.
	revoked bool
	until   time.Time
	grace   time.Duration // from asking a process to end because the lease ended until killing it
	timer   *time.Timer   // fires at until
	file    *File         // keeps until; nil for nowhere
	writing bool
	stopped bool
	writes  sync.WaitGroup
}

// New returns the lease of a host that holds none, with nothing confirmed. It starts
// nothing. changed may be called until Stop returns.
func New(changed func(), log hclog.Logger) *Lease { return &Lease{changed: changed, log: log} }

// State returns the current state.
func (l *Lease) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Confirm takes over a confirmed full answer to a poll that was sent in the state sent.
// It reports whether more containers may run or start now.
func (l *Lease) Confirm(sent State) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sent.Round != l.state.Round {
		return false
	}
	now := l.state
	now.Confirmed, now.HeldConfirmed = true, now.HeldConfirmed || sent.Held && now.Held
	if now == l.state {
		return false
	}
	l.state, l.revoked = now, l.revoked && !now.HeldConfirmed
	return true
}

// Unconfirm begins a new round, because what ran here may have been placed elsewhere
// meanwhile. It reports whether anything was confirmed.
func (l *Lease) Unconfirm() (lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost = l.state.Confirmed || l.state.HeldConfirmed
	l.state.Round++
	l.state.Confirmed, l.state.HeldConfirmed = false, false
	return lost
}

// Renew takes over a lease if it ends later than the held one. grace is how long a
// process has from being asked to end, when the lease ends, until it is killed.
func (l *Lease) Renew(until time.Time, grace time.Duration) {
	l.mu.Lock()
	revoked, renewed := l.renewLocked(until, grace)
	if renewed {
		l.writeLocked()
	}
	l.mu.Unlock()
	if revoked {
		l.changed()
	}
}

// Restore takes over the lease that an earlier instance of the agent has kept in the
// file, where later leases are kept from now on. If that lease has ended, running
// containers have run without a lease: they must stop until they are confirmed under the
// next one.
func (l *Lease) Restore(f *File) error {
	left, grace, err := f.Read()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.file = f
	revoked, renewed := l.renewLocked(time.Now().Add(left), grace)
	l.revoked = l.revoked || !renewed && !l.state.Held
	l.mu.Unlock()
	if revoked {
		l.changed()
	}
	return nil
}

func (l *Lease) renewLocked(until time.Time, grace time.Duration) (revoked, renewed bool) {
	left := time.Until(until)
	if !until.After(l.until) || left <= 0 || l.stopped {
		return false, false
	}
	revoked = l.revokeLocked() // the timer of the last lease may be late
	l.until, l.grace, l.state.Held = until, grace, true
	if l.timer == nil {
		l.timer = time.AfterFunc(left, l.lapse)
	} else {
		l.timer.Reset(left)
	}
	return revoked, true
}

// writeLocked has the lease written. No caller waits for that, because the disk may be
// slow. If the lease isn't written in time, the agent's next instance has none.
func (l *Lease) writeLocked() {
	if l.file == nil || l.writing {
		return
	}
	l.writing = true
	l.writes.Go(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for written := (time.Time{}); written != l.until; {
			until, grace := l.until, l.grace
			l.mu.Unlock()
			err := l.file.Write(time.Until(until), grace)
			l.mu.Lock()
			if written = until; err != nil {
				l.log.Warn("lease not written: after a restart of the agent its containers stop", "error", err)
			}
		}
		l.writing = false
	})
}

// lapse ends the lease, unless it was renewed in time.
func (l *Lease) lapse() {
	l.mu.Lock()
	revoked := l.revokeLocked()
	l.mu.Unlock()
	if revoked {
		l.changed()
	}
}

func (l *Lease) revokeLocked() bool {
	if !l.state.Held || time.Until(l.until) > 0 {
		return false
	}
	l.state.Held, l.state.HeldConfirmed, l.revoked = false, false, true
	l.state.Round++
	l.log.Warn("the servers could not be reached in time: the lease has ended, and the containers that need it stop")
	return true
}

// startMargin is the least time that a lease must have left for a start, which may take
// the engine a while.
const startMargin = 250 * time.Millisecond

// May reports whether a container may go on running here, and whether it may be
// started.
func (l *Lease) May(kind structs.Exclusive) (run, start bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch kind {
	case structs.ExclusiveNo:
		return true, true
	case structs.ExclusiveYes:
		return true, l.state.Confirmed
	}
	left := time.Until(l.until)
	held := l.state.Held && left > 0
	return held && !l.revoked, held && l.state.Confirmed && l.state.HeldConfirmed && left > startMargin
}

// Grace returns how long a process may take to end by itself after the lease has ended.
func (l *Lease) Grace() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grace
}

// Stop stops the timer, and waits until the file is written. The state stays as it is.
func (l *Lease) Stop() {
	l.mu.Lock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.writes.Wait()
}
