package raftlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/server/state"
)

const (
	checkStall = time.Minute     // time without progress after which a check is abandoned
	checkGrace = 5 * time.Second // time for a killed child to end
	checkCPU   = 600             // seconds of CPU time that count as progress

	checkMemory        = 256 << 20 // bytes of memory for a check,
	checkMemoryPerPage = 256       // and for each page of the file
	checkStack         = 64 << 20  // of it for the stack, which stops a cyclic tree
)

// checkAnswer is the line of JSON that the child prints when it is done. Other lines of
// its standard output report progress.
type checkAnswer struct {
	Facts *LogFacts `json:"facts,omitempty"`
	Error string    `json:"error,omitempty"`
	Kind  string    `json:"kind,omitempty"` // kind of Error: damaged, schema or unchecked
}

// The values of checkAnswer.Kind.
const (
	kindDamaged   = "damaged"
	kindSchema    = "schema"
	kindUnchecked = "unchecked"
)

// kindError is the child's error, with its kind as an error that the parent can test
// for.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

// ServeCheck is the main function of ChildCheck's child. args are the arguments after
// ChildCheck's argv. It returns the exit code.
func ServeCheck(args []string, out io.Writer) int {
	// A signal may go to the whole process group. The parent decides when the child
	// ends.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: PATH INDEX TERM; a starting server runs this to check its log")
		return 2
	}
	c := LogCheck{Path: args[0]}
	var errs [2]error
	c.SnapshotIndex, errs[0] = strconv.ParseUint(args[1], 10, 64)
	c.SnapshotTerm, errs[1] = strconv.ParseUint(args[2], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := limitMemory(c.Path); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	var progress atomic.Int64
	var printing sync.Mutex
	go func() {
		for was := int64(-1); ; time.Sleep(time.Second) {
			// bbolt reports no progress of its own check.
			if now := progress.Load() + activity(); now != was {
				was = now
				printing.Lock()
				fmt.Fprintln(out, now)
				printing.Unlock()
			}
		}
	}()
	facts, err := CheckLog(context.Background(), c, func(n int64) { progress.Add(n) })
	answer := checkAnswer{Facts: &facts}
	switch {
	case errors.Is(err, ErrUnchecked):
		answer = checkAnswer{Error: err.Error(), Kind: kindUnchecked}
	case errors.Is(err, state.ErrSchema):
		answer = checkAnswer{Error: err.Error(), Kind: kindSchema}
	case err != nil:
		answer = checkAnswer{Error: err.Error(), Kind: kindDamaged}
	}
	b, err := json.Marshal(answer)
	printing.Lock() // never unlocked: this is the last line
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", b)
	}
	if err != nil || answer.Error != "" {
		return 1
	}
	return 0
}

// limitMemory bounds the memory that the check of a file may use. Address space is not
// bounded, because the file is mapped.
func limitMemory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	most := checkMemory + info.Size()/int64(os.Getpagesize())*checkMemoryPerPage
	debug.SetMaxStack(checkStack)
	debug.SetMemoryLimit(most * 3 / 4)
	if raceDetector { // it uses any amount of memory of the kind that RLIMIT_DATA counts
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return err
	}
	limit.Cur = min(uint64(most), limit.Max)
	limit.Max = limit.Cur
	return unix.Setrlimit(unix.RLIMIT_DATA, &limit)
}

// activity grows with each major page fault, and with CPU time up to checkCPU seconds:
// a child in an endless loop must count as stalled in the end.
func activity() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Majflt + min(int64(u.Utime.Sec), checkCPU)
}

// ChildCheck returns a CheckLog that runs in another process, so that a damaged file
// can't crash this one. argv is the program with arguments that calls ServeCheck. ctx
// cancels a check.
//
// A child that ends without an answer counts as damage, except if it was killed, as by
// the kernel when memory is short, or ran out of memory.
func ChildCheck(ctx context.Context, argv ...string) func(context.Context, LogCheck) (LogFacts, error) {
	return func(open context.Context, c LogCheck) (LogFacts, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(open, cancel)()
		return checkByChild(ctx, checkStall, argv, c)
	}
}

func checkByChild(ctx context.Context, stall time.Duration, argv []string, c LogCheck) (LogFacts, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return LogFacts{}, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	p := &checkProcess{progress: make(chan struct{}, 1)}
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], path, strconv.FormatUint(c.SnapshotIndex, 10),
		strconv.FormatUint(c.SnapshotTerm, 10))...)
	cmd.Env = []string{} // not this process's environment
	cmd.Stdout, cmd.Stderr = writerFunc(p.stdout), writerFunc(p.stderr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	// Files inherited from this process's own parent aren't passed on. This is best
	// effort: Go's own files are closed in children anyway.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// Pdeathsig kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return LogFacts{}, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	stalled := time.NewTimer(stall)
	defer stalled.Stop()
	for {
		var abandoned error
		select {
		case err := <-ended:
			return p.result(err)
		case <-p.progress:
			stalled.Reset(stall)
			continue
		case <-stalled.C:
			abandoned = fmt.Errorf("%w: the check has made no progress for %v", ErrUnchecked, stall)
		case <-ctx.Done():
			abandoned = fmt.Errorf("%w: %w", ErrUnchecked, context.Cause(ctx))
		}
		_ = cmd.Process.Kill()
		select {
		case <-ended:
		case <-time.After(checkGrace): // the child hangs in a disk operation
		}
		return LogFacts{}, abandoned
	}
}

// writerFunc makes a function an io.Writer. It must not keep its argument.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// checkProcess collects the child's output.
type checkProcess struct {
	progress chan struct{}

	mu    sync.Mutex
	line  []byte // last line of standard output
	wrong []byte // beginning of standard error
}

const (
	maxAnswer = 1 << 20
	maxStderr = 16 << 10
)

func (p *checkProcess) stdout(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n'); i >= 0 {
		p.line, b = nil, b[i+1:]
	}
	if bytes.HasSuffix(p.line, []byte("\n")) {
		p.line = nil
	}
	if p.line = append(p.line, b...); len(p.line) > maxAnswer {
		p.line = nil
	}
	select {
	case p.progress <- struct{}{}:
	default:
	}
}

func (p *checkProcess) stderr(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, b[:min(len(b), maxStderr-len(p.wrong))]...)
}

// result returns the result of the check once the process has ended with err.
func (p *checkProcess) result(err error) (LogFacts, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var a checkAnswer
	answered := bytes.HasSuffix(p.line, []byte("}\n")) && json.Unmarshal(p.line, &a) == nil
	switch {
	case answered && a.Kind == kindUnchecked:
		return LogFacts{}, &kindError{a.Error, ErrUnchecked}
	case answered && a.Kind == kindSchema:
		return LogFacts{}, &kindError{a.Error, state.ErrSchema}
	case answered && a.Error != "":
		return LogFacts{}, errors.New(a.Error)
	case answered && a.Facts != nil && err == nil:
		return *a.Facts, nil
	case err == nil:
		return LogFacts{}, fmt.Errorf("%w: the check gave no answer", ErrUnchecked)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return LogFacts{}, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	if s := exit.Sys().(syscall.WaitStatus); s.Signaled() && s.Signal() == syscall.SIGKILL {
		return LogFacts{}, fmt.Errorf("%w: the check was killed; the kernel does so when memory is short", ErrUnchecked)
	}
	for _, want := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread",
		"resource temporarily unavailable"} {
		if bytes.Contains(p.wrong, []byte(want)) {
			return LogFacts{}, fmt.Errorf("%w: the check has too little memory (%s)", ErrUnchecked, want)
		}
	}
	return LogFacts{}, fmt.Errorf("its check ended with %v: %s", err, firstLine(p.wrong))
}

// firstLine returns the first line that is not blank.
func firstLine(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 200)]
		}
	}
	return "it said nothing"
}
