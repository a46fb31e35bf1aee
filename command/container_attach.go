package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerAttachCommand() *command {
	return &command{
		name: "container-attach", group: groupContainers, args: "CONTAINER", complete: completeContainers,
		synopsis: "Attach to the main process of a running container",
		about: "Prints what the process writes from now on. If the container was created with -i, your input goes to\n" +
			"the process. With a terminal, all keys go to the process, also Ctrl-C; Ctrl-P Ctrl-Q detaches and leaves\n" +
			"the container running. Without a terminal, Ctrl-C detaches. The command ends when the process ends,\n" +
			"and exits with its exit code.",
		examples: []string{"magnum container-attach shell1", "magnum container-attach -no-stdin web1"},
		setup: func(e *env, f *flagSet) runFunc {
			return attachSetup(e, f, "CONTAINER", func(ctx context.Context, client *api.Client, ident string) (attachable, error) {
				c, _, err := client.Containers().Get(ctx, ident, api.QueryOptions{})
				if err != nil {
					return attachable{}, err
				}
				return attachableContainer(client, c), nil
			})
		},
	}
}

// attachSetup is the setup of a command that attaches to a process. what names its argument,
// for which find returns the process.
func attachSetup(
	e *env, f *flagSet, what string, find func(ctx context.Context, client *api.Client, ident string) (attachable, error),
) runFunc {
	var conn connection
	noInput := false
	keys, _ := parseDetachKeys(defaultDetachKeys)
	f.switchOn(&noInput, "no-stdin", "don't send your standard input")
	f.value("detach-keys", "KEYS", "keys that detach; \"\" for none (default "+defaultDetachKeys+")", func(s string) (err error) {
		keys, err = parseDetachKeys(s)
		return err
	})
	conn.flags(f)
	return func(ctx context.Context, args []string) error {
		if err := exactly(args, what); err != nil {
			return err
		}
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		to, err := find(ctx, client, args[0])
		if err != nil {
			return err
		}
		a := &attachment{e: e, to: to, input: to.stdin && !noInput, keys: keys}
		code, err := a.run(ctx)
		if errors.Is(err, errDetached) || errors.Is(err, context.Canceled) {
			fmt.Fprintf(e.stderr, "%s goes on: see \"magnum %s\"\n", printable(to.what), to.show)
			if errors.Is(err, errDetached) {
				return nil
			}
			return &exitError{exitInterrupted}
		}
		return to.result(code, err)
	}
}

// attachable is a main process that can be attached to.
type attachable struct {
	what       string // in messages: "container web"
	show       string // the command that shows it: "container-show UUID"
	again      string // the command that attaches to it: "container-attach UUID"
	tty, stdin bool
	attach     func(context.Context, api.AttachOptions) (*int, error)
}

func attachableContainer(client *api.Client, c *structs.ContainerBody) attachable {
	return attachable{
		what: "container " + c.Name, show: "container-show " + c.UUID, again: "container-attach " + c.UUID, tty: c.TTY, stdin: c.Stdin,
		attach: func(ctx context.Context, o api.AttachOptions) (*int, error) {
			return client.Containers().Attach(ctx, c.UUID, o)
		},
	}
}

// result returns a command's result from that of its session.
func (to *attachable) result(code *int, err error) error {
	switch {
	case err != nil:
		return err
	case code == nil:
		return fmt.Errorf("the session has ended, and %s goes on: attach again with \"magnum %s\"", to.what, to.again)
	case *code != 0:
		return &exitError{*code}
	}
	return nil
}

// attachment is a session of the user with a main process.
type attachment struct {
	e      *env
	to     attachable
	input  bool
	keys   []byte                    // detach keys; only with a terminal
	output func(io.Writer) io.Writer // wraps the writer of the process's output; may be nil
	onOpen func()                    // called when the session is open; may be nil

	unstarted  bool   // also attach to a container that was never started
	onAttached func() // called when no output is lost any more; may be nil
}

// run attaches to the process until it ends. errDetached: the user has detached.
func (a *attachment) run(ctx context.Context) (*int, error) {
	o := api.AttachOptions{
		Streams:  api.Streams{Stdout: a.e.stdout, Stderr: a.e.stderr},
		Attached: a.onOpen, Unstarted: a.unstarted, Joined: a.onAttached,
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if a.input {
		o.Stdin = a.e.stdin
	}
	if a.to.tty {
		// Input from a pipe has no detach keys.
		_, keyboard := terminalOf(a.e.stdin)
		t, err := openTerminal(a.e, a.input && keyboard)
		if err != nil {
			return nil, err
		}
		defer t.restore()
		o.Width, o.Height, o.Resize = t.width, t.height, t.sizes
		if a.input && keyboard && len(a.keys) > 0 {
			o.Stdin = &detachReader{r: a.e.stdin, keys: a.keys, detached: func() { leave(errDetached) }}
		}
	}
	if a.output != nil {
		o.Stdout = a.output(a.e.stdout)
	}
	code, err := a.to.attach(ctx, o)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return nil, cause
	}
	return code, err
}
