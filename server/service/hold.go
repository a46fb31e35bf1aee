package service

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// The bounds of the backoff between two tries of a write that finds no leader.
const (
	minPause = 10 * time.Millisecond
	maxPause = 160 * time.Millisecond
)

// onLeader carries out a write on the leader, here or on another server. While there
// is no leader it tries again, for up to Hold. This is the only place where a server
// that isn't the leader forwards its writes; see DESIGN.md. Errors are those of write,
// CodeNoLeader, and CodeUnavailable if this server can't use the leader's answer.
//
// If leadership is lost while the write is being committed, its outcome is unknown.
// Only a repeatable write is then tried again, with retryAfterUnknown set, because it
// may find the effect of the earlier try. A change of an object's fields isn't
// repeatable: somebody else's change may have come in between and would be undone.
func onLeader[T any](ctx context.Context, s *Service, c *Call, repeatable bool, write func(retryAfterUnknown bool) (T, error)) (T, error) {
	if c.Forwarded {
		return write(c.RetryAfterUnknown)
	}
	c.SinceIndex = s.Index()
	until := time.Now().Add(s.config.Hold)
	retryAfterUnknown := false
	for bound := minPause; ; bound = min(2*bound, maxPause) {
		changed := s.config.Cluster.Changed()
		leader, _ := s.config.Cluster.Leader()
		var result T
		var err error
		if s.config.Single || leader == "" || s.config.Cluster.IsLeader() {
			result, err = write(retryAfterUnknown)
		} else {
			result, err = forward[T](ctx, s, c, leader, retryAfterUnknown)
		}
		last := time.Now().After(until)
		if last && leader == "" && structs.CodeOf(err) == structs.CodeNoLeader && !IsUnknown(err) {
			// The conductor only knows that this server doesn't lead.
			err = s.Leaderless()
		}
		if retryAfterUnknown {
			err = stillUnknown(err)
		}
		if structs.CodeOf(err) != structs.CodeNoLeader {
			return result, err
		}
		retryAfterUnknown = retryAfterUnknown || IsUnknown(err)
		if retryAfterUnknown && !repeatable || last {
			return result, err
		}
		pause := time.NewTimer(rand.N(bound) + time.Millisecond)
		select {
		case <-ctx.Done():
			pause.Stop()
			return result, err
		case <-changed:
			pause.Stop()
			bound = minPause / 2 // a new leader accepts writes soon
		case <-pause.C:
		}
	}
}

// Leaderless returns the error of a call that needs a leader while there is none.
// CodeNoLeader.
func (s *Service) Leaderless() error {
	return structs.Errorf(structs.CodeNoLeader, "%s", s.config.Leaderless())
}

// IsUnknown reports whether err leaves the outcome of a write unknown.
func IsUnknown(err error) bool { return errors.Is(err, conductor.ErrUnknown) }

// stillUnknown returns the error of a try after an earlier one whose outcome is
// unknown. The failure of the later try doesn't show that the earlier one failed.
func stillUnknown(err error) error {
	switch code := structs.CodeOf(err); code {
	case structs.CodeNoLeader, structs.CodeUnavailable, structs.CodeRateLimited, structs.CodeNoSpace:
		if !IsUnknown(err) {
			return structs.Errorf(code, "an earlier try may or may not have been carried out (%w), and the last one failed: %w",
				conductor.ErrUnknown, err)
		}
	}
	return err
}

// forward forwards the call to the leader, and returns once this server's own state
// has reached the leader's index after it.
func forward[T any](ctx context.Context, s *Service, c *Call, leader string, retryAfterUnknown bool) (result T, err error) {
	raw, index, err := c.Transport.Forward(ctx, leader, retryAfterUnknown, c.SinceIndex)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return result, structs.Errorf(structs.CodeUnavailable,
			"the leader's answer can't be read; are all servers of one version? (%w)", err)
	}
	wait, stop := context.WithTimeout(ctx, s.config.Hold)
	defer stop()
	if s.config.Store.WaitIndex(wait, index) != nil {
		// A client that repeats the request has to treat the outcome as unknown.
		return result, &structs.Error{
			Code: structs.CodeUnavailable, Msg: "the request was carried out, but this server is behind the leader and can't show the " +
				"result: ask another server",
			Err: conductor.ErrUnknown,
		}
	}
	return result, nil
}

// decide has the conductor decide a request. The request is not repeated if its
// outcome is unknown.
func decide[T any](ctx context.Context, s *Service, c *Call, r conductor.Request[T]) (T, error) {
	return onLeader(ctx, s, c, false, func(bool) (T, error) {
		return conductor.Do(ctx, s.config.Conductor, r)
	})
}

// create has the conductor create the object with the UUID id. minted says that this
// server made the UUID. A try whose outcome is unknown is safe to repeat, because the
// request has an idempotency key. Only a create on a server without others may lack
// the key: there a minted UUID shows whether the earlier try made the object, because
// nobody else can have used that UUID.
func create[P structs.Row](ctx context.Context, s *Service, c *Call, id string, minted bool, r conductor.Request[P]) (P, error) {
	return createMade(ctx, s, c, conductor.Once{}, id, minted, func() (conductor.Request[P], error) { return r, nil })
}

// createLater is create for a request that takes time to make, and may come out otherwise
// the next time. Only the server that decides it makes it, once, and unless an earlier try
// with the same key has made the object.
func createLater[P structs.Row](
	ctx context.Context, s *Service, c *Call, once conductor.Once, id string, minted bool,
	makeRequest func() (conductor.Request[P], error),
) (P, error) {
	return createMade(ctx, s, c, once, id, minted, sync.OnceValues(makeRequest))
}

// createMade is createLater for a makeRequest that may be called again.
func createMade[P structs.Row](
	ctx context.Context, s *Service, c *Call, once conductor.Once, id string, minted bool,
	makeRequest func() (conductor.Request[P], error),
) (P, error) {
	return onLeader(ctx, s, c, true, func(retryAfterUnknown bool) (P, error) {
		var none P
		if once.Key != "" {
			made, err := conductor.Do(ctx, s.config.Conductor, conductor.FindMade[P]{Caller: c.Caller, Once: once})
			if err != nil || any(made) != any(none) {
				return made, err
			}
		}
		r, err := makeRequest()
		if err != nil {
			return none, err
		}
		made, err := conductor.Do(ctx, s.config.Conductor, r)
		if retryAfterUnknown && minted && structs.CodeOf(err) == structs.CodeConflict {
			if row, ok := s.Snapshot().Get(P.Table(made), id).(P); ok && row.Base().ProjectID == c.Caller.ProjectID {
				return row, nil
			}
		}
		if retryAfterUnknown && !minted && structs.CodeOf(err) == structs.CodeConflict {
			err = structs.Errorf(structs.CodeUnavailable,
				"an object with UUID %s exists: an earlier try of this request may have made it (%w)", id, conductor.ErrUnknown)
		}
		return made, err
	})
}

// createPlain stores a row that needs no further work. uuid is the UUID that the
// caller asks for, "" if any will do.
func createPlain[R any, P conductor.Plain[R]](
	ctx context.Context, s *Service, c *Call, once conductor.Once, uuid string, row R,
) (P, error) {
	minted := uuid == ""
	if minted {
		uuid = s.newID(c)
	}
	return create(ctx, s, c, uuid, minted, conductor.CreateRow[R, P]{Caller: c.Caller, Once: once, UUID: uuid, Row: row})
}

// Removed is the result of a delete.
type Removed[P structs.Row] struct {
	Row  P    // the object's last state, which may still be on its way to deletion; nil if Gone
	Gone bool // an earlier try has deleted it, or there was nothing to wait for
}

// MarshalJSON writes the row alone, which is the form between servers.
func (r Removed[P]) MarshalJSON() ([]byte, error) { return json.Marshal(r.Row) }

// remove has the conductor delete an object. A retry doesn't delete an object that was
// created after the call came.
func remove[P structs.Row](ctx context.Context, s *Service, c *Call, r conductor.Request[P]) (Removed[P], error) {
	gone := false
	row, err := onLeader(ctx, s, c, true, func(retryAfterUnknown bool) (P, error) {
		again := r
		if retryAfterUnknown {
			again = conductor.RetryAfterUnknown[P]{Request: r, SinceIndex: c.SinceIndex}
		}
		row, err := conductor.Do(ctx, s.config.Conductor, again)
		if retryAfterUnknown && structs.CodeOf(err) == structs.CodeNotFound {
			gone, err = true, nil
		}
		return row, err
	})
	var none P
	return Removed[P]{row, gone || err == nil && any(row) == any(none)}, err // a leader answers null for Gone
}
