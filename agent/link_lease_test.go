package agent

import (
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestLeaseLastsWhileTheLeaderAcknowledges: answers without an acknowledgement don't
// renew the lease. It ends, and is held again after the next acknowledgement.
func TestLeaseLastsWhileTheLeaderAcknowledges(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	s.lease = 2 * time.Second
	r := runAgent(t, t.TempDir(), fake, nil, s)
	plain := want("p", 1, structs.DesiredRunning)
	s.assign(plain)
	s.is("p", structs.ContainerRunning)
	s.eventually("polls without leases carry no number", func() bool { return len(s.polls) > 0 && s.polls[len(s.polls)-1].sent == 0 })
	a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
	s.assign(a)
	s.is("a", structs.ContainerRunning)
	time.Sleep(2 * s.lease) // the lease is still held: only time shows that
	if n := fake.Seen.Stops(ref(a)); n != 0 {
		t.Fatalf("stopped %d times under a lease", n)
	}
	s.mu.Lock()
	s.mute = true
	s.mu.Unlock()
	s.is("a", structs.ContainerStopped)
	s.mu.Lock()
	s.mute = false
	s.mu.Unlock()
	s.is("a", structs.ContainerRunning)
	if n := fake.Seen.Starts(ref(a)); n != 2 || fake.Seen.Stops(ref(plain)) != 0 {
		t.Errorf("started %d times; the other one was stopped %d times", n, fake.Seen.Stops(ref(plain)))
	}
	last := uint64(0)
	s.mu.Lock()
	for _, p := range s.polls {
		if p.sent != 0 && p.sent < last {
			t.Errorf("poll %d after %d", p.sent, last)
		}
		last = max(last, p.sent)
	}
	s.mu.Unlock()
	r.stop()
}

// TestPollsAreNumberedWhileThereIsRoom: a registration whose number leaves no room for
// the time gets no poll numbers, because an earlier poll may have had them.
func TestPollsAreNumberedWhileThereIsRoom(t *testing.T) {
	l := &link{startedAt: time.Now().Add(-time.Hour), lease: time.Second,
		pollState: func() pollState { return pollState{needsLease: true} }}
	last := uint64(0)
	for _, registration := range []uint64{1, 1 << 20, 1 << 23, lease.MaxRegistration - 1} {
		var req api.WorkRequest
		l.ask(&req, registration)
		if _, ok := lease.SentAt(req.Sent, registration, req.Sent); req.Sent <= last || !ok {
			t.Errorf("a poll of registration %d has number %d, after %d", registration, req.Sent, last)
		}
		last = req.Sent
	}
	for _, registration := range []uint64{lease.MaxRegistration, lease.MaxRegistration + 1, 1 << 40} {
		var req api.WorkRequest
		if l.ask(&req, registration); req.Sent != 0 {
			t.Errorf("a poll of registration %d has number %d", registration, req.Sent)
		}
	}
}

func TestAcknowledgementsOfOtherRegistrationsCountForNothing(t *testing.T) {
	var until time.Time
	l := &link{startedAt: time.Now().Add(-time.Minute)}
	l.renewed = func(t time.Time, _ time.Duration) { until = t }
	const registration = 3
	at := func(registration uint64, ms time.Duration) uint64 {
		return lease.Number(registration, ms*time.Millisecond)
	}
	sent := at(registration, 50_000)
	for name, acknowledged := range map[string]uint64{
		"none": 0, "an earlier registration's": at(2, 90_000), "a later registration's": at(4, 1), "one that was never sent": sent + 1,
	} {
		if l.extend(&structs.Work{Acknowledged: acknowledged, Lease: 7 * time.Second}, registration, sent); !until.IsZero() {
			t.Fatalf("%s is taken", name)
		}
	}
	l.extend(&structs.Work{Acknowledged: at(registration, 40_000), Lease: 7 * time.Second}, registration, sent)
	if want := l.startedAt.Add(47 * time.Second); !until.Equal(want) {
		t.Errorf("the lease lasts until %v, not %v", until, want)
	}
}
