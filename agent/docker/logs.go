package docker

import (
	"context"
	"io"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/stackforge/magnum/structs"
)

// Logs writes what the process has written.
func (d *Docker) Logs(ctx context.Context, engineID string, req structs.LogsRequest, stdout, stderr io.Writer) error {
	// Only the container's own configuration tells how its log is framed.
	raw, err := d.inspect(ctx, engineID)
	if err != nil {
		return err
	}
	tail := "all"
	if req.Tail >= 0 {
		tail = strconv.Itoa(req.Tail)
	}
	body, err := d.cli.ContainerLogs(ctx, engineID, container.LogsOptions{
		ShowStdout: req.Stdout, ShowStderr: req.Stderr, Timestamps: req.Timestamps,
		Follow: req.Follow, Tail: tail, Since: req.Since,
	})
	if err != nil {
		return d.callError(ctx, err)
	}
	defer body.Close()
	return d.callError(ctx, copyStreams(raw.Config.Tty, body, stdout, stderr))
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
