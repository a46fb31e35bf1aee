package console

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

const (
	// The engine closes a command's output a moment before it records its
	// exit code.
	exitPause = 10 * time.Millisecond
	exitLimit = 10 * time.Second
	// killGrace is what a command has between SIGHUP or SIGTERM and SIGKILL
	// when its user has left.
	killGrace = 2 * time.Second
)

// Exec runs a command inside the container.
//
// The engine has no call to end such a command. When ctx ends, its standard
// input and terminal are closed, which ends shells and filters; then, if the
// engine is on this machine and the agent may signal the process, it is hung
// up or terminated, and killed two seconds later. Processes that the command
// itself has put into the background stay until the container stops.
func (cs *Consoles) Exec(ctx context.Context, engineID string, req structs.ExecRequest, s backend.ExecStreams) (int, error) {
	var id string
	err := cs.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		made, err := cs.engine.Client.ContainerExecCreate(ctx, engineID, container.ExecOptions{
			User: req.User, WorkingDir: req.Workdir, Env: req.Env, Cmd: req.Command, Tty: req.TTY,
			AttachStdin: s.Stdin != nil, AttachStdout: true, AttachStderr: true,
		})
		id = made.ID
		return err
	})
	if err != nil {
		return 0, err
	}
	conn, err := cs.engine.Client.ContainerExecAttach(ctx, id, container.ExecAttachOptions{Tty: req.TTY})
	if err != nil {
		return 0, cs.engine.CallError(ctx, err)
	}
	defer conn.Close()
	cs.resize(ctx, id, req.TTY, structs.Resize{Width: req.Width, Height: req.Height})

	said := &beginning{w: s.Stdout}
	s.Stdout = said
	err = converse(ctx, &conn, req.TTY, s, func(size structs.Resize) { cs.resize(ctx, id, req.TTY, size) })
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil:
		return cs.exitCode(ctx, id, said)
	default:
		err = engine.Failure(err) // the user's end broke, or the engine went away
	}
	cs.endExec(ctx, engineID, id, req.TTY)
	return 0, err
}

// converse passes on what comes and goes until the output ends. If ctx ends
// before, the connection is closed.
func converse(ctx context.Context, conn *types.HijackedResponse, tty bool, s backend.ExecStreams, resize func(structs.Resize)) error {
	output := make(chan error, 1)
	go func() { output <- copyStreams(tty, conn.Reader, s.Stdout, s.Stderr) }()
	if s.Stdin != nil {
		// Ends with its source: whoever made Stdin closes it.
		go copyInput(conn, s.Stdin)
	}
	sizes := s.Resize
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			resize(size)
		case err := <-output:
			return err
		case <-ctx.Done():
			conn.Close()
			<-output
			return ctx.Err()
		}
	}
}

// copyInput feeds the command's standard input and ends it.
func copyInput(conn *types.HijackedResponse, stdin io.Reader) {
	// A command that no longer reads breaks the copy: that is its right.
	_, _ = io.Copy(conn.Conn, stdin)
	_ = conn.CloseWrite()
}

// resize sets the terminal's size. A size that comes too late or too early is
// no failure of the command.
func (cs *Consoles) resize(ctx context.Context, id string, tty bool, size structs.Resize) {
	if !tty || size.Width == 0 || size.Height == 0 {
		return
	}
	err := cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		return cs.engine.Client.ContainerExecResize(ctx, id, container.ResizeOptions{Width: size.Width, Height: size.Height})
	})
	if err != nil && ctx.Err() == nil {
		cs.engine.Log.Debug("terminal not resized", "error", err)
	}
}

// The exit codes of what never ran, as shells have them.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// beginning passes on what is written, and keeps the start of it.
type beginning struct {
	w    io.Writer
	text []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	const most = 1024
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return b.w.Write(p)
}

// noProgram reports whether the engine says that a command could not be executed
// because there is no such program. Engines of 2020 give it the same exit code as
// every other reason, and tell the reason as output.
func (b *beginning) noProgram() bool {
	text := string(b.text)
	return strings.Contains(text, "exec failed") && !strings.Contains(text, "chdir") &&
		(strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory"))
}

// exitCode waits for the engine to record how the command ended. said is what it
// has put out.
func (cs *Consoles) exitCode(ctx context.Context, id string, said *beginning) (int, error) {
	for deadline := time.Now().Add(exitLimit); ; {
		var e container.ExecInspect
		err := cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
			e, err = cs.engine.Client.ContainerExecInspect(ctx, id)
			return err
		})
		if err == nil && !e.Running && e.Pid == 0 && e.ExitCode == exitNotRun && said.noProgram() {
			return exitNotFound, nil // without a Pid, it is the engine that speaks
		}
		if err != nil || !e.Running {
			return e.ExitCode, err
		}
		if time.Now().After(deadline) {
			return 0, &backend.Failure{Msg: "the command has closed its output but has not ended; its exit code is unknown"}
		}
		select {
		case <-time.After(exitPause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// endExec ends the command of an exec whose user has left.
func (cs *Consoles) endExec(ctx context.Context, engineID, id string, tty bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killGrace+engine.ReadTimeout)
	defer cancel()
	e, err := cs.engine.Client.ContainerExecInspect(ctx, id)
	if err != nil || !e.Running || e.Pid <= 1 {
		return
	}
	polite := syscall.SIGTERM
	if tty {
		polite = syscall.SIGHUP
	}
	for _, sig := range []syscall.Signal{polite, syscall.SIGKILL} {
		if !inContainer(e.Pid, engineID) || syscall.Kill(e.Pid, sig) != nil {
			return
		}
		for deadline := time.Now().Add(killGrace); time.Now().Before(deadline); time.Sleep(exitPause) {
			if !inContainer(e.Pid, engineID) {
				return
			}
		}
	}
}

// inContainer reports whether pid is, here and now, a process of the
// container. An engine on another machine, or another PID namespace, gives
// numbers that mean something else here.
func inContainer(pid int, engineID string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return err == nil && len(engineID) == 64 && strings.Contains(string(b), engineID)
}
