package service

import (
	"context"
	"encoding/json"
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

// onLeader carries a write out on the leader, here or on another server, and
// for up to Hold tries again while there is none. This is the one place where a
// server that isn't the leader forwards its writes; DESIGN.md tells how.
//
// If leadership is lost while the write is being committed, nobody knows
// whether it was. Only one that is repeatable is then tried again, with unsure
// set: it may find what the earlier try has done. A change of an object's fields
// isn't repeatable: somebody else's may have come in between, and would be undone.
func onLeader[T any](ctx context.Context, s *Service, c *Call, repeatable bool, write func(unsure bool) (T, error)) (T, error) {
	if c.Forwarded {
		return write(c.Unsure)
	}
	c.Known = s.Index()
	until := time.Now().Add(s.config.Hold)
	unsure := false
	for bound := leastPause; ; bound = min(2*bound, mostPause) {
		changed := s.config.Cluster.Changed()
		leader, _ := s.config.Cluster.Leader()
		var result T
		var err error
		if s.config.Single || leader == "" || s.config.Cluster.IsLeader() {
			result, err = write(unsure)
		} else {
			result, err = forward[T](ctx, s, c, leader, unsure)
		}
		last := time.Now().After(until)
		if last && leader == "" && structs.CodeOf(err) == structs.CodeNoLeader && !IsUnknown(err) {
			// The conductor knows no more than that this server doesn't lead.
			err = s.Leaderless()
		}
		if unsure {
			err = stillUnknown(err)
		}
		if structs.CodeOf(err) != structs.CodeNoLeader {
			return result, err
		}
		unsure = unsure || IsUnknown(err)
		if unsure && !repeatable || last {
			return result, err
		}
		pause := time.NewTimer(rand.N(bound) + time.Millisecond)
		select {
		case <-ctx.Done():
			pause.Stop()
			return result, err
		case <-changed:
			pause.Stop()
			bound = leastPause / 2 // a leader that is new takes writes in a moment
		case <-pause.C:
		}
	}
}

// Leaderless is the error of a call that needs a leader while nobody leads.
// CodeNoLeader.
func (s *Service) Leaderless() error {
	return structs.Errorf(structs.CodeNoLeader, "%s", s.config.Leaderless())
}

// IsUnknown reports whether a write that ended with err may have been carried
// out.
func IsUnknown(err error) bool { return errors.Is(err, conductor.ErrUnknown) }

// stillUnknown is the error of a try after one whose outcome is unknown. That
// nobody takes the later one says nothing of the earlier.
func stillUnknown(err error) error {
	switch code := structs.CodeOf(err); code {
	case structs.CodeNoLeader, structs.CodeUnavailable, structs.CodeRateLimited, structs.CodeNoSpace:
		if !IsUnknown(err) {
			return structs.Errorf(code, "an earlier try may or may not have been carried out (%w), and now %w", conductor.ErrUnknown, err)
		}
	}
	return err
}

// forward hands the call on to the leader, and returns once this server's own
// state holds what came of it.
func forward[T any](ctx context.Context, s *Service, c *Call, leader string, unsure bool) (result T, err error) {
	raw, index, err := c.Transport.Forward(ctx, leader, unsure, c.Known)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return result, structs.Errorf(structs.CodeUnavailable, "the leader's answer can't be read; are all servers of one version? (%w)",
			err)
	}
	wait, stop := context.WithTimeout(ctx, s.config.Hold)
	defer stop()
	if s.config.Store.WaitIndex(wait, index) != nil {
		// To who repeats it that is as good as not to know.
		return result, &structs.Error{
			Code: structs.CodeUnavailable, Msg: "it is done, but this server is behind the leader and can't show it: ask another server",
			Err: conductor.ErrUnknown,
		}
	}
	return result, nil
}

// decide has the conductor decide a request, which is not repeated if its outcome
// is unknown.
func decide[T any](ctx context.Context, s *Service, c *Call, r conductor.Request[T]) (T, error) {
	return onLeader(ctx, s, c, false, func(bool) (T, error) {
		return conductor.Do(ctx, s.config.Conductor, r)
	})
}

// create has the conductor make the object with the UUID. A try whose outcome
// is unknown is safe to repeat: with an Idempotency-Key, which only a create on a
// server that has no others may lack, and there because the object would have
// that UUID, which nobody else can have used if it was minted here.
func create[P structs.Row](ctx context.Context, s *Service, c *Call, id string, minted bool, r conductor.Request[P]) (P, error) {
	return onLeader(ctx, s, c, true, func(unsure bool) (P, error) {
		made, err := conductor.Do(ctx, s.config.Conductor, r)
		if unsure && minted && structs.CodeOf(err) == structs.CodeConflict {
			if row, ok := s.Snapshot().Get(P.Table(made), id).(P); ok && row.Base().ProjectID == c.Caller.ProjectID {
				return row, nil
			}
		}
		if unsure && !minted && structs.CodeOf(err) == structs.CodeConflict {
			err = structs.Errorf(structs.CodeUnavailable,
				"there is an object with UUID %s: it may be what an earlier try of this request has made (%w)", id, conductor.ErrUnknown)
		}
		return made, err
	})
}

// createPlain has a row stored that nothing follows from. uuid is what the caller
// wants it to have, "" if any will do.
func createPlain[R any, P conductor.Plain[R]](ctx context.Context, s *Service, c *Call, once conductor.Once, uuid string, row R) (P,
	error) {
	minted := uuid == ""
	if minted {
		uuid = s.newID(c)
	}
	return create(ctx, s, c, uuid, minted, conductor.CreateRow[R, P]{Caller: c.Caller, Once: once, UUID: uuid, Row: row})
}

// Removed is what came of a delete.
type Removed[P structs.Row] struct {
	Row  P    // the object as it was last, or is: it may be on its way out still; nil if Gone
	Gone bool // an earlier try has deleted it, or there was nothing to wait for
}

// MarshalJSON writes the row, which is what servers pass each other.
func (r Removed[P]) MarshalJSON() ([]byte, error) { return json.Marshal(r.Row) }

// remove has the conductor delete an object. A later try deletes nothing that was
// made since.
func remove[P structs.Row](ctx context.Context, s *Service, c *Call, r conductor.Request[P]) (Removed[P], error) {
	gone := false
	row, err := onLeader(ctx, s, c, true, func(unsure bool) (P, error) {
		again := r
		if unsure {
			again = conductor.Again[P]{Request: r, Known: c.Known}
		}
		row, err := conductor.Do(ctx, s.config.Conductor, again)
		if unsure && structs.CodeOf(err) == structs.CodeNotFound {
			gone, err = true, nil
		}
		return row, err
	})
	var none P
	return Removed[P]{row, gone || err == nil && any(row) == any(none)}, err // the leader has no other way to say so
}
