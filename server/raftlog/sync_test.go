package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// First arguments that make this binary a server whose syncs are traced.
const (
	countedSyncs = "counted-syncs" // DIR: each acknowledged entry must be synced
	failedSync   = "failed-sync"   // DIR WHICH ERRNO: a call for an entry fails with an unknown outcome
	failedPages  = "failed-pages"  // DIR ERRNO: page writes fail for a while
)

// noSeccomp is the exit code if the kernel has no seccomp listener.
const noSeccomp = 77

func init() {
	programs[countedSyncs] = func(args []string) int { return report(countSyncs(args[0])) }
	programs[failedSync] = func(args []string) int {
		errno, _ := strconv.Atoi(args[2])
		return report(failSync(args[0], args[1], syscall.Errno(errno)))
	}
	programs[failedPages] = func(args []string) int {
		errno, _ := strconv.Atoi(args[1])
		return report(failPages(args[0], syscall.Errno(errno)))
	}
}

func report(err error) int {
	if errors.Is(err, errNoSeccomp) {
		fmt.Println(err)
		return noSeccomp
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

var errNoSeccomp = errors.New("no seccomp listener")

// syncs traces each sync and write of a file before the kernel executes it, and can
// make it fail.
type syncs struct {
	path  string
	count atomic.Int32                                    // syncs
	calls atomic.Int32                                    // all
	fail  atomic.Pointer[func(call string) syscall.Errno] // returns 0 to execute the call
}

// The calls for which fail is called.
const (
	callSync = "sync"
	callPage = "page"
	callMeta = "meta page"
)

// The part of <linux/seccomp.h> that unix doesn't have.
const (
	seccompSetModeFilter = 1
	seccompTsync         = 1
	seccompNewListener   = 8
	seccompTsyncEsrch    = 16
	seccompWaitKillable  = 32
	seccompUserNotif     = 0x7fc00000
	seccompAllow         = 0x7fff0000
	seccompContinue      = 1
	seccompNotifRecv     = 0xc0502100
	seccompNotifSend     = 0xc0182101
)

type seccompNotif struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type seccompAnswer struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// see starts the tracing, which can't be undone.
func (s *syncs) see() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 3, K: unix.SYS_FDATASYNC},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 2, K: unix.SYS_FSYNC},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_PWRITE64},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompAllow},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompUserNotif},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: %w", errNoSeccomp, err)
	}
	// Go uses signals. They don't interrupt a traced call, if the kernel supports that.
	flags := uintptr(seccompTsync | seccompNewListener | seccompTsyncEsrch)
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, flags|seccompWaitKillable, uintptr(unsafe.Pointer(&program)))
	if errno == unix.EINVAL {
		listener, _, errno = unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, flags, uintptr(unsafe.Pointer(&program)))
	}
	if errno != 0 {
		return fmt.Errorf("%w: %w", errNoSeccomp, errno)
	}
	go func() {
		for {
			var n seccompNotif
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, seccompNotifRecv,
				uintptr(unsafe.Pointer(&n))); errno == unix.EINTR || errno == unix.ENOENT {
				continue // a signal interrupted the call, which is repeated
			} else if errno != 0 {
				panic(errno)
			}
			a := seccompAnswer{id: n.id, flags: seccompContinue}
			if path, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", n.args[0])); path == s.path {
				call := callSync
				switch {
				case n.nr != unix.SYS_PWRITE64:
					s.count.Add(1)
				case n.args[3] < 2*uint64(os.Getpagesize()):
					call = callMeta
				default:
					call = callPage
				}
				s.calls.Add(1)
				if fail := s.fail.Load(); fail != nil {
					if errno := (*fail)(call); errno != 0 {
						a.flags, a.error = 0, -int32(errno)
					}
				}
			}
			unix.Syscall(unix.SYS_IOCTL, listener, seccompNotifSend, uintptr(unsafe.Pointer(&a)))
		}
	}()
	return nil
}

// tracedServer is a single server whose syncs are traced.
type tracedServer struct {
	*Log
	syncs *syncs
	ended chan error
	stop  func()
}

func startSeen(dir string) (*tracedServer, error) {
	c := Config{DataDir: dir, ServerID: "11111111-1111-4111-8111-111111111111", Store: state.New(), Logger: hclog.NewNullLogger()}
	s := &tracedServer{syncs: &syncs{path: c.storeFile()}, ended: make(chan error, 1)}
	if err := s.syncs.see(); err != nil {
		return nil, err
	}
	var err error
	if s.Log, err = Open(c); err != nil {
		return nil, err
	}
	if !s.HasState() {
		if err := s.Bootstrap(); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	leads := make(chan struct{})
	var once sync.Once
	go func() {
		s.ended <- s.Run(ctx, func(ctx context.Context, _ uint64) error {
			once.Do(func() { close(leads) })
			<-ctx.Done()
			return nil
		})
	}()
	select {
	case <-leads:
		return s, nil
	case <-time.After(patience):
		return nil, errors.New("it does not lead")
	}
}

func (s *tracedServer) put(n int) error {
	b, err := state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: s.Term(), Prev: s.config.Store.Index(),
		Changes: []structs.Change{nodeChange(n)}})
	if err == nil {
		_, err = s.Propose(context.Background(), b)
	}
	return err
}

// countSyncs fails if an entry is acknowledged, or a term written, without two syncs:
// of the pages, and of the meta page that makes them valid.
func countSyncs(dir string) error {
	s, err := startSeen(dir)
	if err != nil {
		return err
	}
	if n := s.syncs.count.Load(); n < 6 { // the first term, the first entry, its vote
		return fmt.Errorf("it leads after %d syncs", n)
	}
	for n := range 30 {
		before := s.syncs.count.Load()
		if err := s.put(n); err != nil {
			return err
		}
		if got := s.syncs.count.Load() - before; got < 2 {
			return fmt.Errorf("entry %d was acknowledged after %d syncs, want 2", n, got)
		}
		before = s.syncs.count.Load()
		if err := (diskState{s.files.store, s.files}).SetUint64([]byte(keyCurrentTerm), s.Term()); err != nil {
			return err
		}
		if got := s.syncs.count.Load() - before; got < 2 {
			return fmt.Errorf("a term was written with %d syncs, want 2", got)
		}
	}
	s.stop()
	return <-s.ended
}

// failSync makes one call fail. It reports an error if the entry is acknowledged, if
// the server continues, or if another transaction begins. which names the call; of
// several similar ones, the first or the second.
func failSync(dir, which string, errno syscall.Errno) error {
	s, err := startSeen(dir)
	if err != nil {
		return err
	}
	if err := s.put(1); err != nil {
		return err
	}
	var at, alike atomic.Int32
	fail := func(call string) syscall.Errno {
		if at.Load() == 0 && strings.HasPrefix(which, call) && (!strings.HasSuffix(which, "2") || alike.Add(1) == 2) {
			at.Store(s.syncs.calls.Load())
			return errno
		}
		return 0
	}
	s.syncs.fail.Store(&fail)
	if err := s.put(2); err == nil {
		return errors.New("an entry was acknowledged that is not synced")
	}
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), s.syncs.path+" can't be written") || !strings.Contains(err.Error(), errno.Error()) {
			return fmt.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		return errors.New("it goes on after a sync that failed")
	}
	if got := s.syncs.calls.Load() - at.Load(); got != 0 {
		return fmt.Errorf("%d writes and syncs followed on the one that failed", got)
	}
	return nil
}

// failPages makes page writes fail for a while. It reports an error if the entry is
// acknowledged, if the server ends, or if it doesn't accept entries afterwards.
func failPages(dir string, errno syscall.Errno) error {
	s, err := startSeen(dir)
	if err != nil {
		return err
	}
	if err := s.put(1); err != nil {
		return err
	}
	var failed atomic.Int32
	fail := func(call string) syscall.Errno {
		if call != callPage {
			return 0
		}
		failed.Add(1)
		return errno
	}
	s.syncs.fail.Store(&fail)
	if err := s.put(2); err == nil {
		return errors.New("an entry was acknowledged that is not written")
	}
	for deadline := time.Now().Add(patience); failed.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the term was tried %d times", failed.Load())
		}
	}
	s.syncs.fail.Store(nil)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if err = s.put(3); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	s.stop()
	return <-s.ended
}

// another runs this binary as another program and returns its output.
func another(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code == noSeccomp {
		t.Skipf("%s", out)
	}
	return string(out), code
}

// TestSyncedBeforeAcknowledged: entries, terms and votes are on the disk before anybody
// relies on them.
func TestSyncedBeforeAcknowledged(t *testing.T) {
	if said, code := another(t, countedSyncs, t.TempDir()); code != 0 {
		t.Error(said)
	}
}

// TestFailedPageWriteIsRetried: the server keeps running.
func TestFailedPageWriteIsRetried(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if said, code := another(t, failedPages, dir, strconv.Itoa(int(errno))); code != 0 {
				t.Fatal(said)
			}
			m := start(t, testConfig(t, dir))
			if s := m.config.Store.Snapshot(); s.Node(nodeChange(1).ID) == nil || s.Node(nodeChange(3).ID) == nil {
				t.Error("what was acknowledged is gone")
			}
		})
	}
}

// TestFailedSyncEndsTheServer: each of the two syncs does, with any error, and so does
// a failed write of a meta page.
func TestFailedSyncEndsTheServer(t *testing.T) {
	for _, which := range []string{callSync, callSync + " 2", callMeta} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(which+" "+errno.Error(), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if said, code := another(t, failedSync, dir, which, strconv.Itoa(int(errno))); code != 0 {
					t.Fatal(said)
				}
				var log logBuffer
				c := testConfig(t, dir)
				c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
				m := start(t, c)
				if m.config.Store.Snapshot().Node(nodeChange(1).ID) == nil {
					t.Error("what was acknowledged before is gone")
				}
				if !strings.Contains(log.String(), "a sync failed before this start") {
					t.Errorf("the next start does not warn:\n%s", log.String())
				}
				m.put(3)
			})
		}
	}
}
