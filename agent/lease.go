package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// sentShift leaves room for 34 years of milliseconds below a registration's
// number: polls of a later registration have higher numbers, whatever clocks
// there were.
const sentShift = 40

// maxRegistration is the first number of a registration whose polls can't be
// numbered any more: the host gets no lease then, rather than one that a poll of an
// earlier registration has earned.
const maxRegistration = 1 << (64 - sentShift)

// proofPause is the least time between two polls that ask for proof: servers
// without a leader can't give it.
const proofPause = 500 * time.Millisecond

// eagerWait is how long a poll waits while the host has no lease and wants one.
const eagerWait = 250 * time.Millisecond

// graceShare of a lease is what a process has to end by itself once the lease is
// over: a third of what the servers wait beyond it, which is 3/7.
const graceShare = 7

// errNudged ends a poll because another one is to be sent at once.
var errNudged = errors.New("another poll is to be sent")

// ask completes a poll with what the host's leases need, and returns the stance
// in which it is sent.
func (l *link) ask(req *api.WorkRequest, registration uint64) stance {
	if l.stance == nil {
		return stance{}
	}
	in := l.stance()
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.proof && time.Since(l.proofAt) >= proofPause {
		l.proofAt = time.Now()
		req.Index = 0
	} else if in.proof {
		req.Wait = min(req.Wait, proofPause)
	}
	if in.leases && l.lease > 0 && registration < maxRegistration {
		req.Sent = registration<<sentShift | uint64(time.Since(l.born).Milliseconds())
		req.Wait = min(req.Wait, l.lease/4)
		if !in.leased {
			req.Wait = min(req.Wait, eagerWait)
		}
	}
	return in
}

// extend takes an acknowledgement: the lease lasts from when the acknowledged
// poll was sent. What is no poll of this registration counts for nothing.
func (l *link) extend(w *structs.Work, registration, sent uint64) {
	if w.Acknowledged>>sentShift != registration || w.Acknowledged > sent || l.renewed == nil {
		return
	}
	at := l.born.Add(time.Duration(w.Acknowledged&(1<<sentShift-1)) * time.Millisecond)
	l.renewed(at.Add(w.Lease), w.Lease/graceShare)
}

// nudgeable returns a context for a poll, which hurry ends.
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

// hurry ends the poll under way; the next one follows at once.
func (l *link) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nudge != nil {
		l.nudge(errNudged)
	}
}

// leaseFile keeps the end of the lease over the lives of the agent: one that
// was killed and started again stops nothing. It counts by the machine's own
// clock, which no one sets and which runs while the machine sleeps; after a
// reboot there is no lease.
type leaseFile struct {
	path string
	boot string // identity of the machine's current run
}

// keptLease is what the file holds.
type keptLease struct {
	Boot  string        `json:"boot"`
	Until time.Duration `json:"until"` // since the boot
	Grace time.Duration `json:"grace"`
}

func newLeaseFile(path string) *leaseFile {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, no lease outlives the agent
	return &leaseFile{path: path, boot: strings.TrimSpace(string(b))}
}

// read returns what is left of the lease, not above 0 if nothing is.
func (f *leaseFile) read() (left, grace time.Duration, err error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("lease: %w", err)
	}
	var kept keptLease
	if json.Unmarshal(b, &kept) != nil || kept.Boot == "" || kept.Boot != f.boot {
		return 0, 0, nil
	}
	return kept.Until - sinceBoot(), kept.Grace, nil
}

// write keeps that so much is left of the lease.
func (f *leaseFile) write(left, grace time.Duration) error {
	b, err := json.Marshal(keptLease{Boot: f.boot, Until: sinceBoot() + left, Grace: grace})
	if err != nil {
		return err
	}
	return atomicfile.ReplaceSoon(f.path, b)
}

// sinceBoot is the time since the machine was started.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
