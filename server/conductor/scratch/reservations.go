package scratch

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Reservations holds what is reserved on hosts as the batch sees it, and the order in which
// bays prefer their hosts because of that.
type Reservations struct {
	t       *Tx
	usage   map[string]*state.Usage    // by host whose workloads the batch has changed
	rooms   state.Rooms                // the order; see Order
	roomNow map[string]*state.HostRoom // by host that the batch has changed in rooms; nil if it has left its bay
	stale   map[string]bool            // hosts that the batch has changed since rooms was updated

	copies    map[copyKey]map[string]int     // by host; see Copies
	nodePorts map[string]map[nodePort]string // by bay: the service with the port; see NodePort
}

func newReservations(t *Tx) *Reservations {
	return &Reservations{
		t: t, usage: make(map[string]*state.Usage), rooms: t.Base.Rooms(), roomNow: make(map[string]*state.HostRoom),
		stale: make(map[string]bool), copies: make(map[copyKey]map[string]int),
		nodePorts: make(map[string]map[nodePort]string),
	}
}

// Add reserves the demand on a host.
func (r *Reservations) Add(hostID string, d structs.Demand) {
	r.Used(hostID).Add(d)
	r.stale[hostID] = true
}

// Remove undoes an Add of the same demand.
func (r *Reservations) Remove(hostID string, d structs.Demand) {
	r.Used(hostID).Remove(d)
	r.stale[hostID] = true
}

// Used returns what is reserved on a host as the batch sees it; Add and Remove change it.
func (r *Reservations) Used(hostID string) *state.Usage {
	u, ok := r.usage[hostID]
	if !ok {
		own := r.t.Base.Usage(hostID)
		u = &own
		r.usage[hostID] = u
	}
	return u
}

// Order updates the order of hosts with the batch's writes, and returns it.
func (r *Reservations) Order() *state.Rooms {
	if len(r.stale) == 0 {
		return &r.rooms
	}
	if len(r.roomNow) == 0 {
		r.rooms.Own()
	}
	for hostID := range r.stale {
		was, changed := r.roomNow[hostID]
		if !changed {
			was = r.t.Base.Room(hostID)
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

// roomOf returns the room of a host as the batch sees it, nil if the host is in no bay. was
// is the room so far, nil if there is none.
func (r *Reservations) roomOf(hostID string, was *state.HostRoom) *state.HostRoom {
	h := Row[structs.Host](r.t, hostID)
	if h == nil || h.BayID == "" {
		return nil
	}
	strategy := structs.PlacementSpread
	if b := Row[structs.Bay](r.t, h.BayID); b != nil && b.Placement != "" {
		strategy = b.Placement
	}
	used := r.usage[hostID]
	if used == nil && was != nil {
		used = was.Used // unchanged
	} else if used == nil {
		used = r.Used(hostID)
	}
	room := state.RoomOf(h, used, strategy)
	return &room
}
