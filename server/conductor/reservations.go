package conductor

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// reservations is what the batch sees reserved on hosts, and the order in which bays
// prefer their hosts because of it.
type reservations struct {
	t       *tx
	usage   map[string]*state.Usage    // of hosts whose workloads the batch has changed
	rooms   state.Rooms                // the order; see order
	roomNow map[string]*state.HostRoom // of the hosts that the batch has changed in rooms; nil for one that has left its bay
	stale   map[string]bool            // hosts that the batch has changed since rooms was brought up to date
}

func newReservations(t *tx) *reservations {
	return &reservations{
		t: t, usage: make(map[string]*state.Usage), rooms: t.base.Rooms(), roomNow: make(map[string]*state.HostRoom), stale: make(map[string]bool),
	}
}

// take reserves something on a host.
func (r *reservations) take(hostID string, d structs.Demand) {
	r.used(hostID).Add(d)
	r.stale[hostID] = true
}

// give undoes take of the same.
func (r *reservations) give(hostID string, d structs.Demand) {
	r.used(hostID).Remove(d)
	r.stale[hostID] = true
}

// used returns what the batch sees reserved on a host; take and give change it.
func (r *reservations) used(hostID string) *state.Usage {
	u, ok := r.usage[hostID]
	if !ok {
		own := r.t.base.Usage(hostID)
		u = &own
		r.usage[hostID] = u
	}
	return u
}

// order brings the order of hosts up to date with what the batch has written, and
// returns it.
func (r *reservations) order() *state.Rooms {
	if len(r.stale) == 0 {
		return &r.rooms
	}
	if len(r.roomNow) == 0 {
		r.rooms.Own()
	}
	for hostID := range r.stale {
		was, changed := r.roomNow[hostID]
		if !changed {
			was = r.t.base.Room(hostID)
		}
		now := r.roomOf(hostID, was)
		r.roomNow[hostID] = now
		if was != nil || now != nil {
			r.rooms.Replace(was, now)
		}
	}
	clear(r.stale)
	return &r.rooms
}

// roomOf makes the room of a host as the batch sees it, nil if it is in no bay. was is
// its room so far, nil if there is none.
func (r *reservations) roomOf(hostID string, was *state.HostRoom) *state.HostRoom {
	h := row[structs.Host](r.t, hostID)
	if h == nil || h.BayID == "" {
		return nil
	}
	strategy := structs.PlacementSpread
	if b := row[structs.Bay](r.t, h.BayID); b != nil && b.Placement != "" {
		strategy = b.Placement
	}
	used := r.usage[hostID]
	if used == nil && was != nil {
		used = was.Used // nothing of it has changed
	} else if used == nil {
		used = r.used(hostID)
	}
	room := state.RoomOf(h, used, strategy)
	return &room
}
