package backendtest

import (
	"context"
	"io"
	"strings"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file is what users see and do inside a container of a Fake.

// Logs writes what the process has written, a line at a time.
func (f *Fake) Logs(ctx context.Context, engineID string, req structs.LogsRequest, stdout, stderr io.Writer) error {
	var outDone, errDone int
	for first := true; ; first = false {
		var out, errs []byte
		var live bool
		var changed chan struct{}
		err := f.do(ctx, "logs", engineID, func(p *process) error {
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
		if !req.Follow || !live {
			return nil
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
func (f *Fake) Exec(ctx context.Context, engineID string, req structs.ExecRequest, s backend.ExecStreams) (int, error) {
	err := f.do(ctx, "exec", engineID, func(p *process) error {
		if p.State != backend.StateRunning {
			return notRunning(engineID)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	run := runScript(req.Command, req.Env)
	if run.cat && s.Stdin != nil {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 0, err
		}
	}
	_, _ = s.Stdout.Write(run.stdout)
	if req.TTY {
		_, _ = s.Stdout.Write(run.stderr)
	} else {
		_, _ = s.Stderr.Write(run.stderr)
	}
	if run.lasts {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return run.exitCode, nil
}
