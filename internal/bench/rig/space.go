package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Space is a network namespace. A process that does nothing holds it, so that it ends with
// the calling process, and with it all that was made in it.
type Space struct {
	holder *Process
}

// NewSpace makes a network namespace whose loopback is up. Only root may do so.
func NewSpace(ctx context.Context, dir, name string) (*Space, error) {
	holder, err := Start(ctx, dir, name, "unshare", "--net", "sleep", "infinity")
	if err != nil {
		return nil, err
	}
	s := &Space{holder}
	own, _ := os.Readlink("/proc/self/ns/net")
	path := fmt.Sprintf("/proc/%d/ns/net", holder.cmd.Process.Pid)
	err = Until(10*time.Second, func() bool {
		at, err := os.Readlink(path)
		return err == nil && at != own
	})
	if err == nil {
		err = s.Run(ctx, "ip", "link", "set", "lo", "up")
	}
	if err != nil {
		defer s.End()
		return nil, fmt.Errorf("a network namespace can't be made (only root may, with unshare and ip): %w: %s", err, holder.Tail())
	}
	return s, nil
}

// PID is the process by whose ID commands such as ip name the namespace.
func (s *Space) PID() string { return strconv.Itoa(s.holder.cmd.Process.Pid) }

// Command returns the arguments that run a program in the namespace.
func (s *Space) Command(program string, args ...string) []string {
	return append([]string{"nsenter", "--net", "--target", s.PID(), "--", program}, args...)
}

// Run runs a program in the namespace until it ends.
func (s *Space) Run(ctx context.Context, program string, args ...string) error {
	_, err := s.Output(ctx, program, args...)
	return err
}

// Output is Run, and returns what the program prints.
func (s *Space) Output(ctx context.Context, program string, args ...string) (string, error) {
	full := s.Command(program, args...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Start is the function Start for a program in the namespace.
func (s *Space) Start(ctx context.Context, dir, name, program string, args ...string) (*Process, error) {
	full := s.Command(program, args...)
	return Start(ctx, dir, name, full[0], full[1:]...)
}

// End ends the namespace, once no other process is in it. s may be nil.
func (s *Space) End() {
	if s != nil {
		s.holder.Kill()
	}
}
