package conductor

import "github.com/stackforge/magnum/structs"

// Settle takes one step of all that has to follow from changes before it: bays
// that end are emptied, bays that lack hosts claim free ones, containers that
// wait are placed, containers of lost hosts become Unknown and are placed anew, hosts are drained. The result is true
// while there is more to do at once.
type Settle struct{}

func (Settle) decide(t *tx) (more bool, err error) {
	for _, step := range []func(*tx) bool{(*tx).endBays, (*tx).growBays, (*tx).placeWaiting, (*tx).markLost, (*tx).drainHosts} {
		if full := step(t); full {
			return true, nil
		}
	}
	return false, nil
}

// room reports whether the request may make another change, keeping back a few
// for what goes with it.
func (t *tx) room() bool { return t.writes() < structs.MaxChanges-4 }

// endBays empties the bays that are being deleted and deletes the empty ones.
// It returns true if there was no room for all of it.
func (t *tx) endBays() (full bool) {
	for b := range t.bays() {
		if b.Status != structs.BayDeleting {
			continue
		}
		left := 0
		for c := range t.containersInBay(b.ID) {
			if !t.room() {
				return true
			}
			host := row[structs.Host](t, c.HostID)
			if c.Desired != structs.DesiredAbsent || !c.Force || host == nil || host.State == structs.HostLost {
				t.delete(c, true)
			}
			if row[structs.Container](t, c.ID) != nil { // a host has it
				left++
			}
		}
		if left > 0 {
			continue
		}
		for h := range t.hostsInBay(b.ID) {
			if !t.room() {
				return true
			}
			t.free(h)
		}
		t.remove(b)
	}
	return false
}

// growBays lets the bays that lack hosts claim free ones, the one that has
// waited longest first, and takes hosts back from those that have too many.
func (t *tx) growBays() (full bool) {
	for b := range t.bays() {
		if b.Status == structs.BayDeleting {
			continue
		}
		if !t.room() {
			return true
		}
		t.shrink(b)
		t.claim(b)
	}
	return false
}

// placeWaiting places containers that wait for a host, in the order in which
// they were created. One that doesn't fit holds up none of the others.
func (t *tx) placeWaiting() (full bool) {
	for bayID := range t.base.WaitingBays() {
		bay := row[structs.Bay](t, bayID)
		if bay == nil || bay.Status == structs.BayDeleting {
			continue
		}
		// What didn't fit once doesn't fit again in this step.
		refused := make(map[string]string)
		for c := range t.base.Waiting(bayID) {
			if !t.room() {
				return true
			}
			c := row[structs.Container](t, c.ID)
			if c == nil || c.HostID != "" {
				continue
			}
			shape := shapeOf(c)
			changed := *c
			if reason, ok := refused[shape]; ok {
				changed.PlaceReason = reason
			} else if t.place(&changed, bay); changed.PlaceReason != "" {
				refused[shape] = changed.PlaceReason
			}
			if changed.HostID != "" || changed.PlaceReason != c.PlaceReason {
				t.assign(&changed)
			}
		}
	}
	return false
}
