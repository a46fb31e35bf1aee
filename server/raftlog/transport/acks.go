package transport

import (
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// AckTracker is a transport around Raft's that notes when it sent the newest request
// that each voter acknowledged in the current term. That proves that this server still
// leads. The library itself accepts any answer that arrives while it waits, even to a
// much older request: a leader that was frozen finds such answers in its sockets,
// although another server leads by then.
type AckTracker struct {
	raft.Transport

	mu      sync.Mutex
	sent    map[raft.ServerID]ack
	beats   map[raft.ServerID]Heartbeat
	changed chan struct{} // closed at the next acknowledgement
}

// Heartbeat is the last request to a server, without entries and indexes.
type Heartbeat struct {
	Target raft.ServerAddress
	Args   raft.AppendEntriesRequest // only header and term
}

// Heartbeats returns the last heartbeat of the term to each server.
func (w *AckTracker) Heartbeats(term uint64) map[raft.ServerID]Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	beats := maps.Clone(w.beats)
	maps.DeleteFunc(beats, func(_ raft.ServerID, b Heartbeat) bool { return b.Args.Term != term })
	return beats
}

// ack says that a voter acknowledged, in the term, a request sent at the given time.
type ack struct {
	term uint64
	sent time.Time
}

// NewAckTracker returns a tracker around t.
func NewAckTracker(t raft.Transport) *AckTracker {
	return &AckTracker{Transport: t, sent: make(map[raft.ServerID]ack), beats: make(map[raft.ServerID]Heartbeat),
		changed: make(chan struct{})}
}

// AppendEntries sends entries or a heartbeat and records the acknowledgement. Pipelined
// requests are not recorded.
func (w *AckTracker) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest,
	resp *raft.AppendEntriesResponse) error {
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

// RequestPreVote makes the library use pre-votes: it does so if its transport has this
// method. All existing transports do.
func (w *AckTracker) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest,
	resp *raft.RequestPreVoteResponse) error {
	return w.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp)
}

// Close closes the transport below. The library calls it when it stops.
func (w *AckTracker) Close() error {
	if c, ok := w.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// MajorityAckedAt returns the newest time such that a majority of the voters has
// acknowledged, in the term, a request of self that was sent then or later; zero if
// there is none. self counts as acknowledging at now. changed is closed when the result
// may have changed.
func (w *AckTracker) MajorityAckedAt(self raft.ServerID, servers []raft.Server, term uint64, now time.Time) (at time.Time,
	changed <-chan struct{}) {
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
