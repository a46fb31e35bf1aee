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
		synopsis: "Move containers off hosts, and place no new ones there",
		about: "Containers with the restart policy always or unless-stopped move to other hosts of their bay. Each\n" +
			"runs until its replacement is ready: it runs and, if it has a health check or readiness probes, passes\n" +
			"them. A replacement that runs and does not get ready is waited for for a minute, and longer if its checks\n" +
			"allow it a longer start. The drain waits for containers that can't move: those with a volume on the host,\n" +
			"exclusive ones, and those with another restart policy. -deadline stops them later, -force at once.\n" +
			"host-undrain ends the drain and starts them again. The command ends when no container runs on the hosts;\n" +
			"if you interrupt it, the drain continues.",
		examples: []string{
			"magnum host-drain host-1",
			"magnum host-drain -deadline 10m host-1 host-2",
			"magnum host-drain -detach host-1; magnum host-show host-1",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var o api.DrainOptions
			var detach bool
			var out hostResult
			f.value("deadline", "DURATION", "stop containers that can't move after this time, such as 10m (default never)",
				func(s string) error {
					d, err := time.ParseDuration(s)
					if err != nil || d <= 0 {
						return errors.New("is not a duration such as 90s or 10m")
					}
					o.Deadline = d
					return nil
				})
			f.switchOn(&o.Force, "force f", "immediately stop containers that can't move")
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

// awaitDrain waits until no container runs on a host, and returns the host's last
// response.
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
			return true, structs.Errorf(structs.CodeUnavailable,
				"host %s is lost with %d containers: they may still run there", h.Name, h.Drain.Remaining)
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
		about: "The hosts get new containers again, and the containers that the drain has stopped are started.\n" +
			"Containers that have moved stay on their new hosts.",
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
