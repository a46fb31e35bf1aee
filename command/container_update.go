package command

import (
	"context"
	"errors"
	"strconv"

	"github.com/stackforge/magnum/structs"
)

func containerUpdateCommand() *command {
	return &command{
		name: "container-update", group: groupContainers, args: "CONTAINER", complete: completeContainers,
		synopsis: "Change a container's memory limit, CPU limit or name",
		about:    "New limits apply at once, without a restart. 0 removes a limit.",
		examples: []string{"magnum container-update -m 1g -cpus 2 web1", "magnum container-update -name web2 web1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			var out output
			ops := map[string]structs.PatchOp{}
			set := func(field string, value any, none bool) {
				ops[field] = structs.PatchOp{Op: "replace", Path: "/" + field, Value: value}
				if none {
					ops[field] = structs.PatchOp{Op: "remove", Path: "/" + field}
				}
			}
			f.value("memory m", "SIZE", "memory limit, such as 512m", func(s string) error {
				n, err := structs.ParseBytes(s)
				if err != nil {
					return errors.New("is not a size: write bytes, or a number with k, m or g, such as 512m")
				}
				set("memory", n, n == 0)
				return nil
			})
			f.value("cpu cpus", "CORES", "CPU limit in cores, such as 0.5", func(s string) error {
				n, err := strconv.ParseFloat(s, 64)
				if err != nil || !(n >= 0) || n > structs.MaxMilliCPU {
					return errors.New("is not a number of cores, such as 0.5")
				}
				set("cpu", n, n == 0)
				return nil
			})
			f.value("name", "NAME", "new name", func(s string) error {
				if s == "" {
					return errors.New("is empty")
				}
				set("name", s, false)
				return nil
			})
			wait.flags(f, "wait timeout", "detach d")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args, "CONTAINER"); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				var patch []structs.PatchOp
				for _, field := range []string{"name", "memory", "cpu"} {
					if op, ok := ops[field]; ok {
						patch = append(patch, op)
					}
				}
				if len(patch) == 0 {
					return usagef("nothing to change: give -memory, -cpu or -name")
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				_, meta, err := client.Containers().Update(ctx, args[0], patch, wait.writeOptions())
				if err := notDoneError(meta, err, wait); err != nil {
					return err
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}
