package service

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// catchUpWait bounds how long a default read waits for this server's state to
// reach the leader's index.
const catchUpWait = time.Second

// Await makes sure that this server's state is new enough for the call: by
// default it has all that any server acknowledged before the call came, and all
// that the caller has seen. A blocking read waits for the latter only: it is told
// of what comes. Errors: CodeUnavailable, CodeNoLeader, CodeInvalid, and those of
// Transport.Authenticate.
func (s *Service) Await(ctx context.Context, c *Call) error {
	fresh := &c.Freshness
	if fresh.Stale {
		return nil
	}
	if !fresh.Consistent && !fresh.Blocking {
		if err := s.catchUp(ctx, c); err != nil {
			return err
		}
	}
	if fresh.SeenErr != nil {
		return fresh.SeenErr
	}
	index := fresh.Seen
	if !fresh.Consistent && s.Index() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Hold)
	defer cancel()
	if fresh.Consistent {
		newest, err := s.config.Cluster.ReadIndex(ctx)
		if leader, _ := s.config.Cluster.Leader(); err != nil && leader == "" {
			return structs.Errorf(structs.CodeUnavailable, "a consistent read needs the leader, and %w; ?stale needs none", s.Leaderless())
		}
		if err != nil {
			return structs.Errorf(structs.CodeUnavailable,
				"a consistent read needs the leader: try again in a second, or ask for ?stale (%w)", err)
		}
		index = max(index, newest)
	}
	if err := s.config.Store.WaitIndex(ctx, index); err != nil {
		return s.errBehind(index)
	}
	return nil
}

func (s *Service) errBehind(wanted uint64) error {
	return structs.Errorf(structs.CodeUnavailable,
		"this server is at index %d and the request wants %d: try again in a second, or ask another server", s.Index(), wanted)
}

// catchUp brings this server's state to the leader's index. If that can't be had
// or reached, the call is served from the state as it is: the transport is told,
// and Doubt keeps a refusal from being final. Errors are those of
// Transport.Authenticate.
func (s *Service) catchUp(ctx context.Context, c *Call) error {
	c.caughtUp = true
	until := time.Now().Add(catchUpWait)
	index, err := s.config.Cluster.LeaderIndex(ctx)
	if err == nil && s.Index() >= index {
		return nil
	}
	if err == nil {
		ctx, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		if err = s.config.Store.WaitIndex(ctx, index); err == nil {
			return c.Transport.Authenticate() // what was missing may have been the end of the caller's token
		}
	}
	c.stale = true
	c.Transport.Stale()
	s.config.Logger.Debug("read from a state that may be old", "request_id", c.RequestID, "index", s.Index(), "error", err)
	return nil
}

// Sure runs a read. One that blocks has not asked the leader: if it is refused for
// what this server's state says, it is run once more on the leader's index.
func (s *Service) Sure(ctx context.Context, c *Call, read func() error) error {
	err := read()
	if !restsOnState(err) || c.caughtUp || c.Freshness.Stale || c.Freshness.Consistent {
		return err
	}
	if err := s.catchUp(ctx, c); err != nil {
		return err
	}
	return read()
}

// restsOnState reports whether err says what is, or isn't, in the state.
func restsOnState(err error) bool {
	var known *structs.Error
	if !errors.As(err, &known) {
		return false
	}
	switch known.Code {
	case structs.CodeNotFound, structs.CodeConflict:
		return true
	case structs.CodeInvalid:
		return known.Kind != "" // a request that names what isn't there
	}
	return false
}

// Doubt returns the error of a call that was served from a state which may be
// old: what that state says is no reason to refuse for good.
func (c *Call) Doubt(err error) error {
	if !c.stale || !restsOnState(err) {
		return err
	}
	var known *structs.Error
	errors.As(err, &known)
	return structs.Errorf(structs.CodeUnavailable,
		"this server may be behind, for the leader does not answer it: try again in a second, ask another server, or ask for ?stale; what it has says: %s", known.Msg).About(known.Kind)
}

// gone is the index of a row's last change once there is no row.
const gone = math.MaxUint64

// Change is what a blocking read waits for.
type Change struct {
	Since uint64        // index after which it has to change
	Wait  time.Duration // for how long at most
}

// changed returns the state to answer a read from: the newest or, if a change is
// waited for, the first in which changedAt is above its Since. It returns
// the newest when the wait is over or the caller leaves. changedAt is the
// index at which what is read has last changed.
func (s *Service) changed(ctx context.Context, c *Call, wanted *Change, changedAt func(*state.Snapshot) uint64,
	topics ...state.Topic) *state.Snapshot {
	if wanted == nil {
		return s.Snapshot()
	}
	sub := s.config.Store.Subscribe(topics...) // before the first look, so that no change is missed
	defer sub.Close()
	c.Transport.Waits()
	s.parked.Add(1)
	defer s.parked.Add(-1)
	over := time.NewTimer(wanted.Wait)
	defer over.Stop()
	for {
		snap := s.Snapshot()
		if changedAt(snap) > wanted.Since {
			return snap
		}
		select {
		case <-sub.C():
		case <-over.C:
			return s.Snapshot()
		case <-ctx.Done():
			return snap
		}
	}
}

// ChangedRow returns the state to answer the read of a row from: once the row has
// changed, if wanted is not nil.
func (s *Service) ChangedRow(ctx context.Context, c *Call, wanted *Change, table structs.Table, id string) *state.Snapshot {
	return s.changed(ctx, c, wanted, func(snap *state.Snapshot) uint64 {
		if row := snap.Get(table, id); row != nil {
			return row.Base().ModifyIndex
		}
		return gone
	}, state.TopicRow(table, id))
}

// Watch is a list of rows that a list shows.
type Watch struct {
	Table   structs.Table
	Project string // state.AllProjects for those of all
}

// ChangedLists is ChangedRow for lists: one of them has changed.
func (s *Service) ChangedLists(ctx context.Context, c *Call, wanted *Change, watches []Watch) *state.Snapshot {
	if wanted == nil {
		return s.Snapshot()
	}
	var topics []state.Topic
	for _, w := range watches {
		topics = append(topics, state.TopicList(w.Table, w.Project))
	}
	return s.changed(ctx, c, wanted, func(snap *state.Snapshot) (index uint64) {
		for _, w := range watches {
			index = max(index, snap.ListIndex(w.Table, w.Project))
		}
		return index
	}, topics...)
}

// Events returns a reader of the events after an index. It waits for this
// server's state to come there. CodeGone if there is no such index: going on from
// there, a reader would be sent back. CodeUnavailable.
func (s *Service) Events(ctx context.Context, index uint64) (*state.EventReader, error) {
	if err := s.reach(ctx, index); err != nil {
		return nil, err
	}
	return s.config.Store.Events(index)
}

func (s *Service) reach(ctx context.Context, index uint64) error {
	if index <= s.Index() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Hold)
	defer cancel()
	newest, err := s.config.Cluster.ReadIndex(ctx)
	if err == nil && index > newest {
		return structs.Errorf(structs.CodeGone,
			"index %d is beyond all that has happened, which is index %d: it is not of this cluster's; list the objects, and go on from the X-Magnum-Index of that answer", index, newest)
	}
	if s.config.Store.WaitIndex(ctx, index) != nil {
		return s.errBehind(index)
	}
	return nil
}
