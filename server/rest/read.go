package rest

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// defaultBlock is how long a blocking read parks if it doesn't say.
const defaultBlock = time.Minute

// reads are the query arguments of everything that can be read.
var reads = []wire.Arg{
	{Name: "index", Kind: wire.ArgInt, Doc: "Answer once the object or list has changed since this X-Magnum-Index."},
	{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for that, default 60s, at most 10m."},
	{Name: "consistent", Kind: wire.ArgBool, Doc: "Not older than this moment, whichever server answers."},
	{Name: "stale", Kind: wire.ArgBool, Doc: "Any state, at once."},
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "Objects of all projects; for operators."},
}

// headerStale is in an answer that may lack what other servers have acknowledged
// before the request came.
const headerStale = "X-Magnum-Stale"

// catchUpWait bounds how long a default read waits for this server's state to
// reach the leader's index.
const catchUpWait = time.Second

// await makes sure that this server's state is new enough for the request: by
// default it has all that any server acknowledged before the request came, and all
// that the client has seen, whose index it sends back as X-Magnum-Index. A blocking
// read waits for the latter only: it is told of what comes. Errors:
// CodeUnavailable, CodeNoLeader, CodeInvalid, and those of authenticate.
func (q *request) await() error {
	if q.query.Bool("stale", false) {
		return nil
	}
	if !q.query.Bool("consistent", false) && !q.query.Has("index") {
		if err := q.catchUp(); err != nil {
			return err
		}
	}
	var index uint64
	if seen := q.r.Header.Get("X-Magnum-Index"); seen != "" {
		n, err := strconv.ParseUint(seen, 10, 64)
		if err != nil {
			return wire.Invalid("X-Magnum-Index", seen, "It is not a whole number.")
		}
		index = n
	}
	if !q.query.Bool("consistent", false) && q.Store.Index() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), q.Hold)
	defer cancel()
	if q.query.Bool("consistent", false) {
		newest, err := q.Cluster.ReadIndex(ctx)
		if leader, _ := q.Cluster.Leader(); err != nil && leader == "" {
			return structs.Errorf(structs.CodeUnavailable, "a consistent read needs the leader, and %w; ?stale needs none", q.errLeaderless())
		}
		if err != nil {
			return structs.Errorf(structs.CodeUnavailable, "a consistent read needs the leader: try again in a second, or ask for ?stale (%w)", err)
		}
		index = max(index, newest)
	}
	if err := q.Store.WaitIndex(ctx, index); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "this server is at index %d and the request wants %d: try again in a second, or ask another server", q.Store.Index(), index)
	}
	return nil
}

// catchUp brings this server's state to the leader's index. If that can't be had
// or reached, the request is served from the state as it is: the answer says so,
// and doubt keeps a refusal from being final. Errors are those of authenticate.
func (q *request) catchUp() error {
	q.caughtUp = true
	until := time.Now().Add(catchUpWait)
	index, err := q.Cluster.LeaderIndex(q.r.Context())
	if err == nil && q.Store.Index() >= index {
		return nil
	}
	if err == nil {
		ctx, cancel := context.WithDeadline(q.r.Context(), until)
		defer cancel()
		if err = q.Store.WaitIndex(ctx, index); err == nil {
			return q.authenticate() // what was missing may have been the end of the caller's token
		}
	}
	q.stale = true
	q.w.Header().Set(headerStale, "true")
	q.Logger.Debug("read from a state that may be old", "request_id", q.w.requestID, "index", q.Store.Index(), "error", err)
	return nil
}

// sure runs a read. One that blocks has not asked the leader: if it is refused for
// what this server's state says, it is run once more on the leader's index.
func (q *request) sure(read func() error) error {
	err := read()
	if !restsOnState(err) || q.caughtUp || q.query.Bool("stale", false) || q.query.Bool("consistent", false) {
		return err
	}
	if err := q.catchUp(); err != nil {
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

// doubt returns the error of a request that was served from a state which may be
// old: what that state says is no reason to refuse for good.
func (q *request) doubt(err error) error {
	if !q.stale || !restsOnState(err) {
		return err
	}
	var known *structs.Error
	errors.As(err, &known)
	return structs.Errorf(structs.CodeUnavailable, "this server may be behind, for the leader does not answer it: try again in a second, ask another server, or ask for ?stale; what it has says: %s", known.Msg).About(known.Kind)
}

// gone is the index of a row's last change once there is no row.
const gone = math.MaxUint64

// changed returns the state to answer a read from: the newest or, if the
// request has an ?index=, the first in which changedAt is above it. It returns
// the newest when the wait is over or the client leaves. changedAt is the
// index at which what is read has last changed.
func (q *request) changed(changedAt func(*state.Snapshot) uint64, topics ...state.Topic) *state.Snapshot {
	if !q.query.Has("index") {
		return q.Store.Snapshot()
	}
	since := uint64(q.query.Int("index", 0))
	sub := q.Store.Subscribe(topics...) // before the first look, so that no change is missed
	defer sub.Close()
	q.w.parked = true
	q.parked.Add(1)
	defer q.parked.Add(-1)
	over := time.NewTimer(q.query.Duration("wait", defaultBlock))
	defer over.Stop()
	for {
		snap := q.Store.Snapshot()
		if changedAt(snap) > since {
			return snap
		}
		select {
		case <-sub.C():
		case <-over.C:
			return q.Store.Snapshot()
		case <-q.r.Context().Done():
			return snap
		}
	}
}

// changedRow is changed for one row.
func (q *request) changedRow(table structs.Table, id string) *state.Snapshot {
	return q.changed(func(snap *state.Snapshot) uint64 {
		if row := snap.Get(table, id); row != nil {
			return row.Base().ModifyIndex
		}
		return gone
	}, state.TopicRow(table, id))
}
