package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/registry"
	"github.com/stackforge/magnum/structs"
)

// dockerd is an engine that fails every fetch with a text, or makes none fail.
type dockerd struct {
	*httptest.Server
	mu    sync.Mutex
	fails string
	calls []string // pulls and tags
}

func newDockerd(t *testing.T) *dockerd {
	d := new(dockerd)
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		q := r.URL.Query()
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/images/create"):
			d.calls = append(d.calls, "pull "+q.Get("fromImage")+" "+q.Get("tag"))
			if d.fails != "" {
				fmt.Fprintf(w, `{"errorDetail":{"message":%q},"error":%[1]q}`, d.fails)
			}
		case strings.HasSuffix(path, "/tag"):
			d.calls = append(d.calls, "tag "+q.Get("repo")+" "+q.Get("tag"))
			w.WriteHeader(http.StatusCreated)
		case strings.HasSuffix(path, "/images/json"):
			fmt.Fprint(w, `[]`)
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *dockerd) called() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// answers is a public registry that has one digest of everything, or fails.
type answers struct {
	registry.Rules
	digest string
	err    error
	asked  int
}

func (a *answers) Check(context.Context, string) error { return nil }

func (a *answers) Resolve(context.Context, string, *structs.Registry) (*registry.Image, error) {
	a.asked++
	if a.err != nil {
		return nil, a.err
	}
	return &registry.Image{Digest: a.digest, IDs: []string{a.digest}}, nil
}

func newPinned(t *testing.T, a *answers) (*Images, *dockerd) {
	t.Helper()
	d := newDockerd(t)
	e, err := engine.New(engine.Config{Host: strings.Replace(d.URL, "http:", "tcp:", 1), Parallel: 2, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	im := New(e, func(image.InspectResponse) bool { return false }, a.Rules)
	im.asker = func() asker { return a }
	return im, d
}

// TestPullOfWhatWasSeen: from a registry that the operator hasn't named, the engine fetches
// by the digest that the agent has seen, wherever the name leads by then.
func TestPullOfWhatWasSeen(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	a := &answers{digest: digest, Rules: registry.Rules{Allow: []string{registry.Any, "10.0.0.5:5000"}}}
	im, d := newPinned(t, a)
	for ref, want := range map[string][]string{
		"example.com:5000/x:2":        {"pull example.com:5000/x " + digest, "tag example.com:5000/x 2"},
		"x":                           {"pull docker.io/library/x " + digest, "tag docker.io/library/x latest"},
		"example.com/a/b@" + digest:   {"pull example.com/a/b " + digest},
		"example.com/a/b:1@" + digest: {"pull example.com/a/b " + digest},
		"10.0.0.5:5000/x:2":           {"pull 10.0.0.5:5000/x 2"},
		"10.0.0.5:5000/x@" + digest:   {"pull 10.0.0.5:5000/x " + digest},
	} {
		a.asked = 0
		if err := im.PullImage(t.Context(), ref, nil, func(string) {}); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if got := d.called(); !slices.Equal(got, want) {
			t.Errorf("%s: the engine was asked for %q, want %q", ref, got, want)
		}
		if listed := strings.HasPrefix(ref, "10."); listed == (a.asked == 1) {
			t.Errorf("%s: the registry was asked %d times", ref, a.asked)
		}
	}
	a.err = fmt.Errorf("%w: dial tcp 10.1.2.3:22: connection refused", registry.ErrSilent)
	err := im.PullImage(t.Context(), "example.com/x", nil, func(string) {})
	if !errors.Is(err, backend.ErrNoImage) || strings.Contains(err.Error(), "10.1.2.3") {
		t.Errorf("of a registry that doesn't answer: %v", err)
	}
	if got := d.called(); len(got) > 0 {
		t.Errorf("the engine was asked for %q all the same", got)
	}
}

// TestNothingIsToldOfElsewhere: whatever the engine meets where a name leads the second
// time, the user is told the same.
func TestNothingIsToldOfElsewhere(t *testing.T) {
	a := &answers{digest: "sha256:" + strings.Repeat("ab", 32)}
	for i, text := range []string{
		`Get "https://10.1.2.3:22/v2/": dial tcp 10.1.2.3:22: connect: connection refused`,
		"manifest unknown", "unauthorized: authentication required", "denied: requested access to the resource is denied",
		"received unexpected HTTP status: 500 Internal Server Error", `error parsing HTTP 404 response body: "<html>an intranet</html>"`,
		"error parsing HTTP 400 response body: repository name must be lowercase",
		"http: server gave HTTP response to HTTPS client", "manifest verification failed for digest sha256:x", "toomanyrequests: slow down",
	} {
		key := pullKey{ref: "example.com/x", pinned: "example.com/x@" + a.digest}
		if final := pullFailure(key, errors.New(text)); final != nil {
			t.Errorf("of %q users are told %v", text, final)
		}
		if i > 0 {
			continue // the attempts take seconds
		}
		im, d := newPinned(t, a)
		d.fails = text
		var mu sync.Mutex
		var said []string
		began := time.Now()
		err := im.PullImage(t.Context(), "example.com/x", nil, func(s string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, s)
		})
		if !errors.Is(err, backend.ErrNoImage) || err.Error() != "image example.com/x can't be pulled: "+silentText {
			t.Errorf("of %q users are told %v", text, err)
		}
		if calls := d.called(); len(calls) != Attempts {
			t.Errorf("of %q there were %d attempts in %v", text, len(calls), time.Since(began))
		}
		for _, s := range said {
			if strings.Contains(s, "10.1.2.3") || strings.Contains(s, "unknown") {
				t.Errorf("of %q users are told %q", text, s)
			}
		}
	}
	away := engine.Failure(&backend.Failure{Reason: backend.ErrAway})
	if err := pullFailure(pullKey{ref: "x", pinned: "x@y"}, away); !errors.Is(err, backend.ErrAway) {
		t.Errorf("an engine that is away: %v", err)
	}
}
