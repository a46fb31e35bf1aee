package rest

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// The bounds of the pause between two tries of a write that finds no leader.
const (
	leastPause = 10 * time.Millisecond
	mostPause  = 160 * time.Millisecond
)

// onLeader carries a write out on the leader: for up to Hold it tries again
// while there is none. This is the one place where a server that isn't the
// leader will hand its writes on.
//
// If leadership is lost while the write is being committed, nobody knows
// whether it was. Only one that is repeatable is then tried again, with unsure
// set: it may find what the earlier try has done.
func onLeader[T any](q *request, repeatable bool, write func(unsure bool) (T, error)) (T, error) {
	until := time.Now().Add(q.Hold)
	unsure := false
	for bound := leastPause; ; bound = min(2*bound, mostPause) {
		result, err := write(unsure)
		if structs.CodeOf(err) != structs.CodeNoLeader {
			return result, err
		}
		if errors.Is(err, conductor.ErrUnknown) {
			unsure = true
		}
		if unsure && !repeatable || time.Now().After(until) {
			return result, err
		}
		pause := time.NewTimer(rand.N(bound) + time.Millisecond)
		select {
		case <-q.r.Context().Done():
			pause.Stop()
			return result, err
		case <-pause.C:
		}
	}
}

// decide has the conductor decide a request.
func decide[T any](q *request, repeatable bool, r conductor.Request[T]) (T, error) {
	return onLeader(q, repeatable, func(bool) (T, error) {
		return conductor.Do(q.r.Context(), q.Conductor, r)
	})
}

// create has the conductor make the object with the UUID. A try whose outcome
// is unknown is safe to repeat without an Idempotency-Key: the object would
// have that UUID, which nobody else can have used if it was minted here.
func create[P structs.Row](q *request, id string, minted bool, r conductor.Request[P]) (P, error) {
	return onLeader(q, true, func(unsure bool) (P, error) {
		made, err := conductor.Do(q.r.Context(), q.Conductor, r)
		if unsure && minted && structs.CodeOf(err) == structs.CodeConflict {
			if row, ok := q.Store.Snapshot().Get(P.Table(made), id).(P); ok {
				return row, nil
			}
		}
		return made, err
	})
}

// remove has the conductor delete an object. gone is true if an earlier try has
// deleted it already.
func remove[P structs.Row](q *request, r conductor.Request[P]) (row P, gone bool, err error) {
	row, err = onLeader(q, true, func(unsure bool) (P, error) {
		row, err := conductor.Do(q.r.Context(), q.Conductor, r)
		if unsure && structs.CodeOf(err) == structs.CodeNotFound {
			gone, err = true, nil
		}
		return row, err
	})
	return row, gone, err
}
