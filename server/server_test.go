package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func TestConfigRefusals(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"-name":            func(c *Config) { c.Name = strings.Repeat("x", 256) },
		"-bind":            func(c *Config) { c.Bind = "localhost" },
		"-insecure":        func(c *Config) { c.Bind = "0.0.0.0" },
		"-http-port":       func(c *Config) { c.HTTPPort = 65536 },
		"-raft-port":       func(c *Config) { c.RaftPort = -5 },
		"-gossip-port":     func(c *Config) { c.GossipPort = 1 << 20 },
		"-auth":            func(c *Config) { c.Auth = "magic" },
		"-join-token":      func(c *Config) { c.JoinToken = "short" },
		"-host-lost-after": func(c *Config) { c.HostLostAfter = time.Millisecond },
		"-advertise":       func(c *Config) { c.Advertise = "s1" },
		"-join":            func(c *Config) { c.Join = []string{"10.0.0.2", "http://s3"} },
		"-raft-snapshot":   func(c *Config) { c.SnapshotThreshold = 63 },
		"-raft-trailing":   func(c *Config) { c.TrailingLogs = 10_000_001 },
		"-cluster":         func(c *Config) { c.Cluster = strings.Repeat("x", 256) },
	} {
		c := Config{DataDir: filepath.Join(t.TempDir(), "server")}
		change(&c)
		if _, err := New(c); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(c.DataDir); !os.IsNotExist(err) {
			t.Errorf("%s: the data directory was made before the refusal: %v", want, err)
		}
	}
	if err := (Config{Bind: "0.0.0.0", Insecure: true}).withDefaults().validate(); err != nil {
		t.Error(err)
	}
}

func TestLogSettingsReachRaft(t *testing.T) {
	var got raftlog.Config
	c := Config{DataDir: t.TempDir(), SnapshotThreshold: 64, TrailingLogs: 65, tuneRaft: func(r *raftlog.Config) { got = *r }}
	if err := startWith(t, c).stop(); err != nil {
		t.Error(err)
	}
	if got.SnapshotThreshold != 64 || got.TrailingLogs != 65 {
		t.Errorf("Raft has a snapshot after %d entries and keeps %d behind it", got.SnapshotThreshold, got.TrailingLogs)
	}
}

// running is a server that runs until its stop is called.
type running struct {
	*Server
	client *api.Client
	ended  chan error // what Run has returned
	stop   func() error
}

func start(t testing.TB, dir string) *running {
	t.Helper()
	r := startWith(t, Config{DataDir: dir})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// startWith starts a server whose Run may fail. The test must stop it.
func startWith(t testing.TB, c Config, prepare ...func(*Server)) *running {
	t.Helper()
	c.HTTPPort, c.Solo, c.DefaultBay = -1, true, "default"
	srv, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(srv)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	r := &running{Server: srv, ended: ended}
	r.stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { r.stop() })
	if r.client, err = api.New(api.Config{Address: srv.URL()}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		bays, _, err := r.client.Bays().List(ctx, api.QueryOptions{Consistent: true})
		if err == nil && len(bays) == 1 {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("no default bay: %v, %v", bays, err)
		}
	}
}

// rows returns the text of all rows, by table and ID, but for the lineages: each leadership
// adds its own.
func (r *running) rows() map[string]string {
	all := make(map[string]string)
	snap := r.store.Snapshot()
	for _, table := range state.Tables() {
		for row := range snap.List(table, state.AllProjects, 0) {
			if table != structs.TableLineages {
				all[string(table)+" "+row.Base().ID] = fmt.Sprintf("%+v", row)
			}
		}
	}
	return all
}

func TestRestartKeepsState(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	ctx := context.Background()
	made, _, err := first.client.Containers().Create(ctx, &structs.ContainerRequest{Image: "busybox"}, api.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := first.JoinTokenInUse()
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	before := first.rows()
	second := start(t, dir)
	if after := second.rows(); !maps.Equal(before, after) || len(before) < 3 {
		t.Errorf("state %v before, %v after the restart", before, after)
	}
	if _, _, err := second.client.Containers().Get(ctx, made.UUID, api.QueryOptions{}); err != nil {
		t.Error(err)
	}
	if second.JoinTokenInUse() != token || len(token) < 32 {
		t.Error("the join token is another one now")
	}
	if info, err := os.Stat(filepath.Join(dir, "join-token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the join token's file: %v, %v", info, err)
	}
}

func TestDirectoryAndPortInUse(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	if _, err := New(Config{DataDir: dir, HTTPPort: -1, Solo: true}); structs.CodeOf(err) != structs.CodeConflict ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("same directory: %v", err)
	}
	other := t.TempDir()
	_, port, _ := strings.Cut(strings.TrimPrefix(first.URL(), "http://"), ":")
	var n int
	for _, c := range port {
		n = 10*n + int(c-'0')
	}
	if _, err := New(Config{DataDir: other, HTTPPort: n, Solo: true}); structs.CodeOf(err) != structs.CodeConflict ||
		!strings.Contains(err.Error(), port) {
		t.Errorf("same port: %v", err)
	}
	// A refused start leaves the directory unlocked.
	second, err := New(Config{DataDir: other, HTTPPort: -1, Solo: true})
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestEmptyServerIDFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "server-id")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{DataDir: dir, HTTPPort: -1, Solo: true}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// A stop answers parked requests.
func TestStopEndsParkedRequests(t *testing.T) {
	s := start(t, t.TempDir())
	index := s.store.Index()
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.client.Bays().List(context.Background(), api.QueryOptions{Index: index, Wait: time.Minute})
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond) // the request must end, parked or not
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := <-ended; err != nil && took > shutdownGrace {
		t.Errorf("the stop took %v, and the request ended with %v", took, err)
	}
}

func TestDeadlines(t *testing.T) {
	d := make(deadlines)
	now := time.Now()
	round := func(after time.Duration, ids ...string) []string {
		d.beginRound()
		for _, id := range ids {
			d.note(id, now.Add(after), time.Minute)
		}
		return d.expired(now.Add(after))
	}
	for _, step := range []struct {
		after time.Duration
		ids   []string
		want  []string
	}{
		{0, []string{"a"}, nil},
		{30 * time.Second, []string{"a", "b"}, nil},
		{time.Minute, []string{"a", "b"}, []string{"a"}},
		{80 * time.Second, []string{"b"}, nil},                // a is gone
		{90 * time.Second, []string{"a", "b"}, []string{"b"}}, // a is new
		{100 * time.Second, nil, nil},
	} {
		if got := round(step.after, step.ids...); !slices.Equal(got, step.want) {
			t.Errorf("after %v: %v, want %v", step.after, got, step.want)
		}
	}
	if len(d) != 0 {
		t.Errorf("%d are not forgotten", len(d))
	}
}

func TestRunFailsIfItsPortIsTakenAway(t *testing.T) {
	srv, err := New(Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := srv.Run(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server without its port ended with %v", err)
	}
}
