package rest

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// defaultBlock is how long a blocking read parks if it doesn't say.
const defaultBlock = time.Minute

// reads are the query arguments of everything that can be read.
var reads = []arg{
	{name: "index", kind: argInt, doc: "Answer once the object or list has changed since this X-Magnum-Index."},
	{name: "wait", kind: argDuration, doc: "How long to wait for that, default 60s, at most 10m."},
	{name: "consistent", kind: argBool, doc: "Not older than this moment, whichever server answers."},
	{name: "stale", kind: argBool, doc: "Any state, at once."},
	{name: "all_projects", kind: argBool, doc: "Objects of all projects; for operators."},
}

// await makes sure that this server's state is new enough for the read: by
// default not older than what the client has seen, which it sends back as
// X-Magnum-Index. Errors: CodeUnavailable, CodeNoLeader, CodeInvalid.
func (q *request) await() error {
	if q.query.bool("stale", false) {
		return nil
	}
	var index uint64
	if seen := q.r.Header.Get("X-Magnum-Index"); seen != "" {
		n, err := strconv.ParseUint(seen, 10, 64)
		if err != nil {
			return invalid("X-Magnum-Index", seen, "It is not a whole number.")
		}
		index = n
	}
	if !q.query.bool("consistent", false) && q.Store.Index() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), q.Hold)
	defer cancel()
	if q.query.bool("consistent", false) {
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

// gone is the index of a row's last change once there is no row.
const gone = math.MaxUint64

// changed returns the state to answer a read from: the newest or, if the
// request has an ?index=, the first in which changedAt is above it. It returns
// the newest when the wait is over or the client leaves. changedAt is the
// index at which what is read has last changed.
func (q *request) changed(changedAt func(*state.Snapshot) uint64, topics ...state.Topic) *state.Snapshot {
	if !q.query.has("index") {
		return q.Store.Snapshot()
	}
	since := uint64(q.query.int("index", 0))
	sub := q.Store.Subscribe(topics...) // before the first look, so that no change is missed
	defer sub.Close()
	q.w.parked = true
	q.parked.Add(1)
	defer q.parked.Add(-1)
	over := time.NewTimer(q.query.duration("wait", defaultBlock))
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
