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
		synopsis: "Join the own process of a container that runs",
		about: "Shows what it writes from now on, and gives it what you type if it was created with -i. With a\n" +
			"terminal, all keys go to it, Ctrl-C too; Ctrl-P Ctrl-Q leaves it running. Without one, Ctrl-C leaves\n" +
			"it running. Ends when the process does, and exits with its exit code.",
		examples: []string{"magnum container-attach shell1", "magnum container-attach -no-stdin web1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			noInput := false
			keys, _ := parseDetachKeys(defaultDetachKeys)
			f.switchOn(&noInput, "no-stdin", "don't pass on your standard input")
			f.value("detach-keys", "KEYS", "keys that leave it running; \"\" is none (default "+defaultDetachKeys+")", func(s string) error {
				var err error
				keys, err = parseDetachKeys(s)
				return err
			})
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args, "CONTAINER"); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				c, _, err := client.Containers().Get(ctx, args[0], api.QueryOptions{})
				if err != nil {
					return err
				}
				a := &attachment{e: e, client: client, c: c, input: c.Stdin && !noInput, keys: keys}
				code, err := a.run(ctx)
				if errors.Is(err, errDetached) || errors.Is(err, context.Canceled) {
					fmt.Fprintf(e.stderr, "container %s goes on: see \"magnum container-show %s\"\n", printable(c.Name), c.UUID)
					if errors.Is(err, errDetached) {
						return nil
					}
					return &exitError{exitInterrupted}
				}
				return attachResult(c, code, err)
			}
		},
	}
}

// attachResult turns how a session ended into what the program returns.
func attachResult(c *structs.ContainerBody, code *int, err error) error {
	switch {
	case err != nil:
		return err
	case code == nil:
		return fmt.Errorf("the session has ended, and container %s goes on: \"magnum container-attach %s\" joins it again", c.Name, c.UUID)
	case *code != 0:
		return &exitError{*code}
	}
	return nil
}

// attachment is the user at a container's own process.
type attachment struct {
	e      *env
	client *api.Client
	c      *structs.ContainerBody
	input  bool
	keys   []byte                    // leave it; only with a terminal
	output func(io.Writer) io.Writer // what the process writes goes through it; may be nil
	onOpen func()                    // called when the session stands; may be nil

	unstarted  bool   // join a container that was never started, too
	onAttached func() // called once all that the process writes comes; may be nil
}

// run joins the process until it ends. errDetached: the user has left.
func (a *attachment) run(ctx context.Context) (*int, error) {
	o := api.AttachOptions{Streams: api.Streams{Stdout: a.e.stdout, Stderr: a.e.stderr}, Attached: a.onOpen, Unstarted: a.unstarted, Joined: a.onAttached}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if a.input {
		o.Stdin = a.e.stdin
	}
	if a.c.TTY {
		// What is piped in goes to the process as it is.
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
	code, err := a.client.Containers().Attach(ctx, a.c.UUID, o)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return nil, cause
	}
	return code, err
}
