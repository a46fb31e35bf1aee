package conductor

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// syncRooms brings the order of hosts up to date with what the batch has written, and
// returns it.
func (t *tx) syncRooms() *state.Rooms {
	if len(t.stale) == 0 {
		return &t.rooms
	}
	if len(t.roomNow) == 0 {
		t.rooms.Own()
	}
	for hostID := range t.stale {
		was, changed := t.roomNow[hostID]
		if !changed {
			was = t.base.Room(hostID)
		}
		now := t.roomOf(hostID, was)
		t.roomNow[hostID] = now
		if was != nil || now != nil {
			t.rooms.Replace(was, now)
		}
	}
	clear(t.stale)
	return &t.rooms
}

// roomOf makes the room of a host as the batch sees it, nil if it is in no bay. was is
// its room so far, nil if there is none.
func (t *tx) roomOf(hostID string, was *state.HostRoom) *state.HostRoom {
	h := row[structs.Host](t, hostID)
	if h == nil || h.BayID == "" {
		return nil
	}
	strategy := structs.PlacementSpread
	if b := row[structs.Bay](t, h.BayID); b != nil && b.Placement != "" {
		strategy = b.Placement
	}
	used := t.usage[hostID]
	if used == nil && was != nil {
		used = was.Used // nothing of it has changed
	} else if used == nil {
		used = t.used(hostID)
	}
	room := state.RoomOf(h, used, strategy)
	return &room
}
