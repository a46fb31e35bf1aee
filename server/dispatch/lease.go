package dispatch

import (
	"context"
	"maps"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// A container with exclusive "lease" runs only while its host has a lease. A lease begins
// when the host sends a poll that the leader acknowledges, and lasts for Lease. The host
// stops the container when the lease ends, early enough that it has stopped host_lost_after
// after that poll was sent. Why no other copy runs before that:
//
//  1. The leader received poll P before it acknowledged P, and P was sent before it was
//     received. A leader marks a host lost (or held back by the brake, from which an
//     operator may release it) only host_lost_after after the host's last heartbeat: so at
//     least host_lost_after after P was sent, if the leader knew of P.
//  2. The leader knew of P, or its leadership began after P was acknowledged: an
//     acknowledgement follows a VerifyLeader round that began after P was received, so no
//     later leader existed when that round began. Each leadership begins with a grace of
//     host_lost_after.
//  3. While such a mark is being written, no poll of the host is acknowledged (marking). A
//     poll that comes too late to stop the mark renews nothing until the mark is in the
//     state.
//  4. Leaders may differ in host_lost_after while servers are restarted with another value.
//     An acknowledgement states the length of its lease, by the leader's own value. The
//     state holds the longest value: see liveness.lostAfter.
//  5. A host whose lease has ended starts nothing until a full, confirmed answer to a poll
//     that was sent under a new lease says that the container still belongs to the host.
//     That answer shows a state at or after the mark, and is given only if the host is ready
//     in that state: so it includes whatever followed from the mark.
//
// So a lease that is renewed without a gap ends before any mark, and a lease after a gap
// begins with the consequences of the mark. Clocks of different machines are never
// compared, only durations.

// The length of a lease is leaseShare/leaseWhole of host_lost_after. The rest is the host's
// time to stop its exclusive containers.
const (
	leaseShare = 7
	leaseWhole = 10
)

func leaseOf(lostAfter time.Duration) time.Duration { return lostAfter * leaseShare / leaseWhole }

// leases holds the state of the polls of hosts that have leases. Poll numbers grow with
// each poll of a host, across restarts of its agent.
type leases struct {
	sent         map[string]uint64    // largest number that has arrived, by host
	pending      map[string]Heartbeat // heartbeats that came here since the last takePending
	acknowledged map[string]structs.Acknowledgement
	marking      map[string]bool // hosts whose mark (suspect or lost) is being written
	round        chan struct{}   // closed and replaced when acknowledged grows
}

// Heartbeat is one proof that a host's agent is alive.
type Heartbeat struct {
	Sent uint64    // number of the poll; 0 for a host without leases
	At   time.Time // when it came
}

// merge returns the larger number and the later time of two heartbeats of a host.
func (s Heartbeat) merge(other Heartbeat) Heartbeat {
	if other.At.Before(s.At) {
		other.At = s.At
	}
	return Heartbeat{Sent: max(s.Sent, other.Sent), At: other.At}
}

func newLeases() leases {
	return leases{
		sent: make(map[string]uint64), pending: make(map[string]Heartbeat), acknowledged: make(map[string]structs.Acknowledgement),
		marking: make(map[string]bool),
		round:   make(chan struct{}),
	}
}

// recordPoll notes that a poll of the host has come to this server.
func (hb *heartbeats) recordPoll(hostID string, sent uint64) {
	now := Heartbeat{Sent: sent, At: time.Now()}
	hb.mu.Lock()
	hb.leases.pending[hostID] = hb.leases.pending[hostID].merge(now)
	hb.mu.Unlock()
	hb.recordPolls(map[string]Heartbeat{hostID: now})
}

// takePending returns and clears the heartbeats that came to this server since the last
// call. A follower sends them to the leader's fromFollower.
func (hb *heartbeats) takePending() map[string]Heartbeat {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	received := hb.leases.pending
	hb.leases.pending = make(map[string]Heartbeat, len(received))
	return received
}

// recordPolls notes, on the leader, heartbeats that any server has received.
func (hb *heartbeats) recordPolls(received map[string]Heartbeat) {
	hb.record(received)
	news := false
	hb.mu.Lock()
	for id, s := range received {
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

// lastAcknowledged returns the largest number of the host's polls that a leader has
// acknowledged, and the length of the lease that follows from it. Both are 0 if there is
// none.
func (hb *heartbeats) lastAcknowledged(hostID string) (sent uint64, lease time.Duration) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	a := hb.leases.acknowledged[hostID]
	return a.Sent, a.Lease
}

// acknowledgeWait bounds how long a follower waits for acknowledgements of the polls that
// it reports. It is shorter than the timeout of the follower's call.
const acknowledgeWait = time.Second

// fromFollower notes, on the leader, the heartbeats that a follower has received, and
// returns all acknowledged polls. It waits for the acknowledgement of the new ones, at most
// acknowledgeWait. The follower's parked polls then return their own acknowledgement, and a
// lease is renewed while most of it is left.
func (hb *heartbeats) fromFollower(ctx context.Context, heartbeats map[string]structs.PeerHeartbeat) structs.PeerAcknowledged {
	received := make(map[string]Heartbeat, len(heartbeats))
	now := time.Now()
	for id, p := range heartbeats {
		received[id] = Heartbeat{Sent: p.Sent, At: now.Add(-max(0, p.Age))}
	}
	hb.recordPolls(received)
	limit := time.NewTimer(min(acknowledgeWait, hb.config.HostLostAfter/10))
	defer limit.Stop()
	for {
		hb.mu.Lock()
		wait, round := false, hb.leases.round
		for id, s := range received {
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

// recordAcknowledged notes polls that a leader has acknowledged.
func (hb *heartbeats) recordAcknowledged(a structs.PeerAcknowledged) {
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
		if received := l.heartbeats.toAcknowledge(); len(received) > 0 {
			if err := l.verify(ctx); err == nil {
				l.heartbeats.recordAcknowledged(structs.PeerAcknowledged{Hosts: received})
			} else if ctx.Err() == nil {
				l.config.Logger.Warn("polls could not be acknowledged", "hosts", len(received), "error", err)
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

// toAcknowledge returns the polls that may be acknowledged once this server has verified
// that it leads.
func (hb *heartbeats) toAcknowledge() map[string]structs.Acknowledgement {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	received := make(map[string]structs.Acknowledgement)
	for id, sent := range hb.leases.sent {
		if sent > hb.leases.acknowledged[id].Sent && !hb.leases.marking[id] {
			received[id] = structs.Acknowledgement{Sent: sent, Lease: leaseOf(hb.config.HostLostAfter)}
		}
	}
	return received
}

func (l *liveness) verify(ctx context.Context) error {
	if l.config.VerifyLeader == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	return l.config.VerifyLeader(ctx)
}

// clearMarking begins a leadership: marks of an earlier one are in the state by now, or
// never will be.
func (hb *heartbeats) clearMarking() {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	hb.leases.marking = make(map[string]bool)
}

// marksWritten notes that marks are in the state, or were refused. If their outcome is
// unknown, the hosts' polls are not acknowledged until a new leadership begins.
func (hb *heartbeats) marksWritten(marks []conductor.HostMark, err error) {
	if structs.CodeOf(err) == structs.CodeNoLeader {
		return
	}
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for _, m := range marks {
		delete(hb.leases.marking, m.ID)
	}
}
