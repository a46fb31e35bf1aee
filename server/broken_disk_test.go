package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// disk fails the writes of the given kinds while it is broken.
type disk struct {
	broken atomic.Bool
	fails  []string
}

var errDisk = errors.New("input/output error")

func (d *disk) fault(op string) error {
	for _, f := range d.fails {
		if f == op && d.broken.Load() {
			return errDisk
		}
	}
	return nil
}

// onDisk is a server on a disk that may break, with its log.
type onDisk struct {
	*running
	t    *testing.T
	disk *disk
	log  *logged
	raft string // its directory
}

// logged is a log that may be read while it is written.
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

// names returns the names of the containers that there are.
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

// TestDiskThatHeals: writes of entries fail for a while. They are answered 503,
// reads go on, the log names the file, and writes go on once the disk does.
func TestDiskThatHeals(t *testing.T) {
	for _, fails := range []string{raftlog.FaultLog, raftlog.FaultLogDone} {
		t.Run(fails, func(t *testing.T) {
			t.Parallel()
			d := startOnDisk(t, t.TempDir(), fails)
			if err := d.create("before"); err != nil {
				t.Fatal(err)
			}
			d.disk.broken.Store(true)
			d.refuses("during")
			if names := d.names(); !names["before"] || names["during"] {
				t.Errorf("while the disk is broken there are %v", names)
			}
			if log := d.log.String(); !strings.Contains(log, filepath.Join(d.raft, "log")+" can't be written: input/output error") {
				t.Errorf("the log does not name where:\n%s", log)
			}
			d.disk.broken.Store(false)
			deadline := time.Now().Add(30 * time.Second)
			for err := d.create("after"); err != nil; err = d.create("after") {
				if time.Now().After(deadline) {
					t.Fatalf("the disk is well again, and writes fail: %v", err)
				}
			}
			before := d.names()
			if !before["before"] || !before["after"] {
				t.Errorf("there are %v", before)
			}
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
			again := start(t, d.DataDir)
			if again.store.Hash() != d.store.Hash() {
				t.Error("the state is another one after a restart")
			}
		})
	}
}

// TestDiskThatStaysBroken: nothing can be written any more. The server ends by
// itself with a sentence that names the file, and has lost nothing that it
// acknowledged.
func TestDiskThatStaysBroken(t *testing.T) {
	for name, fails := range map[string][]string{
		"before": {raftlog.FaultLog, raftlog.FaultState}, "after": {raftlog.FaultLogDone, raftlog.FaultStateDone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startOnDisk(t, t.TempDir(), fails...)
			if err := d.create("before"); err != nil {
				t.Fatal(err)
			}
			d.disk.broken.Store(true)
			d.refuses("during")
			select {
			case err := <-d.ended:
				d.ended <- err
				if err == nil || !strings.Contains(err.Error(), filepath.Join(d.raft, "stable.json")+" can't be written: input/output error") || !strings.Contains(err.Error(), "start the server again") {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("it does not end; its log:\n%s", d.log)
			}
			again := startOnDisk(t, d.DataDir)
			if names := again.names(); !names["before"] || name == "before" && names["during"] {
				t.Errorf("after a restart there are %v", names)
			}
			if err := again.create("after"); err != nil {
				t.Error(err)
			}
			if err := again.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStartOnABrokenDisk ends with the sentence, too, whichever write fails
// first. Entries are tried again once there is a cluster, so of those it is the
// first one.
func TestStartOnABrokenDisk(t *testing.T) {
	for _, tc := range []struct {
		fails  string
		spared int32 // writes of the kind that don't fail
	}{
		{raftlog.FaultLog, 0}, {raftlog.FaultLogDone, 0},
		{raftlog.FaultState, 0}, {raftlog.FaultState, 1}, {raftlog.FaultState, 2}, {raftlog.FaultState, 3},
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
			where := "raft/stable.json"
			if strings.HasPrefix(tc.fails, raftlog.FaultLog) {
				where = "raft/log"
			}
			if err == nil || !strings.Contains(err.Error(), where+" can't be written: input/output error") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
