package agent

import (
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// unit is one container on this host: a workload, or a part of one. The
// reconciler's mu guards it.
type unit struct {
	ref    structs.Ref         // with no epoch
	want   *structs.Assignment // with the part's spec; nil: no answer has named it
	names  []string            // of all parts of the workload, of want
	orphan bool                // want is the agent's own: a confirmed answer has not named it
	have   map[uint64]string   // engine ids by epoch
	// Others that carry the container's labels: by engine id, those of which the
	// next pass finds out whose they are, with their epochs, and those that are
	// copies; see copies.go.
	claims map[string]uint64
	copies map[string]backend.Entry

	busy  bool // a goroutine works on it
	dirty bool // there may be something to do
	timer *time.Timer
	// interrupt, if not nil, ends the engine call under way if the new
	// assignment makes its wait pointless.
	interrupt func(next structs.Assignment)
	// unlease, if not nil, ends the stop under way if what is stopped has no lease any
	// more: it has less time than its own timeout then.
	unlease func()

	tries   int       // failures since the assignment last changed
	hold    time.Time // what has failed isn't tried again before
	reason  string    // of what has failed, while it is held
	lacks   string    // the image for want of which it has failed
	deaths  int       // quick ends in a row of a container that is restarted always
	told    told      // what was last reported
	taken   func()    // of a part: called when a server has taken that; nil for nobody
	refused bool      // of a part: the host can't take it
	leased  bool      // as of the last pass: something of it runs that needs a lease
	ending  time.Time // when a process that was asked to end because the lease did is killed
}

// calmLocked ends all holding: something has succeeded, or something else is
// asked for.
func (u *unit) calmLocked() { u.tries, u.hold, u.reason, u.lacks = 0, time.Time{}, "", "" }

// at returns the reference of one of the unit's placements.
func (u *unit) at(epoch uint64) structs.Ref {
	ref := u.ref
	ref.Epoch = epoch
	return ref
}

// epochs returns the epochs of what the engine has of the unit, be it proven or not.
func (u *unit) epochs() map[uint64]bool {
	epochs := make(map[uint64]bool, len(u.have)+len(u.claims))
	for epoch := range u.have {
		epochs[epoch] = true
	}
	for _, epoch := range u.claims {
		epochs[epoch] = true
	}
	return epochs
}

// exclusive reports whether the unit is wanted as an exclusive container, or may
// be.
func (u *unit) exclusive() bool {
	return u.want != nil && (u.want.Unreadable != "" || u.want.Spec != nil && u.want.Spec.Exclusive != structs.ExclusiveNo)
}

// overtakes reports whether another assignment has come than the one given. The next
// pass follows it. The caller holds the reconciler's mu.
func (u *unit) overtakes(a *structs.Assignment) bool {
	return u.want != nil && (u.want.Generation != a.Generation || u.want.Epoch != a.Epoch || u.want.Desired != a.Desired)
}

// units are the units of a host. The reconciler's mu guards them.
type units struct {
	all   map[structs.Ref]*unit   // by keyOf
	parts map[structs.Ref][]*unit // those of a workload that has parts, by keyOf the whole
}

func newUnits() *units {
	return &units{all: make(map[structs.Ref]*unit), parts: make(map[structs.Ref][]*unit)}
}

// of returns the unit of a placement, nil if there is none.
func (us *units) of(ref structs.Ref) *unit { return us.all[keyOf(ref)] }

// ensure returns the unit of a placement, which is made if there is none.
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

// siblings returns the units of all parts of a workload.
func (us *units) siblings(of structs.Ref) []*unit {
	whole := keyOf(of.Whole())
	if u := us.all[whole]; u != nil {
		return []*unit{u}
	}
	return us.parts[whole]
}

// tidy drops a unit that stands for nothing any more.
func (us *units) tidy(u *unit) {
	if u.busy || u.want != nil || len(u.have)+len(u.claims)+len(u.copies) > 0 || us.all[u.ref] != u {
		return
	}
	delete(us.all, u.ref)
	if whole := u.ref.Whole(); u.ref.Part != "" {
		us.parts[whole] = slices.DeleteFunc(us.parts[whole], func(o *unit) bool { return o == u })
		if len(us.parts[whole]) == 0 {
			delete(us.parts, whole)
		}
	}
}
