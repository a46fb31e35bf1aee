package docker

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestFirstCallsNegotiateOnce: concurrent first calls negotiate the version of the API once.
// The race detector sees if one call reads the version while another sets it.
func TestFirstCallsNegotiateOnce(t *testing.T) {
	var pings atomic.Int32
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			pings.Add(1)
		case strings.HasPrefix(r.URL.Path, "/v1.44/"):
			_, _ = w.Write([]byte("[]"))
		default:
			t.Errorf("%s %s is asked for", r.Method, r.URL)
		}
	}))
	defer engine.Close()
	d, err := New(Config{Host: strings.Replace(engine.URL, "http://", "tcp://", 1), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := d.Owners(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := pings.Load(); n != 1 {
		t.Errorf("%d pings", n)
	}
}
