package console

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// How long the process may still seem to run after the end of its output, because the engine
// is busy. After that, the output has ended for another reason: the engine's detach keys, or
// the process has closed it.
const (
	detachPause = 3 * time.Second  // with a terminal and input, which may have had the keys
	closedPause = 30 * time.Second // else
)

// Attach attaches to the streams of the container's own process.
func (cs *Consoles) Attach(ctx context.Context, engineID string, size structs.Resize, s backend.ExecStreams) (*int, error) {
	raw, err := cs.engine.Inspect(ctx, engineID)
	if err != nil {
		return nil, err
	}
	until := container.WaitConditionNotRunning
	if state := engine.StateOf(raw.State); s.Unstarted && state == backend.StateCreated {
		until = container.WaitConditionNextExit
	} else if state != backend.StateRunning {
		return nil, notRunning(raw)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the wait
	// Before the streams are attached, so that no end is missed.
	ended, waitErr := cs.engine.Client.ContainerWait(ctx, engineID, until)
	conn, err := cs.engine.Client.ContainerAttach(ctx, engineID, container.AttachOptions{
		Stream: true, Stdin: s.Stdin != nil && raw.Config.OpenStdin, Stdout: true, Stderr: true,
	})
	if err != nil {
		return nil, cs.engine.CallError(ctx, err)
	}
	defer conn.Close()
	if s.Stdin != nil && !raw.Config.OpenStdin {
		// Nobody reads the input, but messages behind it have to get through.
		go func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }(s.Stdin)
		s.Stdin = nil
	}
	newest := make(chan structs.Resize, 1)
	resize := func(size structs.Resize) {
		select {
		case <-newest:
		default:
		}
		newest <- size
		cs.resizeProcess(ctx, engineID, raw.Config.Tty, size)
	}
	if until == container.WaitConditionNextExit && raw.Config.Tty {
		// A process that doesn't run has no terminal yet.
		defer cs.onStart(ctx, engineID, func() {
			select {
			case size := <-newest:
				cs.resizeProcess(ctx, engineID, true, size)
			default:
			}
		})()
	}
	resize(size)
	if s.Attached != nil {
		s.Attached()
	}
	if err := converse(ctx, &conn, raw.Config.Tty, s, resize); err != nil {
		return nil, cs.engine.CallError(ctx, err)
	}
	pause := closedPause
	if s.Stdin != nil && raw.Config.Tty {
		pause = detachPause
	}
	select {
	case end := <-ended:
		code := int(end.StatusCode)
		return &code, nil
	case err := <-waitErr:
		return nil, cs.engine.CallError(ctx, err)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(pause):
	}
	now, err := cs.engine.Inspect(ctx, engineID)
	if err != nil || now.State.Running {
		return nil, err
	}
	return &now.State.ExitCode, nil
}

// onStart calls started once the container is started, unless end is called before.
func (cs *Consoles) onStart(ctx context.Context, engineID string, started func()) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	since := time.Now().Add(-engine.EventOverlap)
	messages, errs := cs.engine.Client.Events(ctx, events.ListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", engineID),
			filters.Arg("event", string(events.ActionStart))),
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-messages:
			started()
		case <-errs: // the size stays as it is
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func notRunning(raw container.InspectResponse) error {
	return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "the container is " + string(raw.State.Status) + ", not running"}
}

// resizeProcess sets the size of the container's own terminal.
func (cs *Consoles) resizeProcess(ctx context.Context, engineID string, tty bool, size structs.Resize) {
	if !tty || size.Width == 0 || size.Height == 0 {
		return
	}
	err := cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		return cs.engine.Client.ContainerResize(ctx, engineID, container.ResizeOptions{Width: size.Width, Height: size.Height})
	})
	if err != nil && ctx.Err() == nil {
		cs.engine.Log.Debug("terminal not resized", "error", err)
	}
}
