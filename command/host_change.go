package command

import (
	"context"
	"strings"

	"github.com/stackforge/magnum/structs"
)

func hostLabelCommand() *command {
	return &command{
		name: "host-label", group: groupHosts, args: "HOST KEY=VALUE|KEY-...", complete: completeHosts,
		synopsis: "Set or remove labels of a host",
		about: "KEY=VALUE sets a label, KEY- removes it. These are the operators' labels, by which bays and containers\n" +
			"choose hosts. They override the labels of the host's join token. Labels that the agent itself claims\n" +
			"count only if the servers trust agents (-trust-agent-labels, or -auth none).",
		examples: []string{"magnum host-label host-1 zone=a disk=ssd", "magnum host-label host-1 disk-"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) == 0 {
					return usagef("HOST is missing")
				}
				if len(args) == 1 {
					return usagef("KEY=VALUE is missing")
				}
				if err := out.check(); err != nil {
					return err
				}
				var ops []structs.PatchOp
				for _, arg := range args[1:] {
					key, value, isSet := strings.Cut(arg, "=")
					bare, isRemoved := strings.CutSuffix(arg, "-")
					switch {
					case isSet && key != "":
						ops = append(ops, structs.PatchOp{Op: "add", Path: "/labels/" + key, Value: value})
					case !isSet && isRemoved && bare != "":
						ops = append(ops, structs.PatchOp{Op: "remove", Path: "/labels/" + bare})
					default:
						return usagef("%q is neither KEY=VALUE nor KEY-", arg)
					}
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				_, meta, err := client.Hosts().Update(ctx, args[0], ops)
				if err != nil {
					return err
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}

func hostDeleteCommand() *command {
	return &command{
		name: "host-delete", group: groupHosts, args: "HOST [HOST...]", complete: completeHosts,
		synopsis: "Delete hosts that are lost, or drained and empty",
		about: "The host's secret is revoked with it: its agent is refused from then on, says so and ends. What such a\n" +
			"machine still runs goes on until it is removed there. To use the machine again, remove the file host_id\n" +
			"from the agent's data directory and start it with a join token: it joins as a new host.",
		examples: []string{"magnum host-drain host-1 -wait && magnum host-delete host-1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEach(ctx, "Delete", structs.KindHost, args, func(ctx context.Context, ident string) error {
					_, err := client.Hosts().Delete(ctx, ident)
					return err
				})
			}
		},
	}
}
