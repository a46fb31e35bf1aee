package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestTopShowsListedColumnsOnly checks that arguments of ps which would show environments,
// or make another column pass for that of PIDs, don't reach a host by the API or the
// dialect. ps runs on the host as root.
func TestTopShowsListedColumnsOnly(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = serveText
	for _, args := range []string{
		"-orss=PID -e e -oargs", "-o rss=PID", "-o pid=PID,args", "e", "-e e", "aux e", "auxe", "-eww", "-o pid,environ", "-o pid,pid",
		"-o PID",
		"--format pid", "-O rss", "O rss", "-y", "-C sh", "--ppid 1", "-p 1", "-o pid\n-e e", "-o pid\te",
	} {
		query := "?ps_args=" + url.QueryEscape(args)
		f.do("GET", "/v1/containers/c/top"+query, "").is(400)
		f.zun("GET", "/v1/containers/c/top"+query, "").is(400)
	}
	select {
	case offer := <-s.offers:
		t.Fatalf("a host was asked for ps %q", offer.Args)
	default:
	}
	f.do("GET", "/v1/containers/c/top?ps_args=-eo+args,pid", "").is(200)
	if offer := <-s.offers; offer.Args != "-o args,pid" {
		t.Errorf("offer %+v", offer)
	}
}

func TestStatsAndTop(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	id := f.running("c")
	s.play = serveText
	stats := f.do("GET", "/v1/containers/c/stats", "").is(200).object()
	if offer := <-s.offers; offer.Kind != structs.SessionStats || offer.ContainerID != id || offer.Stream {
		t.Errorf("offer %+v", offer)
	}
	if stats["cpu_percent"] != 12.5 || stats["memory_used"] != 1048576.0 || stats["pids"] != 5.0 ||
		stats["read_at"] != "2026-01-02T03:04:05+00:00" {
		t.Errorf("stats %v", stats)
	}
	top := f.do("GET", "/v1/containers/c/top?ps_args=-o+pid,args", "").is(200)
	if offer := <-s.offers; offer.Kind != structs.SessionTop || offer.Args != "-o pid,args" {
		t.Errorf("offer %+v", offer)
	}
	if string(top.body) != `{"titles":["PID","CMD"],"processes":[["1","sleep 100"]]}` {
		t.Errorf("top %s", top.body)
	}
	f.do("PUT", "/v1/containers/c/pause", "").is(200)
	f.do("GET", "/v1/containers/c/stats", "").is(200)

	for answer, want := range map[string]int{`{"done":true}`: 503, `{"error":"no ps on the host","code":"unavailable"}`: 503,
		`{"error":"bad argument","code":"invalid"}`: 400} {
		s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
			_ = servertest.Send(ctx, conn, ctl, answer)
		}
		f.do("GET", "/v1/containers/c/top", "").is(want)
		f.do("GET", "/v1/containers/c/stats", "").is(want)
	}
}

// TestStatsStream checks that each document is on its own line, and that the agent's
// session ends when the user leaves.
func TestStatsStream(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	left := make(chan struct{})
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		closed := conn.CloseRead(ctx)
		for range 3 {
			_ = servertest.Send(ctx, conn, stdout, aStats)
		}
		<-closed.Done()
		close(left)
	}
	resp, err := httpClient.Get(f.s.URL + "/v1/containers/c/stats?stream=true")
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if !(<-s.offers).Stream {
		t.Error("no stream was asked for")
	}
	lines := bufio.NewScanner(resp.Body)
	for range 3 {
		var stats structs.StatsBody
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &stats) != nil || stats.PIDs != 5 {
			t.Fatalf("line %q, %v", lines.Text(), lines.Err())
		}
	}
	resp.Body.Close()
	<-left
}

func TestAttach(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"talks","image":"busybox","tty":true,"stdin":true}`).is(201)
	f.running("mute")
	f.container("idle", "")
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		if offer.Unstarted {
			_ = servertest.Send(ctx, conn, ctl, `{"attached":true}`)
			_ = servertest.Send(ctx, conn, ctl, `{"exit_code":0}`)
			_, _, _ = conn.Read(ctx)
			return
		}
		_, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		_ = servertest.Send(ctx, conn, stdout, "echo "+string(message[1:]))
		_ = servertest.Send(ctx, conn, ctl, `{"exit_code":0}`)
		_, _, _ = conn.Read(ctx)
	}
	attach := func(path string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), strings.Replace(f.s.URL, "http", "ws", 1)+"/v1/containers/"+path,
			&websocket.DialOptions{HTTPClient: httpClient})
	}
	conn, _, err := attach("talks/attach/ws?w=80&h=24")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	offer := <-s.offers
	if offer.Kind != structs.SessionAttach || !offer.Exec.TTY || !offer.Exec.Stdin || offer.Exec.Width != 80 || offer.Exec.Command != nil {
		t.Errorf("offer %+v of %+v", offer, offer.Exec)
	}
	_ = servertest.Send(t.Context(), conn, structs.ChannelStdin, "hi")
	if channel, text := receive(t, conn); channel != stdout || text != "echo hi" {
		t.Errorf("channel %d: %q", channel, text)
	}
	if m := lastControl(t, conn); m.ExitCode == nil || *m.ExitCode != 0 {
		t.Errorf("last message %+v", m)
	}
	conn, _, err = attach("mute/attach/ws")
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	if offer := <-s.offers; offer.Exec.TTY || offer.Exec.Stdin {
		t.Errorf("offer %+v", offer.Exec)
	}
	// An attach to a container that was never started says when the start may come.
	conn, _, err = attach("idle/attach/ws?unstarted=true")
	if err != nil {
		t.Fatal(err)
	}
	if offer := <-s.offers; !offer.Unstarted {
		t.Errorf("offer %+v", offer)
	}
	if channel, text := receive(t, conn); channel != ctl || text != `{"attached":true}` {
		t.Errorf("channel %d: %q", channel, text)
	}
	if m := lastControl(t, conn); m.ExitCode == nil {
		t.Errorf("last message %+v", m)
	}
	for path, want := range map[string]int{"mute/attach/ws?stdin=true": 409, "idle/attach/ws": 409, "nope/attach/ws": 404,
		"mute/attach/ws?h=10001": 400} {
		if _, resp, err := attach(path); err == nil || resp.StatusCode != want {
			t.Errorf("%s: %v, want %d", path, err, want)
		}
	}
}

func TestArchives(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.container("c", "") // the container need not run
	// The archive is larger than what is kept in memory, and comes in pieces of any size.
	large := bytes.Repeat([]byte("0123456789abcdef"), 200<<10)
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		for rest := large; len(rest) > 0; {
			n := min(len(rest), 33333)
			_ = servertest.Send(ctx, conn, stdout, string(rest[:n]))
			rest = rest[n:]
		}
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
	}
	r := f.do("GET", "/v1/containers/c/archive?path=/data", "").is(200)
	if offer := <-s.offers; offer.Kind != structs.SessionArchiveGet || offer.Path != "/data" {
		t.Errorf("offer %+v", offer)
	}
	if !bytes.Equal(r.body, large) || r.header.Get("Content-Type") != "application/x-tar" {
		t.Errorf("%d bytes of %q", len(r.body), r.header.Get("Content-Type"))
	}

	var got bytes.Buffer
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		got.Reset()
		for {
			_, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if message[0] == ctl {
				break
			}
			got.Write(message[1:])
		}
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
	}
	f.do("PUT", "/v1/containers/c/archive?path=/data", string(large)).is(200)
	if offer := <-s.offers; offer.Kind != structs.SessionArchivePut || offer.Path != "/data" || !bytes.Equal(got.Bytes(), large) {
		t.Errorf("offer %+v, %d bytes", offer, got.Len())
	}

	// The agent fails before the archive, or in the middle of it.
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"/data is no directory","code":"invalid"}`)
		conn.Close(websocket.StatusNormalClosure, "")
	}
	f.do("GET", "/v1/containers/c/archive?path=/data", "").is(400).says("/data is no directory")
	f.do("PUT", "/v1/containers/c/archive?path=/data", string(large)).is(400).says("/data is no directory")
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"path /data does not exist in the container","code":"not_found","kind":"path"}`)
		conn.Close(websocket.StatusNormalClosure, "")
	}
	f.do("GET", "/v1/containers/c/archive?path=/data", "").is(404).code("path.not_found").says("path /data does not exist in the container")
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) { conn.CloseNow() }
	f.do("GET", "/v1/containers/c/archive?path=/data", "").is(503)
	f.do("PUT", "/v1/containers/c/archive?path=/data", string(large)).is(503)
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestArchiveTooLarge checks that no part of an archive that is too large reaches a host.
func TestArchiveTooLarge(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.container("c", "")
	const message = "the archive is larger than 67108864 bytes: copy a part of it at a time"
	chunk := strings.Repeat("x", 512<<10)
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		for servertest.Send(ctx, conn, stdout, chunk) == nil {
		}
	}
	f.do("GET", "/v1/containers/c/archive?path=/", "").is(413).says(message)
	<-s.offers
	// Like curl, the client waits for 100 Continue before it sends the body.
	patient := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: true}}
	for _, length := range []int64{structs.MaxArchive + 1, -1} { // -1: in chunks
		body := io.LimitReader(zeros{}, structs.MaxArchive+1)
		r, err := http.NewRequest("PUT", f.s.URL+"/v1/containers/c/archive?path=/", io.NopCloser(body))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		r.Header.Set("Expect", "100-continue")
		resp, err := patient.Do(r)
		if err != nil {
			t.Fatalf("length %d: %v", length, err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 413 || !strings.Contains(string(text), message) {
			t.Errorf("length %d: %d %s", length, resp.StatusCode, text)
		}
	}
	if len(s.offers) > 0 {
		t.Error("a host was asked for a session")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
