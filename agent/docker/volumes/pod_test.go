package volumes

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// TestEnsurePodWaitsForTheAnswer: a volume doesn't come into being after EnsurePod has
// returned because its caller gave up.
func TestEnsurePodWaitsForTheAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasSuffix(r.URL.Path, "/volumes/create") {
			return
		}
		var opts volume.CreateOptions
		if err := json.NewDecoder(r.Body).Decode(&opts); err != nil {
			t.Error(err)
		}
		cancel()
		select {
		case <-r.Context().Done():
			t.Error("the call was cancelled: the engine may make the volume later")
		case <-time.After(100 * time.Millisecond): // the caller has time to give up
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(volume.Volume{Name: opts.Name, Labels: opts.Labels}); err != nil {
			t.Error(err)
		}
		close(answered)
	}))
	socket := filepath.Join(t.TempDir(), "docker.sock")
	var err error
	if server.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
	e, err := engine.New(engine.Config{Host: "unix://" + socket, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	key := PodKey{Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Pod: structs.Ref{ID: structs.NewID()}, Name: "v"}
	_, err = New(e).EnsurePod(ctx, key, structs.PodVolume{Name: "v"}, nil)
	select {
	case <-answered:
	default:
		t.Errorf("it returned %v before the engine's answer", err)
	}
	if err != nil || ctx.Err() == nil {
		t.Errorf("it returned %v, and the caller's context %v", err, ctx.Err())
	}
}
