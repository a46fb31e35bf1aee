package conductor

import (
	"time"

	"github.com/stackforge/magnum/structs"
)

// maxMoving is how many containers of one draining host are moved at a time:
// each has two copies meanwhile.
const maxMoving = 16

// DrainHost has a host get nothing new any more, and gives it up: what can move
// is moved to other hosts, and runs on until its replacement does; what can't
// is waited for, and is stopped only at the deadline. Or it ends that.
type DrainHost struct {
	Caller   structs.Caller
	Ident    string // UUID or name
	Draining bool
	Deadline time.Duration // from when the leader first sees it; 0 means none
	Force    bool          // the deadline is over at once
}

func (r DrainHost) decide(t *tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil {
		return nil, err
	}
	if h.Draining == r.Draining && (!r.Draining || h.DrainTimeout == r.Deadline && (h.DrainForce || !r.Force)) {
		return h, nil
	}
	host := *h
	host.Draining, host.UpdatedAt = r.Draining, t.now
	host.DrainTimeout, host.DrainUntil = 0, time.Time{}
	if r.Draining {
		if host.DrainTimeout = r.Deadline; r.Deadline > 0 {
			host.DrainUntil = t.now.Add(r.Deadline)
		}
		host.DrainForce = h.Draining && h.DrainForce || r.Force
	}
	t.put(&host)
	return &host, nil
}

// ForceDrain ends the patience of a drain whose deadline is over.
type ForceDrain struct {
	ID    string
	Until time.Time // of the drain: a later one has its own time
}

func (r ForceDrain) decide(t *tx) (struct{}, error) {
	h := row[structs.Host](t, r.ID)
	if h == nil || !h.Draining || h.DrainForce || !h.DrainUntil.Equal(r.Until) {
		return struct{}{}, nil
	}
	host := *h
	host.DrainForce = true
	t.put(&host)
	return struct{}{}, nil
}

// drainHosts takes a step of the drains, and of what follows when they end.
func drainHosts(t *tx) (full bool) {
	for h := range t.unsettledHosts() {
		bay := row[structs.Bay](t, h.BayID)
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

// drainHost moves what can move off the host, some at a time. Once the deadline is
// over it stops what is left.
func drainHost(t *tx, h *structs.Host, bay *structs.Bay) (full bool) {
	moving := 0
	for w := range t.onHost(h.ID) {
		if prior := w.Place().PriorOn(h.ID); prior != nil && prior.Keep {
			moving++
		}
	}
	refused := make(map[string]string)
	for was := range t.onHost(h.ID) {
		moved := false
		if !t.room() || !t.item(func() { moved = drainWorkload(t, was, h, bay, moving < maxMoving, refused) }) {
			return true
		}
		if moved {
			moving++
		}
	}
	return false
}

// drainWorkload takes the step of a drain for one workload of the host, and reports
// whether it was moved, which it is only if it may be. refused holds what did not
// fit in this step, by shape.
func drainWorkload(t *tx, was structs.Workload, h *structs.Host, bay *structs.Bay, may bool, refused map[string]string) (moved bool) {
	w := was.Copy()
	p := w.Place()
	if prior := p.PriorOn(h.ID); prior != nil && p.HostID != h.ID {
		if prior.Keep && h.DrainForce && release(p) {
			t.assign(w)
		}
		return false
	}
	if p.Desired == structs.DesiredAbsent {
		return false
	}
	shape := shapeOf(w)
	if _, no := refused[shape]; !no && bound(t, w, h) == "" && may {
		seen := w.Seen()
		keep := seen.Status == structs.ContainerRunning && !h.DrainForce
		reason := newPlacer(t).move(w, bay, keep)
		if reason == "" {
			to := row[structs.Host](t, p.HostID)
			seen := w.Seen() // of the new placement
			seen.Reason = "it moves from host " + h.Name + ", which is drained, to host " + to.Name
			if keep {
				seen.Reason += "; it runs on there until it does here"
			}
			w.See(seen)
			t.assign(w)
			noteAction(t, structs.Caller{}, actionReschedule, was, 0)
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

// drainStop stops what runs on a host that is drained. It is wanted running all
// the same, and does so again when the drain ends, or elsewhere once it can.
func drainStop(t *tx, was structs.Workload) {
	if p := was.Place(); p.DrainStop || !structs.LeftOn(was, p.HostID) {
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
	t.assign(w)
	noteAction(t, structs.Caller{}, "drain-stop", was, p.Generation)
}

// drainStart starts again what a drain has stopped.
func drainStart(t *tx, was structs.Workload) {
	w := was.Copy()
	p := w.Place()
	p.DrainStop = false
	p.Generation++
	p.StartGeneration = p.Generation
	t.assign(w)
	noteAction(t, structs.Caller{}, string(ActionStart), was, p.Generation)
}

// undrainHost starts again what a drain has stopped.
func undrainHost(t *tx, h *structs.Host) (full bool) {
	for was := range t.onHost(h.ID) {
		if !t.room() {
			return true
		}
		if p := was.Place(); p.HostID == h.ID && p.DrainStop && !t.item(func() { drainStart(t, was) }) {
			return true
		}
	}
	host := *h
	host.DrainForce = false
	return !t.item(func() { t.put(&host) })
}
