package transport

import (
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// AckTracker is the transport under Raft that notes what proves that this server
// leads: when it sent the newest request that a voter has answered as a follower
// of its term. The library's own ack takes any answer that comes in after it was
// asked for, though the request may have been sent long before: a leader that was
// frozen finds such answers in its sockets when it goes on, and others lead by
// then.
type AckTracker struct {
	raft.Transport

	mu      sync.Mutex
	sent    map[raft.ServerID]ack
	beats   map[raft.ServerID]Heartbeat
	changed chan struct{} // closed at the next ack
}

// Heartbeat is what was last sent to a server, without entries or positions.
type Heartbeat struct {
	Target raft.ServerAddress
	Args   raft.AppendEntriesRequest // header and term alone
}

// Heartbeats returns the last heartbeats of the term.
func (w *AckTracker) Heartbeats(term uint64) map[raft.ServerID]Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	beats := maps.Clone(w.beats)
	maps.DeleteFunc(beats, func(_ raft.ServerID, b Heartbeat) bool { return b.Args.Term != term })
	return beats
}

// ack is that a server was followed in a term after an instant.
type ack struct {
	term uint64
	sent time.Time
}

// NewAckTracker returns a tracker over t.
func NewAckTracker(t raft.Transport) *AckTracker {
	return &AckTracker{Transport: t, sent: make(map[raft.ServerID]ack), beats: make(map[raft.ServerID]Heartbeat), changed: make(chan struct{})}
}

// AppendEntries carries heartbeats, too; what is pipelined is not taken for ack.
func (w *AckTracker) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := time.Now()
	w.mu.Lock()
	w.beats[id] = Heartbeat{target, raft.AppendEntriesRequest{RPCHeader: args.RPCHeader, Term: args.Term}}
	w.mu.Unlock()
	err := w.Transport.AppendEntries(id, target, args, resp)
	if err == nil && resp.Success && resp.Term == args.Term {
		w.mu.Lock()
		if last := w.sent[id]; last.term < args.Term || last.term == args.Term && last.sent.Before(sent) {
			w.sent[id] = ack{args.Term, sent}
			close(w.changed)
			w.changed = make(chan struct{})
		}
		w.mu.Unlock()
	}
	return err
}

// RequestPreVote makes the library use pre-votes, which it does if its transport
// has this method. All transports that there are do.
func (w *AckTracker) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp)
}

// Close is called by the library at its end.
func (w *AckTracker) Close() error {
	if c, ok := w.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// MajorityAckedAt returns the newest instant after which most of the voters, self
// among them, have followed self in the term; zero if they have not. self follows
// itself now. changed is closed when that instant may have moved.
func (w *AckTracker) MajorityAckedAt(self raft.ServerID, servers []raft.Server, term uint64, now time.Time) (at time.Time, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sent []time.Time // by voter
	for _, s := range servers {
		p := w.sent[s.ID]
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == self:
			sent = append(sent, now)
		case p.term == term:
			sent = append(sent, p.sent)
		default:
			sent = append(sent, time.Time{})
		}
	}
	if len(sent) == 0 {
		return time.Time{}, w.changed
	}
	slices.SortFunc(sent, func(a, b time.Time) int { return b.Compare(a) })
	return sent[len(sent)/2], w.changed
}
