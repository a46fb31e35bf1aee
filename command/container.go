package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var containers = noun{
	kind: structs.KindContainer, group: groupContainers, plural: "containers", example: "web1", complete: completeContainers,
	columns: []string{"uuid", "name", "status"},
	wide:    []string{"image_id", "command", "host", "ports", "addresses", "created_at", "exit_code", "status_reason", "bay_uuid"},
	filters: []string{"name", "status", "bay", "host", "label"},
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Containers().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Containers().Get(ctx, ident, o)
		return meta, err
	},
}

func containerCommands() []*command {
	return []*command{
		containerRunCommand(), containerCreateCommand(), containers.listCommand(), containers.showCommand(),
		actionCommand(api.Start, "Start", "Start containers"),
		actionCommand(api.Stop, "Stop", "Stop containers"),
		actionCommand(api.Reboot, "Reboot", "Restart containers"),
		actionCommand(api.Pause, "Pause", "Suspend the processes of containers"),
		actionCommand(api.Unpause, "Unpause", "Resume paused containers"),
		containerKillCommand(), containerRebuildCommand(), containerRenameCommand(), containerUpdateCommand(), containerWaitCommand(),
		containerLogsCommand(), containerAttachCommand(), containerExecuteCommand(),
		containerTopCommand(), containerStatsCommand(), containerActionsCommand(), containerCpCommand(), containerDeleteCommand(),
	}
}

func containerCreateCommand() *command {
	return &command{
		name: "container-create", group: groupContainers, args: "[IMAGE [COMMAND...]]",
		synopsis: "Create a container without starting it",
		about: "Creates the container on a host of its bay; -run also starts it. -bay can be omitted if you can use\n" +
			"one bay only.\n\n" +
			"-json FILE reads the request's JSON body from a file (\"-\" is standard input). Flags override the\n" +
			"body, and add to its environment, labels and constraints. Without IMAGE and without a flag that\n" +
			"describes the container, the body is read from standard input, as the 2015 client did, unless that is\n" +
			"a terminal. Write \"--\" before a COMMAND that has flags of its own.",
		examples: []string{
			"magnum container-create -name web -p 8080:80 -m 512m -e MODE=test nginx",
			"magnum container-create -run busybox -- sh -c 'while sleep 1; do date; done'",
			`echo '{"name":"c1","image_id":"busybox","command":"sleep 100","bay_uuid":"web"}' | magnum container-create`,
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			out := output{noJSONFlag: true}
			file, run := "", false
			spec := newContainerFlags(e)
			spec.flags(f)
			own := len(f.options)
			f.text(&file, "json", "FILE", "read the request's JSON body from FILE, - for standard input")
			f.switchOn(&run, "run", "also start it")
			wait.flags(f, "wait timeout", "detach d")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := out.check(); err != nil {
					return err
				}
				bare := len(args) == 0 && file == ""
				for _, o := range f.options[:own] {
					bare = bare && !f.given[o.names[0]]
				}
				if bare {
					if _, ok := terminalOf(e.stdin); ok {
						return usagef("IMAGE is missing, or -json FILE")
					}
					file = "-"
				}
				if err := spec.command(args); err != nil {
					return err
				}
				if file == "-" && spec.registry.passwordStdin {
					return usagef("-json - and -registry-password-stdin both read standard input")
				}
				if err := spec.readSecrets(); err != nil {
					return err
				}
				body, err := spec.requestBody(e, file)
				if err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				made, meta, err := client.Containers().CreateJSON(ctx, body, api.CreateOptions{Run: run})
				if err != nil {
					return err
				}
				if !wait.detach {
					if _, meta, err = waitForContainer(ctx, e, client, made, run, wait); err != nil {
						noteInterrupted(e, made, err)
						return err
					}
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}

// requestBody returns the request's body: that of the file, if one is given,
// overridden by the flags. file may be "-" for standard input.
func (c *containerFlags) requestBody(e *env, file string) (map[string]any, error) {
	if file == "" {
		return c.body, nil
	}
	var text []byte
	var err error
	if file == "-" {
		file = "standard input"
		text, err = io.ReadAll(io.LimitReader(e.stdin, structs.MaxBody+1))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the container's JSON: %w", err)
	}
	if len(text) > structs.MaxBody {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, structs.MaxBody)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, usagef("%s is empty: give IMAGE, or the request's JSON body", file)
	}
	body := map[string]any{}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber() // sends numbers as they were written
	if err := dec.Decode(&body); err != nil || body == nil {
		return nil, fmt.Errorf("%s is not a JSON object: %v", file, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%s has more than one JSON value", file)
	}
	for key, value := range c.body {
		if alias := aliases[key]; alias != "" {
			delete(body, alias)
		}
		if pairs, ok := value.(map[string]string); ok {
			if old, ok := body[key].(map[string]any); ok {
				for k, v := range pairs {
					old[k] = v
				}
				continue
			}
		}
		body[key] = value
	}
	return body, nil
}

// aliases maps each of two synonymous field names to the other.
var aliases = map[string]string{"image": "image_id", "image_id": "image", "bay": "bay_uuid", "bay_uuid": "bay"}

// waitForContainer waits until a new container was created on its host or, with run,
// started. It returns the last response that it read.
func waitForContainer(
	ctx context.Context, e *env, client *api.Client, made *structs.ContainerBody, run bool, wait waitFlags,
) (*structs.ContainerBody, api.Meta, error) {
	p := newProgress(e)
	defer p.clear()
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	last, meta := made, api.Meta{}
	showContainerProgress(p, made, run)
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
		return client.Containers().Get(ctx, made.UUID, o)
	}, func(c *structs.ContainerBody, m api.Meta) (bool, error) {
		last, meta = c, m
		showContainerProgress(p, c, run)
		return createDone(c, run), nil
	}, p)
	p.clear()
	switch {
	case errors.Is(err, errWaitTimeout):
		return last, meta, fmt.Errorf("container %s is %s. It goes on without you: see \"magnum container-show %s\"",
			last.Name, stillText(string(last.Status), last.StatusReason, wait.limit), last.UUID)
	case err != nil:
		return last, meta, err
	case last.Status == structs.ContainerError:
		return last, meta, fmt.Errorf("container %s: %s. Look at it with \"magnum container-show %s\", "+
			"delete it with \"magnum container-delete %s\"", last.Name, statusText(string(last.Status), last.StatusReason), last.UUID,
			last.UUID)
	}
	return last, meta, nil
}

// noteInterrupted prints that the container remains, if err is an interrupt.
func noteInterrupted(e *env, made *structs.ContainerBody, err error) {
	if made != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintf(e.stderr, "container %s goes on without you: see \"magnum container-show %s\"\n",
			printable(made.Name), made.UUID)
	}
}

// showContainerProgress shows the status of a container until its creation is done;
// the caller prints the result. If the output is not a terminal, it shows only a
// status with a reason, because the others are short.
func showContainerProgress(p *progress, c *structs.ContainerBody, run bool) {
	if createDone(c, run) || !p.tty && (c.StatusReason == nil || *c.StatusReason == "") {
		return
	}
	p.show("%s: %s", c.Name, statusText(string(c.Status), c.StatusReason))
}

// createDone reports whether a new container is created or, with run, was started, or
// has failed.
func createDone(c *structs.ContainerBody, run bool) bool {
	switch c.Status {
	case structs.ContainerCreating, structs.ContainerUnknown:
		return false
	case structs.ContainerStopped:
		// A created container is Stopped before its start. With run, Stopped is the
		// end only if the container ran.
		return !run || !c.StartedAt.IsZero() || c.ExitCode != nil
	}
	return true
}

func containerDeleteCommand() *command {
	return &command{
		name: "container-delete", group: groupContainers, args: "CONTAINER [CONTAINER...]", complete: completeContainers,
		synopsis: "Delete containers",
		about:    "A running container is deleted with -stop or -force only.",
		examples: []string{"magnum container-delete web1 web2", "magnum container-delete -force $(magnum container-list -q)"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			o := api.DeleteOptions{}
			f.switchOn(&o.Force, "force f", "kill running containers")
			f.switchOn(&o.Stop, "stop", "stop running containers first")
			f.switchOn(&o.AllProjects, "all-projects", "look for names in all projects (operators)")
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				o.WriteOptions = wait.writeOptions()
				return e.forEachContainer(ctx, client, "Delete", args, func(ctx context.Context, ident string) error {
					meta, err := client.Containers().Delete(ctx, ident, o)
					return notDoneError(meta, err, wait)
				})
			}
		},
	}
}

// notDoneError returns an error if the wait of a write ended before the work was done,
// unless the user asked not to wait.
func notDoneError(meta api.Meta, err error, wait waitFlags) error {
	if err != nil || meta.Done() || wait.detach {
		return err
	}
	waited := wait.writeOptions().Wait
	text := fmt.Sprintf("not done after %v", waited)
	var body struct {
		Status string  `json:"status"`
		Reason *string `json:"status_reason"`
	}
	if json.Unmarshal(meta.Raw, &body) == nil && body.Status != "" {
		text = stillText(body.Status, body.Reason, waited)
	}
	return fmt.Errorf("it is %s. It goes on without you", text)
}
