package conductor

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Step is one of the kinds of things that have to follow from changes. The leader
// takes each when one of its topics fires, and once when its leadership begins.
type Step struct {
	name   string
	take   func(*tx) (full bool)
	topics []state.Topic
}

// String returns the name of the step, for logs.
func (s *Step) String() string { return s.name }

// Topics returns what the step waits for: nothing else gives it anything to do.
func (s *Step) Topics() []state.Topic { return s.topics }

// Steps are all steps.
var Steps = []*Step{
	{"end bays", endBays, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom()}},
	{"grow bays", growBays, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicEmptied()}},
	{"place what waits", placeWaiting, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom()}},
	{"leave lost hosts", markLost, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom(), state.TopicUnsettled()}},
	{"drain hosts", drainHosts, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom(), state.TopicUnsettled()}},
}

// Settle takes a part of all that has to follow from changes before it: bays
// that end are emptied, bays that lack hosts claim free ones, workloads that
// wait are placed, workloads of lost hosts become Unknown and are placed again, hosts
// are drained. The result is true while there is more to do at once.
type Settle struct {
	Step *Step // nil means all of them, one after the other
}

func (r Settle) decide(t *tx) (more bool, err error) {
	for _, step := range Steps {
		if r.Step != nil && r.Step != step {
			continue
		}
		if full := step.take(t); full {
			return true, nil
		}
	}
	return false, nil
}

// room reports whether the request may make another change by their number, keeping
// back a few for what goes with it. Whether the entry has room for the bytes shows
// when the change is made: see item.
func (t *tx) room() bool { return t.writes() <= structs.MaxChanges-4 }

// endBays empties the bays that are being deleted and deletes the empty ones.
// It returns true if there was no room for all of it.
func endBays(t *tx) (full bool) {
	for b := range t.endingBays() {
		left := 0
		for w := range t.inBay(b.ID) {
			if !t.room() {
				return true
			}
			p := w.Place()
			host := row[structs.Host](t, p.HostID)
			if p.Desired != structs.DesiredAbsent || !p.Force || host == nil || host.State == structs.HostLost {
				if !t.item(func() { deleteWorkload(t, w, true) }) {
					return true
				}
			}
			if t.get(w.Table(), w.Base().ID) != nil { // a host has it
				left++
			}
		}
		if left > 0 {
			continue
		}
		kept := ""
		for h := range t.hostsInBay(b.ID) {
			if hasQuarantine(t, h) {
				kept = quarantineReason(h)
				continue
			}
			if !t.room() || !t.item(func() { freeHost(t, h) }) {
				return true
			}
		}
		if kept != "" {
			changed := *b
			if changed.StatusReason = kept; kept != b.StatusReason && !t.item(func() { t.put(&changed) }) {
				return true
			}
			continue
		}
		if !t.item(func() { t.remove(b) }) {
			return true
		}
	}
	return false
}

// growBays lets the bays that lack hosts claim free ones, the one that has
// waited longest first, and takes hosts back from those that have too many.
func growBays(t *tx) (full bool) {
	for b := range t.bays() {
		if b.Status == structs.BayDeleting {
			continue
		}
		if !t.room() {
			return true
		}
		if shrinkBay(t, b) {
			return true
		}
		if _, full := claimHosts(t, b); full {
			return true
		}
	}
	return false
}

// placeWaiting places workloads that wait for a host, in the order in which
// they were created. One that doesn't fit holds up none of the others.
func placeWaiting(t *tx) (full bool) {
	for bayID := range t.base.WaitingBays() {
		bay := row[structs.Bay](t, bayID)
		if bay == nil || bay.Status == structs.BayDeleting {
			continue
		}
		// What didn't fit once doesn't fit again in this step.
		refused := make(map[string]string)
		for w := range t.base.Waiting(bayID) {
			if !t.room() {
				return true
			}
			was := t.workload(w.Ref())
			if was == nil || was.Place().HostID != "" {
				continue
			}
			shape := shapeOf(was)
			changed := was.Copy()
			p := changed.Place()
			if reason, ok := refused[shape]; ok {
				p.PlaceReason = reason
			} else if newPlacer(t).place(changed, bay); p.PlaceReason != "" {
				refused[shape] = p.PlaceReason
			}
			if p.HostID == "" && p.PlaceReason == was.Place().PlaceReason {
				continue
			}
			if !t.item(func() { t.assign(changed) }) {
				return true
			}
		}
	}
	return false
}
