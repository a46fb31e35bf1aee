package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// endedEngine is an engine with one container, whose process has ended. As engine 20.10
// does, its state may not say why.
type endedEngine struct {
	testing.TB
	started, finished time.Time
	code              int
	memory            int64
	told              bool          // the engine has the event of a kill
	asked             atomic.Int32  // requests for the events of one container
	late              chan struct{} // a value: the event comes on the stream of events
}

func (e *endedEngine) event(at time.Time) string {
	return fmt.Sprintf(`{"Type":"container","Action":"oom","Actor":{"ID":"x","Attributes":{"magnum.container":"%s","magnum.epoch":"1"}},`+
		`"time":%d,"timeNano":%d}`, structs.NewID(), at.Unix(), at.UnixNano())
}

func (e *endedEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch path := strings.TrimPrefix(r.URL.Path, "/v1.41/"); {
	case path == "events" && r.URL.Query().Get("until") == "": // the stream of an agent
		_ = http.NewResponseController(w).Flush()
		if strings.Contains(r.URL.Query().Get("filters"), `"oom"`) {
			select {
			case <-e.late:
				_, _ = fmt.Fprintln(w, e.event(e.finished.Add(time.Millisecond)))
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
			}
		}
		<-r.Context().Done()
	case path == "events":
		e.asked.Add(1)
		e.checkQuery(r.URL.Query())
		if e.told {
			_, _ = fmt.Fprintln(w, e.event(e.finished.Add(-time.Millisecond)))
		}
	case strings.HasSuffix(path, "x/json"):
		_ = json.NewEncoder(w).Encode(container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{
				ID: "x", Name: "/x", HostConfig: &container.HostConfig{Resources: container.Resources{Memory: e.memory}},
				State: &container.State{Status: container.StateExited, ExitCode: e.code,
					StartedAt: e.started.Format(time.RFC3339Nano), FinishedAt: e.finished.Format(time.RFC3339Nano)},
			},
			Config: &container.Config{Labels: map[string]string{}},
		})
	case strings.HasSuffix(path, "/json"): // of its image
		_, _ = w.Write([]byte("{}"))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// checkQuery checks that the question is about the one run.
func (e *endedEngine) checkQuery(q url.Values) {
	if f := q.Get("filters"); !strings.Contains(f, `"container":{"x":true}`) || !strings.Contains(f, `"event":{"oom":true}`) {
		e.Errorf("the filters are %s", f)
	}
	if want := fmt.Sprintf("%d.%09d", e.started.Unix(), e.started.Nanosecond()); q.Get("since") != want {
		e.Errorf("events since %s are asked for, want %s", q.Get("since"), want)
	}
}

// onEnded returns a backend on an engine whose container was killed a while ago.
func onEnded(t testing.TB) (*Docker, *endedEngine) {
	t.Helper()
	now := time.Now().UTC()
	e := &endedEngine{TB: t, started: now.Add(-time.Hour), finished: now.Add(-time.Minute), code: 137, memory: 1 << 20,
		late: make(chan struct{}, 1)}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	d, err := New(Config{Host: strings.Replace(srv.URL, "http://", "tcp://", 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, e
}

// killedFor inspects the container.
func killedFor(t testing.TB, d *Docker) bool {
	t.Helper()
	c, err := d.Inspect(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return c.OOMKilled
}

// TestOutOfMemoryThatOnlyAnEventTells: the events are asked once for each end.
func TestOutOfMemoryThatOnlyAnEventTells(t *testing.T) {
	for _, told := range []bool{true, false} {
		d, e := onEnded(t)
		e.told = told
		for range 3 {
			if got := killedFor(t, d); got != told {
				t.Errorf("told %v: killed %v", told, got)
			}
		}
		if n := e.asked.Load(); n != 1 {
			t.Errorf("told %v: the events are asked %d times", told, n)
		}
		e.started, e.finished, e.told = e.finished.Add(time.Second), e.finished.Add(2*time.Second), !told // another run
		if got := killedFor(t, d); got == told || e.asked.Load() != 2 {
			t.Errorf("the next run: killed %v, asked %d times", got, e.asked.Load())
		}
	}
}

// TestOutOfMemoryToldAfterTheEnd: the event of a kill comes after the container was inspected,
// and has it inspected again.
func TestOutOfMemoryToldAfterTheEnd(t *testing.T) {
	d, e := onEnded(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, changed, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Events(ctx, backend.Owner{}, func() { close(ready) }, func(ev backend.Event) {
			if ev.Kind == backend.EventChanged && ev.EngineID == "x" {
				close(changed)
			}
		})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	<-ready
	if killedFor(t, d) {
		t.Error("killed, says nobody")
	}
	e.late <- struct{}{}
	<-changed
	if !killedFor(t, d) {
		t.Error("not killed, although the event has come")
	}
}

// TestOutOfMemoryIsNotAskedFor after an end that has another cause.
func TestOutOfMemoryIsNotAskedFor(t *testing.T) {
	for name, change := range map[string]func(*Docker, *endedEngine) error{
		"its own end":     func(_ *Docker, e *endedEngine) error { e.code = 1; return nil },
		"no limit":        func(_ *Docker, e *endedEngine) error { e.memory = 0; return nil },
		"magnum's stop":   func(d *Docker, _ *endedEngine) error { return d.Stop(t.Context(), "x", time.Second) },
		"magnum's kill":   func(d *Docker, _ *endedEngine) error { return d.Kill(t.Context(), "x") },
		"magnum's signal": func(d *Docker, _ *endedEngine) error { return d.Signal(t.Context(), "x", "SIGKILL") },
	} {
		t.Run(name, func(t *testing.T) {
			d, e := onEnded(t)
			e.told = true
			if err := change(d, e); err != nil {
				t.Fatal(err)
			}
			if killedFor(t, d) || e.asked.Load() != 0 {
				t.Errorf("the events are asked %d times", e.asked.Load())
			}
		})
	}
}
