package command

import (
	"context"
)

func containerActionsCommand() *command {
	return &command{
		name: "container-actions", group: groupContainers, args: "CONTAINER", complete: completeContainers,
		synopsis: "List the actions on a container",
		about:    "Lists user, time and result of each action, newest first. The server keeps the last 20.",
		examples: []string{"magnum container-actions web1", "magnum container-actions -format '{{.action}} {{.result}}' web1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			out := output{hasWide: true}
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, "CONTAINER")
				if err != nil {
					return err
				}
				_, meta, err := client.Containers().Actions(ctx, args[0])
				if err != nil {
					return err
				}
				columns, wide := []string{"action", "user_id", "started_at", "result", "message"}, []string{"finished_at", "request_id"}
				return out.list(e.stdout, meta.Items, columns, wide, false)
			}
		},
	}
}
