package transport

import (
	"bytes"
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

// calledServer is the ID of the server whose streams the tests open.
const calledServer = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"

// calling returns the preamble of a caller that names the cluster and calls the server.
func calling(t *testing.T, cluster string) string {
	t.Helper()
	words, err := preamble(cluster, calledServer)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

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

// listening opens a stream on loopback for a server of the cluster.
func listening(t *testing.T, id *ClusterID) (*Stream, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	s, err := Listen(Config{ServerID: calledServer, BindAddr: "127.0.0.1:0", Logger: hclog.New(&hclog.LoggerOptions{Output: log})}, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, log
}

// callWith connects to the stream, sends the words, and returns the connection.
func callWith(t *testing.T, s *Stream, words string) net.Conn {
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

// isRefused waits until the stream has closed the connection.
func isRefused(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the connection is still there: %v", err)
	}
}

// isAccepted waits for the next accepted connection.
func isAccepted(t *testing.T, s *Stream) {
	t.Helper()
	select {
	case conn := <-s.accepted:
		conn.Close()
	case <-time.After(patience):
		t.Error("the connection is not let in")
	}
}

func keepNothing(string) error { return nil }

const patience = time.Minute

var errKept = errors.New("disk is broken")

func TestCallersThatAreNoServersAreRefused(t *testing.T) {
	s, log := listening(t, NewClusterID(clusterA, keepNothing))
	for _, words := range []string{
		strings.Repeat("x", preambleSize),
		"GET / HTTP/1.1\r\nHost: magnum\r\nUser-Agent: nobody of this cluster\r\n\r\n",
		"magnum-raft-9 " + clusterA,
		preambleWord + strings.Repeat("z", 36) + string([]byte{3}) + "abc",
		preambleWord + clusterA + string([]byte{3}) + "abc",
	} {
		isRefused(t, callWith(t, s, words))
	}
	if log.String() != "" {
		t.Errorf("anybody can fill the log: %s", log)
	}
	callWith(t, s, calling(t, clusterA))
	isAccepted(t, s)
	callWith(t, s, calling(t, ""))
	isAccepted(t, s)
}

func TestRefusalOfOtherClusterIsLoggedOnce(t *testing.T) {
	s, log := listening(t, NewClusterID(clusterA, keepNothing))
	for range 3 {
		isRefused(t, callWith(t, s, calling(t, clusterB)))
	}
	if text := log.String(); strings.Count(text, clusterB) == 0 || strings.Count(text, "connection of a server refused") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
}

// TestCallOfAnotherServerIsRefused: a call of the server that had this address before
// gets no answer, and doesn't make this server join the caller's cluster.
func TestCallOfAnotherServerIsRefused(t *testing.T) {
	id := &ClusterID{keep: keepNothing}
	s, log := listening(t, id)
	other, err := preamble(clusterA, clusterB)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		isRefused(t, callWith(t, s, other))
	}
	if id.Get() != "" {
		t.Errorf("it has joined %q, whose call was for another server", id.Get())
	}
	if text := log.String(); strings.Count(text, clusterB) == 0 || strings.Count(text, "connection of a server refused") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
	callWith(t, s, calling(t, clusterA))
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
	id := &ClusterID{keep: func(c string) error { kept = append(kept, c); return nil }}
	s, _ := listening(t, id)
	callWith(t, s, calling(t, ""))
	isAccepted(t, s)
	if id.Get() != "" {
		t.Errorf("it has joined %q of a server without one", id.Get())
	}
	callWith(t, s, calling(t, clusterB))
	isAccepted(t, s)
	isRefused(t, callWith(t, s, calling(t, clusterA)))
	if id.Get() != clusterB || len(kept) != 1 || kept[0] != clusterB {
		t.Errorf("it has joined %q and kept %v", id.Get(), kept)
	}
	// A cluster whose ID can't be stored is not joined.
	broken := &ClusterID{keep: func(string) error { return errKept }}
	s, _ = listening(t, broken)
	isRefused(t, callWith(t, s, calling(t, clusterB)))
	if broken.Get() != "" {
		t.Errorf("it has joined %q without a trace on disk", broken.Get())
	}
}

// TestSlowCallerDelaysNoOther: handshakes run independently, and Close cuts slow
// callers off.
func TestSlowCallerDelaysNoOther(t *testing.T) {
	var dial, end time.Duration
	for range 5 { // a busy machine may take as long as a handshake, but not each time
		dial, end = besideSlowCallers(t)
		if max(dial, end) < handshakeTimeout*9/10 {
			return
		}
	}
	t.Errorf("beside callers that say nothing a server waited %v, and Close %v", dial, end)
}

// besideSlowCallers returns how long a server waits to be let in, and how long Close takes.
func besideSlowCallers(t *testing.T) (dial, end time.Duration) {
	t.Helper()
	s, _ := listening(t, NewClusterID(clusterA, keepNothing))
	for range 5 {
		callWith(t, s, preambleWord) // the rest never comes
	}
	began := time.Now()
	conn, err := s.Dial(TargetOf(calledServer, raft.ServerAddress(s.Addr().String())), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	isAccepted(t, s)
	dial = time.Since(began)
	began = time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	end = time.Since(began)
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	return dial, end
}

func TestUnspecifiedAddressIsNotAdvertised(t *testing.T) {
	for _, c := range []Config{{BindAddr: "0.0.0.0:0"}, {BindAddr: "127.0.0.1:0", Advertise: "0.0.0.0:9512"}} {
		c.Logger = hclog.NewNullLogger()
		s, err := Listen(c, &ClusterID{})
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-advertise") {
			t.Errorf("%+v: %v", c.BindAddr, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// A connection may be idle for any time between two requests.
func TestReadDeadlineCoversOnlyRestOfRequest(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	deadlines := &deadlineConn{Conn: near}
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

// deadlineConn is a connection that records its deadlines.
type deadlineConn struct {
	net.Conn
	until time.Time
	calls int
}

func (n *deadlineConn) SetReadDeadline(t time.Time) error {
	n.until = t
	n.calls++
	return nil
}
