package conductor

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Step is one kind of follow-up work. The leader takes each step when one of its topics
// fires, and once when its leadership begins.
type Step struct {
	name   string
	take   func(*tx) (full bool)
	topics []state.Topic
}

// String returns the name of the step, for logs.
func (s *Step) String() string { return s.name }

// Topics returns what the step waits for. Nothing else gives it work.
func (s *Step) Topics() []state.Topic { return s.topics }

// Steps lists all steps.
var Steps = []*Step{
	{"end bays", endBays, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom()}},
	{"grow bays", growBays, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicEmptied()}},
	{"place waiting workloads", placeWaiting, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom()}},
	{"leave lost hosts", markLost, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom(), state.TopicUnsettled()}},
	{"drain hosts", drainHosts, []state.Topic{state.TopicBays(), state.TopicHosts(), state.TopicRoom(), state.TopicUnsettled()}},
}

// Settle carries out a part of the follow-up work of earlier changes: it empties bays that
// are being deleted, claims hosts for bays that lack some, places waiting workloads,
// handles the workloads of lost hosts, and drains hosts. The result is true while there is
// more to do at once.
type Settle struct {
	Step *Step // nil means all steps in order
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

// room reports whether the request may make another change, by the number of its changes.
// It keeps a few back for the changes that belong to it. Whether the entry has room for the
// bytes shows when the change is made: see item.
func (t *tx) room() bool { return t.writes() <= structs.MaxChanges-4 }

// endBays empties the bays that are being deleted, and deletes the empty ones. It returns
// true if the entry had no room for all of it.
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
			if t.get(w.Table(), w.Base().ID) != nil { // a host still has it
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

// growBays claims free hosts for bays that lack some, the longest waiting bay first, and
// frees surplus hosts.
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

// placeWaiting places workloads that wait for a host, in the order of their creation. One
// that doesn't fit doesn't block the others.
func placeWaiting(t *tx) (full bool) {
	for bayID := range t.base.WaitingBays() {
		bay := row[structs.Bay](t, bayID)
		if bay == nil || bay.Status == structs.BayDeleting {
			continue
		}
		// A shape that didn't fit once doesn't fit again in this step.
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
