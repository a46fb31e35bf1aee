package command

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// actionCommand returns the command that runs an action on containers.
func actionCommand(action api.Action, verb, synopsis string) *command {
	name := "container-" + string(action)
	about := ""
	if action == api.Start {
		about = "A container in status Error because its host has lost it is created again."
	}
	return &command{
		name: name, group: groupContainers, args: "CONTAINER [CONTAINER...]", complete: completeContainers,
		synopsis: synopsis, about: about,
		examples: []string{"magnum " + name + " web1 web2"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			var o api.ActionOptions
			if action == api.Stop || action == api.Reboot {
				f.number("stop-timeout t time", "SECONDS", "time between SIGTERM and SIGKILL (default the container's own)", 0,
					func(n int) { o.StopTimeout = &n })
			}
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				o.WriteOptions = wait.writeOptions()
				return e.forEachContainer(ctx, client, verb, args, func(ctx context.Context, ident string) error {
					meta, err := client.Containers().Action(ctx, ident, action, o)
					return notDoneError(meta, err, wait)
				})
			}
		},
	}
}

// progressAfter is the time after which the progress of an action is shown.
const progressAfter = 700 * time.Millisecond

// statusWatcher calls each with the status of an object, again after each change, until
// ctx ends.
type statusWatcher func(ctx context.Context, ident string, each func(status string))

// containerStatuses watches the status of containers.
func containerStatuses(client *api.Client) statusWatcher {
	return func(ctx context.Context, ident string, each func(string)) {
		_ = watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
			return client.Containers().Get(ctx, ident, o)
		}, func(c *structs.ContainerBody, _ api.Meta) (bool, error) {
			each(statusText(string(c.Status), c.StatusReason))
			return false, nil
		}, nil)
	}
}

// forEachContainer is forEachShown for containers.
func (e *env) forEachContainer(
	ctx context.Context, client *api.Client, verb string, idents []string, do func(context.Context, string) error,
) error {
	return e.forEachShown(ctx, verb, structs.KindContainer, idents, containerStatuses(client), do)
}

// forEachShown is forEach. It also shows the progress of slow calls on standard error.
func (e *env) forEachShown(
	ctx context.Context, verb, kind string, idents []string, statuses statusWatcher, do func(context.Context, string) error,
) error {
	p := newProgress(e)
	defer p.clear()
	return e.forEach(ctx, verb, kind, idents, func(ctx context.Context, ident string) error {
		return withProgress(ctx, ident, strings.ToLower(verb), p, statuses, func() error { return do(ctx, ident) })
	})
}

// withProgress calls do. If that takes long, it shows the status of the object meanwhile.
func withProgress(ctx context.Context, ident, verb string, p *progress, statuses statusWatcher, do func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTimer(progressAfter)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		p.show("%s %s ...", verb, ident)
		// Errors are ignored, because do returns them.
		statuses(ctx, ident, func(status string) { p.show("%s %s: %s", verb, ident, status) })
	})
	err := do()
	cancel()
	wg.Wait()
	return err
}
