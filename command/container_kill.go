package command

import (
	"context"
	"strings"

	"github.com/stackforge/magnum/api"
)

func containerKillCommand() *command {
	return &command{
		name: "container-kill", group: groupContainers, args: "CONTAINER [CONTAINER...]", complete: completeContainers,
		synopsis: "Send a signal to containers",
		about: "The signal is SIGKILL, or that of -s: a name with or without SIG, or a number. The restart policy does\n" +
			"not restart a container that the signal has ended.",
		examples: []string{"magnum container-kill web1 web2", "magnum container-kill -s HUP proxy"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			var o api.ActionOptions
			f.text(&o.Signal, "signal s", "SIGNAL", "such as SIGHUP, HUP or 1").defaultText("SIGKILL").
				suggest("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				o.WriteOptions = wait.writeOptions()
				return e.forEachContainer(ctx, client, "Kill", args, func(ctx context.Context, ident string) error {
					meta, err := client.Containers().Action(ctx, ident, api.Kill, o)
					return notDoneError(meta, err, wait)
				})
			}
		},
	}
}

func containerRenameCommand() *command {
	return &command{
		name: "container-rename", group: groupContainers, args: "CONTAINER NAME", complete: completeContainers,
		synopsis: "Rename a container",
		examples: []string{"magnum container-rename happy_newt web1", "magnum container-rename -format '{{.uuid}}' web1 web2"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, "CONTAINER", "NAME")
				if err != nil {
					return err
				}
				_, meta, err := client.Containers().Rename(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}

func containerRebuildCommand() *command {
	return &command{
		name: "container-rebuild", group: groupContainers, args: "CONTAINER [CONTAINER...]", complete: completeContainers,
		synopsis: "Recreate containers from their image or another one",
		about: "A container keeps its uuid, name and volumes. Its logs, and what it has written elsewhere, are lost.\n" +
			"A running container is started again afterwards.",
		examples: []string{"magnum container-rebuild web1", "magnum container-rebuild -image nginx:1.27 web1 web2"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			image := ""
			f.text(&image, "image i", "IMAGE", "new image").defaultText("the image that it has")
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if f.given["image"] && strings.TrimSpace(image) == "" {
					return usagef("-image is empty")
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEachContainer(ctx, client, "Rebuild", args, func(ctx context.Context, ident string) error {
					meta, err := client.Containers().Rebuild(ctx, ident, image, wait.writeOptions())
					return notDoneError(meta, err, wait)
				})
			}
		},
	}
}
