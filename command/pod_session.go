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
				return printLogs(ctx, client, e.stdout, o, func(o structs.LogsRequest) (io.ReadCloser, error) {
					return client.Pods().Logs(ctx, args[0], container, o)
				})
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
		out := &prefixWriter{w: e.stdout, mu: &mu, prefix: "[" + names[i] + "] "}
		err := printLogs(ctx, client, out, o, func(o structs.LogsRequest) (io.ReadCloser, error) {
			return client.Pods().Logs(ctx, pod.UUID, names[i], o)
		})
		if err == nil {
			err = out.flush(false)
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

func podAttachCommand() *command {
	return &command{
		name: "pod-attach", group: groupPods, args: "POD", complete: completePods,
		synopsis: "Attach to the main process of a running container of a pod",
		about: "Prints what the process writes from now on. If the manifest gives the container stdin, your input goes to\n" +
			"the process. With a terminal, all keys go to the process, also Ctrl-C; Ctrl-P Ctrl-Q detaches and leaves\n" +
			"the pod running. Without a terminal, Ctrl-C detaches. The command ends when the process ends, and exits\n" +
			"with its exit code.",
		examples: []string{"magnum pod-attach shell", "magnum pod-attach -container app -no-stdin web"},
		setup: func(e *env, f *flagSet) runFunc {
			container := ""
			containerOfPod(f, &container)
			f.toggle("it ti i t stdin tty", "no effect, for users of kubectl: the manifest says whether there are input and a terminal",
				func(bool) {})
			return attachSetup(e, f, "POD", func(ctx context.Context, client *api.Client, ident string) (attachable, error) {
				pod, _, err := client.Pods().Get(ctx, ident, api.QueryOptions{})
				if err != nil {
					return attachable{}, err
				}
				return attachablePod(client, pod, container), nil
			})
		},
	}
}

// attachablePod returns the main process of a container of a pod; "" means the default one. The
// server refuses a container that the pod doesn't have.
func attachablePod(client *api.Client, pod *structs.PodBody, container string) attachable {
	if container == "" {
		container = pod.Annotations[structs.DefaultContainerAnnotation]
	}
	if container == "" && len(pod.Containers) > 0 {
		container = pod.Containers[0].Name
	}
	to := attachable{
		what: fmt.Sprintf("container %s of pod %s", container, pod.Name), show: "pod-show " + pod.UUID,
		again: fmt.Sprintf("pod-attach -container %s %s", container, pod.UUID),
		attach: func(ctx context.Context, o api.AttachOptions) (*int, error) {
			return client.Pods().Attach(ctx, pod.UUID, container, o)
		},
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.Name == container {
			to.tty, to.stdin = c.TTY, c.Stdin
		}
	}
	return to
}

func podCpCommand() *command {
	return &command{
		name: "pod-cp", group: groupPods, args: "POD:PATH LOCAL | LOCAL POD:PATH",
		synopsis: "Copy files and directories from a container of a pod or to it",
		about:    "As container-cp, whose help says how.",
		examples: []string{
			"magnum pod-cp web:/etc/nginx/nginx.conf .",
			"magnum pod-cp -container app ./html/. web:/usr/share/nginx/html",
		},
		setup: func(e *env, f *flagSet) runFunc {
			container := ""
			containerOfPod(f, &container)
			return copySetup(e, f, "POD", func(client *api.Client, ident string) archiver {
				return podArchives{client.Pods(), ident, container}
			})
		},
	}
}

// podArchives is the archiver of a container of a pod.
type podArchives struct {
	pods             api.Pods
	ident, container string
}

func (p podArchives) read(ctx context.Context, path string) (io.ReadCloser, error) {
	return p.pods.ReadArchive(ctx, p.ident, p.container, path)
}

func (p podArchives) write(ctx context.Context, path string, archive io.Reader) error {
	_, err := p.pods.WriteArchive(ctx, p.ident, p.container, path, archive)
	return err
}

func (p podArchives) exists(ctx context.Context) error {
	_, _, err := p.pods.Get(ctx, p.ident, api.QueryOptions{})
	return err
}

func podTopCommand() *command {
	return &command{
		name: "pod-top", group: groupPods, literal: 1, args: "POD [PS-ARGUMENTS...]", complete: completePods,
		synopsis: "List the processes of a container of a pod",
		about: "Lists the processes as ps does on the pod's host. PS-ARGUMENTS are -ef (the default), -e, aux, or -o with\n" +
			"columns such as pid,user,%cpu,rss,etime,args. The error for an unknown column lists all columns. Flags\n" +
			"stand before POD.",
		examples: []string{"magnum pod-top web", "magnum pod-top -container app web -o pid,rss,args"},
		setup: func(e *env, f *flagSet) runFunc {
			container := ""
			containerOfPod(f, &container)
			return topSetup(e, f, "POD", func(ctx context.Context, c *api.Client, ident, ps string) (*structs.TopBody, api.Meta, error) {
				return c.Pods().Top(ctx, ident, container, ps)
			})
		},
	}
}

func podStatsCommand() *command {
	return &command{
		name: "pod-stats", group: groupPods, args: "[POD...]", complete: completePods,
		synopsis: "Show the resource usage of the containers of pods",
		about: "Prints a table of CPU usage (100% is one core), memory, and bytes read and written since the start, with a\n" +
			"line for each running container of the pods. The network is that of the whole pod. The table is updated\n" +
			"every second until the containers have ended or you press Ctrl-C. Without POD it has all running pods.\n" +
			"-json prints a line per container and second.",
		examples: []string{
			"magnum pod-stats web db",
			"magnum pod-stats -no-stream",
			"magnum pod-stats -json -container app web | jq .cpu_percent",
		},
		setup: func(e *env, f *flagSet) runFunc {
			container := ""
			f.text(&container, "container c", "NAME", "container of the pods").defaultText("all running ones")
			return statsSetup(e, f, func(ctx context.Context, client *api.Client, idents []string) ([]statsRow, error) {
				return pickPods(ctx, client, idents, container)
			})
		},
	}
}

// pickPods returns the rows of the pods of idents, or of all running ones: all containers that
// run, or those of the name container.
func pickPods(ctx context.Context, client *api.Client, idents []string, container string) ([]statsRow, error) {
	var all []structs.PodBody
	if len(idents) == 0 {
		var err error
		if all, _, err = client.Pods().List(ctx, api.QueryOptions{
			Detail: true, Filters: map[string][]string{"status": {string(structs.PodRunning)}},
		}); err != nil {
			return nil, err
		}
	}
	for _, ident := range idents {
		pod, _, err := client.Pods().Get(ctx, ident, api.QueryOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, *pod)
	}
	var rows []statsRow
	for i := range all {
		before := len(rows)
		for _, c := range slices.Concat(all[i].InitContainers, all[i].Containers) {
			if container == c.Name || container == "" && c.State.State == structs.PartRunning {
				rows = append(rows, podRow(client, &all[i], c.Name))
			}
		}
		switch {
		case len(idents) == 0 || len(rows) > before:
		case container != "":
			rows = append(rows, podRow(client, &all[i], container)) // the server says which ones there are
		default:
			return nil, fmt.Errorf("no container of pod %s runs: see \"magnum pod-show %s\"", all[i].Name, all[i].UUID)
		}
	}
	if len(rows) == 0 {
		return nil, errors.New(`no such container runs: "magnum pod-list -wide" lists all pods`)
	}
	return rows, nil
}

func podRow(client *api.Client, pod *structs.PodBody, container string) statsRow {
	uuid := pod.UUID
	return statsRow{uuid: uuid, name: pod.Name, container: container,
		get: func(ctx context.Context) (*structs.StatsBody, api.Meta, error) {
			return client.Pods().Stats(ctx, uuid, container)
		},
		follow: func(ctx context.Context, each func(structs.StatsBody) error) error {
			return client.Pods().FollowStats(ctx, uuid, container, each)
		}}
}

func podActionsCommand() *command {
	return actionsCommand(pods, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Pods().Actions(ctx, ident)
		return meta, err
	})
}
