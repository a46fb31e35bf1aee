package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerExecuteCommand() *command {
	return &command{
		name: "container-execute", group: groupContainers, literal: 2, args: "CONTAINER [COMMAND...]", complete: completeContainers,
		synopsis: "Run a command in a running container",
		about: "Prints the command's standard output and standard error separately, and exits with its exit code.\n" +
			"-it gives the command a terminal and your keyboard. All arguments after COMMAND belong to the command;\n" +
			"-command takes the whole command in one text, split as a shell does.",
		examples: []string{
			"magnum container-execute web1 -command 'ls -l /tmp'",
			"magnum container-execute -it web1 sh",
			"magnum container-execute -i db1 psql -U app < dump.sql",
		},
		setup: func(e *env, f *flagSet) runFunc {
			return executeSetup(e, f, "CONTAINER", func(client *api.Client, ident string) executor {
				return containerExecutor{client.Containers(), ident}
			})
		},
	}
}

// executor executes commands in a container.
type executor interface {
	interactive(context.Context, structs.ExecRequest, api.Streams) (exitCode int, err error)
	atOnce(context.Context, structs.ExecRequest) (*structs.OutputBody, api.Meta, error) // without input and terminal
}

// containerExecutor executes commands in a container that isn't of a pod.
type containerExecutor struct {
	containers api.Containers
	ident      string
}

func (x containerExecutor) interactive(ctx context.Context, req structs.ExecRequest, s api.Streams) (int, error) {
	return x.containers.ExecuteInteractive(ctx, x.ident, req, s)
}

func (x containerExecutor) atOnce(ctx context.Context, req structs.ExecRequest) (*structs.OutputBody, api.Meta, error) {
	return x.containers.Execute(ctx, x.ident, req)
}

// executeSetup is the setup of a command that executes a command. what names its first
// argument, for which of returns the executor.
func executeSetup(e *env, f *flagSet, what string, of func(client *api.Client, ident string) executor) runFunc {
	var conn connection
	var req structs.ExecRequest
	text := ""
	f.text(&text, "command", "COMMAND", "the command in one text, split as a shell does")
	f.switchOn(&req.Stdin, "interactive i stdin", "send your standard input")
	f.switchOn(&req.TTY, "tty t", "allocate a terminal")
	f.toggle("it ti", "short for -i -t", func(b bool) { req.Stdin, req.TTY = b, b })
	f.repeatable("env e environment", "KEY=VALUE", "environment variable; KEY alone copies your own value", func(s string) error {
		key, value, ok, err := parseEnvironment(s, e.lookupEnv)
		if err == nil && ok {
			req.Env = append(req.Env, key+"="+value)
		}
		return err
	})
	f.text(&req.User, "user u", "USER[:GROUP]", "user to run as")
	f.text(&req.Workdir, "workdir w", "PATH", "working directory")
	conn.flags(f)
	return func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", what)
		}
		ident := args[0]
		req.Command = args[1:]
		if text != "" {
			if len(req.Command) > 0 {
				return usagef("-command and %q both give the command", req.Command[0])
			}
			words, err := structs.SplitCommand(text)
			if err != nil {
				return usagef("%v", err)
			}
			req.Command = words
		}
		if len(req.Command) == 0 {
			return usagef("COMMAND is missing")
		}
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		return e.execute(ctx, of(client, ident), req)
	}
}

// execute runs a command with the user's own streams. The output is not changed and
// has no limit.
func (e *env) execute(ctx context.Context, in executor, req structs.ExecRequest) error {
	streams := api.Streams{Stdout: e.stdout, Stderr: e.stderr}
	if req.Stdin {
		streams.Stdin = e.stdin
	}
	if req.TTY {
		t, err := openTerminal(e, req.Stdin)
		if err != nil {
			return err
		}
		defer t.restore()
		req.Width, req.Height, streams.Resize = t.width, t.height, t.sizes
	}
	code, err := in.interactive(ctx, req, streams)
	if structs.CodeOf(err) == structs.CodeNotFound && !req.TTY && !req.Stdin {
		// Either the container is missing, or a 2015 server has no sessions.
		return e.executeInOneRequest(ctx, in, req)
	}
	if err != nil {
		return err
	}
	if code != 0 {
		return &exitError{code}
	}
	return nil
}

// executeInOneRequest runs a command without input and terminal, and prints its output
// at its end.
func (e *env) executeInOneRequest(ctx context.Context, in executor, req structs.ExecRequest) error {
	body, _, err := in.atOnce(ctx, req)
	if err != nil {
		return err
	}
	out, errOut := body.Output, ""
	if body.Stdout != nil {
		out = *body.Stdout
	}
	if body.Stderr != nil {
		errOut = *body.Stderr
	}
	if _, err := io.WriteString(e.stdout, out); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	if _, err := io.WriteString(e.stderr, errOut); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	if body.Truncated {
		return errors.New("the command's output exceeds the server's limit: the output above is truncated")
	}
	if body.ExitCode != nil && *body.ExitCode != 0 {
		return &exitError{*body.ExitCode}
	}
	return nil
}
