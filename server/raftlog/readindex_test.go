package raftlog

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// held is a transport that can delay answers and lose requests.
type held struct {
	*raft.InmemTransport
	mu   sync.Mutex
	gate chan struct{} // if not nil, answers wait until it is closed
	kept int           // answers that wait
	lost bool          // requests get no answer
}

func (h *held) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest,
	resp *raft.AppendEntriesResponse) error {
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	if lost {
		return context.DeadlineExceeded
	}
	err := h.InmemTransport.AppendEntries(id, target, args, resp)
	h.mu.Lock()
	gate := h.gate
	if gate != nil {
		h.kept++
	}
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return err
}

func (h *held) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// TestReadIndexIgnoresAnswersToEarlierRequests: answers to requests from before a
// consistent read arrive after it begins, while the voters receive nothing any more.
// The read is refused.
func TestReadIndexIgnoresAnswersToEarlierRequests(t *testing.T) {
	var transports []*held
	c := startThreeServersOver(t, func(in *raft.InmemTransport) raft.Transport {
		transports = append(transports, &held{InmemTransport: in})
		return transports[len(transports)-1]
	})
	n := c.leader(0, 1, 2)
	m, h := c.members[n], transports[n]
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // otherwise waiting answers outlive a failed test
	h.mu.Lock()
	h.gate = gate
	h.mu.Unlock()
	eventually(t, "both voters have answered, and the answers are under way", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.kept >= 2
	})
	h.mu.Lock()
	h.lost = true
	h.mu.Unlock()
	read := make(chan error, 1)
	go func() {
		_, err := m.ReadIndex(context.Background())
		read <- err
	}()
	eventually(t, "the read waits for proof", func() bool {
		m.reads.rounds.mu.Lock()
		defer m.reads.rounds.mu.Unlock()
		return m.reads.rounds.running
	})
	// A second call, which the library handles after that of the read.
	asked := m.raft.VerifyLeader()
	open()
	answered := make(chan error, 1)
	go func() { answered <- asked.Error() }()
	inTime(t, "the library's own question is answered", answered)
	if err := inTime(t, "the read is answered", read); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a read was proved by answers of before it: %v", err)
	}
}

// TestLeaderIndexEndsWithTheLease: a leader whose voters fall silent returns its index
// only while its lease lasts, although it doesn't know yet that another server may
// lead.
func TestLeaderIndexEndsWithTheLease(t *testing.T) {
	var transports []*held
	c := startThreeServersOver(t, func(in *raft.InmemTransport) raft.Transport {
		transports = append(transports, &held{InmemTransport: in})
		return transports[len(transports)-1]
	})
	n := c.leader(0, 1, 2)
	m, h := c.members[n], transports[n]
	m.put(1)
	if index, err := m.LeaderIndex(context.Background()); err != nil || index != m.config.Store.Index() {
		t.Errorf("the leader is at index %d: %d, %v", m.config.Store.Index(), index, err)
	}
	for other := range c.members {
		if other == n {
			continue
		}
		if _, err := c.members[other].LeaderIndex(context.Background()); structs.CodeOf(err) != structs.CodeNoLeader {
			t.Errorf("a follower says an index: %v", err)
		}
	}
	term := m.Term()
	h.mu.Lock()
	h.lost = true
	h.mu.Unlock()
	lost := time.Now()
	eventually(t, "the lease ends", func() bool { return !m.reads.leaseLasts(term) })
	if late := time.Since(lost); m.reads.lease.Load().until.After(lost.Add(m.config.LeaderLease)) {
		t.Errorf("the lease lasts until %v after the last request, longer than %v (seen after %v)", m.reads.lease.Load().until.Sub(lost),
			m.config.LeaderLease, late)
	}
	if _, err := m.LeaderIndex(context.Background()); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a leader without followers says an index: %v", err)
	}
}

// TestLeaderIndexWaitsForTheBarrier: a new leader may not have applied everything that
// earlier ones committed, so it runs a round first.
func TestLeaderIndexWaitsForTheBarrier(t *testing.T) {
	c := startSteadyServers(t)
	m := c.members[c.leader(0, 1, 2)]
	m.put(1)
	m.reads.barrier.Store(0)
	index, err := m.LeaderIndex(context.Background())
	if err != nil || index != m.config.Store.Index() {
		t.Errorf("the leader is at index %d: %d, %v", m.config.Store.Index(), index, err)
	}
	if m.reads.barrier.Load() != m.Term() {
		t.Error("it said so without a barrier in its term")
	}
}
