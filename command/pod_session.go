package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// containerOfPod adds the flag that names a container of a pod.
func containerOfPod(f *flagSet, name *string) {
	f.text(name, "container c", "NAME", "container of the pod").defaultText("that of the annotation default-container, else the first one")
}

func podLogsCommand() *command {
	return &command{
		name: "pod-logs", group: groupPods, args: "POD", complete: completePods,
		synopsis: "Print the logs of a pod's container, or of all of them",
		about: "Prints standard output and standard error, in the order of writing, to standard output. -follow continues\n" +
			"over restarts. -all prints the logs of all containers that have been started, the name of the container\n" +
			"before each line; with -follow the lines are mixed as they come.",
		examples: []string{
			"magnum pod-logs -follow -tail 100 web", "magnum pod-logs -previous -container app web", "magnum pod-logs -all -since 10m web",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			container, all := "", false
			containerOfPod(f, &container)
			f.switchOn(&all, "all all-containers a", "all containers, also the init containers")
			var o structs.LogsRequest
			f.switchOn(&o.Previous, "previous p", "the log of the container before its last restart")
			logsFlags(f, &o, "continue with new lines until the container has ended for good")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				switch {
				case all && container != "":
					return usagef("-all and -container exclude each other")
				case o.Previous && o.Follow:
					return usagef("-previous and -follow exclude each other: the container before the last restart writes nothing more")
				}
				if err := exactly(args, "POD"); err != nil {
					return err
				}
				if !o.Stdout && !o.Stderr {
					o.Stdout, o.Stderr = true, true
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if all {
					return e.logsOfAll(ctx, client, args[0], o)
				}
				logs, err := client.Pods().Logs(ctx, args[0], container, o)
				if err != nil {
					return err
				}
				defer logs.Close()
				return copyLogs(ctx, e.stdout, logs)
			}
		},
	}
}

// logsOfAll prints the logs of all containers of a pod that have been started: one after the
// other, or with Follow all at once.
func (e *env) logsOfAll(ctx context.Context, client *api.Client, ident string, o structs.LogsRequest) error {
	pod, _, err := client.Pods().Get(ctx, ident, api.QueryOptions{})
	if err != nil {
		return err
	}
	var names []string
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.LastState != nil || c.State.State != structs.PartWaiting && !o.Previous {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		if o.Previous {
			return fmt.Errorf("no container of pod %s was restarted, so there are no previous logs", pod.Name)
		}
		return fmt.Errorf("no container of pod %s has been started yet, so there are no logs: see \"magnum pod-show %s\"",
			pod.Name, pod.UUID)
	}
	var mu sync.Mutex
	failures := make([]error, len(names))
	print := func(i int) {
		logs, err := client.Pods().Logs(ctx, pod.UUID, names[i], o)
		if err == nil {
			defer logs.Close()
			out := &prefixWriter{w: e.stdout, mu: &mu, prefix: "[" + names[i] + "] "}
			if err = copyLogs(ctx, out, logs); err == nil {
				err = out.flush(false)
			}
		}
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("container %s: %w", names[i], err)
		}
		failures[i] = err
	}
	var wg sync.WaitGroup
	for i := range names {
		if o.Follow {
			wg.Go(func() { print(i) })
		} else if print(i); failures[i] != nil {
			break
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failures...)
}

// prefixWriter writes whole lines, each after a prefix. Several may share w and mu.
type prefixWriter struct {
	w      io.Writer
	mu     *sync.Mutex
	prefix string
	line   []byte // that is not written yet
}

// maxLine is the length from which on a line is written in several, in bytes.
const maxLine = 64 << 10

// Write writes the lines that are whole.
func (p *prefixWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		p.line, rest = append(p.line, line...), after
		if whole || len(p.line) >= maxLine {
			if err := p.flush(true); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

// flush writes the last line; empty: also one without text.
func (p *prefixWriter) flush(empty bool) error {
	if len(p.line) == 0 && !empty {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.w.Write(append(append([]byte(p.prefix), p.line...), '\n'))
	p.line = p.line[:0]
	return err
}

func podExecuteCommand() *command {
	return &command{
		name: "pod-execute", group: groupPods, literal: 2, args: "POD [COMMAND...]", complete: completePods,
		synopsis: "Run a command in a running container of a pod",
		about: "Prints the command's standard output and standard error separately, and exits with its exit code.\n" +
			"-it gives the command a terminal and your keyboard. All arguments after COMMAND belong to the command;\n" +
			"-command takes the whole command in one text, split as a shell does.",
		examples: []string{
			"magnum pod-execute web -command 'ls -l /tmp'",
			"magnum pod-execute -it -container app web sh",
		},
		setup: func(e *env, f *flagSet) runFunc {
			container := ""
			containerOfPod(f, &container)
			return executeSetup(e, f, "POD", func(client *api.Client, ident string) executor {
				return podExecutor{client.Pods(), ident, container}
			})
		},
	}
}

// podExecutor executes commands in a container of a pod.
type podExecutor struct {
	pods             api.Pods
	ident, container string
}

func (x podExecutor) interactive(ctx context.Context, req structs.ExecRequest, s api.Streams) (int, error) {
	return x.pods.ExecuteInteractive(ctx, x.ident, x.container, req, s)
}

func (x podExecutor) atOnce(ctx context.Context, req structs.ExecRequest) (*structs.OutputBody, api.Meta, error) {
	return x.pods.Execute(ctx, x.ident, x.container, req)
}

func podActionsCommand() *command {
	return actionsCommand(pods, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Pods().Actions(ctx, ident)
		return meta, err
	})
}
