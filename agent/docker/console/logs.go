// Package console provides what users see and do inside the containers of a Docker engine:
// logs, commands, the process's own streams, statistics, processes, and copies.
//
// The Docker backend makes a Consoles. The package starts, stops and removes no container.
package console

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// LogDriver is the engine's log driver with which containers are created, so that their
// logs can be read from files.
const LogDriver = "json-file"

// Inspector inspects a container.
type Inspector interface {
	Inspect(ctx context.Context, engineID string) (*backend.Container, error)
}

// Consoles are the consoles of the containers of one engine. All methods are safe for
// concurrent use.
type Consoles struct {
	engine     *engine.Engine
	containers Inspector
}

var _ backend.Consoles = (*Consoles)(nil)

// New returns the consoles of an engine's containers. It calls nothing.
func New(e *engine.Engine, containers Inspector) *Consoles { return &Consoles{e, containers} }

// Logs writes the output of the process: from the log's files if they are on this machine,
// else from the engine.
func (cs *Consoles) Logs(ctx context.Context, engineID string, req structs.LogsRequest, to backend.LogStreams) error {
	// The container's configuration says how its log is framed.
	raw, err := cs.engine.Inspect(ctx, engineID)
	if err != nil {
		return err
	}
	if !req.Follow {
		return cs.readLogs(ctx, raw, req, nil, to)
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	over := make(chan struct{})
	var failed error
	go func() {
		defer close(over)
		failed = cs.awaitLast(following, engineID, to.Again)
	}()
	err = cs.readLogs(ctx, raw, req, over, to)
	stop()
	<-over
	if err == nil && !errors.Is(failed, context.Canceled) {
		err = failed // the engine went away, so the log may be incomplete
	}
	return err
}

// readLogs is Logs for an inspected container. A follow ends at the end of the log once
// over is closed.
func (cs *Consoles) readLogs(ctx context.Context, raw container.InspectResponse, req structs.LogsRequest, over <-chan struct{},
	to backend.LogStreams) error {
	if raw.HostConfig.LogConfig.Type == LogDriver && raw.LogPath != "" {
		most, err := strconv.Atoi(raw.HostConfig.LogConfig.Config["max-file"])
		if err != nil || most < 1 {
			most = 1
		}
		if err := readLog(ctx, raw.LogPath, most, req, over, to.Stdout, to.Stderr); !errors.Is(err, errNoLogFiles) {
			return err
		}
	}
	return cs.engineLogs(ctx, raw, req, to)
}

// awaitLast returns once a container's process has ended and is not started again.
func (cs *Consoles) awaitLast(ctx context.Context, engineID string, again func(context.Context) bool) error {
	for {
		ended, failed := cs.engine.Client.ContainerWait(ctx, engineID, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-failed:
			if err = cs.engine.CallError(ctx, err); errors.Is(err, backend.ErrNotFound) {
				return nil
			}
			return err
		}
		now, err := cs.containers.Inspect(ctx, engineID)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			return nil
		case err != nil:
			return err
		case now.Live():
		case again == nil || !again(ctx):
			return ctx.Err()
		}
	}
}

// engineLogs has the engine read a log. Engines before version 23 may lose their place
// when the log is rotated. Lines that such an engine skips are lost without notice. If
// its stream ends while the process runs, that is not the end of the log.
func (cs *Consoles) engineLogs(ctx context.Context, raw container.InspectResponse, req structs.LogsRequest, to backend.LogStreams) error {
	tail := "all"
	if req.Tail >= 0 {
		tail = strconv.Itoa(req.Tail)
	}
	body, err := cs.engine.Client.ContainerLogs(ctx, raw.ID, container.LogsOptions{
		ShowStdout: req.Stdout, ShowStderr: req.Stderr, Timestamps: req.Timestamps,
		Follow: req.Follow, Tail: tail, Since: req.Since,
	})
	if err != nil {
		return cs.engine.CallError(ctx, err)
	}
	defer body.Close()
	if err := copyStreams(raw.Config.Tty, body, to.Stdout, to.Stderr); err != nil || !req.Follow {
		return cs.engine.CallError(ctx, err)
	}
	now, err := cs.containers.Inspect(ctx, raw.ID)
	if err == nil && now.Live() && now.StartedAt.Equal(engine.TimeOf(raw.State.StartedAt)) {
		return errRotated
	}
	return nil
}

// copyStreams splits a stream of the engine into stdout and stderr. With a TTY there is
// only one.
func copyStreams(tty bool, r io.Reader, stdout, stderr io.Writer) error {
	var err error
	if tty {
		_, err = io.Copy(stdout, r)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, r)
	}
	return err
}
