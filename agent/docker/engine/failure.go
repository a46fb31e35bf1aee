package engine

import (
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/stackforge/magnum/agent/backend"
)

// Failure converts an error of the engine to a backend.Failure. The engine's HTTP
// statuses say little (500 for a taken port), so its texts count too. They have been
// stable since 1.13.
func Failure(err error) error {
	var f *backend.Failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	f = &backend.Failure{Msg: ErrorText(err)}
	if f.Msg != textOf(err) {
		f.Err = err // with IDs and paths, for the log
	}
	text := strings.ToLower(textOf(err))
	switch {
	case IsAway(err, text):
		f.Reason, f.Msg, f.Err = backend.ErrAway, "the Docker engine does not answer; start it, or look at its log", err
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		f.Reason = backend.ErrPortTaken
	case keptTask.MatchString(text):
		f.Msg, f.Err = "the engine has kept the ended process of this container and can't start it: restart the Docker engine of the "+
			"host", err
	case errdefs.IsNotFound(err) && strings.Contains(text, "no such image"):
		f.Reason = backend.ErrNoImage
	case errdefs.IsNotFound(err) && (strings.Contains(text, "no such container") || strings.Contains(text, "no such exec")):
		f.Reason = backend.ErrNotFound
	case strings.Contains(text, "is not running"), strings.Contains(text, "is paused"):
		f.Reason = backend.ErrNotRunning
	case strings.Contains(text, "unable to upgrade to tcp, received 409"): // all that the client says of a refused exec or attach
		f.Reason, f.Msg, f.Err = backend.ErrNotRunning, "the container's process has just ended, or was paused: try again once it runs", err
	case strings.Contains(text, "is restarting, wait until"):
		f.Reason, f.Msg, f.Err = backend.ErrNotRunning, "the container's process has ended and is about to be restarted: try again", err
	case strings.Contains(text, "no space left on device"):
		f.Reason = backend.ErrNoSpace
	case cantStart(text):
		f.Reason = backend.ErrStart
	case errdefs.IsInvalidArgument(err):
		f.Reason = backend.ErrInvalid
	}
	return f
}

// cantStart reports whether the runtime could not start a process for a reason that is not
// the host's. The engine itself finds out that a working directory is, or is below, a file.
func cantStart(text string) bool {
	if strings.HasPrefix(text, "cannot mkdir: ") || strings.HasPrefix(text, "lstat ") && strings.HasSuffix(text, ": not a directory") {
		return true
	}
	if !strings.Contains(text, "oci runtime create failed") {
		return false
	}
	for _, host := range []string{"cannot allocate memory", "resource temporarily unavailable", "too many open files", "resource busy",
		"connection reset", "deadline exceeded", "signal: killed", "dbus"} {
		if strings.Contains(text, host) {
			return false
		}
	}
	return true
}

// keptTask matches the error of each start of a container whose ended task containerd
// has kept. That happens to a busy engine 20.10 that is killed with SIGKILL. Only a
// restart of the engine removes the task.
var keptTask = regexp.MustCompile(`\btask [0-9a-f]{12,64}: already exists`)

// IsAway reports whether the engine could not be reached, or is going down.
func IsAway(err error, text string) bool {
	var op *net.OpError
	switch {
	case client.IsErrConnectionFailed(err), errors.As(err, &op):
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	}
	// When both are stopped, containerd ends first, and then the store of the networks.
	return strings.Contains(text, "daemon is shutting down") || strings.Contains(text, "failed to update store for object") ||
		strings.Contains(text, "transport is closing") || strings.Contains(text, "containerd.sock") ||
		strings.Contains(text, "ttrpc: closed")
}

// ErrorText returns the engine's message for users: without the client's prefix, the
// engine's IDs of containers, and paths of the host.
func ErrorText(err error) string { return hideHost(textOf(err)) }

// textOf returns the engine's message without the client's prefix.
func textOf(err error) string {
	return strings.TrimSpace(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
}
