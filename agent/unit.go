package agent

import (
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// unit is one container on this host: a workload without parts, or a part of one. The
// reconciler's mu guards it.
type unit struct {
	ref    structs.Ref         // without epoch
	want   *structs.Assignment // with the part's spec; nil if no answer has named the unit
	names  []string            // the names of all parts of the workload in want
	orphan bool                // want is the agent's own, because a confirmed answer did not name the unit
	have   map[uint64]string   // the engine's IDs by epoch
	// Other containers with the unit's labels, by the engine's ID: the next pass decides which
	// claims are magnum's, and those of earlier attempts stay claims; copies aren't magnum's.
	// See copies.go.
	claims map[string]backend.Entry
	copies map[string]backend.Entry

	busy  bool // a goroutine works on it
	dirty bool // a pass is due
	timer *time.Timer
	// interrupt ends the engine call in progress if the new assignment makes its wait
	// pointless; nil if there is none.
	interrupt func(next structs.Assignment)
	// unlease ends the stop in progress if the container has no lease any more, because
	// less time than its own stop timeout is left then; nil if there is none.
	unlease func()

	tries        int       // failures since the assignment last changed
	retryAt      time.Time // a failed action isn't tried again before
	reason       string    // why it has failed, until the backoff is reset
	missingImage string    // the image that could not be had; "" if nothing waits for an image
	deaths       int       // quick ends in a row of a container with the restart policy always
	reported     reported  // the last report
	taken        func()    // of a part: called when a server has taken the last report; may be nil
	refused      bool      // of a part: the host can't run it
	leased       bool      // as of the last pass: a container of it runs that needs a lease
	ending       time.Time // when a process that was asked to end because its lease ended is killed

	// Of a part of a pod:
	published published // what the other parts know of it
	shown     podShown  // of the last report
	word      string    // why it has failed, one of the structs.Reason constants; "" if it hasn't
	checks    *checks   // of the process that runs; nil if it has no hooks or probes
	stopping  stopping  // the last stop
}

// resetBackoffLocked resets the backoff after a success or a new assignment.
func (u *unit) resetBackoffLocked() {
	u.tries, u.retryAt, u.reason, u.missingImage, u.word = 0, time.Time{}, "", "", ""
}

// at returns the reference of one of the unit's placements.
func (u *unit) at(epoch uint64) structs.Ref {
	ref := u.ref
	ref.Epoch = epoch
	return ref
}

// epochs returns the epochs of all containers with the unit's labels, copies excepted.
func (u *unit) epochs() map[uint64]bool {
	epochs := make(map[uint64]bool, len(u.have)+len(u.claims))
	for epoch := range u.have {
		epochs[epoch] = true
	}
	for _, e := range u.claims {
		epochs[e.Epoch] = true
	}
	return epochs
}

// exclusive reports whether the unit is desired as an exclusive container. An
// unreadable assignment counts as one.
func (u *unit) exclusive() bool {
	return u.want != nil && (u.want.Unreadable != "" || u.want.Spec != nil && u.want.Spec.Exclusive != structs.ExclusiveNo)
}

// overtakes reports whether a newer assignment than a has come. The next pass follows
// it. The caller holds the reconciler's mu.
func (u *unit) overtakes(a *structs.Assignment) bool {
	return u.want != nil && (u.want.Generation != a.Generation || u.want.Epoch != a.Epoch || u.want.Desired != a.Desired)
}

// units are the units of a host. The reconciler's mu guards them.
type units struct {
	all   map[structs.Ref]*unit   // by keyOf
	parts map[structs.Ref][]*unit // the parts of a workload with parts, by keyOf the whole
}

func newUnits() *units {
	return &units{all: make(map[structs.Ref]*unit), parts: make(map[structs.Ref][]*unit)}
}

// of returns the unit of a placement, nil if there is none.
func (us *units) of(ref structs.Ref) *unit { return us.all[keyOf(ref)] }

// byEngine returns the unit of one of the engine's containers by its ID there, nil if it is
// nobody's.
func (us *units) byEngine(engineID string) *unit {
	for _, u := range us.all {
		for _, id := range u.have {
			if id == engineID {
				return u
			}
		}
	}
	return nil
}

// ensure returns the unit of a placement. It makes one if there is none.
func (us *units) ensure(ref structs.Ref) *unit {
	key := keyOf(ref)
	u := us.all[key]
	if u == nil {
		u = &unit{ref: key, have: make(map[uint64]string)}
		us.all[key] = u
		if key.Part != "" {
			us.parts[key.Whole()] = append(us.parts[key.Whole()], u)
		}
	}
	return u
}

// siblings returns the units of all parts of a workload, or that of the workload
// itself.
func (us *units) siblings(of structs.Ref) []*unit {
	whole := keyOf(of.Whole())
	if u := us.all[whole]; u != nil {
		return []*unit{u}
	}
	return us.parts[whole]
}

// tidy drops a unit that has neither an assignment nor a container.
func (us *units) tidy(u *unit) {
	if u.busy || u.want != nil || len(u.have)+len(u.claims)+len(u.copies) > 0 || us.all[u.ref] != u {
		return
	}
	u.endChecksLocked()
	delete(us.all, u.ref)
	if whole := u.ref.Whole(); u.ref.Part != "" {
		us.parts[whole] = slices.DeleteFunc(us.parts[whole], func(o *unit) bool { return o == u })
		if len(us.parts[whole]) == 0 {
			delete(us.parts, whole)
		}
	}
}
