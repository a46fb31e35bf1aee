package conductor

import (
	"slices"

	"github.com/stackforge/magnum/server/conductor/endpoints"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/quarantine"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Step is one kind of follow-up work. The leader takes each step when one of its topics
// fires, and once when its leadership begins.
type Step struct {
	name   string
	take   func(*scratch.Tx) (full bool)
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
	{"keep replicas", keepReplicas, []state.Topic{state.TopicReplicas(), state.TopicHosts()}},
	{"keep endpoints", keepEndpoints, []state.Topic{state.TopicEndpoints(), state.TopicHosts()}},
}

// Settle carries out a part of the follow-up work of earlier changes: it empties bays that
// are being deleted, claims hosts for bays that lack some, places waiting workloads,
// handles the workloads of lost hosts, drains hosts, keeps the pods of replication
// controllers, and keeps the endpoints of services. The result is true while there is more to
// do at once.
type Settle struct {
	Step *Step // nil means all steps in order
}

func (r Settle) decide(t *scratch.Tx) (more bool, err error) {
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

// endBays empties the bays that are being deleted, and deletes the empty ones. It returns
// true if the entry had no room for all of it.
func endBays(t *scratch.Tx) (full bool) {
	for b := range t.EndingBays() {
		for rc := range scratch.RCsInBay(t, b.ID) { // first, so that no pod is made again
			if !t.Room() || !t.Item(func() { t.Remove(rc) }) {
				return true
			}
		}
		for s := range scratch.ServicesInBay(t, b.ID) {
			if !t.Room() || !t.Item(func() { t.Remove(s) }) {
				return true
			}
		}
		left := 0
		for w := range t.InBay(b.ID) {
			if !t.Room() {
				return true
			}
			p := w.Place()
			host := scratch.Row[structs.Host](t, p.HostID)
			if p.Desired != structs.DesiredAbsent || !p.Force || host == nil || host.State == structs.HostLost {
				if !t.Item(func() { placing.Delete(t, w, true) }) {
					return true
				}
			}
			if t.Get(w.Table(), w.Base().ID) != nil { // a host still has it
				left++
			}
		}
		if left > 0 {
			continue
		}
		kept := ""
		for h := range t.HostsInBay(b.ID) {
			if quarantine.Has(t, h) {
				kept = quarantine.Reason(h)
				continue
			}
			if !t.Room() || !t.Item(func() { freeHost(t, h) }) {
				return true
			}
		}
		if kept != "" {
			changed := *b
			if changed.StatusReason = kept; kept != b.StatusReason && !t.Item(func() { t.Put(&changed) }) {
				return true
			}
			continue
		}
		if !t.Item(func() { t.Remove(b) }) {
			return true
		}
	}
	return false
}

// growBays claims free hosts for bays that lack some, the longest waiting bay first, and
// frees surplus hosts.
func growBays(t *scratch.Tx) (full bool) {
	for b := range t.Bays() {
		if b.Status == structs.BayDeleting {
			continue
		}
		if !t.Room() {
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
func placeWaiting(t *scratch.Tx) (full bool) {
	for bayID := range t.Base.WaitingBays() {
		bay := scratch.Row[structs.Bay](t, bayID)
		if bay == nil || bay.Status == structs.BayDeleting {
			continue
		}
		// A shape that didn't fit once doesn't fit again in this step.
		refused := make(map[string]string)
		for w := range t.Base.Waiting(bayID) {
			if !t.Room() {
				return true
			}
			was := t.Workload(w.Ref())
			if was == nil || was.Place().HostID != "" {
				continue
			}
			shape := placing.ShapeOf(was)
			changed := was.Copy()
			p := changed.Place()
			if reason, ok := refused[shape]; ok {
				p.PlaceReason = reason
			} else if placing.Place(t, changed, bay); p.PlaceReason != "" {
				refused[shape] = p.PlaceReason
			}
			if p.HostID == "" && p.PlaceReason == was.Place().PlaceReason {
				continue
			}
			if !t.Item(func() { t.Assign(changed) }) {
				return true
			}
		}
	}
	return false
}

// keepEndpoints writes the endpoints of the services whose pods have changed.
func keepEndpoints(t *scratch.Tx) (full bool) {
	for b := range scratch.BaysWithServices(t) {
		if b.Status == structs.BayDeleting || b.Backend() == structs.BackendKubernetes {
			continue // its services are removed, or their cluster keeps the endpoints
		}
		for s, now := range endpoints.Bay(t, slices.Collect(scratch.ServicesInBay(t, b.ID))) {
			was := scratch.Row[structs.Endpoints](t, s.ID)
			if was != nil && endpoints.Same(was, now) {
				continue
			}
			if !t.Room() || !t.Item(func() { t.Put(now) }) {
				return true
			}
		}
	}
	return false
}
