package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/stackforge/magnum/structs"
)

// streamIO prints the output of a started container until its end, and sends the user's
// input if the container takes any. errDetached: the user has detached.
func (r *containerRun) streamIO(ctx context.Context, c *structs.ContainerBody) error {
	switch {
	case !c.Stdin:
		return r.printOutput(ctx, c)
	case c.TTY:
		return r.attachTerminal(ctx, c)
	}
	// Print the logs, not the session's output: they also have what was written before.
	ctx, end := context.WithCancel(ctx)
	defer end()
	var passing sync.WaitGroup
	passing.Go(func() {
		a := &attachment{e: &env{stdin: r.e.stdin, stdout: io.Discard, stderr: io.Discard},
			to: attachableContainer(r.client, c), input: true}
		_, err := a.run(ctx)
		if err != nil && ctx.Err() == nil && structs.CodeOf(err) != structs.CodeConflict { // CodeConflict: the container has ended
			fmt.Fprintf(r.e.stderr, "your input does not reach %s: %s. Attach with \"magnum container-attach %s\"\n",
				printable(c.Name), describe(err), c.UUID)
		}
	})
	err := r.printOutput(ctx, c)
	end()
	passing.Wait()
	return err
}

// attachTerminal attaches the user's terminal to the container.
func (r *containerRun) attachTerminal(ctx context.Context, c *structs.ContainerBody) error {
	keys, err := parseDetachKeys(defaultDetachKeys)
	if err != nil {
		return err
	}
	var early *heldOutput
	catchUpCtx, end := context.WithCancel(ctx)
	defer end()
	var catching sync.WaitGroup
	to := attachableContainer(r.client, c)
	a := &attachment{
		e: r.e, to: to, input: true, keys: keys,
		output: func(w io.Writer) io.Writer { early = &heldOutput{w: w}; return early },
		onOpen: func() { catching.Go(func() { r.showEarlier(catchUpCtx, c, early) }) },
	}
	code, err := a.run(ctx)
	if structs.CodeOf(err) == structs.CodeConflict {
		return r.printOutput(ctx, c) // the container has ended
	}
	if err != nil {
		end()
	}
	catching.Wait()
	if err == nil || errors.Is(err, errDetached) || ctx.Err() != nil {
		return to.result(code, err)
	}
	return fmt.Errorf("%w. Container %s goes on: attach again with \"magnum container-attach %s\"", err, c.Name, c.UUID)
}

// attachPause is the time that the engine has to attach an open session to the process.
const attachPause = 100 * time.Millisecond

// showEarlier prints the output from before the session was open, which the session
// doesn't have.
func (r *containerRun) showEarlier(ctx context.Context, c *structs.ContainerBody, early *heldOutput) {
	var before bytes.Buffer
	defer func() { early.release(before.Bytes()) }()
	t := time.NewTimer(attachPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	logs, err := r.client.Containers().Logs(ctx, c.UUID, structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1})
	if err != nil {
		return // the session's output is shown all the same
	}
	defer logs.Close()
	_, _ = io.Copy(&before, io.LimitReader(logs, maxEarlier)) // the session's output is shown all the same
}

// maxEarlier bounds the bytes of output from before a session that are shown.
const maxEarlier = 1 << 20

// heldOutput holds back a session's output until release.
type heldOutput struct {
	w io.Writer

	mu   sync.Mutex
	held []byte
	open bool
}

// Write writes p, or holds it back before release.
func (o *heldOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open {
		return o.w.Write(p)
	}
	o.held = append(o.held, p...)
	return len(p), nil
}

// release writes before, the output from before the session, and the output that was
// held back. Where both overlap, the overlap is written once: it is the longest suffix
// of before that is a prefix of the held output.
func (o *heldOutput) release(before []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(before), len(o.held))
	for !bytes.HasSuffix(before, o.held[:n]) {
		n--
	}
	_, _ = o.w.Write(append(before[:len(before)-n:len(before)-n], o.held...)) // the next write returns the error
	o.held, o.open = nil, true
}
