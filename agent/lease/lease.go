// Package lease keeps a host's right to run exclusive containers: those of which no
// two copies may run at an instant, on whatever hosts.
//
// Package agent calls it: it tells what servers have confirmed and acknowledged, asks
// what may run and start, and starts and stops the containers itself. DESIGN.md of
// package agent has the rules and why they hold; server/dispatch/lease.go has the
// servers' half of the proof. It never speaks to servers.
package lease

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// State is the part of the lease that a poll has to report: an answer proves
// something of the state in which its poll was sent only.
type State struct {
	Round uint64 // raised whenever a confirmation is lost: an answer to an earlier poll confirms nothing

	// Confirmed: a confirmed full answer to a poll of this round has said what is to
	// run here.
	Confirmed bool
	Held      bool // the host has a lease
	// HeldConfirmed: a confirmed full answer to a poll that was sent under the held
	// lease has said what is to run here.
	HeldConfirmed bool
}

// Lease is the state of a host. All methods may be called by many goroutines at once.
type Lease struct {
	changed func() // called without a lock when containers may or may not run any more
	log     hclog.Logger

	mu    sync.Mutex
	state State
	// revoked: the lease has ended since HeldConfirmed was last true, so running
	// containers that need one must stop, even if there is a new lease by now.
	revoked bool
	until   time.Time
	grace   time.Duration // between asking a process to end when the lease does, and killing it
	timer   *time.Timer   // fires at until
	file    *File         // where until is kept; nil for nowhere
	writing bool
	stopped bool
	writes  sync.WaitGroup
}

// New returns the state of a host that has no lease, and of which nothing is
// confirmed. It starts nothing. changed may be called from now on until Stop returns.
func New(changed func(), log hclog.Logger) *Lease { return &Lease{changed: changed, log: log} }

// State returns the state now.
func (l *Lease) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Confirm takes a confirmed full answer to a poll that was sent in a state. It
// reports whether more may run or start now.
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

// Renew takes a lease until then, if that is longer than the one that is held. grace
// is what a process has between being asked to end at its end and being killed.
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

// Restore takes over the lease that an earlier life of the agent has kept in the file,
// where later ones are kept from now on. If none is left, what runs has run without a
// lease, and must stop until it is confirmed under the next one.
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
	revoked = l.revokeLocked() // this may come before the timer of the last lease, which has ended all the same
	l.until, l.grace, l.state.Held = until, grace, true
	if l.timer == nil {
		l.timer = time.AfterFunc(left, l.lapse)
	} else {
		l.timer.Reset(left)
	}
	return revoked, true
}

// writeLocked has the lease written. Nobody waits for that, for the disk may take its
// time, and the lease ends meanwhile: one that isn't written is as good as none for
// the agent's next life.
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
	l.log.Warn("the servers could not be reached in time: the lease has ended, and what needs it stops")
	return true
}

// startMargin is the part of a lease that has to be left for a start: the engine may
// take its time.
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

// Grace returns what a process has to end by itself once the lease has ended.
func (l *Lease) Grace() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grace
}

// Stop ends the timer, and waits for what is being written. The state stays as it is.
func (l *Lease) Stop() {
	l.mu.Lock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.writes.Wait()
}
