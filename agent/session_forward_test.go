package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// podAddr is an address that a pod in a fake engine has.
const podAddr = "198.18.7.7"

// forwardHost runs an agent with pod a. Connections to the pod's port 80 are handled by serve,
// other ports refuse. dialed is called before each connection; it may be nil.
func forwardHost(t *testing.T, serve func(*net.TCPConn), dialed func(*backendtest.Fake, structs.Assignment)) (
	s *fakeServer, fake *backendtest.Fake, a structs.Assignment,
) {
	t.Helper()
	s, fake = newFakeServer(t), backendtest.NewFake()
	fake.Outside.SetAddress(podAddr)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	a = wantPod("a", noInit, func(s *structs.PodSpec) { s.Containers[0] = script("web", "sleep 1000") })
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, func(c *Config) {
		c.MaxSessions = 3
		c.dialTCP = func(ctx context.Context, to netip.AddrPort) (backend.Conn, error) {
			if dialed != nil {
				dialed(fake, a)
			}
			switch to.String() {
			case podAddr + ":80":
				return dialTCP(ctx, netip.MustParseAddrPort(listener.Addr().String()))
			case podAddr + ":81":
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			t.Errorf("the agent connects to %s", to)
			return nil, errors.New("not the pod")
		}
	}, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	return s, fake, a
}

// forwardOffer offers a connection to a port of pod a.
func forwardOffer(a structs.Assignment, port int) structs.SessionOffer {
	offer := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionForward, Port: port}
	ref := a.Ref()
	ref.Part = structs.PodInfra
	offer.About(ref)
	return offer
}

// upper answers the whole of what it gets, in upper case, after its end.
func upper(conn *net.TCPConn) {
	defer conn.Close()
	all, _ := io.ReadAll(conn) // the user sees what is missing
	_, _ = conn.Write(bytes.ToUpper(all))
}

func TestForward(t *testing.T) {
	s, _, a := forwardHost(t, upper, nil)
	conn := s.offer(forwardOffer(a, 80))
	say(t, conn, structs.ChannelStdin, "hel")
	say(t, conn, structs.ChannelStdin, "lo")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := listen(t, conn); got.stdout != "HELLO" || !got.last.Done {
		t.Errorf("%+v", got)
	}
	if got := listen(t, s.offer(forwardOffer(a, 81))); got.last.Code != structs.CodeUnavailable ||
		got.last.Error != "the pod takes no connection on port 81: connection refused" {
		t.Errorf("port 81: %+v", got)
	}
	for _, port := range []int{0, -1, 65536} {
		if got := listen(t, s.offer(forwardOffer(a, port))); got.last.Code != structs.CodeInvalid {
			t.Errorf("port %d: %+v", port, got)
		}
	}
	whole := forwardOffer(a, 80)
	whole.Part = "web"
	if got := listen(t, s.offer(whole)); got.last.Code != structs.CodeInvalid {
		t.Errorf("of a part that has no address: %+v", got)
	}
}

// TestForwardEndsByDirection: after the pod has sent all, it still gets the rest.
func TestForwardEndsByDirection(t *testing.T) {
	rest := make(chan string, 1)
	s, _, a := forwardHost(t, func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = io.WriteString(conn, "bye")
		_ = conn.CloseWrite()
		all, _ := io.ReadAll(conn)
		rest <- string(all)
	}, nil)
	conn := s.offer(forwardOffer(a, 80))
	for _, want := range []string{"\x01bye", "\x03" + `{"eof":true}`} {
		if _, m, err := conn.Read(t.Context()); err != nil || string(m) != want {
			t.Fatalf("message %q, %v", m, err)
		}
	}
	say(t, conn, structs.ChannelStdin, "later")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := <-rest; got != "later" {
		t.Errorf("the pod gets %q", got)
	}
	if got := listen(t, conn); !got.last.Done {
		t.Errorf("%+v", got)
	}
}

// TestForwardThatBreaks: neither side takes what it has got for all.
func TestForwardThatBreaks(t *testing.T) {
	ended := make(chan error, 1)
	s, _, a := forwardHost(t, func(conn *net.TCPConn) {
		defer conn.Close()
		first := make([]byte, 5)
		if _, err := io.ReadFull(conn, first); err == nil && string(first) == "reset" {
			_ = conn.SetLinger(0)
			return
		}
		_, _ = conn.Write(first)
		_, err := io.ReadAll(conn)
		ended <- err
	}, nil)
	conn := s.offer(forwardOffer(a, 80))
	say(t, conn, structs.ChannelStdin, "reset")
	if got := listen(t, conn); got.last.Code != structs.CodeUnavailable || !strings.Contains(got.last.Error, "connection reset by peer") {
		t.Errorf("a pod that resets: %+v", got)
	}
	conn = s.offer(forwardOffer(a, 80))
	say(t, conn, structs.ChannelStdin, "hello")
	if _, m, err := conn.Read(t.Context()); err != nil || string(m) != "\x01hello" {
		t.Fatalf("message %q, %v", m, err)
	}
	_ = conn.CloseNow() // the user leaves without a word
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the pod sees %v", err)
	}
}

// TestForwardReachesThePodOnly: whatever address the engine reports, and if another container
// may have got the address.
func TestForwardReachesThePodOnly(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "fe80::1%lo", "", "x",
	} {
		if addr, err := netip.ParseAddr(address); err == nil && isPodAddress(addr) {
			t.Errorf("a pod may have the address %s", address)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range own {
		if addr, ok := netip.AddrFromSlice(n.(*net.IPNet).IP); !ok || isPodAddress(addr) {
			t.Errorf("a pod may have this host's address %s", n)
		}
	}
	accepted := make(chan error, 2)
	s, _, a := forwardHost(t, func(conn *net.TCPConn) {
		defer conn.Close()
		all, err := io.ReadAll(conn)
		if len(all) > 0 {
			err = errors.New("bytes arrive")
		}
		accepted <- err
	}, func(fake *backendtest.Fake, a structs.Assignment) {
		fake.Outside.SetAddress("127.0.0.1")
		fake.Outside.Kill(of(a, structs.PodInfra))
	})
	conn := s.offer(forwardOffer(a, 80))
	say(t, conn, structs.ChannelStdin, "secret")
	if got := listen(t, conn); got.last.Code != structs.CodeConflict || got.stdout != "" {
		t.Errorf("while the pod's network is made again: %+v", got)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	s.eventually("the pod has its next address", func() bool { return slices.Contains(s.reported["a"].Addresses, "127.0.0.1") })
	if got := listen(t, s.offer(forwardOffer(a, 80))); got.last.Code != structs.CodeConflict ||
		!strings.Contains(got.last.Error, "127.0.0.1") {
		t.Errorf("to the host: %+v", got)
	}
}

// TestForwardsLeaveRoom: connections don't take the sessions of logs.
func TestForwardsLeaveRoom(t *testing.T) {
	s, _, a := forwardHost(t, func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}, nil)
	var open []*websocket.Conn
	for range 2 { // of three sessions
		conn := s.offer(forwardOffer(a, 80))
		say(t, conn, structs.ChannelStdin, "x")
		if _, m, err := conn.Read(t.Context()); err != nil || string(m) != "\x01x" {
			t.Fatalf("message %q, %v", m, err)
		}
		open = append(open, conn)
	}
	if got := listen(t, s.offer(forwardOffer(a, 80))); got.last.Code != structs.CodeUnavailable ||
		!strings.Contains(got.last.Error, "forwards 2 connections") {
		t.Errorf("one more: %+v", got)
	}
	logs := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionLogs, Logs: &structs.LogsRequest{Stdout: true, Tail: -1}}
	logs.About(a.Ref())
	if got := listen(t, s.offer(logs)); !got.last.Done {
		t.Errorf("logs: %+v", got)
	}
	for _, conn := range open {
		_ = conn.CloseNow()
	}
}
