package dockertest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// TestOpenNegotiates: the first calls of a client use the version of the engine. The race
// detector sees a version that a call sets.
func TestOpenNegotiates(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasPrefix(r.URL.Path, "/v1.41/") && !strings.HasSuffix(r.URL.Path, "/_ping") {
			t.Errorf("%s is asked for", r.URL)
		}
		_, _ = io.WriteString(w, "[]")
	}))
	defer srv.Close()
	cli, err := Open(strings.Replace(srv.URL, "http://", "tcp://", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	only := filters.NewArgs(filters.Arg("label", "x"))
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			_, _ = cli.ContainerList(t.Context(), container.ListOptions{Filters: only})
			_, errs := cli.Events(t.Context(), events.ListOptions{Filters: only})
			<-errs
		})
	}
	calls.Wait()
}

// TestOpenWithoutAnEngine: the error says what is missing.
func TestOpenWithoutAnEngine(t *testing.T) {
	if _, err := Open("unix://" + t.TempDir() + "/none.sock"); err == nil || !strings.Contains(err.Error(), "start dockerd") {
		t.Errorf("%v", err)
	}
}
