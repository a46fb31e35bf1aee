package command

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// actionCommand is a command that does one thing to each of its containers.
func actionCommand(action api.Action, verb, synopsis string) *command {
	name := "container-" + string(action)
	about := ""
	if action == api.Start {
		about = "A container in status Error whose host lost it is made anew."
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

// progressAfter is how long an action may take in silence.
const progressAfter = 700 * time.Millisecond

// watched does something to each container and shows on standard error how
// those that take long come along.
func (e *env) forEachContainer(ctx context.Context, client *api.Client, verb string, idents []string, do func(context.Context, string) error) error {
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

// watch shows a container's changes until ctx ends. What it can't read it
// doesn't show: the action itself tells what is wrong.
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
