package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func drainCommand() *command {
	return &command{
		name: "host-drain", group: groupHosts, args: "HOST [HOST...]", complete: completeHosts,
		synopsis: "Move what runs off hosts, and place nothing new on them",
		about: "Containers that are restarted always are placed on other hosts of their bay; each runs on until its\n" +
			"replacement runs. What can't move (a volume on the host, an exclusive container, another restart\n" +
			"policy) is waited for. It is stopped only at -deadline, or at once with -force, and started again\n" +
			"by host-undrain, which ends the drain. The command ends when nothing runs on the hosts any more;\n" +
			"interrupt it and the drain goes on.",
		examples: []string{"magnum host-drain host-1", "magnum host-drain -deadline 10m host-1 host-2", "magnum host-drain -detach host-1; magnum host-show host-1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var o api.DrainOptions
			var detach bool
			var out hostResult
			f.value("deadline", "DURATION", "then stop what can't move, such as 10m (default never)", func(s string) error {
				d, err := time.ParseDuration(s)
				if err != nil || d <= 0 {
					return errors.New("is not a duration such as 90s or 10m")
				}
				o.Deadline = d
				return nil
			})
			f.switchOn(&o.Force, "force f", "stop at once what can't move")
			f.switchOn(&detach, "detach d", "don't wait until the drain is done")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				p := newProgress(e)
				defer p.clear()
				out.progress = p
				return out.forEach(ctx, e, "Drain", args, func(ctx context.Context, ident string) (api.Meta, error) {
					if _, meta, err := client.Hosts().Drain(ctx, ident, o); err != nil || detach {
						return meta, err
					}
					return awaitDrain(ctx, client, ident, p)
				})
			}
		},
	}
}

// awaitDrain waits until nothing runs on a host any more, and returns the answer
// that says so.
func awaitDrain(ctx context.Context, client *api.Client, ident string, p *progress) (last api.Meta, err error) {
	read := func(ctx context.Context, o api.QueryOptions) (*structs.HostBody, api.Meta, error) {
		return client.Hosts().Get(ctx, ident, o)
	}
	err = watch(ctx, read, func(h *structs.HostBody, meta api.Meta) (bool, error) {
		last = meta
		switch {
		case h.Drain == nil:
			return true, structs.Errorf(structs.CodeConflict, "the drain of host %s was ended by host-undrain", h.Name)
		case h.Drain.Remaining == 0:
			p.show("%s: drained", h.Name)
			return true, nil
		case h.State == structs.HostLost:
			return true, structs.Errorf(structs.CodeUnavailable, "host %s is lost with %d containers: what still runs there can't be told", h.Name, h.Drain.Remaining)
		}
		text := fmt.Sprintf("%s: %d left, %d of them moving", h.Name, h.Drain.Remaining, h.Drain.Moving)
		if n := len(h.Drain.Waits); n > 0 {
			text += "; " + strings.Join(h.Drain.Waits[:min(n, 3)], "; ")
		}
		p.show("%s", text)
		return false, nil
	}, p)
	return last, err
}

func undrainCommand() *command {
	return &command{
		name: "host-undrain", group: groupHosts, args: "HOST [HOST...]", complete: completeHosts,
		synopsis: "End the drain of hosts",
		about:    "Containers are placed on the hosts again, and those that the drain has stopped are started. What has\nmoved stays where it is.",
		examples: []string{"magnum host-undrain host-1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out hostResult
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return out.forEach(ctx, e, "Undrain", args, func(ctx context.Context, ident string) (api.Meta, error) {
					_, meta, err := client.Hosts().Undrain(ctx, ident)
					return meta, err
				})
			}
		},
	}
}
