package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

func TestAttach(t *testing.T) {
	c := sessionServer(t, func(ctx context.Context, r *http.Request, conn *websocket.Conn) {
		if got := r.URL.RequestURI(); got != "/v1/containers/c1/attach/ws?h=24&stdin=true&w=80" {
			t.Errorf("asked %s", got)
		}
		_, m, err := conn.Read(ctx)
		if err != nil || string(m) != "\x00hi" {
			t.Errorf("read %q, %v", m, err)
		}
		sendTest(t, ctx, conn, structs.ChannelStdout, "there")
		sendTest(t, ctx, conn, structs.ChannelControl, `{"exit_code":3}`)
	})
	var out bytes.Buffer
	joined := false
	code, err := c.Containers().Attach(t.Context(), "c1", AttachOptions{
		Streams: Streams{Stdin: strings.NewReader("hi"), Stdout: &out}, Width: 80, Height: 24, Attached: func() { joined = true },
	})
	if err != nil || code == nil || *code != 3 || out.String() != "there" || !joined {
		t.Errorf("code %v, %q, joined %v, %v", code, out.String(), joined, err)
	}
}

func TestAttachSessionEndsBeforeProcess(t *testing.T) {
	c := sessionServer(t, func(ctx context.Context, _ *http.Request, conn *websocket.Conn) {
		sendTest(t, ctx, conn, structs.ChannelControl, `{"done":true}`)
	})
	if code, err := c.Containers().Attach(t.Context(), "c1", AttachOptions{}); code != nil || err != nil {
		t.Errorf("%v, %v", code, err)
	}
	if _, err := c.Containers().ExecuteInteractive(t.Context(), "c1", structs.ExecRequest{Command: []string{"sh"}},
		Streams{}); structs.CodeOf(err) != structs.CodeInternal {
		t.Errorf("an execute without an exit code: %v", err)
	}
}

func TestContainerActionRequests(t *testing.T) {
	var asked string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.RequestURI()
		answer(w, 200, "7", `{"uuid":"u1","name":"b","links":[]}`)
	})
	for want, do := range map[string]func() error{
		"PUT /v1/containers/a/kill?signal=HUP": func() error {
			_, err := c.Containers().Action(t.Context(), "a", Kill, ActionOptions{Signal: "HUP"})
			return err
		},
		"PUT /v1/containers/a/rename?name=b": func() error {
			got, _, err := c.Containers().Rename(t.Context(), "a", "b")
			if err == nil && got.Name != "b" {
				t.Errorf("renamed to %q", got.Name)
			}
			return err
		},
		"PUT /v1/containers/a/rebuild?image=i": func() error {
			_, err := c.Containers().Rebuild(t.Context(), "a", "i", WriteOptions{})
			return err
		},
	} {
		if err := do(); err != nil || asked != want {
			t.Errorf("asked %s, %v; want %s", asked, err, want)
		}
	}
	for _, err := range []error{
		second(c.Containers().Rebuild(t.Context(), "", "", WriteOptions{})), third(c.Containers().Rename(t.Context(), "", "x")),
		third(c.Containers().Stats(t.Context(), "")), third(c.Containers().Top(t.Context(), "", "")),
		c.Containers().FollowStats(t.Context(), "", nil), second(c.Containers().Attach(t.Context(), "", AttachOptions{})),
		second(c.Containers().ReadArchive(t.Context(), "", "/")), second(c.Containers().WriteArchive(t.Context(), "", "/", nil)),
	} {
		if structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("no container: %v, want invalid", err)
		}
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func TestStatsAndTop(t *testing.T) {
	var asked string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		switch r.URL.Path {
		case "/v1/containers/c1/top":
			answer(w, 200, "", `{"titles":["PID"],"processes":[["1"]]}`)
		case "/v1/containers/cut/stats":
			answer(w, 200, "", `{"pids":1}`+"\n"+`{"pi`)
		default:
			answer(w, 200, "", `{"pids":1,"cpu_percent":2.5}`+"\n")
			if r.FormValue("stream") == "true" {
				io.WriteString(w, `{"pids":2}`+"\n")
			}
		}
	})
	if s, _, err := c.Containers().Stats(t.Context(), "c1"); err != nil || s.PIDs != 1 || s.CPUPercent != 2.5 {
		t.Errorf("%+v, %v", s, err)
	}
	sum := 0
	add := func(s structs.StatsBody) error { sum += s.PIDs; return nil }
	if err := c.Containers().FollowStats(t.Context(), "c1", add); err != nil || sum != 3 || asked != "/v1/containers/c1/stats?stream=true" {
		t.Errorf("%d, %v, asked %s", sum, err, asked)
	}
	if err := c.Containers().FollowStats(t.Context(), "cut", add); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("a stream that is cut: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Containers().FollowStats(t.Context(), "c1", func(structs.StatsBody) error { return enough }); err != enough {
		t.Errorf("got %v, want the caller's own error", err)
	}
	if top, _, err := c.Containers().Top(t.Context(), "c1", "-o pid"); err != nil || top.Processes[0][0] != "1" ||
		asked != "/v1/containers/c1/top?ps_args=-o+pid" {
		t.Errorf("%+v, %v, asked %s", top, err, asked)
	}
}

func TestArchiveCopies(t *testing.T) {
	var got []byte
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if r.Header.Get("Accept") != "application/x-tar" {
				t.Errorf("Accept %q", r.Header.Get("Accept"))
			}
			io.WriteString(w, "a tar of "+r.FormValue("path"))
			return
		}
		if r.Header.Get("Content-Type") != "application/x-tar" || r.URL.RawQuery != "path=%2Fb" {
			t.Errorf("%s, Content-Type %q", r.URL.RawQuery, r.Header.Get("Content-Type"))
		}
		got, _ = io.ReadAll(r.Body)
		answer(w, 200, "", "null")
	})
	r, err := c.Containers().ReadArchive(t.Context(), "c1", "/a")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r)
	r.Close()
	if string(text) != "a tar of /a" {
		t.Errorf("read %q", text)
	}
	if _, err := c.Containers().WriteArchive(t.Context(), "c1", "/b", strings.NewReader("a tar")); err != nil || string(got) != "a tar" {
		t.Errorf("wrote %q, %v", got, err)
	}
	broken := errors.New("the disk is gone")
	if _, err := c.Containers().WriteArchive(t.Context(), "c1", "/b",
		io.MultiReader(strings.NewReader("x"), errReader{broken})); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's own error", err)
	}
	if _, err := c.Containers().WriteArchive(t.Context(), "c1", "/b",
		io.LimitReader(zeros{}, structs.MaxArchive+1)); structs.CodeOf(err) != structs.CodeTooLarge {
		t.Errorf("got %v, want too_large", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
