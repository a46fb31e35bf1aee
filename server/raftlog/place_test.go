package raftlog

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// written makes a log with an entry in a data directory, of as many servers, and
// closes it. The others are never there.
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

// reopened opens a log again and returns what it says.
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

// ways in which a data directory, $1, comes to hold a copy.
var copied = map[string]string{
	"put back as a whole":         `cp -a "$1" "$1.bak"; rm -rf "$1"; cp -a "$1.bak" "$1"`,
	"the log's directory alone":   `cp -a "$1/raft" "$1.bak"; rm -rf "$1/raft"; cp -a "$1.bak" "$1/raft"`,
	"the log's file alone":        `cp -a "$1/raft/raft.db" "$1.bak"; cp --remove-destination -a "$1.bak" "$1/raft/raft.db"`,
	"an archive unpacked over it": `tar -C "$1" -cf "$1.tar" .; tar -C "$1" -xf "$1.tar"`,
}

// TestCopyOfOneOfSeveral: it does not start on a copy of its directory, unless an
// operator says that it was moved.
func TestCopyOfOneOfSeveral(t *testing.T) {
	for name, command := range copied {
		t.Run(name, func(t *testing.T) {
			c := written(t, 3)
			if log, err := reopened(t, c); err != nil || log != "" {
				t.Fatalf("%v: %s", err, log)
			}
			sh(t, command, c.DataDir)
			before, err := os.ReadFile(MembershipFile(c.DataDir))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a refusal changes nothing
				_, err := reopened(t, c)
				if err == nil || !strings.Contains(err.Error(), "is a copy") || !strings.Contains(err.Error(), "remove-peer "+c.ServerID) || !strings.Contains(err.Error(), "-data-dir-moved") {
					t.Fatalf("it says %v", err)
				}
			}
			if after, err := os.ReadFile(MembershipFile(c.DataDir)); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the refusal has changed the record: %s, %v", after, err)
			}
			c.Moved = true
			if log, err := reopened(t, c); err != nil || !strings.Contains(log, "was moved") {
				t.Errorf("%v: %s", err, log)
			}
			if log, err := reopened(t, c); err != nil || !strings.Contains(log, "take -data-dir-moved out") {
				t.Errorf("%v: %s", err, log)
			}
			c.Moved = false
			if log, err := reopened(t, c); err != nil || log != "" {
				t.Errorf("%v: %s", err, log)
			}
		})
	}
}

// TestCopyOfTheOnlyServer: it starts, and says so once.
func TestCopyOfTheOnlyServer(t *testing.T) {
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

// TestRenamedDirectoryIsNoCopy: what is renamed on its file system stays the same,
// and so does what an earlier magnum has not noted.
func TestRenamedDirectoryIsNoCopy(t *testing.T) {
	c := written(t, 3)
	sh(t, `mv "$1" "$1.elsewhere"`, c.DataDir)
	c.DataDir += ".elsewhere"
	if log, err := reopened(t, c); err != nil || log != "" {
		t.Errorf("%v: %s", err, log)
	}
	kept, err := ReadMembership(c.DataDir)
	if err != nil || kept.Place == (place{}) {
		t.Fatalf("%+v, %v", kept, err)
	}
	kept.Place = place{}
	if err := WriteMembership(c.DataDir, *kept); err != nil {
		t.Fatal(err)
	}
	if log, err := reopened(t, c); err != nil || log != "" {
		t.Errorf("%v: %s", err, log)
	}
	if kept, err := ReadMembership(c.DataDir); err != nil || kept.Place == (place{}) {
		t.Errorf("the place is not noted: %+v, %v", kept, err)
	}
}

// TestPlaceHolds: a file that was about to be renamed into the place of the log is
// the log, whether the rename was done or not.
func TestPlaceHolds(t *testing.T) {
	a, b, c := fileID{1, 10}, fileID{2, 20}, fileID{3, 30}
	for what, tc := range map[string]struct {
		kept, now place
		want      bool
	}{
		"the same":           {place{Dir: a, File: b}, place{Dir: a, File: b}, true},
		"another directory":  {place{Dir: a, File: b}, place{Dir: c, File: b}, false},
		"another file":       {place{Dir: a, File: b}, place{Dir: a, File: c}, false},
		"a later birth":      {place{Dir: a, File: b}, place{Dir: a, File: fileID{2, 21}}, false},
		"a birth not told":   {place{Dir: fileID{1, 0}, File: b}, place{Dir: a, File: fileID{2, 0}}, true},
		"another, not told":  {place{Dir: fileID{5, 0}, File: b}, place{Dir: a, File: b}, false},
		"before the rename":  {place{Dir: a, File: b, Next: c}, place{Dir: a, File: b}, true},
		"after the rename":   {place{Dir: a, File: b, Next: c}, place{Dir: a, File: c}, true},
		"neither, no rename": {place{Dir: a, File: b}, place{Dir: a}, false},
	} {
		if got := tc.kept.holds(tc.now); got != tc.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
