package raftlog

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
)

// announcer sends the commit index to followers at once. Otherwise followers learn it
// from the next entry; if none follows, the library sends it 50 to 100 ms later, and
// until then three things would wait: a write through a follower, a read of what was
// written elsewhere, and an agent that polls a follower.
//
// An announcement is an AppendEntries without entries, as the library itself sends it
// (Raft paper, figure 2). Its previous entry and its commit index are both the newest
// entry applied here, which is committed. A follower that lacks that entry refuses, so
// a follower never takes for committed what it doesn't have.
type announcer struct {
	applied chan struct{}  // capacity 1: last has moved
	calls   sync.WaitGroup // announcements under way

	mu     sync.Mutex // guards what follows
	last   position   // of the newest entry that was applied here
	busy   map[raft.ServerID]bool
	behind map[raft.ServerID]time.Time // no announcements to the follower before this time
}

// position is the index and term of an entry.
type position struct{ index, term uint64 }

const (
	announceAfter = time.Millisecond // under load another entry follows earlier and carries the commit index
	announcePause = time.Second      // after a refusal
)

func newAnnouncer() *announcer {
	return &announcer{applied: make(chan struct{}, 1), busy: make(map[raft.ServerID]bool), behind: make(map[raft.ServerID]time.Time)}
}

// note records the position of an entry that was applied here.
func (a *announcer) note(index, term uint64) {
	a.mu.Lock()
	a.last = position{index, term}
	a.mu.Unlock()
	select {
	case a.applied <- struct{}{}:
	default:
	}
}

func (a *announcer) newest() position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// begin reports whether an announcement to the follower may start now. If so, end must
// follow.
func (a *announcer) begin(id raft.ServerID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[id] || time.Now().Before(a.behind[id]) {
		return false
	}
	a.busy[id] = true
	return true
}

func (a *announcer) end(id raft.ServerID, acked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, id)
	if delete(a.behind, id); !acked {
		a.behind[id] = time.Now().Add(announcePause)
	}
}

// run announces the commit index to followers until ctx ends, which is when this server
// no longer leads in the term.
func (a *announcer) run(ctx context.Context, l *Log, term uint64) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-a.applied:
		case <-ctx.Done():
			return
		}
		pause.Reset(announceAfter)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		newest := a.newest()
		if l.raft.LastIndex() > newest.index {
			continue // an entry under way carries the commit index
		}
		conf, beats := l.raft.GetConfiguration(), l.acks.Heartbeats(term)
		if conf.Error() != nil {
			return // Raft has ended
		}
		for _, s := range conf.Configuration().Servers {
			if beat, ok := beats[s.ID]; ok && a.begin(s.ID) {
				// In a goroutine, so that a frozen follower delays no other.
				a.calls.Go(func() { a.end(s.ID, announce(l.addressed, s.ID, beat, newest)) })
			}
		}
	}
}

// announce sends one announcement to a follower and reports whether the follower
// accepted it. Its header is that of the last heartbeat to the follower.
func announce(t raft.Transport, id raft.ServerID, last transport.Heartbeat, newest position) bool {
	args := last.Args
	args.PrevLogEntry, args.PrevLogTerm, args.LeaderCommitIndex = newest.index, newest.term, newest.index
	var resp raft.AppendEntriesResponse
	err := t.AppendEntries(id, last.Target, &args, &resp)
	return err == nil && resp.Success
}
