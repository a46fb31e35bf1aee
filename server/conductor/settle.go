package conductor

import (
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// Settle takes one step of all that has to follow from changes before it: bays
// that end are emptied, bays that lack hosts claim free ones, containers that
// wait are placed, containers of lost hosts become Unknown. The result is true
// while there is more to do at once.
type Settle struct{}

func (Settle) decide(t *tx) (more bool, err error) {
	for _, step := range []func(*tx) bool{(*tx).endBays, (*tx).growBays, (*tx).placeWaiting, (*tx).markLost} {
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
			if c.Desired != structs.DesiredAbsent {
				if after := t.delete(c, true); after == c {
					continue // no host had it
				}
			}
			left++
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
		t.release(b)
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
			shape := fmt.Sprint(c.Spec.Memory, c.Spec.MilliCPU, c.Spec.Ports, c.Spec.Constraints)
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

// markLost turns the containers of lost hosts Unknown. What they really are is
// known again when the host reports.
func (t *tx) markLost() (full bool) {
	for bay := range t.bays() {
		for h := range t.hostsInBay(bay.ID) {
			if h.State != structs.HostLost {
				continue
			}
			for c := range t.containersOnHost(h.ID) {
				if c.Observed.Status == structs.ContainerUnknown {
					continue
				}
				if !t.room() {
					return true
				}
				changed := *c
				changed.Observed.Status = structs.ContainerUnknown
				changed.Observed.Reason = fmt.Sprintf("host %s is lost: %s", h.Name, h.StateReason)
				t.put(&changed)
			}
		}
	}
	return false
}
