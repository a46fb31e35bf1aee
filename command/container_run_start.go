package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// earlySession is a session with a container that was opened before its start. It
// carries all output of the process. A slow reader slows the process down.
type earlySession struct {
	ended chan sessionResult // has one element once the session has ended
	wrote atomic.Bool        // it has brought output; not known with a terminal
}

// notingWriter notes that something was written.
type notingWriter struct {
	w     io.Writer
	wrote *atomic.Bool
}

// Write writes p.
func (n notingWriter) Write(p []byte) (int, error) {
	n.wrote.Store(n.wrote.Load() || len(p) > 0)
	return n.w.Write(p)
}

// sessionResult is the exit code or the error of a session.
type sessionResult struct {
	code *int
	err  error
}

// start attaches the user to a container that was never started, and starts it. It
// returns nil if the container was started before, or if servers or agents before
// version 1 can't attach first: the output is in the logs then. The session ends with
// live.
func (r *containerRun) start(ctx, live context.Context, c *structs.ContainerBody) (*earlySession, error) {
	if r.startAtCreate || c.Status != structs.ContainerStopped || !c.StartedAt.IsZero() {
		return nil, nil
	}
	session, end := context.WithCancel(live)
	s, err := r.attachBeforeStart(ctx, session, c)
	if err == nil {
		_, err = r.client.Containers().Action(ctx, c.UUID, api.Start, api.ActionOptions{WriteOptions: api.WriteOptions{Wait: -1}})
	}
	if err == nil {
		// No progress: the container already writes to the terminal.
		quiet := *r.e
		quiet.stderr = io.Discard
		_, _, err = waitForContainer(ctx, &quiet, r.client, c, true, r.wait)
	}
	if err != nil || s == nil {
		end()
		if s != nil {
			<-s.ended
		}
		return nil, err
	}
	context.AfterFunc(live, end)
	return s, nil
}

// attachBeforeStart attaches the user to a container that was not started yet. It
// returns nil if the server or the agent doesn't support that.
func (r *containerRun) attachBeforeStart(ctx, session context.Context, c *structs.ContainerBody) (*earlySession, error) {
	keys, err := parseDetachKeys(defaultDetachKeys)
	if err != nil {
		return nil, err
	}
	s, joined := &earlySession{ended: make(chan sessionResult, 1)}, make(chan struct{})
	var once sync.Once
	a := &attachment{
		e: r.e, to: attachableContainer(r.client, c), input: c.Stdin, keys: keys,
		unstarted: true, onAttached: func() { once.Do(func() { close(joined) }) },
	}
	if !c.TTY {
		noting := *r.e
		noting.stdout, noting.stderr = notingWriter{r.e.stdout, &s.wrote}, notingWriter{r.e.stderr, &s.wrote}
		a.e = &noting
	}
	go func() {
		code, err := a.run(session)
		s.ended <- sessionResult{code, err}
	}()
	select {
	case <-joined:
		return s, nil
	case <-ctx.Done():
		return s, context.Cause(ctx)
	case end := <-s.ended:
		switch structs.CodeOf(end.err) {
		case structs.CodeConflict, structs.CodeInvalid, structs.CodeNotFound:
			return nil, nil
		}
		if end.err == nil {
			end.err = errors.New("the session ended before the container was started")
		}
		s.ended <- end
		return s, end.err
	}
}

// awaitSession waits for the end of an earlySession and of its container.
func (r *containerRun) awaitSession(ctx context.Context, c *structs.ContainerBody, s *earlySession) error {
	end := <-s.ended
	if end.err == nil && end.code != nil && !c.TTY && !s.wrote.Load() {
		// A busy engine may give a process's output to the log alone.
		if err := r.printLogs(ctx, c, structs.LogsRequest{Tail: -1}); err != nil && ctx.Err() == nil {
			fmt.Fprintf(r.e.stderr, "whether %s has written to its log is not known: %s\n", printable(c.Name), describe(err))
		}
	}
	switch {
	case end.err == nil || errors.Is(end.err, errDetached) || ctx.Err() != nil:
		to := attachableContainer(r.client, c)
		return to.result(end.code, end.err)
	case c.Stdin:
		r.remove = false
		return fmt.Errorf("%w. Container %s goes on: attach again with \"magnum container-attach %s\"", end.err, c.Name, c.UUID)
	}
	fmt.Fprintf(r.e.stderr, "the output of %s broke off: %s; waiting for its end\n", c.Name, describe(end.err))
	r.remove = false // the logs may have the rest
	now, err := r.awaitEnd(ctx, c)
	if err != nil {
		return err
	}
	if err := exitResult(now); err != nil {
		return err
	}
	return fmt.Errorf("the output above is not complete: see \"magnum container-logs %s\"; "+
		"delete the container with \"magnum container-delete %s\"", c.UUID, c.UUID)
}

// awaitEnd waits until a container has ended.
func (r *containerRun) awaitEnd(ctx context.Context, c *structs.ContainerBody) (*structs.ContainerBody, error) {
	err := watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
		return r.client.Containers().Get(ctx, c.UUID, o)
	}, func(now *structs.ContainerBody, _ api.Meta) (bool, error) {
		c = now
		return ended(now), nil
	}, nil)
	return c, err
}
