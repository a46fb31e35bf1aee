package raftlog

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/state"
)

// compacting is a program that opens a log and is killed before a step of its
// compaction.
const compacting = "compacting" // DIR STEP

const testCompactFree = 1 << 20

var compactSteps = []string{"copy", "sync copy", "check", "note", "rename", "sync", "done"}

func init() {
	programs[compacting] = func(args []string) int {
		compactStep = func(step string) {
			if step == args[1] {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		l, err := Open(Config{DataDir: args[0], ServerID: "11111111-1111-4111-8111-111111111111", Store: state.New(),
			compactFree: testCompactFree})
		if err == nil {
			err = l.Close()
		}
		fmt.Println(err)
		return 1
	}
}

// mostlyFree returns the configuration of a server whose log file is mostly free, and
// the entries that are left.
func mostlyFree(t testing.TB) (Config, *member, []string) {
	t.Helper()
	c, m := writtenDir(t, 10, false)
	s, err := openStore(c.storeFile(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Keep the server's own entries; add others in between and delete them again.
	_, last, err := bounds(s)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(4) {
		index := last + 1 + n
		e := &raft.Log{Index: index, Term: 2, Type: raft.LogNoop, Data: bytes.Repeat([]byte{7}, 1<<20)}
		if err := s.StoreLogs([]*raft.Log{e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(last+1, last+4); err != nil {
		t.Fatal(err)
	}
	entries := entriesOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.compactFree = testCompactFree
	return c, m, entries
}

// sizeOf returns the size of a raft.db's pages in bytes.
func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	facts, err := CheckLog(t.Context(), LogCheck{Path: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return facts.Size
}

func TestCompactionKeepsEntriesAndShrinksFile(t *testing.T) {
	c, m, want := mostlyFree(t)
	before := sizeOf(t, c.storeFile())
	var steps []string
	compactStep = func(step string) { steps = append(steps, step) }
	defer func() { compactStep = func(string) {} }()
	l := mustOpen(t, c)
	if !slices.Equal(steps, compactSteps) {
		t.Errorf("the steps were %v", steps)
	}
	if got := entriesOf(t, l.files.logs); !slices.Equal(got, want) {
		t.Error("the entries are others")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	after := sizeOf(t, c.storeFile())
	if after > before/4 {
		t.Errorf("the file had %d bytes, and has %d", before, after)
	}
	if _, err := os.Stat(c.storeFile() + newSuffix); err == nil {
		t.Error("the new file is left beside it")
	}
	steps = nil
	again := testConfig(t, c.DataDir)
	again.compactFree = testCompactFree
	b := start(t, again)
	sameState(t, b.config.Store, m.config.Store)
	b.put(11)
	if len(steps) != 0 {
		t.Errorf("it is compacted again: %v", steps)
	}
}

// Without disk space for a copy there is no compaction, and the server still starts.
func TestNoCompactionWithoutDiskSpace(t *testing.T) {
	c, m, _ := mostlyFree(t)
	before, room := sizeOf(t, c.storeFile()), roomIn
	roomIn = func(string) (int64, error) { return compactFree, nil } // no space for the content
	defer func() { roomIn = room }()
	var log logBuffer
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	b := start(t, c)
	sameState(t, b.config.Store, m.config.Store)
	b.stop()
	if after := sizeOf(t, c.storeFile()); after < before || !strings.Contains(log.String(), "too little disk space") {
		t.Errorf("the file has %d bytes after %d, and the log says\n%s", after, before, log.String())
	}
}

// TestStartAfterKilledCompaction: wherever the process is killed, the next start has
// all entries and continues.
func TestStartAfterKilledCompaction(t *testing.T) {
	for _, step := range compactSteps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			c, m, want := mostlyFree(t)
			out, err := exec.Command("/proc/self/exe", compacting, c.DataDir, step).CombinedOutput()
			if err == nil || err.Error() != "signal: killed" {
				t.Fatalf("%v: %s", err, out)
			}
			l := mustOpen(t, c)
			if got := entriesOf(t, l.files.logs); !slices.Equal(got, want) {
				t.Error("the entries are others")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if size := sizeOf(t, c.storeFile()); size > 2<<20 {
				t.Errorf("the file still has %d bytes", size)
			}
			if _, err := os.Stat(c.storeFile() + newSuffix); err == nil {
				t.Error("the new file is left")
			}
			b := start(t, testConfig(t, c.DataDir))
			sameState(t, b.config.Store, m.config.Store)
			b.put(11)
		})
	}
}

// A copy that differs from the original is discarded, and the server starts with the
// original.
func TestWrongCopyIsDiscarded(t *testing.T) {
	c, m, _ := mostlyFree(t)
	before := sizeOf(t, c.storeFile())
	for what, spoil := range map[string]func(path string) error{
		"damaged": func(path string) error { return os.Truncate(path, 9000) },
		"of less": func(path string) error {
			s, err := openStore(path, nil)
			if err != nil {
				return err
			}
			_, last, _ := bounds(s)
			if err := s.DeleteRange(last, last); err != nil {
				return err
			}
			return s.Close()
		},
		"of another term": func(path string) error {
			s, err := openStore(path, map[string]bool{keyCurrentTerm: true, keyLastVoteCand: true, keyLastVoteTerm: true})
			if err != nil {
				return err
			}
			if err := s.SetUint64([]byte(keyCurrentTerm), 99); err != nil {
				return err
			}
			return s.Close()
		},
	} {
		compactStep = func(step string) {
			if step == "check" {
				if err := spoil(c.storeFile() + newSuffix); err != nil {
					t.Error(err)
				}
			}
		}
		var log logBuffer
		conf := testConfig(t, c.DataDir)
		conf.compactFree, conf.Logger = testCompactFree, hclog.New(&hclog.LoggerOptions{Output: &log})
		l := mustOpen(t, conf)
		sameState(t, l.config.Store, state.New()) // entries are applied only once there is a leader
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "the log file is not compacted") {
			t.Errorf("%s: the log says\n%s", what, log.String())
		}
		if size := sizeOf(t, c.storeFile()); size != before {
			t.Errorf("%s: the file has %d bytes, not %d", what, size, before)
		}
	}
	compactStep = func(string) {}
	b := start(t, testConfig(t, c.DataDir))
	sameState(t, b.config.Store, m.config.Store)
}
