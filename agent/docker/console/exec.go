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
	// The engine closes a command's output a moment before it records the exit code.
	exitPause = 10 * time.Millisecond
	exitLimit = 10 * time.Second
	// killGrace is the time between SIGHUP or SIGTERM and SIGKILL for a command whose user
	// has left.
	killGrace = 2 * time.Second
)

// Exec runs a command inside the container.
//
// The engine has no call to end such a command. When ctx ends, its standard input and
// terminal are closed, which ends shells and filters. Then it gets SIGHUP or SIGTERM, and
// SIGKILL after killGrace, if the engine is on this machine and the agent may signal the
// process. Processes that the command has put into the background stay until the container
// stops.
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
		err = engine.Failure(err) // the user's connection broke, or the engine went away
	}
	cs.endExec(ctx, engineID, id, req.TTY)
	return 0, err
}

// converse copies input and output until the output ends. If ctx ends first, the connection
// is closed.
func converse(ctx context.Context, conn *types.HijackedResponse, tty bool, s backend.ExecStreams, resize func(structs.Resize)) error {
	output := make(chan error, 1)
	go func() { output <- copyStreams(tty, conn.Reader, s.Stdout, s.Stderr) }()
	if s.Stdin != nil {
		// It ends with its source: the creator of Stdin closes it.
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

// copyInput copies to the command's standard input and ends it.
func copyInput(conn *types.HijackedResponse, stdin io.Reader) {
	// A command that no longer reads breaks the copy, which is no error.
	_, _ = io.Copy(conn.Conn, stdin)
	_ = conn.CloseWrite()
}

// resize sets the terminal's size. A size that comes too late or too early doesn't fail the
// command.
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

// The exit codes of commands that never ran, as shells define them.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// beginning copies what is written, and keeps the start of it.
type beginning struct {
	w    io.Writer
	text []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	const most = 1024
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return b.w.Write(p)
}

// noProgram reports whether the engine says that the program doesn't exist. Engine
// 20.10 has the same exit code for all reasons, and writes the reason as output.
func (b *beginning) noProgram() bool {
	text := string(b.text)
	return strings.Contains(text, "exec failed") && !strings.Contains(text, "chdir") &&
		(strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory"))
}

// exitCode waits until the engine has recorded the exit code. said is the command's output.
func (cs *Consoles) exitCode(ctx context.Context, id string, said *beginning) (int, error) {
	for deadline := time.Now().Add(exitLimit); ; {
		var e container.ExecInspect
		err := cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
			e, err = cs.engine.Client.ContainerExecInspect(ctx, id)
			return err
		})
		if err == nil && !e.Running && e.Pid == 0 && e.ExitCode == exitNotRun && said.noProgram() {
			return exitNotFound, nil // without a PID, the output is the engine's
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

// endExec ends the command of a user who has left.
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

// inContainer reports whether pid is now a process of the container on this machine. The
// PIDs of an engine on another machine, or in another PID namespace, are not.
func inContainer(pid int, engineID string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return err == nil && len(engineID) == 64 && strings.Contains(string(b), engineID)
}
