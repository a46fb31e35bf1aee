package dispatch

import (
	"sync"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// heartbeats is when hosts were last heard of, and which of their polls a leader has
// acknowledged. Both are behind one lock, because a host that is about to be marked
// must not have a poll acknowledged: see lease.go.
type heartbeats struct {
	config *Config
	born   time.Time     // when this server began to listen
	wake   chan struct{} // has the leader look at the hosts
	sent   chan struct{} // has the leader acknowledge polls

	mu     sync.Mutex       // guards what follows
	pulses map[string]pulse // by host
	leases leases
}

func newHeartbeats(c *Config) *heartbeats {
	return &heartbeats{
		config: c, born: time.Now(), wake: make(chan struct{}, 1), sent: make(chan struct{}, 1), pulses: make(map[string]pulse), leases: newLeases(),
	}
}

// pulse is the last sign of life of a host.
type pulse struct {
	at    time.Time // when it was heard of; moved forward by the time that this process stood still, as are the others
	found time.Time // when it was last found silent
	died  time.Time // when gossip said last that its agent is dead
}

// fresh reports whether the host was heard of since it was last found silent.
func (p pulse) fresh() bool { return !p.at.IsZero() && !p.at.Before(p.found) }

// dead reports whether gossip has said since the host was heard of that its
// agent is dead.
func (p pulse) dead() bool { return !p.died.IsZero() && !p.at.After(p.died) }

// touch notes that the host was heard of. The leader takes back at once one
// that it had given up.
func (hb *heartbeats) touch(hostID string) {
	hb.seen(map[string]Signal{hostID: {At: time.Now()}})
}

// seen notes that the hosts were heard of, by this server or another one: what
// that one says may be old.
func (hb *heartbeats) seen(hosts map[string]Signal) {
	snap := hb.config.Store.Snapshot()
	missed := false
	hb.mu.Lock()
	for id, s := range hosts {
		p := hb.pulses[id]
		if s.At.Before(p.at) {
			continue
		}
		p.at = s.At
		hb.pulses[id] = p
		h := snap.Host(id)
		missed = missed || h != nil && h.State != structs.HostReady
	}
	hb.mu.Unlock()
	if missed {
		hb.wakeUp()
	}
}

// gossipDead notes that gossip takes the host's agent for dead: it is suspect
// at once. It is lost only once it has been silent for long enough, because
// gossip reaches an agent by other ways than its polls take.
func (hb *heartbeats) gossipDead(hostID string) {
	hb.mu.Lock()
	p := hb.pulses[hostID]
	p.died = time.Now()
	hb.pulses[hostID] = p
	hb.mu.Unlock()
	hb.wakeUp()
}

// missed receives when a host was heard of that isn't ready: a follower tells
// the leader at once. The leader's own watch receives from it, too, so that only
// a server that doesn't lead may.
func (hb *heartbeats) missed() <-chan struct{} { return hb.wake }

// wakeUp has the leader look at the hosts now.
func (hb *heartbeats) wakeUp() {
	select {
	case hb.wake <- struct{}{}:
	default:
	}
}

// shift moves all hosts' last sign of life forward.
func (hb *heartbeats) shift(by time.Duration) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for id, p := range hb.pulses {
		for _, at := range []*time.Time{&p.at, &p.found, &p.died} {
			if !at.IsZero() {
				*at = at.Add(by)
			}
		}
		hb.pulses[id] = p
	}
}

// assess has the watch look at all hosts. Those that are about to be marked are
// noted in the same instant, so that no poll of theirs is acknowledged before
// the mark is written; see lease.go.
func (hb *heartbeats) assess(w *watch, now time.Time, hosts []*structs.Host) (marks []conductor.HostMark, ask []string) {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	marks, ask = w.assess(now, hosts, hb.pulses)
	for _, m := range marks {
		if m.State == structs.HostReady {
			continue
		}
		p := hb.pulses[m.ID]
		p.found = now
		hb.pulses[m.ID] = p
		hb.leases.marking[m.ID] = true
	}
	return marks, ask
}

// silent returns which of the hosts this server has not heard of for
// HostLostAfter: its answer when the leader asks whether it agrees.
func (hb *heartbeats) silent(hostIDs []string) []string {
	hb.mu.Lock()
	defer hb.mu.Unlock()
	var silent []string
	for _, id := range hostIDs {
		at := hb.pulses[id].at
		if at.Before(hb.born) {
			at = hb.born // it can't know what was before
		}
		if time.Since(at) > hb.config.HostLostAfter {
			silent = append(silent, id)
		}
	}
	return silent
}
