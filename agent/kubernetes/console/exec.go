package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/pause"
	"github.com/stackforge/magnum/structs"
)

// The exit codes of commands that never ran, as shells define them.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// running returns the container of a target, which runs. ErrNotFound, ErrNotRunning.
func (cs *Consoles) running(ctx context.Context, t target) (container, error) {
	pod, err := cs.look(ctx, t)
	if err != nil {
		return container{}, err
	}
	c, err := find(pod, t.container)
	if err == nil && !c.running() {
		err = c.notRunning()
	}
	return c, err
}

// Exec runs a command inside the container. When ctx ends, its streams are closed, and its
// terminal gets hangUp before, which ends shells and filters. The API has no call to end other
// commands: those go on until the container stops.
func (cs *Consoles) Exec(ctx context.Context, engineID string, req structs.ExecRequest, s backend.ExecStreams) (int, error) {
	command, err := commandOf(req)
	if err != nil {
		return 0, err
	}
	status, err := cs.exec(ctx, engineID, command, req.TTY, structs.Resize{Width: req.Width, Height: req.Height}, s)
	if err != nil {
		return 0, err
	}
	if code, ok := exitCode(status); ok {
		return code, nil
	}
	code := notStarted(status)
	if code == 0 {
		return 0, statusError(status)
	}
	says := s.Stderr
	if req.TTY || says == nil {
		says = s.Stdout
	}
	if _, err := io.WriteString(says, reasonOf(status)+"\n"); err != nil {
		return 0, err
	}
	return code, nil
}

// exec runs a command inside the container until it ends, and returns the cluster's word on
// that.
func (cs *Consoles) exec(ctx context.Context, engineID string, command []string, tty bool, size structs.Resize, s backend.ExecStreams) (
	*metav1.Status, error) {
	t, err := parseID(engineID)
	if err != nil {
		return nil, err
	}
	if _, err := cs.running(ctx, t); err != nil { // the cluster would not look at the UID
		return nil, err
	}
	query, farewell := url.Values{"container": {t.container}, "command": command}, ""
	if tty {
		query.Set("tty", "true")
		if s.Stdin != nil {
			farewell = hangUp
		}
	}
	return cs.converse(ctx, t, "exec", query, size, s, farewell, nil)
}

// commandOf returns the command for the cluster, which knows neither a directory nor
// variables of a command: programs of the container set them.
func commandOf(req structs.ExecRequest) ([]string, error) {
	if req.User != "" {
		return nil, &backend.Failure{Reason: backend.ErrInvalid, Msg: "user " + strconv.Quote(req.User) + ": a Kubernetes cluster runs a " +
			"command as the container's user only; leave out user, or run su inside"}
	}
	command := req.Command
	if len(req.Env) > 0 {
		command = append(append([]string{"env"}, req.Env...), command...)
	}
	if req.Workdir != "" {
		command = append([]string{"sh", "-c", `cd -- "$0" && exec "$@"`, req.Workdir}, command...)
	}
	return command, nil
}

// notStarted returns the exit code for a command that could not be started, as a shell would;
// 0 if the status is about something else.
func notStarted(status *metav1.Status) int {
	text := status.Message
	switch {
	case !strings.Contains(text, "exec"):
		return 0
	case strings.Contains(text, "executable file not found"),
		strings.Contains(text, "no such file or directory") && !strings.Contains(text, "chdir"):
		return exitNotFound
	case strings.Contains(text, "permission denied"), strings.Contains(text, "exec format error"), strings.Contains(text, "is a directory"):
		return exitNotRun
	}
	return 0
}

// reasonOf returns the runtime's own words in a status about a command that could not be
// started.
func reasonOf(status *metav1.Status) string {
	text := status.Message
	if _, after, ok := strings.Cut(text, "OCI runtime exec failed: "); ok {
		text = "OCI runtime exec failed: " + after
	}
	return strings.TrimSuffix(text, ": unknown")
}

// errNoProgram says that the container has no such program.
var errNoProgram = errors.New("no such program in the container")

// capture runs a program of the container without input. errNoProgram.
func (cs *Consoles) capture(ctx context.Context, engineID string, command []string, stdout, stderr io.Writer) (int, error) {
	return cs.program(ctx, engineID, command, backend.ExecStreams{Stdout: stdout, Stderr: stderr})
}

// program runs a program of the container. errNoProgram.
func (cs *Consoles) program(ctx context.Context, engineID string, command []string, s backend.ExecStreams) (int, error) {
	status, err := cs.exec(ctx, engineID, command, false, structs.Resize{}, s)
	if err != nil {
		return 0, err
	}
	code, ran := exitCode(status)
	switch {
	case ran && code == exitNotFound, !ran && notStarted(status) == exitNotFound:
		return 0, errNoProgram
	case !ran:
		return 0, statusError(status)
	}
	return code, nil
}

const (
	// startPause is the pause between two looks at a container that is to start, or that
	// is about to end.
	startPause = 200 * time.Millisecond
	// endLimit is how long the cluster may take to say that a process has ended whose
	// streams have.
	endLimit = 10 * time.Second
)

// Attach attaches to the streams of the container's own process. The cluster knows no detach
// keys. A process whose spec keeps no standard input open gets none.
func (cs *Consoles) Attach(ctx context.Context, engineID string, size structs.Resize, s backend.ExecStreams) (*int, error) {
	t, err := parseID(engineID)
	if err != nil {
		return nil, err
	}
	c, err := cs.running(ctx, t)
	for s.Unstarted && errors.Is(err, backend.ErrNotRunning) && c.exit(false) == nil {
		if err := pause.For(ctx, startPause); err != nil {
			return nil, err
		}
		c, err = cs.running(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	query := url.Values{"container": {t.container}}
	if c.spec.TTY {
		query.Set("tty", "true")
	}
	if !c.spec.Stdin {
		s.Stdin = nil
	}
	began := c.restarts()
	status, err := cs.converse(ctx, t, "attach", query, size, s, "", s.Attached)
	switch {
	case err != nil && !errors.Is(err, backend.ErrAway):
		return nil, err
	case err == nil && status.Status != metav1.StatusSuccess:
		return nil, statusError(status)
	}
	// A container that has ended ends the connection, with or without a word.
	code, endErr := cs.awaitEnd(ctx, t, began)
	if endErr != nil && err != nil {
		return nil, err
	}
	return code, endErr
}

// awaitEnd returns the exit code of the process that a container had after a number of
// restarts, once the cluster says it.
func (cs *Consoles) awaitEnd(ctx context.Context, t target, restarts int32) (*int, error) {
	for deadline := time.Now().Add(endLimit); ; {
		pod, err := cs.look(ctx, t)
		if err != nil {
			return nil, err
		}
		c, err := find(pod, t.container)
		if err != nil {
			return nil, err
		}
		if ended := c.exit(c.restarts() > restarts); ended != nil {
			return new(int(ended.ExitCode)), nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w, and container %s goes on", errBroken, t.container)
		}
		if err := pause.For(ctx, startPause); err != nil {
			return nil, err
		}
	}
}
