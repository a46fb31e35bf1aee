package server

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// read returns the response of a GET.
func (r *running) read(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(r.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHealthAndMetrics(t *testing.T) {
	s := start(t, t.TempDir())
	ctx := context.Background()
	if _, _, err := s.client.Containers().Create(ctx, &structs.ContainerRequest{Image: "busybox"}, api.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.client.Bays().Get(ctx, "nope", api.QueryOptions{}); structs.CodeOf(err) != structs.CodeNotFound {
		t.Fatal(err)
	}
	status, page := s.read(t, "/v1/metrics")
	if status != 200 {
		t.Fatalf("metrics: %d %s", status, page)
	}
	for _, want := range []string{
		"magnum_raft_leader 1\n", "magnum_raft_peers 0\n", "magnum_raft_last_contact_seconds 0\n", "magnum_conductor_queue_length 0\n",
		`magnum_containers{status="Creating"} 1`, `magnum_state_rows{table="bays"} 1`, "magnum_agent_polls 0\n", "magnum_sessions 0\n",
		"magnum_blocking_reads 0\n",
		`magnum_api_requests_total{code="201",method="POST",route="/v1/containers"} 1`,
		`magnum_api_requests_total{code="404",method="GET",route="/v1/bays/:id"} 1`,
		"magnum_disk_free_bytes ", "magnum_build_info{",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	for _, zero := range []string{"magnum_raft_term 0\n", "magnum_raft_commit_seconds_count 0\n",
		"magnum_conductor_decide_seconds_count 0\n", "magnum_raft_applied_index 0\n"} {
		if strings.Contains(page, zero) {
			t.Errorf("%q after a write", zero)
		}
	}
	name, address := s.config.Name, strings.TrimPrefix(s.URL(), "http://")
	if status, body := s.read(t, "/v1/status/leader"); status != 200 || body != `{"leader":{"name":"`+name+`","address":"`+address+`"}}` {
		t.Errorf("leader: %d %s", status, body)
	}
	for path, want := range map[string]string{"/v1/status/health": `{"status":"ok"}`, "/v1/status/ready": `{"status":"ready"}`} {
		if status, body := s.read(t, path); status != 200 || body != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := s.read(t, "/debug/pprof/"); status != 404 {
		t.Errorf("profiles without -pprof: %d", status)
	}
}

func TestFullDiskIsUnhealthy(t *testing.T) {
	srv, err := New(Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.space.free = func(string) (int64, error) { return reserve / 2, nil }
	if err := srv.space.check(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	s := &running{Server: srv}
	if status, body := s.read(t, "/v1/status/health"); status != 503 || !strings.Contains(body, "the disk is nearly full") ||
		strings.Contains(body, srv.config.DataDir) {
		t.Errorf("health: %d %s", status, body)
	}
	if _, page := s.read(t, "/v1/metrics"); !strings.Contains(page, "magnum_disk_free_bytes 1.6777216e+07") {
		t.Error("the metrics don't show what is left")
	}
}

// TestLongestExecCommandIsAccepted: the API gets the longest allowed command of an
// execute, however it is escaped, and refuses a longer one itself.
func TestLongestExecCommandIsAccepted(t *testing.T) {
	srv, err := New(Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	s := &running{Server: srv}
	for _, n := range []int{structs.MaxCommand, structs.MaxCommand + 1} {
		status, body := s.read(t, "/v1/containers/nope/execute/ws?command="+strings.Repeat("%22", n))
		if status != 400 || !strings.Contains(body, `"errors"`) {
			t.Errorf("%d bytes: %d %.200s", n, status, body)
		}
	}
}
