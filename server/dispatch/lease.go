package dispatch

import (
	"context"
	"maps"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// A container with exclusive "lease" runs only while its host has a lease: for
// Lease after the host has sent a poll that the leader has acknowledged. The
// host stops it when the lease ends, early enough that it has ended
// host_lost_after after that poll was sent. Why no other copy runs before:
//
//  1. The leader heard of poll P before it acknowledged P, and P was sent before
//     it was heard of. A leader marks a host lost (or held back, from which an
//     operator may release it) only host_lost_after after it has last heard of
//     it: so at least host_lost_after after P was sent, if it knew of P.
//  2. It knew of P, or its leadership began after P was acknowledged: an
//     acknowledgement follows a VerifyLeader round that began after P was heard
//     of, so no later leader had begun by then, and each begins with a grace of
//     host_lost_after.
//  3. While such a mark is being written, no poll of the host is acknowledged
//     (marking): a poll that comes too late to stop the mark renews nothing
//     until the mark is in the state.
//  4. Leaders may differ in host_lost_after, while servers are started again with
//     another one. An acknowledgement says how long the lease is that it gives, by the
//     leader's own, and the state holds the longest one: see liveness.lostAfter.
//  5. A host whose lease has ended starts nothing until a full, confirmed
//     answer, to a poll that it has sent under a new lease, says that the
//     container is still its own. That answer is of a state at or after the
//     mark, and is given only if the host is ready in it: whatever the mark has
//     led to is in it, too.
//
// So a lease that is renewed without a gap ends before any mark, and one with a
// gap begins with what the mark has led to. Clocks of different machines are
// never compared, only durations.

// leaseShare of leaseWhole of host_lost_after is the length of a lease. The rest
// is the host's time to stop what runs.
const (
	leaseShare = 7
	leaseWhole = 10
)

func leaseOf(lostAfter time.Duration) time.Duration { return lostAfter * leaseShare / leaseWhole }

// leases is what is known of the polls of hosts that have leases. Numbers of
// polls grow with each poll of a host, over all lives of its agent.
type leases struct {
	sent         map[string]uint64 // largest heard of, by host
	heard        map[string]Signal // heard of here since takeHeard was last called
	acknowledged map[string]structs.Acknowledgement
	marking      map[string]bool // hosts that are about to be marked suspect or lost
	round        chan struct{}   // closed when acknowledged has grown
}

// Signal is a sign of life of a host.
type Signal struct {
	Sent uint64    // number of the poll; 0 for a host without leases
	At   time.Time // when it came
}

// And returns what both say of a host.
func (s Signal) And(other Signal) Signal {
	if other.At.Before(s.At) {
		other.At = s.At
	}
	return Signal{Sent: max(s.Sent, other.Sent), At: other.At}
}

func newLeases() leases {
	return leases{
		sent: make(map[string]uint64), heard: make(map[string]Signal), acknowledged: make(map[string]structs.Acknowledgement), marking: make(map[string]bool),
		round: make(chan struct{}),
	}
}

// polled notes that a poll of the host has come here.
func (hb *heartbeats) polled(hostID string, sent uint64) {
	now := Signal{Sent: sent, At: time.Now()}
	hb.mu.Lock()
	hb.leases.heard[hostID] = hb.leases.heard[hostID].And(now)
	hb.mu.Unlock()
	hb.merge(map[string]Signal{hostID: now})
}

// takeHeard returns the hosts that this server has heard of since it was last
// called. A follower passes it on to the leader's fromFollower.
func (hb *heartbeats) takeHeard() map[string]Signal {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	heard := hb.leases.heard
	hb.leases.heard = make(map[string]Signal, len(heard))
	return heard
}

// merge notes, on the leader, what servers have heard.
func (hb *heartbeats) merge(heard map[string]Signal) {
	hb.seen(heard)
	news := false
	hb.mu.Lock()
	for id, s := range heard {
		if s.Sent > hb.leases.sent[id] {
			hb.leases.sent[id], news = s.Sent, true
		}
	}
	hb.mu.Unlock()
	if news {
		select {
		case hb.sent <- struct{}{}:
		default:
		}
	}
}

// acknowledged returns the largest number of the host's polls that a leader has
// acknowledged, and the lease that it gives, 0 for none.
func (hb *heartbeats) acknowledged(hostID string) (sent uint64, lease time.Duration) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	a := hb.leases.acknowledged[hostID]
	return a.Sent, a.Lease
}

// hearLimit is how long a follower waits for the acknowledgement of what it has
// heard, at most: less than its call may take.
const hearLimit = time.Second

// fromFollower notes, on the leader, what a follower has heard, and returns all
// polls that are acknowledged: these, too, if that can be done within hearLimit.
// The follower's parked polls then end with their own acknowledgement, and a
// lease is renewed while most of it is still to come.
func (hb *heartbeats) fromFollower(ctx context.Context, pulses map[string]structs.PeerPulse) structs.PeerAcknowledged {
	heard := make(map[string]Signal, len(pulses))
	now := time.Now()
	for id, p := range pulses {
		heard[id] = Signal{Sent: p.Sent, At: now.Add(-max(0, p.Age))}
	}
	hb.merge(heard)
	limit := time.NewTimer(min(hearLimit, hb.config.HostLostAfter/10))
	defer limit.Stop()
	for {
		hb.mu.Lock()
		wait, round := false, hb.leases.round
		for id, s := range heard {
			wait = wait || s.Sent > hb.leases.acknowledged[id].Sent && !hb.leases.marking[id]
		}
		all := structs.PeerAcknowledged{Hosts: maps.Clone(hb.leases.acknowledged)}
		hb.mu.Unlock()
		if !wait {
			return all
		}
		select {
		case <-round:
		case <-limit.C:
			return all
		case <-ctx.Done():
			return all
		}
	}
}

// acknowledge notes what a leader has acknowledged.
func (hb *heartbeats) acknowledge(a structs.PeerAcknowledged) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for id, now := range a.Hosts {
		if now.Sent > hb.leases.acknowledged[id].Sent {
			hb.leases.acknowledged[id] = now
		}
	}
	close(hb.leases.round)
	hb.leases.round = make(chan struct{})
}

// acknowledgePause is the least time between two rounds of acknowledging.
const acknowledgePause = 50 * time.Millisecond

// acknowledgePolls acknowledges polls while this server leads.
func (l *liveness) acknowledgePolls(ctx context.Context) error {
	tick := time.NewTicker(time.Second) // for polls that could not be acknowledged when they came
	defer tick.Stop()
	for {
		if heard := l.heartbeats.unacknowledged(); len(heard) > 0 {
			if err := l.verify(ctx); err == nil {
				l.heartbeats.acknowledge(structs.PeerAcknowledged{Hosts: heard})
			} else if ctx.Err() == nil {
				l.config.Logger.Warn("polls could not be acknowledged", "hosts", len(heard), "error", err)
			}
			select {
			case <-time.After(acknowledgePause):
			case <-ctx.Done():
			}
		}
		select {
		case <-l.heartbeats.sent:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// unacknowledged returns the polls that may be acknowledged once this server
// has verified that it leads.
func (hb *heartbeats) unacknowledged() map[string]structs.Acknowledgement {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	heard := make(map[string]structs.Acknowledgement)
	for id, sent := range hb.leases.sent {
		if sent > hb.leases.acknowledged[id].Sent && !hb.leases.marking[id] {
			heard[id] = structs.Acknowledgement{Sent: sent, Lease: leaseOf(hb.config.HostLostAfter)}
		}
	}
	return heard
}

func (l *liveness) verify(ctx context.Context) error {
	if l.config.VerifyLeader == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	return l.config.VerifyLeader(ctx)
}

// forgetMarking begins a leadership: what was under way is in the state now, or never
// will be.
func (hb *heartbeats) forgetMarking() {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	hb.leases.marking = make(map[string]bool)
}

// marked notes that marks are in the state, or were refused. If their outcome
// is unknown, so is what may be acknowledged, until a leadership begins anew.
func (hb *heartbeats) marked(marks []conductor.HostMark, err error) {
	if structs.CodeOf(err) == structs.CodeNoLeader {
		return
	}
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for _, m := range marks {
		delete(hb.leases.marking, m.ID)
	}
}
