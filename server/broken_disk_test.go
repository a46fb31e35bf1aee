package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// disk fails writes of the given kinds while it is broken.
type disk struct {
	broken atomic.Bool
	fails  []string
	err    error // errDisk if it is nil
}

var errDisk = errors.New("input/output error")

func (d *disk) fault(op string) error {
	for _, f := range d.fails {
		if f == op && d.broken.Load() {
			return cmp.Or(d.err, errDisk)
		}
	}
	return nil
}

// onDisk is a server on a disk that can break, with the server's log output.
type onDisk struct {
	*running
	t    *testing.T
	disk *disk
	log  *logged
	raft string // directory of the replicated log
}

// logged is a log writer that may be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startOnDisk(t *testing.T, dir string, fails ...string) *onDisk {
	t.Helper()
	d := &onDisk{t: t, disk: &disk{fails: fails}, log: new(logged), raft: filepath.Join(dir, "raft")}
	d.running = startWith(t, Config{DataDir: dir, fault: d.disk.fault, Logger: hclog.New(&hclog.LoggerOptions{Output: d.log})})
	var err error
	if d.client, err = api.New(api.Config{Address: d.URL(), RetryFor: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *onDisk) create(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, _, err := d.client.Containers().Create(ctx, &structs.ContainerRequest{Name: &name, Image: "busybox"}, api.CreateOptions{})
	return err
}

// names returns the names of the existing containers.
func (d *onDisk) names() map[string]bool {
	d.t.Helper()
	list, _, err := d.client.Containers().List(context.Background(), api.QueryOptions{Stale: true})
	if err != nil {
		d.t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, c := range list {
		if names[c.Name] {
			d.t.Errorf("there are two of %s", c.Name)
		}
		names[c.Name] = true
	}
	return names
}

// refuses expects a write on the broken disk to be answered with an error.
func (d *onDisk) refuses(name string) {
	d.t.Helper()
	if err := d.create(name); err == nil {
		d.t.Errorf("%s was acknowledged while the disk is broken", name)
	} else if code := structs.CodeOf(err); code != structs.CodeNoLeader && code != structs.CodeUnavailable {
		d.t.Errorf("%s: code %s: %v", name, code, err)
	}
}

// heals mends the disk, waits until writes are accepted, and checks that those before
// and after are kept.
func (d *onDisk) heals() {
	d.t.Helper()
	d.disk.broken.Store(false)
	deadline := time.Now().Add(time.Minute)
	for err := d.create("after"); err != nil; err = d.create("after") {
		if time.Now().After(deadline) {
			d.t.Fatalf("the disk is well again, and writes fail: %v", err)
		}
	}
	if names := d.names(); !names["before"] || !names["after"] {
		d.t.Errorf("there are %v", names)
	}
	if err := d.stop(); err != nil {
		d.t.Fatal(err)
	}
	again := start(d.t, d.config.DataDir)
	if was, is := rows(d.t, d.store.Snapshot()), rows(d.t, again.store.Snapshot()); was != is {
		d.t.Errorf("the state is another one after a restart: it was\n%s\nand is\n%s", was, is)
	}
}

// rows returns all rows of a state except the lineages, to which each leadership adds a
// row.
func rows(t *testing.T, snap *state.Snapshot) string {
	t.Helper()
	var all strings.Builder
	for _, table := range state.Tables() {
		if table == structs.TableLineages {
			continue
		}
		for r := range snap.List(table, state.AllProjects, 0) {
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(append(b, '\n'))
		}
	}
	return all.String()
}

// TestWritesResumeWhenDiskRecovers: while the disk is broken, writes are answered 503,
// reads work, and the log names the file. Writes work again once the disk does. A term
// that can't be written either makes no difference.
func TestWritesResumeWhenDiskRecovers(t *testing.T) {
	for name, fails := range map[string][]string{"entries": {raftlog.FaultLog}, "all": {raftlog.FaultLog, raftlog.FaultState}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startOnDisk(t, t.TempDir(), fails...)
			if err := d.create("before"); err != nil {
				t.Fatal(err)
			}
			d.disk.broken.Store(true)
			d.refuses("during")
			if names := d.names(); !names["before"] || names["during"] {
				t.Errorf("while the disk is broken there are %v", names)
			}
			if log := d.log.String(); !strings.Contains(log, filepath.Join(d.raft, "raft.db")+" can't be written: input/output error") {
				t.Errorf("the log does not name where:\n%s", log)
			}
			if name == "all" {
				d.silent()
			}
			d.heals()
		})
	}
}

// silent waits until the server can't write its term.
func (d *onDisk) silent() {
	d.t.Helper()
	silent := func() bool { return strings.Contains(d.log.String(), "this server neither votes nor leads") }
	for deadline := time.Now().Add(time.Minute); !silent(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("it wrote its term; its log:\n%s", d.log)
		}
	}
}

// TestStopOnBrokenDisk: a server that waits for its disk can be stopped.
func TestStopOnBrokenDisk(t *testing.T) {
	t.Parallel()
	d := startOnDisk(t, t.TempDir(), raftlog.FaultLog, raftlog.FaultState)
	if err := d.create("before"); err != nil {
		t.Fatal(err)
	}
	d.disk.broken.Store(true)
	d.refuses("during")
	d.silent()
	began := time.Now()
	if err := d.stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	again := startOnDisk(t, d.config.DataDir)
	if names := again.names(); !names["before"] {
		t.Errorf("after a restart there are %v", names)
	}
	if err := again.create("after"); err != nil {
		t.Error(err)
	}
}

// TestFailedSyncEndsServer: after a failed sync, whichever it was and whatever its
// error, the server ends by itself with an error that names the file, and has lost
// nothing that it acknowledged. The next start finds the log intact, and warns.
func TestFailedSyncEndsServer(t *testing.T) {
	for _, fails := range []string{raftlog.FaultLogDone, raftlog.FaultStateDone} {
		for _, err := range []error{errDisk, syscall.ENOSPC} {
			t.Run(fmt.Sprint(fails, " ", err), func(t *testing.T) {
				t.Parallel()
				kinds := []string{fails}
				if fails == raftlog.FaultStateDone {
					kinds = append(kinds, raftlog.FaultLog) // otherwise no term is written
				}
				d := startOnDisk(t, t.TempDir(), kinds...)
				d.disk.err = err
				if err := d.create("before"); err != nil {
					t.Fatal(err)
				}
				d.disk.broken.Store(true)
				d.refuses("during")
				select {
				case got := <-d.ended:
					d.ended <- got
					if got == nil || !strings.Contains(got.Error(), filepath.Join(d.raft, "raft.db")+" can't be written: "+err.Error()) ||
						!strings.Contains(got.Error(), "start the server again") {
						t.Errorf("it ended with %v", got)
					}
				case <-time.After(time.Minute):
					t.Fatalf("it does not end; its log:\n%s", d.log)
				}
				again := startOnDisk(t, d.config.DataDir)
				if names := again.names(); !names["before"] {
					t.Errorf("after a restart there are %v", names)
				}
				if log := again.log.String(); !strings.Contains(log, "a sync failed before this start") ||
					!strings.Contains(log, err.Error()) {
					t.Errorf("it does not warn:\n%s", log)
				}
				if err := again.create("after"); err != nil {
					t.Error(err)
				}
				if err := again.stop(); err != nil {
					t.Error(err)
				}
				once := startOnDisk(t, d.config.DataDir)
				if log := once.log.String(); strings.Contains(log, "a sync failed before this start") {
					t.Error("it warns again")
				}
			})
		}
	}
}

// TestStartOnBrokenDiskFails: the error names the file, whichever write fails first.
// Entries are retried once there is a cluster, so for entries it is the first one that
// fails.
func TestStartOnBrokenDiskFails(t *testing.T) {
	for _, tc := range []struct {
		fails  string
		spared int32 // writes of the kind that don't fail
	}{
		{raftlog.FaultLog, 0}, {raftlog.FaultLogDone, 0},
		{raftlog.FaultState, 0}, {raftlog.FaultState, 1}, {raftlog.FaultState, 2},
		{raftlog.FaultStateDone, 0}, {raftlog.FaultStateDone, 1}, {raftlog.FaultStateDone, 2}, {raftlog.FaultStateDone, 3},
	} {
		t.Run(fmt.Sprint(tc.fails, tc.spared), func(t *testing.T) {
			t.Parallel()
			var writes atomic.Int32
			srv, err := New(Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true, fault: func(op string) error {
				if op == tc.fails && writes.Add(1) > tc.spared {
					return errDisk
				}
				return nil
			}})
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				err = srv.Run(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), "raft/raft.db can't be written: input/output error") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
