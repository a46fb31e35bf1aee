package raftlog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

const (
	clusterA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	clusterB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

// calledServer is the server that the tests' streams are of.
const calledServer = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"

// calling is the preamble of a caller that names the cluster and means that server.
func calling(t *testing.T, cluster string) string {
	t.Helper()
	words, err := preamble(cluster, calledServer)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// heard is a log that may be read while it is written.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// listening opens a stream on loopback for a server of the cluster.
func listening(t *testing.T, id *identity) (*stream, *heard) {
	t.Helper()
	log := new(heard)
	s, err := listen(Config{ServerID: calledServer, BindAddr: "127.0.0.1:0", Logger: hclog.New(&hclog.LoggerOptions{Output: log})}, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, log
}

// says calls the stream with the first words, and returns the connection.
func says(t *testing.T, s *stream, words string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, words); err != nil {
		t.Fatal(err)
	}
	return conn
}

// isRefused waits until the stream has hung up.
func isRefused(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the connection is still there: %v", err)
	}
}

// isAccepted waits for the next connection that is let in.
func isAccepted(t *testing.T, s *stream) {
	t.Helper()
	select {
	case conn := <-s.accepted:
		conn.Close()
	case <-time.After(patience):
		t.Error("the connection is not let in")
	}
}

func keepNothing(string) error { return nil }

func TestCallersThatAreNoServersAreRefused(t *testing.T) {
	s, log := listening(t, &identity{cluster: clusterA, keep: keepNothing})
	for _, words := range []string{
		strings.Repeat("x", preambleSize),
		"GET / HTTP/1.1\r\nHost: magnum\r\nUser-Agent: nobody of this cluster\r\n\r\n",
		"magnum-raft-9 " + clusterA,
		preambleWord + strings.Repeat("z", 36) + string([]byte{3}) + "abc",
		preambleWord + clusterA + string([]byte{3}) + "abc",
	} {
		isRefused(t, says(t, s, words))
	}
	if log.String() != "" {
		t.Errorf("anybody can fill the log: %s", log)
	}
	says(t, s, calling(t, clusterA))
	isAccepted(t, s)
	says(t, s, calling(t, ""))
	isAccepted(t, s)
}

func TestServerOfAnotherClusterIsNamedOnce(t *testing.T) {
	s, log := listening(t, &identity{cluster: clusterA, keep: keepNothing})
	for range 3 {
		isRefused(t, says(t, s, calling(t, clusterB)))
	}
	if text := log.String(); strings.Count(text, clusterB) == 0 || strings.Count(text, "a server is refused") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
}

// TestCallOfAnotherServerIsRefused: whoever means the server that was at this
// address before is not answered, and makes this one no member of its cluster.
func TestCallOfAnotherServerIsRefused(t *testing.T) {
	id := &identity{keep: keepNothing}
	s, log := listening(t, id)
	other, err := preamble(clusterA, clusterB)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		isRefused(t, says(t, s, other))
	}
	if id.get() != "" {
		t.Errorf("it has joined %q, whose call was for another server", id.get())
	}
	if text := log.String(); strings.Count(text, clusterB) == 0 || strings.Count(text, "a server is refused") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
	says(t, s, calling(t, clusterA))
	isAccepted(t, s)
	if _, err := preamble(clusterA, strings.Repeat("x", maxServerID+1)); err == nil {
		t.Error("an id that is too long is called")
	}
	for _, target := range []raft.ServerAddress{"", "127.0.0.1:1", "@127.0.0.1:1", "id@"} {
		if _, err := s.Dial(target, patience); err == nil || !strings.Contains(err.Error(), "names no server") {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestServerWithoutAClusterJoinsTheFirst(t *testing.T) {
	var kept []string
	id := &identity{keep: func(c string) error { kept = append(kept, c); return nil }}
	s, _ := listening(t, id)
	says(t, s, calling(t, ""))
	isAccepted(t, s)
	if id.get() != "" {
		t.Errorf("it has joined %q of a server without one", id.get())
	}
	says(t, s, calling(t, clusterB))
	isAccepted(t, s)
	isRefused(t, says(t, s, calling(t, clusterA)))
	if id.get() != clusterB || len(kept) != 1 || kept[0] != clusterB {
		t.Errorf("it has joined %q and kept %v", id.get(), kept)
	}
	// What can't be kept is not joined.
	broken := &identity{keep: func(string) error { return errDisk }}
	s, _ = listening(t, broken)
	isRefused(t, says(t, s, calling(t, clusterB)))
	if broken.get() != "" {
		t.Errorf("it has joined %q without a trace on disk", broken.get())
	}
}

// TestSlowCallerHoldsNobodyUp, and Close waits for no caller that can still be
// cut off.
func TestSlowCallerHoldsNobodyUp(t *testing.T) {
	s, _ := listening(t, &identity{cluster: clusterA, keep: keepNothing})
	for range 5 {
		says(t, s, preambleWord) // and no more
	}
	began := time.Now()
	conn, err := s.Dial(targetOf(calledServer, raft.ServerAddress(s.Addr().String())), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	isAccepted(t, s)
	if took := time.Since(began); took > shakeTimeout/2 {
		t.Errorf("a server waited %v behind callers that say nothing", took)
	}
	began = time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > shakeTimeout/2 {
		t.Errorf("Close took %v: it waits for callers that say nothing", took)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

func TestUnspecifiedAddressIsNotAdvertised(t *testing.T) {
	for _, c := range []Config{{BindAddr: "0.0.0.0:0"}, {BindAddr: "127.0.0.1:0", Advertise: "0.0.0.0:9512"}} {
		c.Logger = hclog.NewNullLogger()
		s, err := listen(c, &identity{})
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-advertise") {
			t.Errorf("%+v: %v", c.BindAddr, err)
		}
		if err == nil {
			s.Close()
		}
	}
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

// stalled is a snapshot of which nothing comes but the beginning.
type stalled struct{ gone chan struct{} }

func (s stalled) Read([]byte) (int, error) { <-s.gone; return 0, io.EOF }

// leads is a server that has a follower call it the leader, and stops in the
// middle of a snapshot.
func leads(t *testing.T, follower *member) *raft.NetworkTransport {
	t.Helper()
	s, _ := listening(t, &identity{cluster: clusterA, keep: keepNothing})
	transport := raft.NewNetworkTransport(s, 3, 10*time.Second, io.Discard)
	gone := make(chan struct{})
	var sending sync.WaitGroup
	t.Cleanup(func() {
		close(gone)
		transport.Close()
		sending.Wait()
	})
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte(s.Addr().String())}
	address := targetOf(raft.ServerID(follower.config.ServerID), follower.transport.LocalAddr())
	sending.Go(func() {
		var resp raft.InstallSnapshotResponse
		_ = transport.InstallSnapshot("follower", address, &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: 5, LastLogIndex: 100, LastLogTerm: 5, Size: 100 << 10,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "leader", Address: raft.ServerAddress(s.Addr().String())}}}),
		}, &resp, io.MultiReader(bytes.NewReader(make([]byte, 50<<10)), stalled{gone}))
	})
	eventually(t, "the snapshot is on its way", func() bool { id, _ := follower.Leader(); return id == "leader" })
	return transport
}

func startFollower(t *testing.T) *member {
	c := testConfig(t, t.TempDir())
	c.BindAddr, c.ClusterID = "127.0.0.1:0", clusterA
	c.Granted = func(id string) bool { return id == clusterA }
	return run(t, mustOpen(t, c), idle)
}

// A leader that falls silent in the middle of a snapshot is given up: the server
// answers others again.
func TestStalledSnapshotIsGivenUp(t *testing.T) {
	t.Parallel()
	m := startFollower(t)
	transport := leads(t, m)
	var resp raft.RequestVoteResponse
	began := time.Now()
	err := transport.RequestVote("follower", targetOf(raft.ServerID(m.config.ServerID), m.transport.LocalAddr()), &raft.RequestVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("other"), Addr: []byte("127.0.0.1:1")}, Term: 6, LastLogIndex: 100, LastLogTerm: 5, LeadershipTransfer: true,
	}, &resp)
	if err != nil || !resp.Granted {
		t.Errorf("after %v: %+v, %v", time.Since(began), resp, err)
	}
}

// A server that is stopped waits for nobody who is silent.
func TestCloseWaitsForNoSilentServer(t *testing.T) {
	t.Parallel()
	m := startFollower(t)
	leads(t, m)
	began := time.Now()
	m.stop()
	if took := time.Since(began); took > stallTimeout/2 {
		t.Errorf("it took %v", took)
	}
}

// A connection may be idle for as long as it likes between two requests.
func TestDeadlineIsForTheRestOfARequest(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	deadlines := &noting{Conn: near}
	c := &incoming{Conn: deadlines}
	read := func(text string) {
		t.Helper()
		go far.Write([]byte(text))
		b := make([]byte, len(text))
		if _, err := c.Read(b); err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	answer := func() {
		t.Helper()
		go far.Read(make([]byte, 2))
		if _, err := c.Write([]byte("ok")); err != nil {
			t.Fatal(err)
		}
	}
	bound := func(want bool, calls int) {
		t.Helper()
		if got := !deadlines.until.IsZero(); got != want || deadlines.calls != calls {
			t.Errorf("deadline %v set in %d calls; want one %v in %d", deadlines.until, deadlines.calls, want, calls)
		}
	}
	read("a request at once")
	answer()
	read("another")
	bound(false, 0)
	read("and the rest of it")
	bound(true, 1)
	answer()
	read("the next")
	bound(false, 2)
}

// noting is a connection that notes its deadlines.
type noting struct {
	net.Conn
	until time.Time
	calls int
}

func (n *noting) SetReadDeadline(t time.Time) error {
	n.until = t
	n.calls++
	return nil
}
