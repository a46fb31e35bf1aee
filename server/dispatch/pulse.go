package dispatch

import (
	"time"

	"github.com/stackforge/magnum/structs"
)

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
func (d *Dispatch) touch(hostID string) {
	d.seen(map[string]Signal{hostID: {At: time.Now()}})
}

// seen notes that the hosts were heard of, by this server or another one: what
// that one says may be old.
func (d *Dispatch) seen(hosts map[string]Signal) {
	snap := d.config.Store.Snapshot()
	missed := false
	d.mu.Lock()
	for id, s := range hosts {
		p := d.pulses[id]
		if s.At.Before(p.at) {
			continue
		}
		p.at = s.At
		d.pulses[id] = p
		h := snap.Host(id)
		missed = missed || h != nil && h.State != structs.HostReady
	}
	d.mu.Unlock()
	if missed {
		d.wakeUp()
	}
}

// GossipDead notes that gossip takes the host's agent for dead: it is suspect
// at once. It is lost only once it has been silent for long enough, because
// gossip reaches an agent by other ways than its polls take.
func (d *Dispatch) GossipDead(hostID string) {
	d.mu.Lock()
	p := d.pulses[hostID]
	p.died = time.Now()
	d.pulses[hostID] = p
	d.mu.Unlock()
	d.wakeUp()
}

// Missed receives when a host was heard of that isn't ready: a follower tells
// the leader at once. The leader's own watch receives from it, too, so that only
// a server that doesn't lead may.
func (d *Dispatch) Missed() <-chan struct{} { return d.wake }

// wakeUp has the leader look at the hosts now.
func (d *Dispatch) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// shift moves all hosts' last sign of life forward.
func (d *Dispatch) shift(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, p := range d.pulses {
		for _, at := range []*time.Time{&p.at, &p.found, &p.died} {
			if !at.IsZero() {
				*at = at.Add(by)
			}
		}
		d.pulses[id] = p
	}
}
