package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// script is what an agent does in a session. It gets the offers in a channel.
type script struct {
	offers chan structs.SessionOffer
	play   func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn)
}

func newScript() *script { return &script{offers: make(chan structs.SessionOffer, 16)} }

func (s *script) serve(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
	play := s.play // before the offer is sent: its receiver may change play
	s.offers <- offer
	play(ctx, offer, conn)
}

const (
	stdout = structs.ChannelStdout
	stderr = structs.ChannelStderr
	ctl    = structs.ChannelControl
)

func TestLogs(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	id := f.running("c")
	s.play = serveText
	for query, want := range map[string]structs.LogsRequest{
		"": {Stdout: true, Stderr: true, Tail: -1},
		"?stdout=True&stderr=False&timestamps=True&tail=10": {Stdout: true, Timestamps: true, Tail: 10},
		"?tail=all&since=5m":             {Stdout: true, Stderr: true, Tail: -1, Since: "5m"},
		"?since=1429556768":              {Stdout: true, Stderr: true, Tail: -1, Since: "2015-04-20T19:06:08Z"},
		"?since=2015-04-20T19:06:08.5Z":  {Stdout: true, Stderr: true, Tail: -1, Since: "2015-04-20T19:06:08.5Z"},
		"?tail=0&stdout=false&stderr=on": {Stderr: true},
	} {
		r := f.do("GET", "/v1/containers/c/logs"+query, "").is(200)
		if got := r.object()["output"]; got != "out ü\nerr\n" {
			t.Errorf("%s: output %q", query, got)
		}
		offer := <-s.offers
		if offer.Kind != structs.SessionLogs || offer.ContainerID != id || offer.Epoch != 1 || offer.Logs == nil || *offer.Logs != want {
			t.Errorf("%s: offer %+v of %+v, want %+v", query, offer, offer.Logs, want)
		}
	}
	r := f.do("GET", "/v1/containers/c/logs", "", header{"Accept", "text/plain"}).is(200)
	if string(r.body) != "out ü\nerr\n" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		t.Errorf("text %q as %q", r.body, r.header.Get("Content-Type"))
	}
	// An early failure has an error status, also if the client asked for a stream.
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"no such container","code":"conflict"}`)
	}
	f.do("GET", "/v1/containers/c/logs", "").is(409).says("no such container")
	f.do("GET", "/v1/containers/c/logs?follow=true", "").is(409).says("no such container")
	// An agent that disappears doesn't end the output normally.
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "half")
		conn.CloseNow()
	}
	f.do("GET", "/v1/containers/c/logs", "").is(503)
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `nonsense`)
	}
	f.do("GET", "/v1/containers/c/logs", "").is(503)
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"strange","code":"no such code"}`)
	}
	f.do("GET", "/v1/containers/c/logs", "").is(500).says("strange")
}

// TestFollowLogs checks that a stream is written as it comes, that the client notices if
// it breaks, and that the agent's session ends when the user leaves.
func TestFollowLogs(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	next, left := make(chan string), make(chan struct{}, 1)
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		closed := conn.CloseRead(ctx)
		for {
			select {
			case line := <-next:
				if line == "" {
					conn.CloseNow()
					return
				}
				_ = servertest.Send(ctx, conn, stdout, line)
			case <-closed.Done():
				left <- struct{}{}
				return
			}
		}
	}
	open := func(ctx context.Context) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, "GET", f.s.URL+"/v1/containers/c/logs?follow=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := httpClient.Do(r) // the response begins before the first line
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		return resp
	}
	resp := open(t.Context())
	lines := bufio.NewReader(resp.Body)
	for _, line := range []string{"one\n", "two\n"} {
		next <- line
		if got, err := lines.ReadString('\n'); got != line || err != nil {
			t.Fatalf("line %q (%v), want %q", got, err, line)
		}
	}
	next <- ""
	if _, err := io.ReadAll(lines); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream that broke ends with %v", err)
	}
	resp.Body.Close()

	ctx, leave := context.WithCancel(t.Context())
	resp = open(ctx)
	leave()
	resp.Body.Close()
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Error("the agent still serves a user who has left")
	}
}

func TestExecute(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = serveText
	exec := func(query string) *structs.ExecRequest {
		t.Helper()
		f.do("PUT", "/v1/containers/c/execute?"+query, "").is(200)
		return (<-s.offers).Exec
	}
	for query, want := range map[string]string{
		"command=ls+-l+%27a+b%27":             "ls|-l|a b",
		`command=["ls","-l","a+b"]`:           "ls|-l|a b",
		`command=[+-f+/x+]`:                   "[|-f|/x|]", // not JSON, so it is the name of a program
		`command=echo+$HOME+%60x%60+%26%26+y`: "echo|$HOME|`x`|&&|y",
	} {
		if got := strings.Join(exec(query).Command, "|"); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	got := exec("command=id&user=nobody:nogroup&workdir=/tmp&env=A=1&env=B=2=3")
	if got.User != "nobody:nogroup" || got.Workdir != "/tmp" || strings.Join(got.Env, " ") != "A=1 B=2=3" || got.TTY || got.Stdin {
		t.Errorf("request %+v", got)
	}
	body := f.do("PUT", "/v1/containers/c/execute?command=ls&split=true", "").is(200).object()
	if body["output"] != "ls\ncomplaint\n" || body["stdout"] != "ls\n" || body["stderr"] != "complaint\n" || body["exit_code"] != 3.0 {
		t.Errorf("answer %v", body)
	}
	if _, ok := f.do("PUT", "/v1/containers/c/execute?command=ls", "").is(200).object()["stdout"]; ok {
		t.Error("stdout without split")
	}
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"exec: \"nope\": not found","code":"invalid"}`)
	}
	f.do("PUT", "/v1/containers/c/execute?command=nope", "").is(400).says(`exec: "nope": not found`)
}

// TestExecuteKeepsBytes checks that base64 keeps bytes that aren't UTF-8.
func TestExecuteKeepsBytes(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "\xff\xfe\x00")
		_ = servertest.Send(ctx, conn, stderr, "A")
		_ = servertest.Send(ctx, conn, ctl, `{"exit_code":0}`)
	}
	if body := f.do("PUT", "/v1/containers/c/execute?command=cat&split=true", "").is(200).object(); body["output"] != "\ufffd\ufffd\x00A" ||
		body["encoding"] != nil {
		t.Errorf("as text: %v", body)
	}
	body := f.do("PUT", "/v1/containers/c/execute?command=cat&split=true&encoding=base64", "").is(200).object()
	if body["output"] != "//4AQQ==" || body["stdout"] != "//4A" || body["stderr"] != "QQ==" || body["encoding"] != "base64" {
		t.Errorf("in base64: %v", body)
	}
	f.do("PUT", "/v1/containers/c/execute?command=cat&encoding=hex", "").is(400).mentions("base64")
}

// terminal opens an interactive execute.
func (f *fixture) terminal(ctx context.Context, query string, h http.Header) (*websocket.Conn, *http.Response, error) {
	url := strings.Replace(f.s.URL, "http", "ws", 1) + "/v1/containers/c/execute/ws?" + query
	return websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: httpClient, HTTPHeader: h})
}

// receive reads one message.
func receive(t *testing.T, conn *websocket.Conn) (byte, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kind, message, err := conn.Read(ctx)
	if err != nil || kind != websocket.MessageBinary || len(message) == 0 {
		t.Fatalf("message %v %q, %v", kind, message, err)
	}
	return message[0], string(message[1:])
}

// lastControl reads the last message and the close after it.
func lastControl(t *testing.T, conn *websocket.Conn) structs.Control {
	t.Helper()
	channel, text := receive(t, conn)
	var m structs.Control
	if err := json.Unmarshal([]byte(text), &m); err != nil || channel != ctl {
		t.Fatalf("last message %d %q", channel, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the connection ends with %v", err)
	}
	return m
}

// TestLastMessageReachesABusyUser: a command may end while its user still sends input.
func TestLastMessageReachesABusyUser(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_, _, _ = conn.Read(ctx) // the user is busy
		_ = servertest.Send(ctx, conn, ctl, `{"exit_code":7}`)
		conn.CloseNow()
	}
	for range 40 {
		conn, _, err := f.terminal(t.Context(), "command=true&stdin=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		<-s.offers
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelStdin}, "input"...)) == nil {
			}
		}()
		if m := lastControl(t, conn); m.ExitCode == nil || *m.ExitCode != 7 {
			t.Fatalf("the last message is %+v", m)
		}
		conn.CloseNow()
		<-sent
	}
}

func TestTerminal(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	ended := make(chan error, 8)
	// The agent echoes its input.
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		conn.SetReadLimit(1 << 20) // as agents have it
		for {
			_, message, err := conn.Read(ctx)
			if err != nil {
				ended <- err
				return
			}
			switch {
			case message[0] == ctl && strings.Contains(string(message), "eof"):
				_ = servertest.Send(ctx, conn, ctl, `{"exit_code":7}`)
				conn.Close(websocket.StatusNormalClosure, "")
				ended <- nil
				return
			case message[0] == ctl:
				_ = servertest.Send(ctx, conn, stderr, "resized "+string(message[1:]))
			case string(message[1:]) == "die":
				conn.CloseNow()
				ended <- nil
				return
			case len(message) > 1000:
				_ = servertest.Send(ctx, conn, stdout, fmt.Sprintf("got %d bytes", len(message)-1))
			default:
				_ = servertest.Send(ctx, conn, stdout, "got "+string(message[1:]))
			}
		}
	}
	open := func() *websocket.Conn {
		t.Helper()
		conn, resp, err := f.terminal(t.Context(), "command=sh&tty=true&stdin=true&w=80&h=24", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("X-Openstack-Request-Id") == "" || resp.Header.Get("X-Magnum-Index") == "" {
			t.Errorf("headers %v", resp.Header)
		}
		if e := (<-s.offers).Exec; !e.TTY || !e.Stdin || e.Width != 80 || e.Height != 24 || e.Command[0] != "sh" {
			t.Errorf("request %+v", e)
		}
		t.Cleanup(func() { conn.CloseNow() })
		return conn
	}
	ctx := t.Context()

	conn := open()
	_ = servertest.Send(ctx, conn, structs.ChannelStdin, "ü\n")
	if channel, text := receive(t, conn); channel != stdout || text != "got ü\n" {
		t.Errorf("channel %d: %q", channel, text)
	}
	_ = servertest.Send(ctx, conn, ctl, `{"resize":{"w":100,"h":30}}`)
	if channel, text := receive(t, conn); channel != stderr || text != `resized {"resize":{"w":100,"h":30}}` {
		t.Errorf("channel %d: %q", channel, text)
	}
	_ = servertest.Send(ctx, conn, ctl, `{"eof":true}`)
	if m := lastControl(t, conn); m.ExitCode == nil || *m.ExitCode != 7 {
		t.Errorf("last message %+v", m)
	}
	<-ended

	// The user leaves.
	conn = open()
	conn.CloseNow()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the session ended well")
		}
	case <-time.After(time.Minute):
		t.Error("the agent still serves a user who has left")
	}

	// The agent dies.
	conn = open()
	_ = servertest.Send(ctx, conn, structs.ChannelStdin, "die")
	if m := lastControl(t, conn); m.Code != structs.CodeUnavailable || m.Error == "" {
		t.Errorf("last message %+v", m)
	}
	<-ended

	// The user sends an invalid message.
	for _, bad := range []func(*websocket.Conn) error{
		func(c *websocket.Conn) error { return servertest.Send(ctx, c, 9, "x") },
		func(c *websocket.Conn) error { return servertest.Send(ctx, c, stdout, "x") },
		func(c *websocket.Conn) error { return servertest.Send(ctx, c, ctl, `{"exit_code":0}`) },
		func(c *websocket.Conn) error { return servertest.Send(ctx, c, ctl, `x`) },
		func(c *websocket.Conn) error {
			return servertest.Send(ctx, c, ctl, `{"resize":{"w":10001,"h":30}}`)
		},
		func(c *websocket.Conn) error { return servertest.Send(ctx, c, ctl, `{"resize":{"w":1,"h":-1}}`) },
		func(c *websocket.Conn) error { return c.Write(ctx, websocket.MessageBinary, nil) },
		func(c *websocket.Conn) error { return c.Write(ctx, websocket.MessageText, []byte("\x00x")) },
	} {
		conn = open()
		_ = bad(conn)
		if m := lastControl(t, conn); m.Code != structs.CodeInvalid {
			t.Errorf("last message %+v", m)
		}
		<-ended
	}

	// The longest message is accepted, and a longer one gets an error that says so.
	conn = open()
	_ = servertest.Send(ctx, conn, structs.ChannelStdin, strings.Repeat("x", 1<<20-1))
	if channel, text := receive(t, conn); channel != stdout || text != "got 1048575 bytes" {
		t.Errorf("channel %d: %q", channel, text)
	}
	_ = servertest.Send(ctx, conn, structs.ChannelStdin, strings.Repeat("x", 3<<20))
	if m := lastControl(t, conn); m.Code != structs.CodeTooLarge || !strings.Contains(m.Error, "1048576") {
		t.Errorf("last message %+v", m)
	}
	<-ended
}

// TestTerminalRefusalsBeforeUpgrade checks that a refusal has an error status and comes
// before the upgrade, and that pages of other sites get no terminal.
func TestTerminalRefusalsBeforeUpgrade(t *testing.T) {
	f := newFixture(t, servertest.Serve(serveText))
	f.container("c", "")
	for query, want := range map[string]int{"command=sh": 409, "": 400, "command=sh&w=x": 400, "command=sh&w=99999": 400,
		"command=sh&bogus=1": 400} {
		if _, resp, err := f.terminal(t.Context(), query, nil); err == nil || resp.StatusCode != want {
			t.Errorf("%q: %v, want status %d", query, err, want)
		}
	}
	f.do("PUT", "/v1/containers/c/start", "").is(200)
	for origin, want := range map[string]int{"http://evil.example": 403, "null": 403, "%": 403} {
		if _, resp, err := f.terminal(t.Context(), "command=sh", http.Header{"Origin": {origin}}); err == nil || resp.StatusCode != want {
			t.Errorf("origin %q: %v, want status %d", origin, err, want)
		}
	}
	conn, _, err := f.terminal(t.Context(), "command=sh", http.Header{"Origin": {f.s.URL}})
	if err != nil {
		t.Fatalf("own origin: %v", err)
	}
	conn.CloseNow()
	f.do("GET", "/v1/containers/c/execute/ws?command=sh", "", header{"Upgrade", "websocket"},
		header{"Origin", "http://evil.example"}).is(403).says(`Origin "http://evil.example" is not this server.`)
}

// TestOutputLimit checks that the output of a command is truncated while the command runs
// to its end, and that the refusal of logs which are too long names a way out.
func TestOutputLimit(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	chunk := strings.Repeat("y\n", 256<<10)
	const most = 16 << 20
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stderr, "!")
		for range 2 * most / len(chunk) {
			if err := servertest.Send(ctx, conn, stdout, chunk); err != nil {
				t.Errorf("the command was ended: %v", err)
				return
			}
		}
		_ = servertest.Send(ctx, conn, ctl, `{"exit_code":3}`)
	}
	for _, ask := range []func() *reply{
		func() *reply { return f.do("PUT", "/v1/containers/c/execute?command=yes&split=true", "") },
		func() *reply { return f.zun("POST", "/v1/containers/c/execute?command=yes&run=true", "") },
	} {
		body := ask().is(200).object()
		if body["truncated"] != true || body["exit_code"] != 3.0 || len(body["output"].(string)) != most {
			t.Errorf("truncated %v, exit code %v, %d bytes", body["truncated"], body["exit_code"], len(body["output"].(string)))
		}
		if out := body["stdout"]; out != nil && len(out.(string)) != most-1 {
			t.Errorf("stdout has %d bytes", len(out.(string)))
		}
	}
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		for servertest.Send(ctx, conn, stdout, chunk) == nil {
		}
	}
	f.do("GET", "/v1/containers/c/logs", "").is(413).mentions("tail or since")
}
