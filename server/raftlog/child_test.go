package raftlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/server/state"
)

// Child programs that misbehave. Each is followed by the arguments of a check.
const (
	badChild  = "bad-child"  // WHAT
	spyChild  = "spy-child"  // prints its environment, files and process group
	parenting = "parenting"  // PID-FILE: the parent of a child that hangs
	slowChild = "slow-child" // makes slow progress
)

// slowStall is the limit of a slow child's time without progress.
const slowStall = 2 * time.Second

func init() {
	programs[badChild] = func(args []string) int { return behaveBadly(args[0]) }
	programs[spyChild] = func([]string) int { return spy() }
	programs[slowChild] = func(args []string) int {
		for n := range 10 {
			fmt.Println(n)
			time.Sleep(slowStall / 6) // simulates the slow disk
		}
		return ServeCheck(args, os.Stdout)
	}
	programs[parenting] = func(args []string) int {
		_, err := checkByChild(context.Background(), time.Minute, []string{"/proc/self/exe", badChild, "hang:" + args[0]}, LogCheck{})
		fmt.Println(err)
		return 1
	}
}

func behaveBadly(what string) int {
	what, arg, _ := strings.Cut(what, ":")
	self := os.Getpid()
	switch what {
	case "panic":
		panic("page 7: assertion failed")
	case "fault": // as bbolt does on a missing page
		b, _ := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
		return int(b[0])
	case "bus": // as for an unreadable page
		f, _ := os.CreateTemp("", "")
		os.Remove(f.Name())
		b, _ := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		return int(b[0])
	case "overflow":
		debug.SetMaxStack(checkStack)
		var deeper func(n int) int
		deeper = func(n int) int { return deeper(n+1) + 1 }
		return deeper(0)
	case "segv":
		signalDefault(syscall.SIGSEGV)
	case "kill":
		syscall.Kill(self, syscall.SIGKILL)
		select {}
	case "memory":
		unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: checkMemory, Max: checkMemory})
		var all [][]byte
		for n := range 1 << 20 {
			all = append(all, bytes.Repeat([]byte{byte(n)}, 1<<20))
		}
		return len(all)
	case "refuse":
		fmt.Printf("1\n{\"error\":\"entry 5: it does not have its checksum\",\"kind\":%q}\n", arg)
		return 1
	case "nothing":
		return 0
	case "garbage":
		fmt.Println("no answer at all }")
		return 0
	case "hang":
		if arg != "" {
			os.WriteFile(arg, []byte(strconv.Itoa(self)), 0o600)
		}
		for {
			time.Sleep(time.Hour)
		}
	}
	return 3
}

// signalDefault makes the kernel end this process with the signal. Go would make the
// signal a panic.
func signalDefault(s syscall.Signal) {
	syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -" + strconv.Itoa(int(s)) + " $$"}, nil)
}

// spied is what a child inherited.
type spied struct {
	Env   []string
	Stdin string
	Files []string
	Group bool // whether it has its own process group
}

func spy() int {
	s := spied{Env: os.Environ(), Group: syscall.Getpgrp() == os.Getpid()}
	s.Stdin, _ = os.Readlink("/proc/self/fd/0")
	all, _ := os.ReadDir("/proc/self/fd")
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			s.Files = append(s.Files, to)
		}
	}
	b, _ := json.Marshal(s)
	b, _ = json.Marshal(checkAnswer{Error: string(b), Kind: kindDamaged})
	fmt.Printf("%s\n", b)
	return 1
}

func TestResultsOfChildCheck(t *testing.T) {
	damaged, unchecked := errors.New("damaged"), ErrUnchecked
	for what, tc := range map[string]struct {
		kind error
		says string
	}{
		"panic":            {damaged, "page 7: assertion failed"},
		"fault":            {damaged, "unexpected fault address"},
		"bus":              {damaged, "unexpected fault address"},
		"overflow":         {damaged, "stack"},
		"segv":             {damaged, "segmentation fault"},
		"unknown":          {damaged, "exit status 3"},
		"refuse:damaged":   {damaged, "entry 5"},
		"refuse:schema":    {state.ErrSchema, "entry 5"},
		"refuse:unchecked": {unchecked, "entry 5"},
		"kill":             {unchecked, "memory is short"},
		"memory":           {unchecked, "too little memory"},
		"nothing":          {unchecked, "no answer"},
		"garbage":          {unchecked, "no answer"},
		"hang":             {unchecked, "no progress for 300ms"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if what == "memory" && raceDetector {
				t.Skip("the race detector takes more memory than any limit allows")
			}
			stall := time.Minute
			if what == "hang" {
				stall = 300 * time.Millisecond
			}
			_, err := checkByChild(t.Context(), stall, []string{"/proc/self/exe", badChild, what}, LogCheck{Path: "raft.db"})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v", err)
			}
			if errors.Is(err, ErrUnchecked) != (tc.kind == unchecked) || errors.Is(err, state.ErrSchema) != (tc.kind == state.ErrSchema) {
				t.Errorf("%v is of another kind", err)
			}
		})
	}
	if _, err := checkByChild(t.Context(), time.Minute, []string{filepath.Join(t.TempDir(), "gone")}, LogCheck{}); !errors.Is(err,
		ErrUnchecked) {
		t.Errorf("a program that can't be started: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ChildCheck(ctx, "/proc/self/exe", badChild, "hang")(t.Context(), LogCheck{}); !errors.Is(err, ErrUnchecked) ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("a server that is stopped while it checks: %v", err)
	}
}

// The error for a log that can't be checked must not advise anything that would lose
// the log.
func TestUncheckedLogIsNotCalledDamaged(t *testing.T) {
	c, m := writtenDir(t, 3, false)
	for what, word := range map[string]string{"kill": "could not be checked", "panic": "is damaged"} {
		broken := testConfig(t, c.DataDir)
		broken.CheckLog = ChildCheck(t.Context(), "/proc/self/exe", badChild, what)
		refused(t, broken, c.storeFile(), word)
		if _, err := Open(broken); what == "kill" && (strings.Contains(err.Error(), "empty") || strings.Contains(err.Error(), "backup") ||
			strings.Contains(err.Error(), "is damaged")) {
			t.Errorf("%q", err)
		}
	}
	again := start(t, byChild(testConfig(t, c.DataDir)))
	sameState(t, again.config.Store, m.config.Store)
	again.put(4)
}

// A child's finding reaches the user as damage, with the way out.
func TestChildReportsDamage(t *testing.T) {
	c, _ := writtenDir(t, 3, false)
	editStore(t, c, func(tx *bbolt.Tx) error {
		k, v := tx.Bucket(logsBucket).Cursor().Last()
		v = bytes.Clone(v)
		v[len(v)-1] ^= 1
		return tx.Bucket(logsBucket).Put(k, v)
	})
	refused(t, byChild(testConfig(t, c.DataDir)), c.storeFile()+" is damaged", "does not have its checksum", restoreHint)
}

// A check may take any time as long as it makes progress.
func TestSlowCheckWithProgressPasses(t *testing.T) {
	t.Parallel()
	c, _ := writtenDir(t, 3, false)
	facts, err := checkByChild(t.Context(), slowStall, []string{"/proc/self/exe", slowChild}, LogCheck{Path: c.storeFile()})
	if err != nil || facts.Last < 3 || facts.First != 1 {
		t.Errorf("%+v, %v", facts, err)
	}
}

// The child inherits no environment and no files of the server.
func TestChildInheritsNothing(t *testing.T) {
	t.Setenv("MAGNUM_SECRET", "s3cret")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Without close-on-exec, as a shell passes a file on.
	fd, err := syscall.Open(secret, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	_, err = checkByChild(t.Context(), time.Minute, []string{"/proc/self/exe", spyChild}, LogCheck{})
	var s spied
	if jsonErr := json.Unmarshal([]byte(err.Error()), &s); jsonErr != nil {
		t.Fatalf("%v: %v", err, jsonErr)
	}
	if len(s.Env) != 0 || s.Stdin != os.DevNull || !s.Group {
		t.Errorf("it was given %+v", s)
	}
	for _, f := range s.Files {
		if strings.Contains(f, "secret") || strings.HasPrefix(f, "socket:") {
			t.Errorf("it was given %v", s.Files)
		}
	}
}

// The child is killed with its parent, however the parent ends.
func TestChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command("/proc/self/exe", parenting, file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	eventually(t, "there is a child", func() bool {
		b, err := os.ReadFile(file)
		if err == nil {
			pid, err = strconv.Atoi(string(b))
		}
		return err == nil
	})
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the child is gone", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(b), ") Z ") // a zombie: in a container nobody may reap it
	})
}

// The memory limit is enough for a sound file with many pages.
func TestCheckOfLargeLogWithinMemoryLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 100 MB")
	}
	s := openTestStore(t)
	var list []*raft.Log
	for index := uint64(1); index <= 100; index++ {
		list = append(list, &raft.Log{Index: index, Term: 1, Type: 1, Data: bytes.Repeat([]byte{byte(index)}, 1<<20)})
	}
	if err := errors.Join(s.StoreLogs(list), s.SetUint64([]byte(keyCurrentTerm), 1), s.Close()); err != nil {
		t.Fatal(err)
	}
	facts, err := ChildCheck(t.Context(), "/proc/self/exe", childCheck)(t.Context(), LogCheck{Path: s.path})
	if err != nil || facts.Last != 100 || facts.Used < 100<<20 || facts.Size < facts.Used {
		t.Errorf("%+v, %v", facts, err)
	}
}

// Whatever a child prints before, its last line is the answer.
func TestLastLineIsAnswerOfCheck(t *testing.T) {
	answer, err := json.Marshal(checkAnswer{Facts: &LogFacts{Last: 7}})
	if err != nil {
		t.Fatal(err)
	}
	said := append([]byte("1\n22\n333\n"), append(answer, '\n')...)
	for size := 1; size <= len(said); size++ {
		p := &checkProcess{progress: make(chan struct{}, 1)}
		r := bufio.NewReaderSize(bytes.NewReader(said), 16)
		for {
			b := make([]byte, size)
			n, err := r.Read(b)
			if err != nil {
				break
			}
			p.stdout(b[:n])
		}
		if facts, err := p.result(nil); err != nil || facts.Last != 7 {
			t.Errorf("in pieces of %d: %+v, %v", size, facts, err)
		}
	}
}
