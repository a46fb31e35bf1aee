package raftlog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// rowsAt returns a snapshot stream of the index with n nodes.
func rowsAt(t testing.TB, index uint64, nodes int) []byte {
	t.Helper()
	s := state.New()
	var changes []structs.Change
	for n := range nodes {
		changes = append(changes, nodeChange(1000+n))
	}
	if err := s.Apply(index, changes); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// restore restores a state of n nodes on a member.
func (m *member) restore(nodes int) error {
	_, err := m.Restore(context.Background(), 0, func(index uint64) (int64, io.Reader, error) {
		b := rowsAt(m.t, index, nodes)
		return int64(len(b)), bytes.NewReader(b), nil
	})
	return err
}

// awaitSameState waits until all members are at the index of one, with equal states.
func (c *threeServers) awaitSameState(like *member) {
	c.t.Helper()
	want := like.config.Store
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := m.config.Store.WaitIndex(ctx, want.Index())
		cancel()
		if err != nil {
			c.t.Fatalf("%s stays behind: %v", m.config.ServerID, err)
		}
		sameState(c.t, m.config.Store, want)
	}
}

// TestRestoreReachesAllServersAndSurvivesRestart: earlier rows are gone, later entries
// are applied, and every server restarts with the restored state.
func TestRestoreReachesAllServersAndSurvivesRestart(t *testing.T) {
	c := startSteadyServers(t)
	leader := c.members[c.leader(0, 1, 2)]
	for n := range 20 {
		leader.put(n)
	}
	before := leader.config.Store.Index()
	if err := leader.restore(3); err != nil {
		t.Fatal(err)
	}
	if got := leader.config.Store.Snapshot(); got.Index() <= before || got.Node(nodeChange(1000).ID) == nil ||
		got.Node(nodeChange(0).ID) != nil {
		t.Errorf("at index %d: %v", got.Index(), got.Node(nodeChange(0).ID))
	}
	c.awaitSameState(leader)
	restored := leader.put(100)
	c.awaitSameState(leader)

	// Two restores in a row.
	for range 2 {
		if err := leader.restore(5); err != nil {
			t.Fatal(err)
		}
	}
	if leader.config.Store.Index() <= restored {
		t.Errorf("the index went from %d to %d", restored, leader.config.Store.Index())
	}
	// A snapshot of another cluster, with a higher index.
	if _, err := leader.Restore(context.Background(), 5000, func(index uint64) (int64, io.Reader, error) {
		b := rowsAt(t, index, 4)
		return int64(len(b)), bytes.NewReader(b), nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := leader.config.Store.Index(); got != 5001 {
		t.Errorf("the state is at %d, not behind 5000", got)
	}
	last := leader.put(101)
	c.awaitSameState(leader)
	want := leader.config.Store

	for _, m := range c.members {
		m.stop()
	}
	for i, m := range c.members {
		conf := m.config
		conf.Store = state.New()
		l, err := Open(conf)
		if err != nil {
			t.Fatalf("%s does not start again: %v", m.config.ServerID, err)
		}
		c.members[i] = run(t, l, idle)
	}
	c.connect(true, 0, 1, 2) // because the library has closed the transports
	leader = c.members[c.leader(0, 1, 2)]
	if leader.config.Store.Index() < last || leader.config.Store.Snapshot().Node(nodeChange(101).ID) == nil {
		t.Errorf("I1: what was acknowledged at %d is gone: the state is at %d", last, leader.config.Store.Index())
	}
	sameState(t, leader.config.Store, want)
	leader.put(102)
	c.awaitSameState(leader)
	if err := leader.Snapshot(); err != nil {
		t.Errorf("a snapshot afterwards: %v", err)
	}
}

// TestRestoreExcludesLead: lead ends before a restore and is called again after it. No
// entry is decided on one state and applied to the other.
func TestRestoreExcludesLead(t *testing.T) {
	conf := testConfig(t, t.TempDir())
	l := mustOpen(t, conf)
	if err := l.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	var leads, written atomic.Int32
	var restoring atomic.Bool
	m := run(t, l, func(ctx context.Context, term uint64) error {
		leads.Add(1)
		for n := 0; ctx.Err() == nil; n++ {
			if restoring.Load() {
				t.Error("leading goes on while a restore is prepared")
			}
			prev := l.config.Store.Index()
			version := uint64(0)
			change := nodeChange(n % 10)
			if old := l.config.Store.Snapshot().Node(change.ID); old != nil {
				version = old.ModifyIndex
			}
			change.Version = version
			_, err := l.Propose(ctx, encode(t, term, prev, change))
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			}
			written.Add(1)
		}
		return nil
	})
	m.waitLeader()
	for round := range 10 {
		was := written.Load()
		eventually(t, "entries are written", func() bool { return written.Load() > was+5 })
		_, err := m.Restore(context.Background(), 0, func(index uint64) (int64, io.Reader, error) {
			restoring.Store(true)
			defer restoring.Store(false)
			b := rowsAt(t, index, 2)
			return int64(len(b)), bytes.NewReader(b), nil
		})
		if err != nil {
			t.Fatalf("restore %d: %v", round, err)
		}
	}
	was := written.Load()
	eventually(t, "entries are written", func() bool { return written.Load() > was+5 })
	if n := leads.Load(); n != 11 {
		t.Errorf("leading began %d times, want 11: an entry was refused, or it was not ended", n)
	}
	// Several at once take turns.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := m.restore(1); err != nil {
				t.Errorf("one of several at once: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestRestoreRefusals(t *testing.T) {
	c := startSteadyServers(t)
	at := c.leader(0, 1, 2)
	leader := c.members[at]
	leader.put(1)
	before := leader.config.Store.Snapshot()
	no := errors.New("no")
	for name, prepare := range map[string]func(uint64) (int64, io.Reader, error){
		"prepare fails":            func(uint64) (int64, io.Reader, error) { return 0, nil, no },
		"the stream breaks off":    func(uint64) (int64, io.Reader, error) { return 100, bytes.NewReader(make([]byte, 50)), nil },
		"the stream can't be read": func(uint64) (int64, io.Reader, error) { return 100, errorReader{no}, nil },
	} {
		started, err := leader.Restore(context.Background(), 0, prepare)
		if started || err == nil || structs.CodeOf(err) == structs.CodeNoLeader {
			t.Errorf("%s: started %v, %v", name, started, err)
		}
		if leader.config.Store.Snapshot() != before {
			t.Errorf("%s: the state has changed", name)
		}
	}
	if err := c.members[(at+1)%3].restore(1); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a follower restores: %v", err)
	}
	leader.put(2)
	c.connect(false, at)
	eventually(t, "it leads no longer", func() bool { return !leader.IsLeader() })
	if err := leader.restore(1); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("one that was deposed restores: %v", err)
	}
	c.connect(true, at)
	c.members[c.leader(0, 1, 2)].put(3)
}

// TestLeaderLostDuringRestore: the leader is cut off while it restores. The other
// servers keep their state with every acknowledged write, and continue. The old leader
// never leads with its state, and follows again at the latest once it has an empty
// directory.
func TestLeaderLostDuringRestore(t *testing.T) {
	c := startSteadyServers(t)
	at := c.leader(0, 1, 2)
	lost := c.members[at]
	var last uint64
	for n := range 5 {
		last = lost.put(n)
	}
	c.awaitSameState(lost)
	_, err := lost.Restore(t.Context(), 0, func(index uint64) (int64, io.Reader, error) {
		b := rowsAt(t, index, 3)
		c.connect(false, at)
		return int64(len(b)), bytes.NewReader(b), nil
	})
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("the restore ended with %v", err)
	}
	others := []int{(at + 1) % 3, (at + 2) % 3}
	leader := c.members[c.leader(others...)]
	if leader.config.Store.Index() < last || leader.config.Store.Snapshot().Node(nodeChange(4).ID) == nil ||
		leader.config.Store.Snapshot().Node(nodeChange(1000).ID) != nil {
		t.Errorf("I1: the others are at %d after %d was acknowledged", leader.config.Store.Index(), last)
	}
	leader.put(50)
	c.connect(true, at)
	for n := range 10 {
		now := c.members[c.leader(0, 1, 2)]
		if now == lost && lost.config.Store.Snapshot().Node(nodeChange(50).ID) == nil {
			t.Fatal("it leads with a state that nobody else has")
		}
		now.put(60 + n)
	}

	lost.stop()
	c.connect(false, at)
	conf := lost.config
	conf.DataDir, conf.Store = t.TempDir(), state.New()
	c.members[at] = run(t, mustOpen(t, conf), idle)
	c.connect(true, at)
	leader = c.members[c.leader(others...)]
	leader.put(70)
	c.awaitSameState(leader)
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
