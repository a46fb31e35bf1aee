// Package rig starts the processes to be measured, as operators start them: magnum's
// servers and agents, and their baselines. internal/bench and internal/soak use it. Of a
// process it measures only what /proc and the Go runtime report.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	cmd *exec.Cmd
	log string // path of the file with its output
}

// Start starts a program whose output goes to NAME.log in dir. The program is killed when
// ctx ends, and when the calling process ends.
func Start(ctx context.Context, dir, name, program string, args ...string) (*Process, error) {
	p := &Process{log: filepath.Join(dir, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p, p.cmd.Start()
}

// Stop ends the process with SIGTERM and waits for it. p may be nil.
func (p *Process) Stop() {
	if p != nil && p.cmd.Process != nil {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
	}
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Tail returns the last 2,000 bytes of the process's output.
func (p *Process) Tail() string {
	out, _ := os.ReadFile(p.log)
	return string(out[max(0, len(out)-2000):])
}

// RSS returns the resident memory in bytes.
func (p *Process) RSS() (float64, error) {
	kib, err := p.status("VmRSS:")
	return kib * 1024, err
}

// Threads returns the number of the process's threads.
func (p *Process) Threads() (float64, error) { return p.status("Threads:") }

// Files returns the number of open file descriptors.
func (p *Process) Files() (float64, error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return float64(len(fds)), err
}

func (p *Process) status(key string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("process %d has no %s: it has ended", p.cmd.Process.Pid, key)
}

// Until waits until ready returns true, at most for the time given.
func Until(within time.Duration, ready func() bool) error {
	for deadline := time.Now().Add(within); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v", within)
		}
	}
	return nil
}

// FreeAddr returns an unused address, host:port, on loopback.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// LoadAverage returns the machine's three load averages.
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// TraceEvery is the interval of the goroutine traces of TraceGoroutines.
const TraceEvery = 2 * time.Second

// TraceGoroutines makes the processes started from now on trace their goroutines to their
// log, where Goroutines counts them: an agent has no port to ask.
func TraceGoroutines() error {
	return os.Setenv("GODEBUG", fmt.Sprintf("schedtrace=%d,scheddetail=1", TraceEvery.Milliseconds()))
}

// tracedGoroutine matches a goroutine in a trace. Status 6 is a dead goroutine, which the
// runtime keeps for reuse.
var tracedGoroutine = regexp.MustCompile(`(?m)^ +G\d+: status=(\d+)\(`)

// Goroutines returns the number of goroutines in the process's last complete trace,
// including those of the runtime.
func (p *Process) Goroutines() (float64, error) {
	log, err := os.Open(p.log)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	end, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	const enough = 1 << 20 // bytes of two traces and the log between them
	if _, err := log.Seek(max(0, end-enough), io.SeekStart); err != nil {
		return 0, err
	}
	out, err := io.ReadAll(log)
	if err != nil {
		return 0, err
	}
	return goroutinesIn(string(out))
}

// goroutinesIn counts the goroutines of the last complete trace, the one before the last.
func goroutinesIn(log string) (float64, error) {
	traces := strings.Split(log, "SCHED ")
	if len(traces) < 3 {
		return 0, errors.New("the process has not traced its goroutines twice")
	}
	var count float64
	for _, g := range tracedGoroutine.FindAllStringSubmatch(traces[len(traces)-2], -1) {
		if g[1] != "6" {
			count++
		}
	}
	return count, nil
}
