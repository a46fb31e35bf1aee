package conductor

import (
	"time"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// maxMoving is the number of workloads of one draining host that move at a time: each has
// two copies meanwhile.
const maxMoving = 16

// DrainHost begins or ends the drain of a host. A draining host gets no new workloads.
// Workloads that can move are moved to other hosts, and run on until their replacement is
// ready. The drain waits for those that can't move, and stops them only at the deadline.
type DrainHost struct {
	Caller   structs.Caller
	Ident    string // UUID or name
	Draining bool
	Deadline time.Duration // from when the leader first sees the drain; 0 means none
	Force    bool          // the deadline passes at once
}

func (r DrainHost) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil {
		return nil, err
	}
	if h.Draining == r.Draining && (!r.Draining || h.DrainTimeout == r.Deadline && (h.DrainForce || !r.Force)) {
		return h, nil
	}
	host := *h
	host.Draining, host.UpdatedAt = r.Draining, t.Now
	host.DrainTimeout, host.DrainUntil = 0, time.Time{}
	if r.Draining {
		if host.DrainTimeout = r.Deadline; r.Deadline > 0 {
			host.DrainUntil = t.Now.Add(r.Deadline)
		}
		host.DrainForce = h.Draining && h.DrainForce || r.Force
	}
	t.Put(&host)
	action := "drain"
	if !r.Draining {
		action = "undrain"
	}
	actions.Note(t, r.Caller, action, h, 0)
	return &host, nil
}

// ForceDrain forces a drain whose deadline has passed.
type ForceDrain struct {
	ID    string
	Until time.Time // identifies the drain: a later drain of the host has its own deadline
}

func (r ForceDrain) decide(t *scratch.Tx) (struct{}, error) {
	h := scratch.Row[structs.Host](t, r.ID)
	if h == nil || !h.Draining || h.DrainForce || !h.DrainUntil.Equal(r.Until) {
		return struct{}{}, nil
	}
	host := *h
	host.DrainForce = true
	t.Put(&host)
	return struct{}{}, nil
}

// EndMoves ends moves whose new placement runs, but has not become ready in time: the earlier
// placements go. A move that is over already stays as it is.
type EndMoves struct {
	Refs []structs.Ref // of the new placements, at most structs.MaxChanges
}

// decide returns how many of the moves are over. The entry has no room for the rest.
func (r EndMoves) decide(t *scratch.Tx) (int, error) {
	for i, ref := range r.Refs {
		was := t.Workload(ref)
		if was == nil || was.Ref() != ref || !was.Place().Moving() {
			continue
		}
		w := was.Copy()
		w.Place().Release()
		if !t.Room() || !t.Item(func() { t.Assign(w) }) {
			return i, nil
		}
	}
	return len(r.Refs), nil
}

// drainHosts continues the drains, and starts workloads again after drains that have ended.
func drainHosts(t *scratch.Tx) (full bool) {
	for h := range t.UnsettledHosts() {
		bay := scratch.Row[structs.Bay](t, h.BayID)
		switch {
		case bay == nil, bay.Status == structs.BayDeleting:
		case h.State == structs.HostLost:
		case h.Draining:
			full = drainHost(t, h, bay)
		case h.DrainForce:
			full = undrainHost(t, h)
		}
		if full {
			return true
		}
	}
	return false
}

// drainHost moves what can move off the host, at most maxMoving at a time. After the
// deadline it stops what is left.
func drainHost(t *scratch.Tx, h *structs.Host, bay *structs.Bay) (full bool) {
	moving := 0
	for w := range t.OnHost(h.ID) {
		if prior := w.Place().PriorOn(h.ID); prior != nil && prior.Keep {
			moving++
		}
	}
	refused := make(map[string]string)
	for was := range t.OnHost(h.ID) {
		moved := false
		if !t.Room() || !t.Item(func() { moved = drainWorkload(t, was, h, bay, moving < maxMoving, refused) }) {
			return true
		}
		if moved {
			moving++
		}
	}
	return false
}

// drainWorkload continues the drain for one workload of the host. It moves the workload
// only if may is true, and reports whether it has. refused contains the shapes that didn't
// fit in this step, with the reasons.
func drainWorkload(
	t *scratch.Tx, was structs.Workload, h *structs.Host, bay *structs.Bay, may bool, refused map[string]string,
) (moved bool) {
	w := was.Copy()
	p := w.Place()
	if prior := p.PriorOn(h.ID); prior != nil && p.HostID != h.ID {
		if prior.Keep && h.DrainForce && p.Release() {
			t.Assign(w)
		}
		return false
	}
	if p.Desired == structs.DesiredAbsent {
		return false
	}
	shape := placing.ShapeOf(w)
	if _, no := refused[shape]; !no && placing.Immovable(t, w, h) == "" && may {
		seen := w.Seen()
		keep := seen.Status == structs.ContainerRunning && !h.DrainForce
		reason := placing.Move(t, w, bay, keep)
		if reason == "" {
			to := scratch.Row[structs.Host](t, p.HostID)
			seen := w.Seen() // of the new placement
			seen.Reason = "it moves from host " + h.Name + ", which is drained, to host " + to.Name
			if keep {
				seen.Reason += "; it runs on there until it is ready here"
			}
			w.See(seen)
			t.Assign(w)
			actions.Note(t, structs.Caller{}, actionReschedule, was, 0)
			return true
		}
		refused[shape] = reason
	}
	switch {
	case h.DrainForce:
		drainStop(t, was)
	case was.Place().DrainStop: // by an earlier drain
		drainStart(t, was)
	}
	return false
}

// drainStop stops a workload on a host that is drained. Its desired state stays running: it
// runs again when the drain ends, or elsewhere once it can move.
func drainStop(t *scratch.Tx, was structs.Workload) {
	if p := was.Place(); p.DrainStop || was.Policy().Fixed || !structs.LeftOn(was, p.HostID) {
		return
	}
	w := was.Copy()
	p := w.Place()
	switch p.Desired {
	case structs.DesiredRunning:
		p.DrainStop = true
	case structs.DesiredPaused:
		p.Desired = structs.DesiredStopped
	default:
		return
	}
	p.Generation++
	t.Assign(w)
	actions.Note(t, structs.Caller{}, "drain-stop", was, p.Generation)
}

// drainStart starts a workload again that a drain has stopped.
func drainStart(t *scratch.Tx, was structs.Workload) {
	w := was.Copy()
	p := w.Place()
	p.DrainStop = false
	p.Generation++
	p.StartGeneration = p.Generation
	t.Assign(w)
	actions.Note(t, structs.Caller{}, string(ActionStart), was, p.Generation)
}

func undrainHost(t *scratch.Tx, h *structs.Host) (full bool) {
	for was := range t.OnHost(h.ID) {
		if !t.Room() {
			return true
		}
		if p := was.Place(); p.HostID == h.ID && p.DrainStop && !t.Item(func() { drainStart(t, was) }) {
			return true
		}
	}
	host := *h
	host.DrainForce = false
	return !t.Item(func() { t.Put(&host) })
}
