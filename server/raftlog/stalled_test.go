package raftlog

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
	"github.com/stackforge/magnum/structs"
)

const (
	clusterA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	clusterB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

// logBuffer is a log writer that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (h *logBuffer) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(b)
}

func (h *logBuffer) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

func TestPeerRefusals(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	ctx := context.Background()
	for name, tc := range map[string]struct {
		err  error
		code structs.Code
	}{
		"remove a stranger":      {m.RemovePeer(ctx, clusterB), structs.CodeNotFound},
		"remove the only voter":  {m.RemovePeer(ctx, m.config.ServerID), structs.CodeConflict},
		"transfer to a stranger": {m.Transfer(ctx, clusterB), structs.CodeNotFound},
		"transfer to itself":     {m.Transfer(ctx, m.config.ServerID), structs.CodeConflict},
		"transfer to nobody":     {m.Transfer(ctx, ""), structs.CodeConflict},
	} {
		if structs.CodeOf(tc.err) != tc.code {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
}

// stalled is the rest of a snapshot stream that never comes.
type stalled struct{ gone chan struct{} }

func (s stalled) Read([]byte) (int, error) { <-s.gone; return 0, io.EOF }

// leads starts a server that makes a follower accept it as the leader, and stops in the
// middle of a snapshot.
func leads(t *testing.T, follower *member) *raft.NetworkTransport {
	t.Helper()
	keep := func(string) error { return nil }
	s, err := transport.Listen(transport.Config{ServerID: structs.NewID(), BindAddr: "127.0.0.1:0", Logger: hclog.NewNullLogger()},
		transport.NewClusterID(clusterA, keep))
	if err != nil {
		t.Fatal(err)
	}
	calls := raft.NewNetworkTransport(s, 3, 10*time.Second, io.Discard)
	gone := make(chan struct{})
	var sending sync.WaitGroup
	t.Cleanup(func() {
		close(gone)
		calls.Close()
		s.Close()
		sending.Wait()
	})
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte(s.Addr().String())}
	address := transport.TargetOf(raft.ServerID(follower.config.ServerID), follower.transport.LocalAddr())
	sending.Go(func() {
		var resp raft.InstallSnapshotResponse
		_ = calls.InstallSnapshot("follower", address, &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: 5, LastLogIndex: 100, LastLogTerm: 5, Size: 100 << 10,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "leader",
				Address: raft.ServerAddress(s.Addr().String())}}}),
		}, &resp, io.MultiReader(bytes.NewReader(make([]byte, 50<<10)), stalled{gone}))
	})
	eventually(t, "the snapshot is on its way", func() bool { id, _ := follower.Leader(); return id == "leader" })
	return calls
}

func startFollower(t *testing.T) *member {
	c := testConfig(t, t.TempDir())
	c.BindAddr, c.ClusterID = "127.0.0.1:0", clusterA
	c.Granted = func(id string) bool { return id == clusterA }
	return run(t, mustOpen(t, c), idle)
}

// A leader that falls silent in the middle of a snapshot is abandoned: the follower
// answers other servers again.
func TestStalledSnapshotIsAbandoned(t *testing.T) {
	t.Parallel()
	m := startFollower(t)
	calls := leads(t, m)
	var resp raft.RequestVoteResponse
	began := time.Now()
	err := calls.RequestVote("follower", transport.TargetOf(raft.ServerID(m.config.ServerID), m.transport.LocalAddr()),
		&raft.RequestVoteRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("other"),
				Addr: []byte("127.0.0.1:1")}, Term: 6, LastLogIndex: 100, LastLogTerm: 5, LeadershipTransfer: true,
		}, &resp)
	if err != nil || !resp.Granted {
		t.Errorf("after %v: %+v, %v", time.Since(began), resp, err)
	}
}

// Close doesn't wait for a silent server. On a busy machine it may take as long, but not each
// time.
func TestCloseWaitsForNoSilentServer(t *testing.T) {
	t.Parallel()
	for tries := 1; ; tries++ {
		m := startFollower(t)
		leads(t, m)
		began := time.Now()
		m.stop()
		took := time.Since(began)
		if took < transport.StallTimeout*9/10 {
			return
		}
		if tries == 5 {
			t.Fatalf("it took %v", took)
		}
	}
}
