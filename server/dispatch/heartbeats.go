package dispatch

import (
	"sync"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// heartbeats holds when each host was last seen, and which of its polls a leader has
// acknowledged. One lock guards both, because no poll of a host that is about to be marked
// may be acknowledged: see lease.go.
type heartbeats struct {
	config *Config
	born   time.Time     // when this server began to receive polls
	wake   chan struct{} // makes the leader assess the hosts
	sent   chan struct{} // makes the leader acknowledge polls

	mu     sync.Mutex          // guards what follows
	hosts  map[string]presence // by host ID
	leases leases
}

func newHeartbeats(c *Config) *heartbeats {
	return &heartbeats{
		config: c, born: time.Now(), wake: make(chan struct{}, 1), sent: make(chan struct{}, 1), hosts: make(map[string]presence),
		leases: newLeases(),
	}
}

// presence holds when a host was last seen. All times move forward by the time that this
// process stood still.
type presence struct {
	lastSeen     time.Time // last heartbeat
	foundSilent  time.Time // when the leader last found the host silent
	reportedDead time.Time // when gossip last reported the host's agent dead
}

// fresh reports whether a heartbeat has come since the host was last found silent.
func (p presence) fresh() bool { return !p.lastSeen.IsZero() && !p.lastSeen.Before(p.foundSilent) }

// dead reports whether gossip has reported the host's agent dead since the last heartbeat.
func (p presence) dead() bool { return !p.reportedDead.IsZero() && !p.lastSeen.After(p.reportedDead) }

// recordNow notes a heartbeat of the host. If the host isn't ready, the leader assesses it
// at once.
func (hb *heartbeats) recordNow(hostID string) {
	hb.record(map[string]Heartbeat{hostID: {At: time.Now()}})
}

// record notes heartbeats that came to this server or another one. Those of another server
// may be old.
func (hb *heartbeats) record(hosts map[string]Heartbeat) {
	snap := hb.config.Store.Snapshot()
	missed := false
	hb.mu.Lock()
	for id, s := range hosts {
		p := hb.hosts[id]
		if s.At.Before(p.lastSeen) {
			continue
		}
		p.lastSeen = s.At
		hb.hosts[id] = p
		h := snap.Host(id)
		missed = missed || h != nil && h.State != structs.HostReady
	}
	hb.mu.Unlock()
	if missed {
		hb.wakeUp()
	}
}

// gossipDead notes that gossip reports the host's agent dead: the host becomes suspect at
// once. It is lost only after its silence, because gossip and polls take different paths
// through the network.
func (hb *heartbeats) gossipDead(hostID string) {
	hb.mu.Lock()
	p := hb.hosts[hostID]
	p.reportedDead = time.Now()
	hb.hosts[hostID] = p
	hb.mu.Unlock()
	hb.wakeUp()
}

// missed returns a channel that receives when a heartbeat of a host that isn't ready has
// come: a follower reports it to the leader at once. On the leader, liveness.monitor
// receives from the same channel, so that only a server that doesn't lead may use missed.
func (hb *heartbeats) missed() <-chan struct{} { return hb.wake }

// wakeUp makes the leader assess the hosts now.
func (hb *heartbeats) wakeUp() {
	select {
	case hb.wake <- struct{}{}:
	default:
	}
}

// shift moves the times of all hosts forward.
func (hb *heartbeats) shift(by time.Duration) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for id, p := range hb.hosts {
		for _, at := range []*time.Time{&p.lastSeen, &p.foundSilent, &p.reportedDead} {
			if !at.IsZero() {
				*at = at.Add(by)
			}
		}
		hb.hosts[id] = p
	}
}

// assess applies the rules to all hosts. Hosts that are about to be marked are noted under
// the same lock, so that none of their polls is acknowledged before the mark is written;
// see lease.go.
func (hb *heartbeats) assess(rules *silenceRules, now time.Time, hosts []*structs.Host) (marks []conductor.HostMark, ask []string) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	marks, ask = rules.assess(now, hosts, hb.hosts)
	for _, m := range marks {
		if m.State == structs.HostReady {
			continue
		}
		p := hb.hosts[m.ID]
		p.foundSilent = now
		hb.hosts[m.ID] = p
		hb.leases.marking[m.ID] = true
	}
	return marks, ask
}

// silent returns the hosts without a heartbeat at this server for HostLostAfter: this
// server's answer when the leader asks whether it agrees.
func (hb *heartbeats) silent(hostIDs []string) []string {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	var silent []string
	for _, id := range hostIDs {
		at := hb.hosts[id].lastSeen
		if at.Before(hb.born) {
			at = hb.born // this server doesn't know what was before
		}
		if time.Since(at) > hb.config.HostLostAfter {
			silent = append(silent, id)
		}
	}
	return silent
}
