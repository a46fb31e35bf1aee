package metrics

import (
	"errors"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// scrape returns the lines of a scrape.
func scrape(t testing.TB, m *Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return strings.Split(w.Body.String(), "\n")
}

// write returns the change that writes a row.
func write(r structs.Row) structs.Change {
	return structs.Change{Table: r.Table(), ID: r.Base().ID, Row: r}
}

func filled(t testing.TB) *state.Store {
	t.Helper()
	s := state.New()
	put := func(index uint64, rows ...structs.Row) {
		var changes []structs.Change
		for _, r := range rows {
			changes = append(changes, write(r))
		}
		if err := s.Apply(index, changes); err != nil {
			t.Fatal(err)
		}
	}
	host := func(name string, st structs.HostState) structs.Row {
		return &structs.Host{Meta: structs.Meta{ID: structs.NewID()}, Name: name, State: st}
	}
	put(7, host("a", structs.HostReady), host("b", structs.HostReady), host("c", structs.HostLost))
	return s
}

func full(t testing.TB) *Metrics {
	return New(Config{
		Version: "1.2.3", Store: filled(t),
		Raft: func() Raft {
			return Raft{Term: 3, Leader: true, LastIndex: 12, CommitIndex: 11, AppliedIndex: 10, SnapshotIndex: 5, Peers: 2}
		},
		Queue: func() int { return 4 }, Reads: func() int { return 5 }, Polls: func() int { return 6 }, Sessions: func() int { return 7 },
		Disk:     func() (int64, error) { return 1 << 30, nil },
		Keystone: func() Keystone { return Keystone{Hits: 90, Misses: 10, Entries: 8, Bytes: 9000} },
		Connections: func() (map[string]int, uint64, uint64) {
			return map[string]int{"unproven": 8, "host": 9}, 10, 11
		},
	})
}

func TestScrapeShowsAllMetrics(t *testing.T) {
	m := full(t)
	m.Decided(3, 2*time.Millisecond)
	m.Committed(300*time.Microsecond, 2000)
	m.Committed(300*time.Microsecond, 1000)
	m.Refused(structs.CodeQuota)
	m.Forwarded(true)
	m.Forwarded(false)
	m.Validated("valid", 30*time.Millisecond)
	bays := m.Route("GET", "/v1/bays/:id")
	bays(200, time.Millisecond)
	bays(200, -1)
	bays(404, time.Millisecond)
	lines := scrape(t, m)
	for _, want := range []string{
		"magnum_raft_term 3", "magnum_raft_leader 1", "magnum_raft_last_index 12",
		"magnum_raft_commit_index 11", "magnum_raft_applied_index 10", "magnum_raft_snapshot_index 5", "magnum_raft_peers 2",
		"magnum_raft_last_contact_seconds 0", "magnum_raft_commit_seconds_count 2", "magnum_raft_largest_entry_bytes 2000",
		`magnum_raft_commit_seconds_bucket{le="0.0005"} 2`, `magnum_raft_commit_seconds_bucket{le="0.00025"} 0`,
		`magnum_conductor_batch_requests_bucket{le="4"} 1`, "magnum_conductor_decide_seconds_count 1", "magnum_conductor_queue_length 4",
		`magnum_conductor_refused_total{code="quota"} 1`,
		"magnum_state_index 7", `magnum_state_rows{table="hosts"} 3`, `magnum_state_rows{table="bays"} 0`,
		`magnum_hosts{state="ready"} 2`, `magnum_hosts{state="lost"} 1`,
		`magnum_containers{status="Error"} 0`, `magnum_bays{status="CREATE_FAILED"} 0`,
		"magnum_blocking_reads 5", "magnum_agent_polls 6", "magnum_sessions 7", "magnum_events_dropped_total 0",
		`magnum_http_connections{holder="unproven"} 8`, `magnum_http_connections{holder="host"} 9`,
		`magnum_http_connections_refused_total{how="refused"} 10`, `magnum_http_connections_refused_total{how="closed"} 11`,
		"magnum_disk_free_bytes 1.073741824e+09",
		`magnum_keystone_cache_requests_total{cache="hit"} 90`, `magnum_keystone_cache_requests_total{cache="miss"} 10`,
		`magnum_keystone_validation_seconds_count{result="valid"} 1`, "magnum_keystone_cache_tokens 8", "magnum_keystone_cache_bytes 9000",
		`magnum_api_requests_total{code="200",method="GET",route="/v1/bays/:id"} 2`,
		`magnum_api_requests_total{code="404",method="GET",route="/v1/bays/:id"} 1`,
		`magnum_api_request_seconds_count{method="GET",route="/v1/bays/:id"} 2`, // without the blocking one
		`magnum_forwarded_requests_total{outcome="answered"} 1`, `magnum_forwarded_requests_total{outcome="failed"} 1`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in the scrape", want)
		}
	}
	for _, prefix := range []string{"go_goroutines ", "process_open_fds ", `magnum_build_info{go_version="go`} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) }) {
			t.Errorf("no line begins with %q", prefix)
		}
	}
}

func TestUnknownValuesAreAbsent(t *testing.T) {
	m := New(Config{
		Store: state.New(), Raft: func() Raft { return Raft{LastContact: -1} },
		Disk: func() (int64, error) { return 0, errors.New("gone") },
	})
	for _, l := range scrape(t, m) {
		for _, name := range []string{"magnum_raft_last_contact_seconds", "magnum_disk_free_bytes", "magnum_conductor_queue_length"} {
			if strings.HasPrefix(l, name) {
				t.Errorf("%q is shown", l)
			}
		}
	}
}

func TestRoutesAppearWithTheirFirstRequest(t *testing.T) {
	m := New(Config{Store: state.New()})
	note := m.Route("GET", "/v1/bays")
	shown := func() bool {
		return slices.ContainsFunc(scrape(t, m), func(l string) bool { return strings.Contains(l, `route="/v1/bays"`) })
	}
	if shown() {
		t.Error("a route without requests has series")
	}
	if note(200, 0); !shown() {
		t.Error("a route with a request has no series")
	}
}

func TestScrapeCountsRowsAfterEachChange(t *testing.T) {
	s := filled(t)
	m := New(Config{Store: s})
	for range 2 { // the second scrape uses the cached counts
		if !slices.Contains(scrape(t, m), `magnum_state_rows{table="bays"} 0`) {
			t.Error("the scrape does not show 0 bays")
		}
	}
	bay := &structs.Bay{Meta: structs.Meta{ID: structs.NewID(), ProjectID: "p"}, Status: structs.BayCreated}
	err := s.Apply(8, []structs.Change{write(bay)})
	if err != nil {
		t.Fatal(err)
	}
	lines := scrape(t, m)
	for _, want := range []string{`magnum_state_rows{table="bays"} 1`, `magnum_bays{status="CREATE_COMPLETE"} 1`, "magnum_state_index 8"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in the scrape", want)
		}
	}
}

// TestManualListsAllMetrics: the manual has every magnum metric with its type, and no
// other.
func TestManualListsAllMetrics(t *testing.T) {
	m := full(t)
	m.Decided(1, 0)
	m.Refused(structs.CodeQuota)
	m.Forwarded(true)
	m.Validated("valid", 0)
	m.Route("GET", "/")(200, 0)
	served := map[string]string{}
	for _, l := range scrape(t, m) {
		if name, kind, ok := strings.Cut(strings.TrimPrefix(l, "# TYPE "), " "); ok && strings.HasPrefix(l, "# TYPE magnum_") {
			served[name] = kind
		}
	}
	manual, err := os.ReadFile("../../website/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(magnum_[a-z_]+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(manual), -1) {
		documented[row[1]] = row[2]
	}
	if !maps.Equal(served, documented) {
		t.Errorf("served are %v\ndocumented are %v", served, documented)
	}
	if len(served) < 20 {
		t.Errorf("only %d metrics", len(served))
	}
}

func TestConcurrentRequestsAreCounted(t *testing.T) {
	m := New(Config{Store: state.New()})
	note := m.Route("GET", "/v1/bays")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for status := range 100 {
				note(400+status%10, time.Microsecond)
			}
		})
	}
	all.Wait()
	if !slices.Contains(scrape(t, m), `magnum_api_requests_total{code="405",method="GET",route="/v1/bays"} 80`) {
		t.Error("not every request was counted")
	}
}

func BenchmarkObserveRequest(b *testing.B) {
	note := New(Config{Store: state.New()}).Route("GET", "/v1/bays/:id")
	b.ReportAllocs()
	for b.Loop() {
		note(200, 300*time.Microsecond)
	}
}

func BenchmarkObserveBatch(b *testing.B) {
	m := New(Config{Store: state.New()})
	b.ReportAllocs()
	for b.Loop() {
		m.Decided(10, 100*time.Microsecond)
		m.Committed(300*time.Microsecond, 1000)
	}
}

func BenchmarkScrape(b *testing.B) {
	s := state.New()
	for n := range 100 {
		var changes []structs.Change
		for range 200 {
			changes = append(changes, write(&structs.Container{Meta: structs.Meta{ID: structs.NewID(), ProjectID: "p"}}))
		}
		if err := s.Apply(uint64(n+1), changes); err != nil {
			b.Fatal(err)
		}
	}
	f := &collector{Config: Config{Store: s}}
	for b.Loop() {
		f.counts = nil
		f.count(s.Snapshot())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/row")
}
