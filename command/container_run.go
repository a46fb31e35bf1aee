package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerRunCommand() *command {
	return &command{
		name: "container-run", group: groupContainers, args: "IMAGE [COMMAND...]", literal: 1,
		synopsis: "Create and start a container",
		about: "Creates and starts a container, prints its output until it ends, and exits with its exit code.\n" +
			"Standard output and standard error stay separate. Flags stand before IMAGE; all arguments after it are\n" +
			"the container's command.\n\n" +
			"-d prints the uuid after the start and ends. Without -d, Ctrl-C stops the container, and a second\n" +
			"Ctrl-C leaves it running.\n\n" +
			"-i sends your standard input; the process sees its end. -it attaches your terminal: all keys go to the\n" +
			"process, also Ctrl-C, and Ctrl-P Ctrl-Q detaches and leaves the container running. To attach to a\n" +
			"container started with -d, use \"magnum container-attach\".\n\n" +
			"-rm deletes the container at its end. With -d the server deletes it, otherwise this command, after all\n" +
			"output is printed.",
		examples: []string{
			"magnum container-run busybox echo hello",
			"magnum container-run -it -rm busybox sh",
			"sort names | magnum container-run -i -rm busybox uniq",
			"magnum container-run -d -name web -p 8080:80 -restart always nginx",
			"magnum container-run -rm -e KEY=value -v data:/data -m 64m -w /data -u nobody busybox ls -l",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			spec := newContainerFlags(e)
			spec.flags(f)
			detach := false
			f.switchOn(&detach, "detach d", "print the uuid after the start, and end")
			wait.flags(f, "wait timeout", "")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := spec.command(args); err != nil {
					return err
				}
				if spec.body["image"] == nil && spec.body["image_id"] == nil {
					return usagef("IMAGE is missing")
				}
				if _, ok := terminalOf(e.stdin); !ok && !detach && spec.is("stdin") && spec.is("tty") {
					return usagef("-it needs a terminal, and standard input is none: leave out -t to pipe into it, or add -d")
				}
				if err := spec.readSecrets(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				policy := spec.body["restart_policy"]
				r := &containerRun{
					e: e, client: client, wait: wait, remove: spec.is("auto_remove"),
					startAtCreate: detach || wait.detach || policy != nil && policy != structs.RestartNo,
				}
				if detach {
					return r.detached(ctx, spec.body)
				}
				// The server would delete the container and its logs at its end.
				// This command deletes it after the output is printed.
				delete(spec.body, "auto_remove")
				return r.foreground(ctx, spec.body)
			}
		},
	}
}

// containerRun is an invocation of container-run.
type containerRun struct {
	e             *env
	client        *api.Client
	wait          waitFlags
	remove        bool // delete the container after its end
	startAtCreate bool // start it at its creation, before the user is attached
	made          *structs.ContainerBody
}

// create creates the container. It waits until the container is created on its host or,
// with startAtCreate, started.
func (r *containerRun) create(ctx context.Context, body map[string]any) (*structs.ContainerBody, error) {
	made, _, err := r.client.Containers().CreateJSON(ctx, body, api.CreateOptions{Run: r.startAtCreate})
	if err != nil {
		return nil, err
	}
	r.made = made
	if r.wait.detach {
		return made, nil
	}
	c, _, err := waitForContainer(ctx, r.e, r.client, made, r.startAtCreate, r.wait)
	return c, err
}

// detached runs container-run -d: it starts the container and prints its uuid.
func (r *containerRun) detached(ctx context.Context, body map[string]any) error {
	c, err := r.create(ctx, body)
	if r.remove && structs.CodeOf(err) == structs.CodeNotFound && r.made != nil {
		c, err = r.made, nil // the server has deleted it after its end
	}
	if err != nil {
		noteInterrupted(r.e, r.made, err)
		return err
	}
	_, err = fmt.Fprintln(r.e.stdout, c.UUID)
	return err
}

// foreground starts the container, prints its output until its end, and returns its exit
// code as an error.
func (r *containerRun) foreground(ctx context.Context, body map[string]any) (err error) {
	c, err := r.create(ctx, body)
	if r.remove && r.made != nil {
		defer func() {
			if e := r.cleanUp(); e != nil && err == nil {
				err = e
			}
		}()
	}
	if err != nil {
		if !r.remove {
			noteInterrupted(r.e, r.made, err)
		}
		return err
	}
	// From here on Ctrl-C stops the container. It ends ctx, but not live: the output
	// is printed until the container ends.
	live, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	joined, err := r.start(ctx, live, c)
	if err != nil {
		if !r.remove {
			noteInterrupted(r.e, r.made, err)
		}
		return err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stopOnInterrupt(ctx, live, leave, c)
	}()
	if joined != nil {
		err = r.awaitSession(live, c, joined)
	} else {
		err = r.streamIO(live, c)
	}
	left := live.Err() != nil
	leave()
	<-stopped
	if errors.Is(err, errDetached) {
		fmt.Fprintf(r.e.stderr, "container %s goes on: attach again with \"magnum container-attach %s\"\n", printable(c.Name), c.UUID)
		r.remove = false
		return nil
	}
	if left {
		fmt.Fprintf(r.e.stderr, "container %s is left as it is: see \"magnum container-show %s\"\n", printable(c.Name), c.UUID)
		r.remove = false
		return &exitError{exitInterrupted}
	}
	return err
}

// stopOnInterrupt stops the container when ctx ends. A second signal calls leave, which
// leaves the container as it is.
func (r *containerRun) stopOnInterrupt(ctx, live context.Context, leave func(), c *structs.ContainerBody) {
	select {
	case <-live.Done():
		return
	case <-ctx.Done():
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	fmt.Fprintf(r.e.stderr, "stopping %s (Ctrl-C again leaves it as it is)\n", printable(c.Name))
	asked := make(chan error, 1)
	go func() {
		_, err := r.client.Containers().Action(live, c.UUID, api.Stop, api.ActionOptions{WriteOptions: api.WriteOptions{Wait: -1}})
		asked <- err
	}()
	for {
		select {
		case err := <-asked:
			if err != nil && live.Err() == nil {
				fmt.Fprintf(r.e.stderr, "ERROR: %s\n", describe(err))
			}
			asked = nil
		case <-again:
			leave()
			return
		case <-live.Done():
			return
		}
	}
}

// printOutput prints the container's output until its end and returns its exit code as
// an error. It continues over restarts by the restart policy.
func (r *containerRun) printOutput(ctx context.Context, c *structs.ContainerBody) error {
	since := ""
	for {
		if err := r.printLogs(ctx, c, structs.LogsRequest{Follow: true, Tail: -1, Since: since}); err != nil {
			return err
		}
		started := c.StartedAt
		err := watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
			return r.client.Containers().Get(ctx, c.UUID, o)
		}, func(now *structs.ContainerBody, _ api.Meta) (bool, error) {
			c = now
			restarted := now.Status == structs.ContainerRunning && !started.IsZero() && !now.StartedAt.Equal(started.Time)
			return ended(now) || restarted, nil
		}, nil)
		if err != nil {
			return err
		}
		if ended(c) {
			return exitResult(c)
		}
		since = c.StartedAt.UTC().Format(time.RFC3339)
	}
}

// printLogs prints the part of the container's output that o asks for. Standard output and
// standard error go to those of this program. If both are the same file, one stream
// keeps the order of writing.
func (r *containerRun) printLogs(ctx context.Context, c *structs.ContainerBody, o structs.LogsRequest) error {
	o.Stdout, o.Stderr = true, true
	if c.TTY || sameFile(r.e.stdout, r.e.stderr) {
		return r.copyStream(ctx, r.e.stdout, c, o)
	}
	out, errs := o, o
	out.Stderr, errs.Stdout = false, false
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.copyStream(ctx, r.e.stdout, c, out) })
	g.Go(func() error { return r.copyStream(ctx, r.e.stderr, c, errs) })
	return g.Wait()
}

// copyStream copies the logs to w. A broken stream is not an error, because the container
// may go on.
func (r *containerRun) copyStream(ctx context.Context, w io.Writer, c *structs.ContainerBody, o structs.LogsRequest) error {
	logs, err := r.client.Containers().Logs(ctx, c.UUID, o)
	if err != nil {
		return err
	}
	defer logs.Close()
	if _, err = io.Copy(w, logs); err != nil && ctx.Err() == nil {
		fmt.Fprintf(r.e.stderr, "the output of %s broke off: %v; waiting for its end\n", printable(c.Name), err)
	}
	return nil
}

// sameFile reports whether two streams are the same terminal, file or pipe.
func sameFile(a, b io.Writer) bool {
	one, ok := a.(*os.File)
	if !ok {
		return false
	}
	other, ok := b.(*os.File)
	if !ok {
		return false
	}
	x, err := one.Stat()
	if err != nil {
		return false
	}
	y, err := other.Stat()
	return err == nil && os.SameFile(x, y)
}

// exitResult returns the exit code of an ended container as an error.
func exitResult(c *structs.ContainerBody) error {
	switch {
	case c.ExitCode == nil:
		return fmt.Errorf("container %s has ended without an exit code: %s", c.Name, statusText(string(c.Status), c.StatusReason))
	case *c.ExitCode != 0:
		return &exitError{*c.ExitCode}
	case c.Status == structs.ContainerError:
		return fmt.Errorf("container %s: %s", c.Name, statusText(string(c.Status), c.StatusReason))
	}
	return nil
}

// ended reports whether a started container has ended.
func ended(c *structs.ContainerBody) bool {
	switch c.Status {
	case structs.ContainerStopped, structs.ContainerError, structs.ContainerDeleting:
		return true
	}
	return false
}

// cleanUp deletes the container if -rm is given.
func (r *containerRun) cleanUp() error {
	if !r.remove {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	o := api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: 10 * time.Second}}
	_, err := r.client.Containers().Delete(ctx, r.made.UUID, o)
	if err == nil || structs.CodeOf(err) == structs.CodeNotFound {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return fmt.Errorf("container %s could not be deleted: %w. Delete it with \"magnum container-delete -force %s\"",
		r.made.Name, err, r.made.UUID)
}
