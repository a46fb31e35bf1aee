package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// sessionServer returns a client of a server that passes each WebSocket to serve.
func sessionServer(t testing.TB, serve func(ctx context.Context, r *http.Request, conn *websocket.Conn)) *Client {
	t.Helper()
	return newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1" { // is the token still good?
			_, _ = io.WriteString(w, "{}")
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting a session: %v", err)
			return
		}
		defer conn.CloseNow()
		serve(r.Context(), r, conn)
		conn.Close(websocket.StatusNormalClosure, "")
	})
}

func sendTest(t testing.TB, ctx context.Context, conn *websocket.Conn, channel byte, data string) {
	t.Helper()
	if err := conn.Write(ctx, websocket.MessageBinary, append([]byte{channel}, data...)); err != nil {
		t.Errorf("sending on channel %d: %v", channel, err)
	}
}

func TestExecuteInteractive(t *testing.T) {
	c := sessionServer(t, func(ctx context.Context, r *http.Request, conn *websocket.Conn) {
		want := "/v1/containers/c1/execute/ws?command=%5B%22cat%22%5D&h=24&stdin=true&tty=true&user=root&w=80"
		if got := r.URL.RequestURI(); got != want {
			t.Errorf("asked %s", got)
		}
		if r.Header.Get(HeaderToken) != "tok123" {
			t.Errorf("token %q", r.Header.Get(HeaderToken))
		}
		// Echo the input until its end and until a new size came, then end.
		var size structs.Resize
		for eof := false; !eof || size.Width == 0; {
			_, m, err := conn.Read(ctx)
			if err != nil {
				t.Errorf("reading: %v", err)
				return
			}
			switch m[0] {
			case structs.ChannelStdin:
				sendTest(t, ctx, conn, structs.ChannelStdout, string(m[1:]))
			case structs.ChannelControl:
				var ctl structs.Control
				if err := json.Unmarshal(m[1:], &ctl); err != nil {
					t.Errorf("control %s: %v", m[1:], err)
				}
				eof = eof || ctl.EOF
				if ctl.Resize != nil {
					size = *ctl.Resize
				}
			}
		}
		if size != (structs.Resize{Width: 100, Height: 30}) {
			t.Errorf("size %+v", size)
		}
		sendTest(t, ctx, conn, structs.ChannelStderr, "bad")
		sendTest(t, ctx, conn, structs.ChannelControl, `{"exit_code":7}`)
	})
	sizes := make(chan structs.Resize, 1)
	sizes <- structs.Resize{Width: 100, Height: 30}
	var out, errOut bytes.Buffer
	code, err := c.Containers().ExecuteInteractive(t.Context(), "c1",
		structs.ExecRequest{Command: []string{"cat"}, TTY: true, Stdin: true, User: "root", Width: 80, Height: 24},
		Streams{Stdin: strings.NewReader(strings.Repeat("x", 40000)), Stdout: &out, Stderr: &errOut, Resize: sizes})
	if err != nil || code != 7 || out.Len() != 40000 || errOut.String() != "bad" {
		t.Errorf("code %d, %d bytes out, stderr %q, %v; want 7, 40000, bad", code, out.Len(), errOut.String(), err)
	}
}

func TestExecuteInteractiveErrors(t *testing.T) {
	req := structs.ExecRequest{Command: []string{"sh"}}
	t.Run("refused", func(t *testing.T) {
		c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 409, "", `{"errors":[{"code":"container.conflict","detail":"Container c1 is Stopped."}]}`)
		})
		_, err := c.Containers().ExecuteInteractive(t.Context(), "c1", req, Streams{})
		if structs.CodeOf(err) != structs.CodeConflict || err.Error() != "Container c1 is Stopped." {
			t.Errorf("got %v", err)
		}
	})
	t.Run("error in the session", func(t *testing.T) {
		c := sessionServer(t, func(ctx context.Context, _ *http.Request, conn *websocket.Conn) {
			sendTest(t, ctx, conn, structs.ChannelControl, `{"error":"no such program","code":"invalid"}`)
		})
		_, err := c.Containers().ExecuteInteractive(t.Context(), "c1", req, Streams{})
		if structs.CodeOf(err) != structs.CodeInvalid || err.Error() != "no such program" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("broken", func(t *testing.T) {
		c := sessionServer(t, func(_ context.Context, _ *http.Request, conn *websocket.Conn) { conn.CloseNow() })
		_, err := c.Containers().ExecuteInteractive(t.Context(), "c1", req, Streams{})
		if structs.CodeOf(err) != structs.CodeUnavailable {
			t.Errorf("got %v, want unavailable", err)
		}
	})
	t.Run("output can't be written", func(t *testing.T) {
		c := sessionServer(t, func(ctx context.Context, _ *http.Request, conn *websocket.Conn) {
			sendTest(t, ctx, conn, structs.ChannelStdout, "x")
			conn.Read(ctx)
		})
		r, w := io.Pipe()
		r.Close()
		_, err := c.Containers().ExecuteInteractive(t.Context(), "c1", req, Streams{Stdout: w})
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want the writer's own error", err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		c := sessionServer(t, func(ctx context.Context, _ *http.Request, conn *websocket.Conn) { conn.Read(ctx) })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := c.Containers().ExecuteInteractive(ctx, "c1", req, Streams{})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("no command", func(t *testing.T) {
		c := sessionServer(t, func(context.Context, *http.Request, *websocket.Conn) { t.Error("asked the server") })
		if _, err := c.Containers().ExecuteInteractive(t.Context(), "c1", structs.ExecRequest{},
			Streams{}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("got %v, want invalid", err)
		}
	})
}

func TestExecuteDecodesBase64Output(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("encoding") != "base64" {
			t.Errorf("asked %s", r.URL.RawQuery)
		}
		answer(w, 200, "", `{"output":"//4AQQ==","stdout":"//4A","stderr":"QQ==","exit_code":3,"encoding":"base64","truncated":true}`)
	})
	body, _, err := c.Containers().Execute(t.Context(), "c1", structs.ExecRequest{Command: []string{"cat"}})
	if err != nil || body.Output != "\xff\xfe\x00A" || *body.Stdout != "\xff\xfe\x00" || *body.Stderr != "A" || *body.ExitCode != 3 ||
		!body.Truncated || body.Encoding != "" {
		t.Errorf("%+v, %v", body, err)
	}
}
