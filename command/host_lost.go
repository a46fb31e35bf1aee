package command

import (
	"context"
	"fmt"

	"github.com/stackforge/magnum/api"
)

func fenceCommand() *command {
	return &command{
		name: "host-fence", group: groupHosts, args: "HOST [HOST...]", complete: completeHosts,
		synopsis: "Confirm that lost hosts are off",
		about: "Exclusive containers of a lost host may still run there. They are placed nowhere else until the host is\n" +
			"back, or until you confirm that it is off: switched off, or cut from everything that its containers\n" +
			"write to. If that is wrong, two copies run. A host whose agent sends heartbeats can't be fenced. The\n" +
			"quarantine of the host stays as it is.",
		examples: []string{"magnum host-fence host-1", "magnum host-fence -force host-1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out hostResult
			var force bool
			f.switchOn(&force, "force f", "also fence suspect hosts: they become lost at once")
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
				return out.forEach(ctx, e, "Fence", args, func(ctx context.Context, ident string) (api.Meta, error) {
					h, meta, err := client.Hosts().Fence(ctx, ident, force)
					noteQuarantine(e, h)
					return meta, err
				})
			}
		},
	}
}

func releaseCommand() *command {
	return &command{
		name: "host-release", group: groupHosts, args: "HOST [HOST...]|-all", complete: completeHosts,
		synopsis: "Release hosts from the mass-loss brake: they become lost",
		about: "When many hosts go silent at once, the cause is more likely the servers' network than the hosts. The\n" +
			"hosts stay suspect, and their containers are not placed again. This command confirms that the hosts\n" +
			"are down. They become lost, and their containers are placed on other hosts where possible. The\n" +
			"quarantine of the hosts stays as it is.",
		examples: []string{"magnum host-list -status suspect", "magnum host-release host-1 host-2", "magnum host-release -all"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out hostResult
			var all bool
			f.switchOn(&all, "all", "all hosts that the brake holds now")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if all && len(args) > 0 {
					return usagef("-all and %q both name the hosts", args[0])
				}
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if all {
					if args, err = brakedHosts(ctx, client); err != nil {
						return err
					}
					if len(args) == 0 {
						fmt.Fprintln(e.stderr, "The mass-loss brake holds no host.")
						if out.isTable() {
							return nil
						}
						return out.list(e.stdout, nil, nil, nil, false)
					}
				}
				return out.forEach(ctx, e, "Release", args, func(ctx context.Context, ident string) (api.Meta, error) {
					h, meta, err := client.Hosts().Release(ctx, ident)
					noteQuarantine(e, h)
					return meta, err
				})
			}
		},
	}
}

// brakedHosts returns the uuids of the hosts that the mass-loss brake holds.
func brakedHosts(ctx context.Context, client *api.Client) ([]string, error) {
	list, _, err := client.Hosts().List(ctx, api.QueryOptions{Detail: true})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, h := range list {
		if h.Braked {
			ids = append(ids, h.UUID)
		}
	}
	return ids, nil
}
