package docker

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// olderEngine is an engine of version 1.41 of the API. As a real one does, it refuses a newer
// version. It answers most requests with an empty list, and a request for events with a
// stream without end.
type olderEngine struct {
	testing.TB
	pings atomic.Int32
}

func (e *olderEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch path, ok := strings.CutPrefix(r.URL.Path, "/v1.41/"); {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
		e.pings.Add(1)
	case !ok:
		e.Errorf("%s %s is asked for", r.Method, r.URL)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"client version is too new. Maximum supported API version is 1.41"}`)
	case path == "events":
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case path == "images/create":
		_, _ = io.WriteString(w, `{"status":"Status: Downloaded newer image"}`)
	case path == "images/load":
		_, _ = io.WriteString(w, `{"stream":"Loaded image: a:1"}`)
	case strings.Count(path, "/") == 2 && strings.HasSuffix(path, "/json"): // of one container
		_, _ = io.WriteString(w, `{"Id":"x","Name":"/x","State":{"Status":"running","Running":true},"Config":{"Labels":{}},`+
			`"HostConfig":{"LogConfig":{}}}`)
	case strings.HasSuffix(path, "/stats"), strings.HasSuffix(path, "/logs"):
	default:
		_, _ = io.WriteString(w, "[]")
	}
}

// onOlderEngine returns a backend that has made no call yet.
func onOlderEngine(t testing.TB) (*Docker, *olderEngine) {
	t.Helper()
	e := &olderEngine{TB: t}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	d, err := New(Config{Host: strings.Replace(srv.URL, "http://", "tcp://", 1), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, e
}

// TestFirstCallsNegotiateOnce: concurrent first calls negotiate the version of the API once.
// The race detector sees if one call reads the version while another sets it.
func TestFirstCallsNegotiateOnce(t *testing.T) {
	d, engine := onOlderEngine(t)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := d.Owners(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := engine.pings.Load(); n != 1 {
		t.Errorf("%d pings", n)
	}
}

// TestEachFirstCallNegotiates: each call that may be an agent's first one uses the version
// of the engine, also when it opens a stream.
func TestEachFirstCallNegotiates(t *testing.T) {
	quiet := func(string) {}
	for name, call := range map[string]func(context.Context, *Docker) error{
		"events": func(ctx context.Context, d *Docker) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if err := d.Events(ctx, backend.Owner{}, cancel, func(backend.Event) {}); ctx.Err() == nil {
				return err
			}
			return nil
		},
		"pull": func(ctx context.Context, d *Docker) error { return d.PullImage(ctx, "a:1", nil, quiet) },
		"load": func(ctx context.Context, d *Docker) error {
			_, err := d.LoadImages(ctx, strings.NewReader("tar"))
			return err
		},
		"images": func(ctx context.Context, d *Docker) error { _, err := d.ListImages(ctx); return err },
		"list":   func(ctx context.Context, d *Docker) error { _, err := d.List(ctx, backend.Owner{}); return err },
		"start":  func(ctx context.Context, d *Docker) error { return d.Start(ctx, "x") },
		"logs": func(ctx context.Context, d *Docker) error {
			return d.Logs(ctx, "x", structs.LogsRequest{Stdout: true}, backend.LogStreams{Stdout: io.Discard, Stderr: io.Discard})
		},
		"stats": func(ctx context.Context, d *Docker) error {
			return d.Stats(ctx, "x", true, func(structs.StatsBody) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, engine := onOlderEngine(t)
			var calls sync.WaitGroup
			for range 3 { // the race detector sees a version that one of them sets
				calls.Go(func() {
					if err := call(t.Context(), d); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			if engine.pings.Load() == 0 {
				t.Error("nobody has asked for the version")
			}
		})
	}
}
