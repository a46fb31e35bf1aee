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
			wait.flags(f, "wait timeout", "detach")
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

// forEachContainer is forEach for containers. It shows the progress of slow calls on
// standard error.
func (e *env) forEachContainer(
	ctx context.Context, client *api.Client, verb string, idents []string, do func(context.Context, string) error,
) error {
	p := newProgress(e)
	defer p.clear()
	return e.forEach(ctx, verb, structs.KindContainer, idents, func(ctx context.Context, ident string) error {
		progressCtx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { showProgress(progressCtx, client, ident, strings.ToLower(verb), p) })
		err := do(ctx, ident)
		cancel()
		wg.Wait()
		return err
	})
}

// showProgress shows a container's status until ctx ends. It ignores errors, because
// the action returns them.
func showProgress(ctx context.Context, client *api.Client, ident, verb string, p *progress) {
	t := time.NewTimer(progressAfter)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	p.show("%s %s ...", verb, ident)
	_ = watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
		return client.Containers().Get(ctx, ident, o)
	}, func(c *structs.ContainerBody, _ api.Meta) (bool, error) {
		p.show("%s %s: %s", verb, ident, statusText(string(c.Status), c.StatusReason))
		return false, nil
	}, nil)
}
