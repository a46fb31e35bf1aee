package dispatch

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// leading runs a test in a synctest bubble with a Dispatch that leads.
func leading(t *testing.T, test func(t *testing.T, d *Dispatch)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		stop := d.leads(t)
		defer stop()
		test(t, d)
	})
}

// leads begins a leadership. stop ends it.
func (d *Dispatch) leads(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.liveness.lead(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func (d *Dispatch) state(id string) structs.HostState {
	return d.config.Store.Snapshot().Host(id).State
}

// hears notes heartbeats of the hosts.
func (d *Dispatch) hears(hosts ...string) {
	for _, id := range hosts {
		d.heartbeats.recordNow(id)
	}
}

// pass lets time pass during which the talking hosts send heartbeats.
func (d *Dispatch) pass(duration time.Duration, talking ...string) {
	for end := time.Now().Add(duration); time.Now().Before(end); {
		d.hears(talking...)
		time.Sleep(min(time.Second, time.Until(end)))
	}
	synctest.Wait()
}

// is fails the test unless the hosts are in the state.
func (d *Dispatch) is(t *testing.T, state structs.HostState, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if h := d.config.Store.Snapshot().Host(id); h.State != state {
			t.Fatalf("host %s is %s (%s), not %s", id, h.State, h.StateReason, state)
		}
	}
}

func TestLostHostGetsAFullAnswer(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		host := d.host(t)
		c := d.container(t, host)
		index := d.config.Store.Index()
		do(t, d, conductor.MarkHosts{Marks: []conductor.HostMark{{ID: host, State: structs.HostLost}}})
		do(t, d, conductor.DeleteContainer{Caller: operator, Ident: c.ID, Force: true}) // deletes the row without the host
		work := d.poll(t, Poll{HostID: host, Registration: 1, Index: index})
		if !work.Full || !work.Confirmed || len(work.Assignments) != 0 {
			t.Errorf("%+v", work)
		}
		d.is(t, structs.HostReady, host)
		// A poll that was parked at another server all the time has missed the deletion as
		// well.
		if work = d.poll(t, Poll{HostID: host, Registration: 1, Index: index}); !work.Full {
			t.Errorf("%+v", work)
		}
		if work = d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index()}); work.Full {
			t.Errorf("a full answer without a reason: %+v", work)
		}
	})
}

// Until the leader has marked the host ready, its containers may be about to be placed
// elsewhere: the host must not be told that they belong to it.
func TestLostHostGetsNoAssignments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t) // a follower's: it marks no host ready
		host := d.host(t)
		d.container(t, host)
		for _, state := range []structs.HostState{structs.HostLost, structs.HostSuspect} {
			do(t, d, conductor.MarkHosts{Marks: []conductor.HostMark{{ID: host, State: state}}})
			if work, err := d.Work(context.Background(), Poll{HostID: host,
				Registration: 1}); structs.CodeOf(err) != structs.CodeUnavailable {
				t.Errorf("%s: %+v, %v", state, work, err)
			}
		}
	})
}

func TestSilentHostIsSuspectThenLost(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		silent, talking := d.host(t), d.host(t)
		d.pass(4*time.Second, talking)
		d.is(t, structs.HostReady, silent, talking)
		d.pass(2*time.Second, talking)
		d.is(t, structs.HostSuspect, silent)
		d.pass(3*time.Second, talking)
		d.is(t, structs.HostSuspect, silent)
		d.pass(2*time.Second, talking)
		d.is(t, structs.HostLost, silent)
		d.is(t, structs.HostReady, talking)
		index := d.config.Store.Index()
		d.pass(time.Minute, talking)
		if d.config.Store.Index() != index {
			t.Errorf("%d entries were written although nothing has changed", d.config.Store.Index()-index)
		}
		d.heartbeats.recordNow(silent)
		synctest.Wait()
		d.is(t, structs.HostReady, silent)
	})
}

func TestSuspectHostIsReadyAtTheFirstHeartbeat(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		host := d.host(t)
		d.pass(6 * time.Second)
		d.is(t, structs.HostSuspect, host)
		d.hears(host) // at another server
		synctest.Wait()
		d.is(t, structs.HostReady, host)
		if r := d.config.Store.Snapshot().Host(host).StateReason; r != "" {
			t.Errorf("a ready host has the reason %q", r)
		}
	})
}

func TestGossipMakesAHostSuspectButNotLost(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		host := d.host(t)
		d.heartbeats.gossipDead(host)
		synctest.Wait()
		d.is(t, structs.HostSuspect, host)
		d.pass(9 * time.Second)
		d.is(t, structs.HostSuspect, host)
		d.pass(2 * time.Second)
		d.is(t, structs.HostLost, host)
		d.heartbeats.recordNow(host)
		synctest.Wait()
		d.is(t, structs.HostReady, host)
		d.heartbeats.gossipDead(host)
		synctest.Wait()
		d.is(t, structs.HostSuspect, host)
		time.Sleep(time.Millisecond)
		d.heartbeats.recordNow(host) // its polls come, whatever gossip says
		synctest.Wait()
		d.is(t, structs.HostReady, host)
	})
}

func TestNewLeaderGrantsAGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host, suspect := d.host(t), d.host(t)
		do(t, d, conductor.MarkHosts{Marks: []conductor.HostMark{{ID: suspect, State: structs.HostSuspect}}})
		time.Sleep(time.Hour) // another server led, and received the host's heartbeats
		stop := d.leads(t)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		d.is(t, structs.HostReady, host)
		d.is(t, structs.HostSuspect, suspect)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		d.is(t, structs.HostSuspect, host, suspect)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		d.is(t, structs.HostLost, host, suspect)
		stop()
	})
}

// A leader whose process stood still (SIGSTOP, a paused machine) received no heartbeats:
// the hosts were not silent for that time.
func TestLeadersStallLosesNoHost(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	now := time.Now()
	w := newSilenceRules(d.config.HostLostAfter, now.Add(-time.Hour))
	d.heartbeats.hosts[host] = presence{lastSeen: now.Add(-25 * time.Second)}
	if marks, _ := d.heartbeats.assess(w, now, d.liveness.hosts()); len(marks) != 1 || marks[0].State != structs.HostLost {
		t.Fatalf("25 s of silence are not noticed: %+v", marks)
	}
	d.heartbeats.shift(20 * time.Second)
	if marks, _ := d.heartbeats.assess(w, now, d.liveness.hosts()); len(marks) != 0 {
		t.Errorf("the leader's own stall counts as the host's silence: %+v", marks)
	}
}

// register registers n hosts.
func (d *Dispatch) register(t *testing.T, n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		r := registration(structs.NewID())
		r.Name = fmt.Sprint("h", i)
		if _, err := d.Register(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.HostID)
	}
	return ids
}

func TestBrakeHoldsBackAMassLoss(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 10)
		gone, left := ids[:5], ids[5:]
		d.pass(30*time.Second, left...)
		d.is(t, structs.HostSuspect, gone...)
		d.is(t, structs.HostReady, left...)
		for _, id := range gone {
			if h := d.config.Store.Snapshot().Host(id); !h.Braked || h.StateReason == "" {
				t.Errorf("%+v", h)
			}
		}
		d.hears(gone...)
		synctest.Wait()
		d.is(t, structs.HostReady, ids...)
		if h := d.config.Store.Snapshot().Host(gone[0]); h.Braked || h.StateReason != "" {
			t.Errorf("the host is still held back: %+v", h)
		}
	})
}

func TestBrakeNeedsMoreThanThree(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 6)
		d.pass(12*time.Second, ids[3:]...)
		d.is(t, structs.HostLost, ids[:3]...) // half of the hosts, but only three
	})
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 20)
		d.pass(12*time.Second, ids[4:]...)
		d.is(t, structs.HostLost, ids[:4]...) // four, but only a fifth
	})
}

// Hosts that go silent one after the other within host_lost_after count together.
func TestBrakeCountsAStaggeredLoss(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 10)
		for i := range 5 {
			d.pass(1500*time.Millisecond, ids[i+1:]...)
		}
		d.pass(20*time.Second, ids[5:]...)
		d.is(t, structs.HostSuspect, ids[1:5]...)
	})
}

func TestBrakeIsReleasedByAnOperator(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 10)
		gone, left := ids[:5], ids[5:]
		d.pass(12*time.Second, left...)
		do(t, d, conductor.ReleaseHost{Caller: operator, Ident: gone[0]})
		do(t, d, conductor.ReleaseHost{Caller: operator, Ident: gone[1]})
		d.is(t, structs.HostLost, gone[:2]...)
		d.pass(30*time.Second, left...)
		d.is(t, structs.HostSuspect, gone[2:]...) // each host has to be released by itself
		for _, refused := range []string{gone[0], left[0]} {
			_, err := conductor.Do(context.Background(), d.config.Conductor, conductor.ReleaseHost{Caller: operator, Ident: refused})
			if structs.CodeOf(err) != structs.CodeConflict {
				t.Errorf("released a host that isn't held back: %v", err)
			}
		}
	})
}

func TestBrakeEndsWhenTheServersAgree(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 10)
		gone, left := ids[:5], ids[5:]
		d.pass(2*time.Minute, left...)
		d.is(t, structs.HostSuspect, gone...)
		d.pass(15*time.Second, left...) // a single server is its own majority
		d.is(t, structs.HostLost, gone...)
	})
}

func TestBrakeStaysWhileTheServersDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		agrees := make(chan bool, 1)
		agrees <- false
		var asked []string
		d.config.Agree = func(_ context.Context, ids []string) bool {
			answer := <-agrees
			agrees <- answer
			asked = ids
			return answer
		}
		stop := d.leads(t)
		defer stop()
		ids := d.register(t, 10)
		gone, left := ids[:5], ids[5:]
		d.pass(5*time.Minute, left...)
		d.is(t, structs.HostSuspect, gone...)
		slices.Sort(asked)
		if want := slices.Sorted(slices.Values(gone)); !slices.Equal(asked, want) {
			t.Errorf("asked for %v, not %v", asked, want)
		}
		if silent := d.heartbeats.silent(ids); len(silent) != 5 {
			t.Errorf("the servers say that %d hosts are silent", len(silent))
		}
		<-agrees
		agrees <- true
		d.pass(15*time.Second, left...)
		d.is(t, structs.HostLost, gone...)
	})
}

func TestFenceOfASuspectHostNeedsForce(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		ids := d.register(t, 2)
		fence := func(force bool) error {
			_, err := conductor.Do(context.Background(), d.config.Conductor,
				conductor.FenceHost{Caller: operator, Ident: ids[0], Force: force})
			return err
		}
		for _, force := range []bool{false, true} {
			if err := fence(force); structs.CodeOf(err) != structs.CodeConflict {
				t.Errorf("a ready host was fenced: %v", err)
			}
		}
		d.pass(6*time.Second, ids[1])
		if err := fence(false); structs.CodeOf(err) != structs.CodeConflict {
			t.Errorf("a suspect host was fenced without force: %v", err)
		}
		if err := fence(true); err != nil {
			t.Fatal(err)
		}
		d.is(t, structs.HostLost, ids[0])
		if err := fence(false); err != nil { // the host is fenced already
			t.Error(err)
		}
		d.heartbeats.recordNow(ids[0])
		synctest.Wait()
		d.is(t, structs.HostReady, ids[0])
		if d.config.Store.Snapshot().Host(ids[0]).Fenced {
			t.Error("a host that is back is still fenced")
		}
	})
}
