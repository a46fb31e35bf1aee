package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// localPair returns both ends of a local TCP connection: the one to forward, and the user's.
func localPair(t *testing.T) (local, user *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	return (<-accepted).(*net.TCPConn), dialed.(*net.TCPConn)
}

func TestForward(t *testing.T) {
	c := sessionServer(t, func(ctx context.Context, r *http.Request, conn *websocket.Conn) {
		if got := r.URL.RequestURI(); got != "/v1/pods/web/forward/ws?port=80" {
			t.Errorf("asked %s", got)
		}
		var all strings.Builder
		for {
			_, m, err := conn.Read(ctx)
			if err != nil {
				t.Errorf("reading: %v", err)
				return
			}
			if m[0] == structs.ChannelControl {
				break
			}
			all.Write(m[1:])
		}
		sendTest(t, ctx, conn, structs.ChannelStdout, "") // a probe
		sendTest(t, ctx, conn, structs.ChannelStdout, strings.ToUpper(all.String()))
		sendTest(t, ctx, conn, structs.ChannelControl, `{"eof":true}`)
		sendTest(t, ctx, conn, structs.ChannelControl, `{"done":true}`)
	})
	local, user := localPair(t)
	ended := make(chan error, 1)
	go func() { ended <- c.Pods().Forward(t.Context(), "web", 80, local) }()
	if _, err := io.WriteString(user, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := user.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(user); string(got) != "HELLO" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestForwardThatFails: the local side doesn't take what it has got for all.
func TestForwardThatFails(t *testing.T) {
	c := sessionServer(t, func(ctx context.Context, r *http.Request, conn *websocket.Conn) {
		sendTest(t, ctx, conn, structs.ChannelStdout, "half")
		if _, _, err := conn.Read(ctx); err != nil { // until the user has got it
			t.Error(err)
		}
		if r.URL.Query().Get("port") == "81" {
			sendTest(t, ctx, conn, structs.ChannelControl, `{"error":"it broke","code":"unavailable"}`)
			return
		}
		conn.CloseNow()
	})
	for port, want := range map[int]string{81: "it broke", 82: "the connection to"} {
		local, user := localPair(t)
		ended := make(chan error, 1)
		go func() { ended <- c.Pods().Forward(t.Context(), "web", port, local) }()
		half := make([]byte, 4)
		if _, err := io.ReadFull(user, half); err != nil || string(half) != "half" {
			t.Fatalf("%q, %v", half, err)
		}
		if _, err := io.WriteString(user, "got it"); err != nil {
			t.Fatal(err)
		}
		err := <-ended
		var known *structs.Error
		if !errors.As(err, &known) || known.Code != structs.CodeUnavailable || !strings.HasPrefix(known.Msg, want) {
			t.Errorf("port %d: %v", port, err)
		}
		if _, err := user.Read(half); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("port %d: the local side sees %v, an orderly end", port, err)
		}
	}
	if err := c.Pods().Forward(t.Context(), "", 80, first(localPair(t))); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("no pod: %v", err)
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestForwardEndsWithItsSides: the end of the context and of the local side end the session.
func TestForwardEndsWithItsSides(t *testing.T) {
	gone := make(chan struct{}, 2)
	c := sessionServer(t, func(ctx context.Context, _ *http.Request, conn *websocket.Conn) {
		for {
			if conn.Write(ctx, websocket.MessageBinary, append([]byte{structs.ChannelStdout}, make([]byte, 1<<10)...)) != nil {
				gone <- struct{}{}
				return
			}
		}
	})
	local, user := localPair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	ended := make(chan error, 1)
	go func() { ended <- c.Pods().Forward(ctx, "web", 80, local) }()
	if _, err := io.ReadFull(user, make([]byte, 1<<16)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("after a cancel: %v", err)
	}
	<-gone
	local, user = localPair(t)
	go func() { ended <- c.Pods().Forward(t.Context(), "web", 80, local) }()
	if _, err := io.ReadFull(user, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	user.Close()
	if err := <-ended; err != nil {
		t.Errorf("after the user has left: %v", err)
	}
	<-gone
}
