package backendtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
	"github.com/stackforge/magnum/structs"
)

// This file has a Fake's consoles.

// Logs writes the output of the process, a line at a time.
func (f *consoles) Logs(ctx context.Context, engineID string, req structs.LogsRequest, to backend.LogStreams) error {
	stdout, stderr := to.Stdout, to.Stderr
	var outDone, errDone int
	for first := true; ; first = false {
		var out, errs []byte
		var live bool
		var changed chan struct{}
		err := f.onContainer(ctx, "logs", engineID, func(p *process) error {
			out, errs, live, changed = p.stdout[outDone:], p.stderr[errDone:], p.Live(), p.changed
			return nil
		})
		if err != nil {
			return err
		}
		outDone, errDone = outDone+len(out), errDone+len(errs)
		if first && req.Tail >= 0 {
			out, errs = lastLines(out, req.Tail), lastLines(errs, req.Tail)
		}
		if req.Stdout && len(out) > 0 {
			if _, err := stdout.Write(out); err != nil {
				return err
			}
		}
		if req.Stderr && len(errs) > 0 {
			if _, err := stderr.Write(errs); err != nil {
				return err
			}
		}
		if !req.Follow || !live && (to.Again == nil || !to.Again(ctx)) {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func lastLines(b []byte, n int) []byte {
	lines := strings.SplitAfter(string(b), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return []byte(strings.Join(lines[max(0, len(lines)-n):], ""))
}

// Exec runs a command.
func (f *consoles) Exec(ctx context.Context, engineID string, req structs.ExecRequest, s backend.ExecStreams) (int, error) {
	var run userland.Outcome
	err := f.onContainer(ctx, "exec", engineID, func(p *process) error {
		if p.State != backend.StateRunning {
			return notRunning()
		}
		if answer, ok := f.answers[p.Ref]; ok {
			run = answer
			return nil
		}
		run = f.runLocked(p, req.Command, req.Env)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if run.Cat && s.Stdin != nil {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 0, err
		}
	}
	_, _ = s.Stdout.Write(run.Stdout)
	if req.TTY {
		_, _ = s.Stdout.Write(run.Stderr)
	} else {
		_, _ = s.Stderr.Write(run.Stderr)
	}
	if run.Lasts {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return run.ExitCode, nil
}

// Attach attaches to the process's streams.
func (f *consoles) Attach(ctx context.Context, engineID string, size structs.Resize, s backend.ExecStreams) (*int, error) {
	var p *process
	var out, errs int
	err := f.onContainer(ctx, "attach", engineID, func(q *process) error {
		p, out, errs = q, len(q.stdout), len(q.stderr)
		if p.State != backend.StateRunning && !(s.Unstarted && p.State == backend.StateCreated) {
			return notRunning()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.Attached != nil {
		s.Attached()
	}
	f.mu.Lock()
	for p.State == backend.StateCreated {
		changed := p.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		f.mu.Lock()
	}
	run := p.StartedAt
	f.mu.Unlock()
	if s.Stdin != nil {
		go f.feed(p, s.Stdin)
	}
	for {
		f.mu.Lock()
		newOut, newErrs, changed := p.stdout[out:], p.stderr[errs:], p.changed
		live, code := p.Live() && p.StartedAt.Equal(run), p.last
		f.mu.Unlock()
		out, errs = out+len(newOut), errs+len(newErrs)
		if len(newOut) > 0 {
			if _, err := s.Stdout.Write(newOut); err != nil {
				return nil, err
			}
		}
		if len(newErrs) > 0 {
			if _, err := s.Stderr.Write(newErrs); err != nil {
				return nil, err
			}
		}
		if !live {
			return &code, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// feed writes to the process's standard input. The input stays unread if the process
// keeps it open without reading, and is lost if the process doesn't keep it open.
func (f *consoles) feed(p *process, stdin io.Reader) {
	f.mu.Lock()
	unread := p.spec.Stdin && !p.reads
	f.mu.Unlock()
	if unread {
		return
	}
	for buf := make([]byte, 4096); ; {
		n, err := stdin.Read(buf)
		f.mu.Lock()
		if p.reads && p.State == backend.StateRunning && n > 0 {
			p.stdout = append(p.stdout, buf[:n]...)
			close(p.changed)
			p.changed = make(chan struct{})
		}
		if err != nil && p.reads && !p.spec.TTY && p.State == backend.StateRunning {
			f.exitLocked(p, 0)
		}
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Stats reports the same usage for every process.
func (f *consoles) Stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error {
	for first := true; ; first = false {
		var s structs.StatsBody
		err := f.onContainer(ctx, "stats", engineID, func(p *process) error {
			if p.State != backend.StateRunning && p.State != backend.StatePaused {
				return notRunning()
			}
			s = structs.StatsBody{ReadAt: structs.Time{Time: time.Now().UTC()}, CPUPercent: 1, MemoryUsed: 1 << 20, MemoryLimit: 4 << 30,
				PIDs: 1}
			if p.Memory > 0 {
				s.MemoryLimit = p.Memory
			}
			return nil
		})
		if errors.Is(err, backend.ErrNotRunning) && !first {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(s); err != nil || !stream {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Top lists the process. It knows the column pid and those of command lines.
func (f *consoles) Top(ctx context.Context, engineID, args string) (top structs.TopBody, err error) {
	ps, err := structs.ParsePS(args)
	if err != nil {
		return top, &backend.Failure{Reason: backend.ErrInvalid, Msg: err.Error()}
	}
	err = f.onContainer(ctx, "top", engineID, func(p *process) error {
		if p.State != backend.StateRunning && p.State != backend.StatePaused {
			return notRunning()
		}
		columns := ps.Columns
		if columns == nil {
			columns = []string{"pid", "cmd"}
		}
		process := make([]string, len(columns))
		for i, column := range columns {
			top.Titles = append(top.Titles, strings.ToUpper(column))
			switch column {
			case "pid":
				process[i] = "1"
			case "comm", "args", "cmd", "command":
				process[i] = strings.Join(p.spec.Command, " ")
			}
		}
		top.Processes = [][]string{process}
		return nil
	})
	return top, err
}
