package backend

import (
	"context"
	"io"

	"github.com/stackforge/magnum/structs"
)

// ExecStreams are the ends of a command that runs inside a container, or of
// the container's own process.
type ExecStreams struct {
	Stdin  io.Reader // nil for none; its end ends the command's standard input, but not that of the container's own process
	Stdout io.Writer
	Stderr io.Writer             // not used with a TTY
	Resize <-chan structs.Resize // nil for none

	Unstarted bool   // of Attach: a container that was never started is joined, too, and its first run waited for
	Attached  func() // of Attach: called once the streams are joined; nil for nobody
}

// LogStreams are where logs go.
type LogStreams struct {
	Stdout io.Writer
	Stderr io.Writer

	// Again is called, of a follow, when the process has ended and the engine
	// doesn't start it again. It reports whether somebody else does, once that
	// has happened: the follow goes on. nil for never.
	Again func(context.Context) bool
}

// Consoles are what a user sees and does inside a container. A backend without
// them has containers that nobody can look into.
type Consoles interface {
	// Logs writes what the process has written, and, with Follow, goes on
	// until it ends for good: the engine may start it again by its restart
	// policy. With a TTY all of it goes to stdout. Tail may count the lines of
	// both streams even if only one is asked for. ErrNotFound, ErrInvalid,
	// ErrTooSlow: some of the output was dropped from the log before it could be
	// written, and what was written before has a gap at its end.
	Logs(ctx context.Context, engineID string, req structs.LogsRequest, to LogStreams) error

	// Exec runs a command inside the running container until it ends, and
	// returns its exit code. If ctx ends before, Exec ends the command as far
	// as the engine allows, and returns ctx's error. ErrNotFound,
	// ErrNotRunning, ErrInvalid.
	Exec(ctx context.Context, engineID string, req structs.ExecRequest, streams ExecStreams) (exitCode int, err error)

	// Attach joins the streams of the container's own process from now on,
	// until it ends, and returns its exit code; nil if the engine has let go
	// of the streams before, as it does on its detach keys. size is of the
	// terminal, if the container has one. What comes on Stdin is lost unless
	// the spec keeps standard input open. With a terminal, the end of ctx or of
	// Stdin leaves the process as it is; without one, either is the end of the
	// process's standard input. A reader that is slow slows the process down: no
	// output is lost. ErrNotFound, ErrNotRunning.
	Attach(ctx context.Context, engineID string, size structs.Resize, streams ExecStreams) (exitCode *int, err error)

	// Stats calls each with what the container uses now, and with stream once
	// a second until its process ends. Errors of each are returned as they
	// are. ErrNotFound, ErrNotRunning.
	Stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error

	// Top lists the container's processes; args are of ps, as structs.ParsePS
	// reads them. ErrNotFound, ErrNotRunning, ErrInvalid.
	Top(ctx context.Context, engineID, args string) (structs.TopBody, error)

	// ArchiveGet writes a tar stream of what is at path in the container,
	// whether its process runs or not. Errors of w are returned as they are.
	// ErrNotFound, ErrNoPath, ErrInvalid: some of it is on a mount that only
	// the running container sees, such as memory.
	ArchiveGet(ctx context.Context, engineID, path string, w io.Writer) error

	// ArchivePut unpacks a tar stream into the directory at path in the
	// container, whether its process runs or not. What was unpacked before an
	// error stays. Errors of r are returned as they are. ErrNotFound,
	// ErrNoPath, ErrInvalid: the stream is no archive, or some of it would land
	// under a mount that only the running container sees; then nothing was
	// unpacked.
	ArchivePut(ctx context.Context, engineID, path string, r io.Reader) error
}
