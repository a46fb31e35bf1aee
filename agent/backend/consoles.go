package backend

import (
	"context"
	"io"

	"github.com/stackforge/magnum/structs"
)

// ExecStreams are the streams of a command inside a container, or of the container's own
// process.
type ExecStreams struct {
	// Stdin is nil for none. Its end ends the standard input of a command, but not that of
	// the container's own process.
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer             // not used with a TTY
	Resize <-chan structs.Resize // nil for none

	// Of Attach. Unstarted: a container that was never started is attached, too, and its
	// first run is waited for. Attached is called once the streams are attached; it
	// may be nil.
	Unstarted bool
	Attached  func()
}

// LogStreams are the destinations of logs.
type LogStreams struct {
	Stdout io.Writer
	Stderr io.Writer

	// Again is called during a follow when the process has ended and the engine doesn't
	// restart it. Again returns true once somebody else has started it, and the follow
	// goes on. nil for never.
	Again func(context.Context) bool
}

// Consoles let users look into containers and work inside them.
type Consoles interface {
	// Logs writes the output of the process. With Follow it goes on until the process
	// ends for good: the engine's restart policy may start it again. With a TTY all
	// output goes to stdout. Tail may count the lines of both streams even if only one
	// is requested. ErrNotFound, ErrInvalid. ErrTooSlow: output was dropped from the
	// log before it could be written, so there is a gap after what was written.
	Logs(ctx context.Context, engineID string, req structs.LogsRequest, to LogStreams) error

	// Exec runs a command inside the running container until it ends, and returns its
	// exit code. If ctx ends first, Exec ends the command as far as the engine allows,
	// and returns ctx's error. ErrNotFound, ErrNotRunning, ErrInvalid.
	Exec(ctx context.Context, engineID string, req structs.ExecRequest, streams ExecStreams) (exitCode int, err error)

	// Attach attaches to the streams of the container's own process until the process
	// ends, and returns its exit code. The exit code is nil if the engine has detached
	// before, as it does on its detach keys. size is that of the terminal, if the
	// container has one. Stdin is lost unless the spec keeps standard input open. With
	// a terminal, the end of ctx or Stdin leaves the process as it is; without one,
	// either ends the process's standard input. A slow reader slows the process down:
	// no output is lost. ErrNotFound, ErrNotRunning.
	Attach(ctx context.Context, engineID string, size structs.Resize, streams ExecStreams) (exitCode *int, err error)

	// Stats calls each with the container's present usage, and with stream once a
	// second until its process ends. The process may be paused. Errors of each are
	// returned as they are. ErrNotFound, ErrNotRunning.
	Stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error

	// Top lists the container's processes. args are those of ps, as structs.ParsePS
	// reads them. ErrNotFound, ErrNotRunning, ErrInvalid.
	Top(ctx context.Context, engineID, args string) (structs.TopBody, error)

	// ArchiveGet writes a tar stream of the file or directory at path, whether the
	// container's process runs or not. Errors of w are returned as they are.
	// ErrNotFound, ErrNoPath. ErrInvalid: some of it is on a mount that only the
	// running container sees, such as a tmpfs.
	ArchiveGet(ctx context.Context, engineID, path string, w io.Writer) error

	// ArchivePut unpacks a tar stream into the directory at path, whether the
	// container's process runs or not. What was unpacked before an error stays. Errors
	// of r are returned as they are. ErrNotFound, ErrNoPath. ErrInvalid: the stream is
	// not an archive, or some of it would land under a mount that only the running
	// container sees; then nothing was unpacked.
	ArchivePut(ctx context.Context, engineID, path string, r io.Reader) error
}
