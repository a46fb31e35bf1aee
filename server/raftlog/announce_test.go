package raftlog

import (
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
)

// mute is a transport that can hide the commit index from followers.
type mute struct {
	*raft.InmemTransport
	muted atomic.Bool
}

func (m *mute) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest,
	resp *raft.AppendEntriesResponse) error {
	if m.muted.Load() && args.LeaderCommitIndex > 0 {
		without := *args
		without.LeaderCommitIndex = 0
		args = &without
	}
	return m.InmemTransport.AppendEntries(id, target, args, resp)
}

func (m *mute) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// TestFollowerAppliesOnAnnouncement: a follower applies an entry that it has once an
// announcement says that the entry is committed. It refuses an announcement of an entry
// that it lacks.
func TestFollowerAppliesOnAnnouncement(t *testing.T) {
	var transports []*mute
	c := startThreeServersOver(t, func(in *raft.InmemTransport) raft.Transport {
		transports = append(transports, &mute{InmemTransport: in})
		return transports[len(transports)-1]
	})
	n := c.leader(0, 1, 2)
	leader, follower := c.members[n], c.members[(n+1)%3]
	leader.put(1)
	eventually(t, "the follower has caught up", func() bool { return follower.config.Store.Index() == leader.config.Store.Index() })
	transports[n].muted.Store(true)
	leader.put(2)
	newest := leader.announcer.newest()
	if newest.index != leader.config.Store.Index() || newest.term != leader.Term() {
		t.Errorf("the newest entry is %+v, the store is at %d in term %d", newest, leader.config.Store.Index(), leader.Term())
	}
	eventually(t, "the follower has the entry", func() bool { return follower.raft.LastIndex() >= newest.index })
	id := raft.ServerID(follower.config.ServerID)
	beat := leader.acks.Heartbeats(leader.Term())[id]
	if stale := leader.acks.Heartbeats(leader.Term() - 1); len(stale) != 0 {
		t.Errorf("there are heartbeats %v of an earlier term", stale)
	}
	in := &transport.Addressed{Transport: transports[n].InmemTransport}
	for what, p := range map[string]position{"another term's": {newest.index, newest.term + 1},
		"one that it lacks": {newest.index + 5, newest.term}} {
		if announce(in, id, beat, p) {
			t.Errorf("the follower takes an announcement of %s entry", what)
		}
	}
	if follower.config.Store.Index() >= newest.index {
		t.Errorf("the follower has applied entry %d, which nobody has told it is committed", newest.index)
	}
	if !announce(in, id, beat, newest) {
		t.Error("the follower refuses what it has")
	}
	eventually(t, "the follower applies the entry", func() bool { return follower.config.Store.Index() == newest.index })
}

// TestAnnouncerPausesAfterRefusal: announcements to one follower don't overlap, and
// pause after a refusal.
func TestAnnouncerPausesAfterRefusal(t *testing.T) {
	a := newAnnouncer()
	if !a.begin("a") || a.begin("a") || !a.begin("b") {
		t.Error("two announcements to one follower overlap, or another follower gets none")
	}
	a.end("a", true)
	a.end("b", false)
	if !a.begin("a") || a.begin("b") {
		t.Error("no pause after a refusal, or a pause without one")
	}
	a.note(7, 2)
	a.note(8, 2)
	<-a.applied
	if got := a.newest(); got != (position{8, 2}) || len(a.applied) != 0 {
		t.Errorf("%+v", got)
	}
}
