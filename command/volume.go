package command

import (
	"context"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func volumeListCommand() *command {
	return hostListing{
		name: "volume-list", synopsis: "List your volumes on hosts",
		about: "Your project's, on the hosts of all bays that you can use. A volume is on one host; several hosts may\n" +
			"have volumes of one name.",
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
		synopsis: "Delete volumes and what is in them",
		about: "VOLUME is a name. One that a container uses stays, whether the container runs or not: delete the\n" +
			"container first. If several hosts have a volume of the name, -host says which is meant.",
		examples: []string{"magnum volume-delete data", "magnum volume-delete -host host-1 data logs"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var at api.VolumeTarget
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "on this host, uuid or name")
			f.text(&at.ProjectID, "project", "UUID", "of this project (operators)")
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
