package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// TestEngineThatHangs: calls and streams of an engine that stops answering pings end, later
// calls fail at once, and all work again once the engine answers.
func TestEngineThatHangs(t *testing.T) {
	hangs := make(chan bool, 1) // holds whether the engine hangs
	hangs <- false
	release := make(chan struct{})
	engine := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := <-hangs
		hangs <- now
		switch {
		case now:
			select { // a stopped engine answers this, too, once it is resumed
			case <-release:
			case <-r.Context().Done():
			}
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("API-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/events"), strings.HasSuffix(r.URL.Path, "/logs"), strings.HasSuffix(r.URL.Path, "/stats"):
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"Id":"x","Name":"/x","State":{"Status":"running"},"Config":{"Labels":{}},"HostConfig":{}}`)
		}
	}))
	socket := filepath.Join(t.TempDir(), "docker.sock")
	var err error
	if engine.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	engine.Start()
	t.Cleanup(engine.Close)
	t.Cleanup(engine.CloseClientConnections)
	t.Cleanup(func() { close(release) })
	d, err := New(Config{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.engine.PingEvery, d.engine.HangAfter = 10*time.Millisecond, 2*time.Second // a busy machine may stall
	away := func(what string, err error) {
		t.Helper()
		var f *backend.Failure
		if !errors.As(err, &f) || f.Reason != backend.ErrAway {
			t.Errorf("%s: %v", what, err)
		}
	}
	within := func(what string, done chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatalf("%s still waits", what)
			return nil
		}
	}
	start := func(f func() error) chan error {
		done := make(chan error, 1)
		go func() { done <- f() }()
		return done
	}
	follow := func() (events chan error, opened chan struct{}) {
		opened = make(chan struct{})
		return start(func() error {
			return d.Events(t.Context(), backend.Owner{}, func() { close(opened) }, func(backend.Event) {})
		}), opened
	}
	events, opened := follow()
	<-opened
	logs := start(func() error {
		return d.Logs(t.Context(), "x", structs.LogsRequest{Follow: true}, backend.LogStreams{Stdout: io.Discard, Stderr: io.Discard})
	})
	stop := start(func() error { return d.Pause(t.Context(), "x") })
	if err := within("a call of a sound engine", stop); err != nil {
		t.Errorf("pause: %v", err)
	}
	<-hangs
	hangs <- true
	inspect := start(func() error { _, err := d.Inspect(t.Context(), "x"); return err })
	if err := within("the stream of events", events); !strings.Contains(err.Error(), "hangs") &&
		!strings.Contains(err.Error(), "stream ended") {
		t.Errorf("the stream of events ended with %v", err)
	}
	away("a call in progress", within("a call", inspect))
	if err := within("following logs", logs); err == nil {
		t.Error("logs that were cut off end as if they were whole")
	}
	began := time.Now()
	_, err = d.Inspect(t.Context(), "x")
	away("a call of an engine that hangs", err)
	away("logs of an engine that hangs", d.Logs(t.Context(), "x", structs.LogsRequest{},
		backend.LogStreams{Stdout: io.Discard, Stderr: io.Discard}))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("they were refused after %v", took)
	}
	events, _ = follow()
	err = within("the stream of events", events)
	away("events of an engine that hangs", err)
	if !strings.Contains(err.Error(), "hangs") {
		t.Errorf("it does not say what is wrong: %v", err)
	}

	<-hangs
	hangs <- false
	ctx, cancel := context.WithCancel(t.Context())
	opened = make(chan struct{})
	events = start(func() error {
		return d.Events(ctx, backend.Owner{}, func() { close(opened) }, func(backend.Event) {})
	})
	select {
	case <-opened:
	case err := <-events:
		t.Fatalf("the engine goes on, and its events end with %v", err)
	}
	if _, err := d.Inspect(t.Context(), "x"); err != nil {
		t.Errorf("a call of the engine that goes on: %v", err)
	}
	cancel()
	if err := within("the stream of events", events); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
