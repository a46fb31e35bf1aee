package command

import (
	"context"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func volumeListCommand() *command {
	return hostListing{
		name: "volume-list", synopsis: "List your volumes on hosts",
		about: "Lists the volumes of your project on the hosts of all bays that you can use. A volume is on one host;\n" +
			"several hosts can have volumes of the same name.",
		examples: []string{"magnum volume-list", "magnum volume-list -name data -json"},
		columns:  []string{"name", "host", "used_by"},
		wide:     []string{"project_id", "created_at", "host_uuid", "bay_uuid"},
		list: func(ctx context.Context, c *api.Client, o api.HostListOptions) ([]structs.HostError, api.Meta, error) {
			body, meta, err := c.Volumes().List(ctx, o)
			if err != nil {
				return nil, meta, err
			}
			return body.Errors, meta, nil
		},
	}.command()
}

func volumeDeleteCommand() *command {
	return &command{
		name: "volume-delete", group: groupImages, args: "VOLUME [VOLUME...]", complete: completeVolumes,
		synopsis: "Delete volumes and their content",
		about: "VOLUME is a name. A volume that a container uses can't be deleted, even if the container doesn't run:\n" +
			"delete the container first. If several hosts have a volume of the name, choose one with -host.",
		examples: []string{"magnum volume-delete data", "magnum volume-delete -host host-1 data logs"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var at api.VolumeTarget
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "uuid or name of the host")
			f.text(&at.ProjectID, "project", "UUID", "project of the volumes (operators)")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEach(ctx, "Delete", structs.KindVolume, args, func(ctx context.Context, name string) error {
					_, err := client.Volumes().Delete(ctx, name, at)
					return err
				})
			}
		},
	}
}
