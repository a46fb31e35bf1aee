package raftlog

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/memberfile"
)

// written creates a log with one entry in a data directory, with the given number of
// servers, and closes it. The other servers never run.
func written(t *testing.T, servers int) Config {
	t.Helper()
	c := testConfig(t, filepath.Join(t.TempDir(), "data"))
	l := mustOpen(t, c)
	voters := []Peer{l.Self()}
	for n := 1; n < servers; n++ {
		voters = append(voters, Peer{ID: strings.Repeat(string(rune('a'+n)), 8), Addr: "elsewhere-" + string(rune('a'+n)), Voter: true})
	}
	if err := l.Bootstrap(voters...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// reopened opens a log again and returns its log output.
func reopened(t *testing.T, c Config) (log string, err error) {
	t.Helper()
	var b bytes.Buffer
	again := testConfig(t, c.DataDir)
	again.ServerID, again.Moved, again.compactFree = c.ServerID, c.Moved, c.compactFree
	again.Logger = hclog.New(&hclog.LoggerOptions{Output: &b, Level: hclog.Warn})
	l, err := Open(again)
	if err == nil {
		err = l.Close()
	}
	return b.String(), err
}

func sh(t *testing.T, command string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-ec", command, "sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// ways in which the data directory $1 becomes a copy.
var copied = map[string]string{
	"put back as a whole":         `cp -a "$1" "$1.bak"; rm -rf "$1"; cp -a "$1.bak" "$1"`,
	"the log's directory alone":   `cp -a "$1/raft" "$1.bak"; rm -rf "$1/raft"; cp -a "$1.bak" "$1/raft"`,
	"the log's file alone":        `cp -a "$1/raft/raft.db" "$1.bak"; cp --remove-destination -a "$1.bak" "$1/raft/raft.db"`,
	"an archive unpacked over it": `tar -C "$1" -cf "$1.tar" .; tar -C "$1" -xf "$1.tar"`,
}

// TestCopyOfOneOfSeveralServersIsRefused: such a server doesn't start on a copy of its
// directory, unless an operator says that the directory was moved.
func TestCopyOfOneOfSeveralServersIsRefused(t *testing.T) {
	for name, command := range copied {
		t.Run(name, func(t *testing.T) {
			c := written(t, 3)
			if log, err := reopened(t, c); err != nil || log != "" {
				t.Fatalf("%v: %s", err, log)
			}
			sh(t, command, c.DataDir)
			before, err := os.ReadFile(memberfile.Path(c.DataDir))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a refusal changes nothing
				_, err := reopened(t, c)
				if err == nil || !strings.Contains(err.Error(), "is a copy") ||
					!strings.Contains(err.Error(), "remove-peer "+c.ServerID) || !strings.Contains(err.Error(), "-data-dir-moved") {
					t.Fatalf("it says %v", err)
				}
			}
			if after, err := os.ReadFile(memberfile.Path(c.DataDir)); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the refusal has changed the record: %s, %v", after, err)
			}
			c.Moved = true
			if log, err := reopened(t, c); err != nil || !strings.Contains(log, "was moved") {
				t.Errorf("%v: %s", err, log)
			}
			if log, err := reopened(t, c); err != nil || !strings.Contains(log, "remove -data-dir-moved") {
				t.Errorf("%v: %s", err, log)
			}
			c.Moved = false
			if log, err := reopened(t, c); err != nil || log != "" {
				t.Errorf("%v: %s", err, log)
			}
		})
	}
}

// TestCopyOfSingleServerStartsWithWarning: such a server starts on a copy and warns
// once.
func TestCopyOfSingleServerStartsWithWarning(t *testing.T) {
	for name, command := range copied {
		t.Run(name, func(t *testing.T) {
			c := written(t, 1)
			sh(t, command, c.DataDir)
			if log, err := reopened(t, c); err != nil || !strings.Contains(log, "is a copy") {
				t.Errorf("%v: %s", err, log)
			}
			if log, err := reopened(t, c); err != nil || log != "" {
				t.Errorf("%v: %s", err, log)
			}
		})
	}
}

// TestRenamedDirectoryIsNoCopy: a renamed directory on the same file system is no copy,
// and neither is one whose place an earlier version has not recorded.
func TestRenamedDirectoryIsNoCopy(t *testing.T) {
	c := written(t, 3)
	sh(t, `mv "$1" "$1.elsewhere"`, c.DataDir)
	c.DataDir += ".elsewhere"
	if log, err := reopened(t, c); err != nil || log != "" {
		t.Errorf("%v: %s", err, log)
	}
	kept, err := memberfile.Read(c.DataDir)
	if err != nil || kept.Place == (memberfile.Place{}) {
		t.Fatalf("%+v, %v", kept, err)
	}
	kept.Place = memberfile.Place{}
	if err := memberfile.Write(c.DataDir, *kept); err != nil {
		t.Fatal(err)
	}
	if log, err := reopened(t, c); err != nil || log != "" {
		t.Errorf("%v: %s", err, log)
	}
	if kept, err := memberfile.Read(c.DataDir); err != nil || kept.Place == (memberfile.Place{}) {
		t.Errorf("the place is not noted: %+v, %v", kept, err)
	}
}
