package docker

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// logDriver is the engine's name of the logs that magnum asks for: see Create.
const logDriver = "json-file"

// Logs writes what the process has written: from the log's files if they are on
// this machine, else as the engine reads them.
func (d *Docker) Logs(ctx context.Context, engineID string, req structs.LogsRequest, to backend.LogStreams) error {
	// Only the container's own configuration tells how its log is framed.
	raw, err := d.inspect(ctx, engineID)
	if err != nil {
		return err
	}
	if !req.Follow {
		return d.readLogs(ctx, raw, req, nil, to)
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	over := make(chan struct{})
	var failed error
	go func() {
		defer close(over)
		failed = d.awaitLast(following, engineID, to.Again)
	}()
	err = d.readLogs(ctx, raw, req, over, to)
	stop()
	<-over
	if err == nil && !errors.Is(failed, context.Canceled) {
		err = failed // the engine went away: nobody knows whether that was all
	}
	return err
}

// readLogs is Logs for a container that was looked at. A follow ends with what the
// log has once over is closed.
func (d *Docker) readLogs(ctx context.Context, raw container.InspectResponse, req structs.LogsRequest, over <-chan struct{}, to backend.LogStreams) error {
	if raw.HostConfig.LogConfig.Type == logDriver && raw.LogPath != "" {
		most, err := strconv.Atoi(raw.HostConfig.LogConfig.Config["max-file"])
		if err != nil || most < 1 {
			most = 1
		}
		if err := readLog(ctx, raw.LogPath, most, req, over, to.Stdout, to.Stderr); !errors.Is(err, errNoLogFiles) {
			return err
		}
	}
	return d.engineLogs(ctx, raw, req, to)
}

// awaitLast returns once a container's process has ended and is not started again.
func (d *Docker) awaitLast(ctx context.Context, engineID string, again func(context.Context) bool) error {
	for {
		ended, failed := d.cli.ContainerWait(ctx, engineID, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-failed:
			if err = d.callError(ctx, err); errors.Is(err, backend.ErrNotFound) {
				return nil
			}
			return err
		}
		now, err := d.Inspect(ctx, engineID)
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

// engineLogs has the engine read a log. A follower of an engine before version 23
// may lose its place when the log is rotated: what it passes over, nobody tells,
// but an end while the process goes on is none.
func (d *Docker) engineLogs(ctx context.Context, raw container.InspectResponse, req structs.LogsRequest, to backend.LogStreams) error {
	tail := "all"
	if req.Tail >= 0 {
		tail = strconv.Itoa(req.Tail)
	}
	body, err := d.cli.ContainerLogs(ctx, raw.ID, container.LogsOptions{
		ShowStdout: req.Stdout, ShowStderr: req.Stderr, Timestamps: req.Timestamps,
		Follow: req.Follow, Tail: tail, Since: req.Since,
	})
	if err != nil {
		return d.callError(ctx, err)
	}
	defer body.Close()
	if err := copyStreams(raw.Config.Tty, body, to.Stdout, to.Stderr); err != nil || !req.Follow {
		return d.callError(ctx, err)
	}
	now, err := d.Inspect(ctx, raw.ID)
	if err == nil && now.Live() && now.StartedAt.Equal(timeOf(raw.State.StartedAt)) {
		return errRotated
	}
	return nil
}

// copyStreams takes a stream of the engine apart: with a TTY there is but one.
func copyStreams(tty bool, r io.Reader, stdout, stderr io.Writer) error {
	var err error
	if tty {
		_, err = io.Copy(stdout, r)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, r)
	}
	return err
}

// callError names the error of a call without a deadline.
func (d *Docker) callError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return failure(err)
}
