package rest

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// The bounds of the pause between two tries of a write that finds no leader.
const (
	leastPause = 10 * time.Millisecond
	mostPause  = 160 * time.Millisecond
)

// onLeader carries a write out on the leader, here or on another server, and
// for up to Hold tries again while there is none. This is the one place where a
// server that isn't the leader hands its writes on.
//
// The whole request goes to the leader, which serves it as its own up to this
// very place, and answers with what was decided. So the leader validates the
// token again, and everything after it (waiting for a result, the answer's
// shape) is done where the client is.
//
// If leadership is lost while the write is being committed, nobody knows
// whether it was. Only one that is repeatable is then tried again, with unsure
// set: it may find what the earlier try has done. A change of an object's fields
// isn't repeatable: somebody else's may have come in between, and would be undone.
func onLeader[T any](q *request, repeatable bool, write func(unsure bool) (T, error)) (T, error) {
	if q.forwarded {
		return answerPeer(q, write)
	}
	q.asOf = q.Store.Index()
	until := time.Now().Add(q.Hold)
	unsure := false
	for bound := leastPause; ; bound = min(2*bound, mostPause) {
		changed := q.Cluster.Changed()
		leader, _ := q.Cluster.Leader()
		var result T
		var err error
		if q.Peers == nil || leader == "" || q.Cluster.IsLeader() {
			result, err = write(unsure)
		} else {
			result, err = forward[T](q, leader, unsure)
		}
		last := time.Now().After(until)
		if last && leader == "" && structs.CodeOf(err) == structs.CodeNoLeader && !isUnknown(err) {
			// The conductor knows no more than that this server doesn't lead.
			err = q.errLeaderless()
		}
		if unsure {
			err = stillUnknown(err)
		}
		if structs.CodeOf(err) != structs.CodeNoLeader {
			return result, err
		}
		unsure = unsure || isUnknown(err)
		if unsure && !repeatable || last {
			return result, err
		}
		pause := time.NewTimer(rand.N(bound) + time.Millisecond)
		select {
		case <-q.r.Context().Done():
			pause.Stop()
			return result, err
		case <-changed:
			pause.Stop()
			bound = leastPause / 2 // a leader that is new takes writes in a moment
		case <-pause.C:
		}
	}
}

// errLeaderless is the error of a request that needs a leader while nobody leads.
func (q *request) errLeaderless() error {
	return structs.Errorf(structs.CodeNoLeader, "%s", q.Leaderless())
}

// isUnknown reports whether a write that ended with err may have been carried
// out.
func isUnknown(err error) bool {
	return errors.Is(err, conductor.ErrUnknown) || errors.Is(err, peer.ErrUnknown)
}

// stillUnknown is the error of a try after one whose outcome is unknown. That
// nobody takes the later one says nothing of the earlier.
func stillUnknown(err error) error {
	switch code := structs.CodeOf(err); code {
	case structs.CodeNoLeader, structs.CodeUnavailable, structs.CodeRateLimited, structs.CodeNoSpace:
		if !isUnknown(err) {
			return structs.Errorf(code, "an earlier try may or may not have been carried out (%w), and now %w", conductor.ErrUnknown, err)
		}
	}
	return err
}

// errAnswered ends a handler whose request another server has handed on: the
// answer is written.
var errAnswered = errors.New("the server that handed the request on is answered")

// answerPeer carries a write out for the server that has handed the request on,
// which tries again itself, and answers it.
func answerPeer[T any](q *request, write func(unsure bool) (T, error)) (T, error) {
	unsure := q.r.Header.Get(peer.HeaderUnsure)
	if unsure != "" {
		q.asOf, _ = strconv.ParseUint(unsure, 10, 64) // 0 knows nothing
	}
	result, err := write(unsure != "")
	if err != nil {
		return result, err
	}
	if err := q.json(http.StatusOK, result); err != nil {
		return result, err
	}
	return result, errAnswered
}

// forward hands the request on to the leader, and returns once this server's
// own state holds what came of it.
func forward[T any](q *request, leader string, unsure bool) (result T, err error) {
	ctx, cancel := peer.WhileLeads(q.r.Context(), q.Cluster, leader)
	defer cancel()
	raw, index, err := q.Peers.Forward(ctx, leader, peer.Forwarded{Request: q.r, Body: q.raw, Seed: q.seed(), ID: q.w.requestID, Unsure: unsure, Known: q.asOf})
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return result, structs.Errorf(structs.CodeUnavailable, "the leader's answer can't be read; are all servers of one version? (%w)", err)
	}
	wait, stop := context.WithTimeout(q.r.Context(), q.Hold)
	defer stop()
	if q.Store.WaitIndex(wait, index) != nil {
		// To who repeats it that is as good as not to know.
		return result, &structs.Error{
			Code: structs.CodeUnavailable, Msg: "it is done, but this server is behind the leader and can't show it: ask another server",
			Err: conductor.ErrUnknown,
		}
	}
	return result, nil
}

// seed is what the ids and secrets of a request are derived from, so that a
// leader to which it is handed on twice makes the same twice.
func (q *request) seed() string {
	if q.seeded == "" {
		if q.seeded = q.r.Header.Get(peer.HeaderSeed); !q.forwarded || q.seeded == "" {
			q.seeded = structs.NewSecret()
		}
	}
	return q.seeded
}

// newID mints the UUID of the object that the request makes.
func (q *request) newID() string {
	if q.Peers == nil {
		return structs.NewID() // there is no other server that has to come to the same
	}
	return structs.DeriveID(q.seed())
}

// newSecret mints the secret of the object that the request makes.
func (q *request) newSecret() string {
	if q.Peers == nil {
		return structs.NewSecret()
	}
	return structs.DeriveSecret(q.seed())
}

// decide has the conductor decide a request, which is not repeated if its outcome
// is unknown.
func decide[T any](q *request, r conductor.Request[T]) (T, error) {
	return onLeader(q, false, func(bool) (T, error) {
		return conductor.Do(q.r.Context(), q.Conductor, r)
	})
}

// create has the conductor make the object with the UUID. A try whose outcome
// is unknown is safe to repeat: with an Idempotency-Key, which only a POST to a
// server that has no others may lack, and there because the object would have
// that UUID, which nobody else can have used if it was minted here.
func create[P structs.Row](q *request, id string, minted bool, r conductor.Request[P]) (P, error) {
	return onLeader(q, true, func(unsure bool) (P, error) {
		made, err := conductor.Do(q.r.Context(), q.Conductor, r)
		if unsure && minted && structs.CodeOf(err) == structs.CodeConflict {
			if row, ok := q.Store.Snapshot().Get(P.Table(made), id).(P); ok && row.Base().ProjectID == q.caller().ProjectID {
				return row, nil
			}
		}
		if unsure && !minted && structs.CodeOf(err) == structs.CodeConflict {
			err = structs.Errorf(structs.CodeUnavailable, "there is an object with UUID %s: it may be what an earlier try of this request has made (%w)", id, conductor.ErrUnknown)
		}
		return made, err
	})
}

// remove has the conductor delete an object. gone is true if an earlier try has
// deleted it already. A later try deletes nothing that was made since.
func remove[P structs.Row](q *request, r conductor.Request[P]) (row P, gone bool, err error) {
	row, err = onLeader(q, true, func(unsure bool) (P, error) {
		again := r
		if unsure {
			again = conductor.Again[P]{Request: r, Known: q.asOf}
		}
		row, err := conductor.Do(q.r.Context(), q.Conductor, again)
		if unsure && structs.CodeOf(err) == structs.CodeNotFound {
			gone, err = true, nil
		}
		return row, err
	})
	var none P
	return row, gone || err == nil && any(row) == any(none), err // the leader has no other way to say so
}
