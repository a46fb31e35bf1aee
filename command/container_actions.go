package command

import (
	"context"
	"strings"

	"github.com/stackforge/magnum/api"
)

func containerActionsCommand() *command {
	return actionsCommand(containers, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Containers().Actions(ctx, ident)
		return meta, err
	})
}

func bayActionsCommand() *command {
	return actionsCommand(bays, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Bays().Actions(ctx, ident)
		return meta, err
	})
}

func baymodelActionsCommand() *command {
	return actionsCommand(baymodels, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.BayModels().Actions(ctx, ident)
		return meta, err
	})
}

func nodeActionsCommand() *command {
	return actionsCommand(nodes, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Nodes().Actions(ctx, ident)
		return meta, err
	})
}

func hostActionsCommand() *command {
	return actionsCommand(hosts, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Hosts().Actions(ctx, ident)
		return meta, err
	})
}

func rcActionsCommand() *command {
	return actionsCommand(rcs, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.RCs().Actions(ctx, ident)
		return meta, err
	})
}

func serviceActionsCommand() *command {
	return actionsCommand(services, func(ctx context.Context, client *api.Client, ident string) (api.Meta, error) {
		_, meta, err := client.Services().Actions(ctx, ident)
		return meta, err
	})
}

// actionsCommand returns the command that lists the actions on an object.
func actionsCommand(n noun, list func(context.Context, *api.Client, string) (api.Meta, error)) *command {
	name, upper := n.kind+"-actions", strings.ToUpper(n.kind)
	return &command{
		name: name, group: n.group, args: upper, complete: n.complete,
		synopsis: "List the actions on a " + n.kind,
		about:    "Lists user, time and result of each action, newest first. The server keeps the last 20.",
		examples: []string{"magnum " + name + " " + n.example, "magnum " + name + " -format '{{.action}} {{.result}}' " + n.example},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			out := output{hasWide: true}
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, upper)
				if err != nil {
					return err
				}
				meta, err := list(ctx, client, args[0])
				if err != nil {
					return err
				}
				columns := []string{"action", "user_id", "started_at", "result", "message"}
				wide := []string{"finished_at", "request_id", "project_id", "service_user_id"}
				return out.list(e.stdout, meta.Items, columns, wide, false)
			}
		},
	}
}
