package dispatch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

func TestPollsAreAcknowledgedOnceTheLeaderIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		var verified atomic.Bool
		var rounds atomic.Int32
		d.config.VerifyLeader = func(context.Context) error {
			rounds.Add(1)
			if !verified.Load() {
				return errors.New("no majority answers")
			}
			return nil
		}
		stop := d.leads(t)
		defer stop()
		host := d.host(t)
		poll := func(sent uint64) *structs.Work {
			return d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: time.Second, Sent: sent})
		}
		if work := poll(7); work.Acknowledged != 0 {
			t.Errorf("poll %d was acknowledged by a server that has not verified its leadership", work.Acknowledged)
		}
		verified.Store(true)
		if work := poll(8); work.Acknowledged != 8 {
			t.Errorf("acknowledged %d, not 8", work.Acknowledged)
		}
		before := rounds.Load()
		time.Sleep(time.Minute)
		if rounds.Load() != before {
			t.Errorf("%d rounds although nobody has polled", rounds.Load()-before)
		}
		if work := poll(0); work.Acknowledged != 8 || rounds.Load() != before { // a host without leases
			t.Errorf("acknowledged %d in %d rounds", work.Acknowledged, rounds.Load()-before)
		}
	})
}

func TestFollowersPassOnAcknowledgements(t *testing.T) {
	leading(t, func(t *testing.T, leader *Dispatch) {
		follower := New(leader.config) // over the same state
		host, plain := leader.host(t), leader.host(t)
		for id, sent := range map[string]uint64{host: 5, plain: 0} {
			if _, err := follower.Work(context.Background(), Poll{HostID: id, Registration: 1, Index: leader.config.Store.Index(),
				Sent: sent}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if sent, _ := follower.heartbeats.lastAcknowledged(host); sent != 0 {
			t.Error("a follower acknowledges by itself")
		}
		pending := follower.heartbeats.takePending()
		if len(pending) != 2 || pending[host].Sent != 5 || pending[plain].Sent != 0 {
			t.Errorf("pending: %v", pending)
		}
		if again := follower.heartbeats.takePending(); len(again) != 0 {
			t.Errorf("pending again: %v", again)
		}
		told := time.Now()
		follower.heartbeats.recordAcknowledged(leader.heartbeats.fromFollower(context.Background(), peerHeartbeats(pending)))
		if took := time.Since(told); took > acknowledgePause {
			t.Errorf("the follower had to wait %v for the acknowledgement", took)
		}
		// arrives late
		follower.heartbeats.recordAcknowledged(structs.PeerAcknowledged{Hosts: map[string]structs.Acknowledgement{host: {Sent: 3,
			Lease: time.Hour}}})
		if got, lease := follower.heartbeats.lastAcknowledged(host); got != 5 || lease != 7*time.Second {
			t.Errorf("acknowledged %d for %v, not 5 for 7s", got, lease)
		}
		leader.pass(9*time.Second, plain)
		leader.is(t, structs.HostSuspect, host)
	})
}

// peerHeartbeats returns what a follower reports of the heartbeats.
func peerHeartbeats(pending map[string]Heartbeat) map[string]structs.PeerHeartbeat {
	told := make(map[string]structs.PeerHeartbeat)
	for id, s := range pending {
		told[id] = structs.PeerHeartbeat{Sent: s.Sent, Age: time.Since(s.At)}
	}
	return told
}

// Heartbeats that a follower received before it was frozen, or cut off, don't bring back a
// host that was lost since. Later heartbeats do.
func TestOldHeartbeatsBringNoHostBack(t *testing.T) {
	leading(t, func(t *testing.T, leader *Dispatch) {
		follower := New(leader.config)
		host := leader.host(t)
		poll := func() {
			if _, err := follower.Work(context.Background(), Poll{HostID: host, Registration: 1,
				Index: leader.config.Store.Index()}); err != nil && structs.CodeOf(err) != structs.CodeUnavailable {
				t.Fatal(err)
			}
		}
		poll()
		pending := follower.heartbeats.takePending()
		leader.pass(11 * time.Second)
		leader.is(t, structs.HostLost, host)
		for range 20 {
			leader.heartbeats.fromFollower(context.Background(), peerHeartbeats(pending))
			leader.pass(100 * time.Millisecond)
			leader.is(t, structs.HostLost, host)
		}
		// An old heartbeat, but from after the host was found silent.
		poll() // the follower waits until the leader has marked the host ready
		pending = follower.heartbeats.takePending()
		if age := time.Since(pending[host].At); age < time.Second {
			t.Fatalf("the heartbeat is %v old", age)
		}
		leader.heartbeats.fromFollower(context.Background(), peerHeartbeats(pending))
		leader.pass(100 * time.Millisecond)
		leader.is(t, structs.HostReady, host)
		// A late heartbeat counts from when the follower received it, not from when it was
		// reported.
		leader.pass(4 * time.Second)
		leader.is(t, structs.HostSuspect, host)
	})
}

// Servers may be restarted with another host_lost_after, one by one.
func TestLeadersDifferInHostLostAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newDispatch(t)
		host := first.host(t)
		leads := func(lostAfter time.Duration) (d *Dispatch, stop func()) {
			c := first.config
			c.HostLostAfter = lostAfter
			d = New(c)
			do(t, d, conductor.InitCluster{HostLostAfter: lostAfter}) // as each leader does first
			stop = d.leads(t)
			synctest.Wait()
			return d, stop
		}
		sent := uint64(0)
		lease := func(d *Dispatch) time.Duration {
			sent++
			work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Sent: sent, Wait: 100 * time.Millisecond})
			if work.Acknowledged != sent {
				t.Fatalf("%d is not acknowledged", sent)
			}
			return work.Lease
		}
		says := func(d *Dispatch, want time.Duration) {
			t.Helper()
			work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index()})
			if work.HostLostAfter != want {
				t.Fatalf("hosts are told %v, not %v", work.HostLostAfter, want)
			}
		}
		long, stop := leads(10 * time.Second)
		says(long, 10*time.Second)
		if got := lease(long); got != 7*time.Second {
			t.Fatalf("a lease of %v", got)
		}
		promised := time.Now().Add(-100 * time.Millisecond).Add(7 * time.Second)
		stop()

		short, stop := leads(2 * time.Second)
		says(short, 10*time.Second)
		for short.state(host) != structs.HostLost {
			time.Sleep(10 * time.Millisecond)
		}
		if time.Now().Before(promised) {
			t.Errorf("lost %v before the end of a lease", time.Until(promised))
		}
		says(short, 2*time.Second) // all leases of the other leaders have ended
		short.pass(100*time.Millisecond, host)
		if got := lease(short); got != 2*time.Second*7/10 {
			t.Errorf("a lease of %v", got)
		}
		began := time.Now()
		short.pass(3 * time.Second)
		if short.state(host) != structs.HostLost {
			t.Errorf("not lost after %v", time.Since(began))
		}
		stop()

		long, stop = leads(10 * time.Second)
		defer stop()
		says(long, 10*time.Second) // before it acknowledges anything
	})
}

// A follower's report is answered even if its polls can't be acknowledged now.
func TestFollowerIsAnsweredWithoutAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t) // no loop acknowledges polls
		host := d.host(t)
		for what, limit := range map[string]time.Duration{"no majority": acknowledgeWait, "a call that ends": 100 * time.Millisecond,
			"a mark": 0} {
			ctx, cancel := context.WithCancel(context.Background())
			switch what {
			case "a call that ends":
				time.AfterFunc(limit, cancel)
			case "a mark":
				d.heartbeats.leases.marking[host] = true
			}
			began := time.Now()
			if got := d.heartbeats.fromFollower(ctx, map[string]structs.PeerHeartbeat{host: {Sent: 9}}); len(got.Hosts) != 0 ||
				time.Since(began) != limit {
				t.Errorf("%s: %v acknowledged after %v", what, got, time.Since(began))
			}
			cancel()
			delete(d.heartbeats.leases.marking, host)
		}
	})
}

// A poll that comes while its host is being marked is too late to stop the mark: it must
// renew no lease before the mark is in the state.
func TestNoPollIsAcknowledgedWhileAMarkIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.host(t)
		time.Sleep(time.Minute)
		w := newSilenceRules(d.config.HostLostAfter, time.Now().Add(-time.Hour))
		marks, _ := d.heartbeats.assess(w, time.Now(), d.liveness.hosts())
		if len(marks) != 1 || marks[0].State != structs.HostLost {
			t.Fatalf("%+v", marks)
		}
		d.heartbeats.recordPolls(map[string]Heartbeat{host: {Sent: 9, At: time.Now()}})
		if got := d.heartbeats.toAcknowledge(); len(got) != 0 {
			t.Errorf("%v may be acknowledged", got)
		}
		d.heartbeats.marksWritten(marks, structs.Errorf(structs.CodeNoLeader, "unknown"))
		if got := d.heartbeats.toAcknowledge(); len(got) != 0 {
			t.Errorf("%v may be acknowledged although the mark may be in the log", got)
		}
		d.liveness.mark(context.Background(), marks)
		d.is(t, structs.HostLost, host)
		if got := d.heartbeats.toAcknowledge(); got[host].Sent != 9 {
			t.Errorf("only %v may be acknowledged", got)
		}
	})
}

// No copy of a container with a lease runs while another may run. On a host that is cut off
// from the leader, but polls a follower, the lease ends before the container is placed
// again. It begins again only with the consequences of the mark.
func TestLeaseEndsBeforeTheHostIsLost(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		host := d.host(t)
		c := do(t, d, conductor.CreateContainer{Caller: operator, Bay: "b-" + host, Run: true, Spec: structs.ContainerSpec{
			Image: "i", Exclusive: structs.ExclusiveLease, RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways},
		}})
		sent := time.Now()
		d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Sent: 1, Wait: time.Second})
		follower := New(d.config)
		until := sent.Add(d.config.HostLostAfter * leaseShare / leaseWhole)
		for i := uint64(2); d.state(host) != structs.HostLost; i++ {
			if _, err := follower.Work(context.Background(), Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(),
				Sent: i}); err != nil && structs.CodeOf(err) != structs.CodeUnavailable {
				t.Fatal(err)
			}
			if sent, _ := follower.heartbeats.lastAcknowledged(host); sent != 0 {
				t.Fatal("renewed without the leader")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if lost := time.Now(); lost.Sub(until) < 3*time.Second {
			t.Errorf("lost %v after the lease has ended: no time to stop", lost.Sub(until))
		}
		if work, err := follower.Work(context.Background(), Poll{HostID: host, Registration: 1}); err == nil {
			t.Errorf("a lost host was told that %s belongs to it: %+v", c.ID, work)
		}
	})
}
