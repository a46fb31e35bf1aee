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

// join shows the container's output to its end and passes on the user's input,
// if it takes any. errDetached: the user has left it.
func (r *containerRun) streamIO(ctx context.Context, c *structs.ContainerBody) error {
	switch {
	case !c.Stdin:
		return r.printOutput(ctx, c)
	case c.TTY:
		return r.attachTerminal(ctx, c)
	}
	// Its logs have all of its output, from before the session stands, too.
	ctx, end := context.WithCancel(ctx)
	defer end()
	var passing sync.WaitGroup
	passing.Go(func() {
		a := &attachment{e: &env{stdin: r.e.stdin, stdout: io.Discard, stderr: io.Discard}, client: r.client, c: c, input: true}
		_, err := a.run(ctx)
		if err != nil && ctx.Err() == nil && structs.CodeOf(err) != structs.CodeConflict { // else it has ended already
			fmt.Fprintf(r.e.stderr, "your input does not reach %s: %s. Join it with \"magnum container-attach %s\"\n", printable(c.Name), describe(err), c.UUID)
		}
	})
	err := r.printOutput(ctx, c)
	end()
	passing.Wait()
	return err
}

// terminal gives the container the user's terminal.
func (r *containerRun) attachTerminal(ctx context.Context, c *structs.ContainerBody) error {
	keys, err := parseDetachKeys(defaultDetachKeys)
	if err != nil {
		return err
	}
	var early *heldOutput
	catchUpCtx, end := context.WithCancel(ctx)
	defer end()
	var catching sync.WaitGroup
	a := &attachment{
		e: r.e, client: r.client, c: c, input: true, keys: keys,
		output: func(w io.Writer) io.Writer { early = &heldOutput{w: w}; return early },
		onOpen: func() { catching.Go(func() { r.showEarlier(catchUpCtx, c, early) }) },
	}
	code, err := a.run(ctx)
	if structs.CodeOf(err) == structs.CodeConflict {
		return r.printOutput(ctx, c) // it has ended already
	}
	if err != nil {
		end()
	}
	catching.Wait()
	if err == nil || errors.Is(err, errDetached) || ctx.Err() != nil {
		return attachResult(c, code, err)
	}
	return fmt.Errorf("%w. Container %s goes on: \"magnum container-attach %s\" joins it again", err, c.Name, c.UUID)
}

// attachPause is how long a session that stands may take until the engine has
// joined it to the process.
const attachPause = 100 * time.Millisecond

// catchUpCtx shows what the container wrote before the session stood: a session
// begins with what is written from then on.
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
		return // what the session has is shown all the same
	}
	defer logs.Close()
	_, _ = io.Copy(&before, io.LimitReader(logs, maxEarlier)) // likewise
}

// maxEarlier is how much of what came before a session is shown.
const maxEarlier = 1 << 20

// heldOutput holds a session's output back until it is known what came before
// it.
type heldOutput struct {
	w io.Writer

	mu   sync.Mutex
	held []byte
	open bool
}

// Write shows p, or keeps it.
func (o *heldOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open {
		return o.w.Write(p)
	}
	o.held = append(o.held, p...)
	return len(p), nil
}

// release shows what came before, then what was held back, but once what is in
// both: the longest end of the one that the other begins with.
func (o *heldOutput) release(before []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(before), len(o.held))
	for !bytes.HasSuffix(before, o.held[:n]) {
		n--
	}
	_, _ = o.w.Write(append(before[:len(before)-n:len(before)-n], o.held...)) // the next write fails, too
	o.held, o.open = nil, true
}
