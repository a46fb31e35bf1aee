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
		about: "KEY=VALUE sets a label, KEY- removes it. These are the operators' labels. The host's agent has labels\n" +
			"of its own, which this command doesn't change. Bays and containers choose hosts by both.",
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
