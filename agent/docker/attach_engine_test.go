//go:build engine

package docker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// lineCounter expects the lines of seq, in order and without a gap. It is slow with the
// first one.
type lineCounter struct {
	*io.PipeWriter
	lines int
	err   error
	done  chan struct{}
}

func countLines(first func()) *lineCounter {
	r, w := io.Pipe()
	c := &lineCounter{PipeWriter: w, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		in := bufio.NewScanner(r)
		for in.Scan() {
			if c.lines == 0 && first != nil {
				first()
			}
			if c.lines++; in.Text() != fmt.Sprint(c.lines) && c.err == nil {
				c.err = fmt.Errorf("line %d is %q", c.lines, in.Text())
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	return c
}

// TestAttachBeforeTheStartIsComplete: no output is lost, although the process writes far
// more than its log keeps and the reader begins late.
func TestAttachBeforeTheStartIsComplete(t *testing.T) {
	d := onEngine(t)
	const lines = 300_000
	spec := backendtest.Sleeper()
	spec.Command = []string{"sh", "-c", fmt.Sprintf("seq 1 %d; exit 5", lines)}
	spec.LogMaxSize = 64 << 10
	c, _ := made(t, d, structs.NewID(), spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	late := make(chan struct{})
	out := countLines(func() { <-late })
	joined, ended := make(chan struct{}), make(chan error, 1)
	code := -1
	go func() {
		exit, err := d.Attach(ctx, c.EngineID, structs.Resize{},
			backend.ExecStreams{Stdout: out, Stderr: io.Discard, Unstarted: true, Attached: func() { close(joined) }})
		if err == nil && exit != nil {
			code = *exit
		}
		out.Close()
		ended <- err
	}()
	<-joined
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	close(late)
	err := <-ended
	<-out.done
	if err != nil || code != 5 || out.err != nil || out.lines != lines {
		t.Errorf("%d lines, exit code %d, %v, %v", out.lines, code, out.err, err)
	}
}
