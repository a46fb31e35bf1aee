package service

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// catchUpWait is how long a default read waits at most for this server's state to
// reach the leader's index.
const catchUpWait = time.Second

// Await waits until this server's state is new enough for the call. By default it has
// all writes that any server acknowledged before the call came, and all that the
// caller has seen. A blocking read only needs what the caller has seen, because it
// learns of later changes anyway. Errors: CodeUnavailable, CodeNoLeader, CodeInvalid,
// and those of Transport.Authenticate.
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
			return structs.Errorf(structs.CodeUnavailable, "a consistent read needs the leader, and %w; a read with ?stale needs none",
				s.Leaderless())
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

// catchUp brings this server's state to the leader's index. If the leader doesn't
// answer, or its index isn't reached in time, the call is served from the state as it
// is: MarkStale is called, and QualifyError keeps a refusal from being final. Errors
// are those of Transport.Authenticate.
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
			return c.Transport.Authenticate() // the missing entries may have revoked the caller's token
		}
	}
	c.stale = true
	c.Transport.MarkStale()
	s.config.Logger.Debug("read from a state that may be old", "request_id", c.RequestID, "index", s.Index(), "error", err)
	return nil
}

// ConfirmRefusal runs a read. A blocking read has not asked the leader for its index:
// if such a read is refused because of this server's state, ConfirmRefusal runs it
// again on the leader's index.
func (s *Service) ConfirmRefusal(ctx context.Context, c *Call, read func() error) error {
	err := read()
	if !restsOnState(err) || c.caughtUp || c.Freshness.Stale || c.Freshness.Consistent {
		return err
	}
	if err := s.catchUp(ctx, c); err != nil {
		return err
	}
	return read()
}

// restsOnState reports whether err is a refusal that depends on the state.
func restsOnState(err error) bool {
	var known *structs.Error
	if !errors.As(err, &known) {
		return false
	}
	switch known.Code {
	case structs.CodeNotFound, structs.CodeConflict:
		return true
	case structs.CodeInvalid:
		return known.Kind != "" // the request names an object that doesn't exist
	}
	return false
}

// QualifyError returns the error for a caller. If the call was served from a stale
// state, a refusal that depends on the state becomes CodeUnavailable, because the
// caller may succeed on a newer state.
func (c *Call) QualifyError(err error) error {
	if !c.stale || !restsOnState(err) {
		return err
	}
	var known *structs.Error
	errors.As(err, &known)
	return structs.Errorf(structs.CodeUnavailable,
		"this server may be behind, because the leader does not answer it: try again in a second, ask another server, "+
			"or ask for ?stale; its own state says: %s", known.Msg).About(known.Kind)
}

// deletedIndex stands for the ModifyIndex of a deleted row. It is above every real
// index.
const deletedIndex = math.MaxUint64

// Change is what a blocking read waits for.
type Change struct {
	Since uint64        // the object or list has to change after this index
	Wait  time.Duration // how long to wait at most
}

// changed returns the state to answer a read from. That is the newest one if wanted is
// nil, else the first one in which changedAt is above wanted.Since. When the wait is
// over or the caller leaves, it is the newest one. changedAt returns the index of the
// last change of what is read.
func (s *Service) changed(ctx context.Context, c *Call, wanted *Change, changedAt func(*state.Snapshot) uint64,
	topics ...state.Topic) *state.Snapshot {
	if wanted == nil {
		return s.Snapshot()
	}
	sub := s.config.Store.Subscribe(topics...) // before the first look, so that no change is missed
	defer sub.Close()
	c.Transport.MarkWaiting()
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

// ChangedRow returns the state to answer the read of a row from. If wanted is not nil, it
// waits until the row has changed, or a row with the same ID in one of the tables beside.
func (s *Service) ChangedRow(
	ctx context.Context, c *Call, wanted *Change, table structs.Table, id string, beside ...structs.Table,
) *state.Snapshot {
	topics := []state.Topic{state.TopicRow(table, id)}
	for _, other := range beside {
		topics = append(topics, state.TopicRow(other, besideID(table, other, id)))
	}
	return s.changed(ctx, c, wanted, func(snap *state.Snapshot) uint64 {
		row := snap.Get(table, id)
		if row == nil {
			return deletedIndex
		}
		index := row.Base().ModifyIndex
		for _, other := range beside {
			if row := snap.Get(other, besideID(table, other, id)); row != nil {
				index = max(index, row.Base().ModifyIndex)
			}
		}
		return index
	}, topics...)
}

// besideID returns the ID of the row beside an object in another table.
func besideID(table, other structs.Table, id string) string {
	if other == structs.TableObjects {
		return state.KindOf(table) + "/" + id
	}
	return id
}

// Watch names rows whose changes a blocking read of a list waits for.
type Watch struct {
	Table   structs.Table
	Project string // state.AllProjects for the rows of all projects
}

// ChangedLists is ChangedRow for lists. It waits until one of them has changed.
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

// Events returns a reader of the events after an index. It waits until this server's
// state has reached the index. Errors are CodeGone if the cluster has not reached the
// index or no longer keeps its events, and CodeUnavailable.
func (s *Service) Events(ctx context.Context, index uint64) (*state.EventReader, error) {
	if err := s.awaitIndex(ctx, index); err != nil {
		return nil, err
	}
	return s.config.Store.Events(index)
}

func (s *Service) awaitIndex(ctx context.Context, index uint64) error {
	if index <= s.Index() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Hold)
	defer cancel()
	newest, err := s.config.Cluster.ReadIndex(ctx)
	if err == nil && index > newest {
		return structs.Errorf(structs.CodeGone,
			"index %d is after this cluster's newest index, %d, and comes from another cluster or history: list the objects, "+
				"and go on from the X-Magnum-Index of that answer", index, newest)
	}
	if s.config.Store.WaitIndex(ctx, index) != nil {
		return s.errBehind(index)
	}
	return nil
}
