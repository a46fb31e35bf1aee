package command

import (
	"context"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var nodes = noun{
	kind: structs.KindNode, group: groupHosts, plural: "nodes: hosts, and rows stored by node-create",
	columns: []string{"uuid", "type", "image_id"},
	wide:    []string{"name", "ironic_node_id"},
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Nodes().List(ctx, o)
		return meta, err
	},
}

func nodeCommands() []*command {
	return []*command{nodeCreateCommand(), nodes.listCommand(), nodeActionsCommand()}
}

func nodeCreateCommand() *command {
	return &command{
		name: "node-create", group: groupHosts,
		synopsis: "Store a node, as the 2015 API did",
		about:    "Nothing runs on a node. Machines that run containers are hosts: start \"magnum agent\" on them.",
		examples: []string{"magnum node-create -type virt -image-id fedora-21"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var req structs.NodeRequest
			f.text(&req.Type, "type", "virt|bare", "kind of machine").suggest("virt", "bare")
			f.text(&req.ImageID, "image-id", "IMAGE", "image of the machine")
			f.text(&req.IronicNodeID, "ironic-node-id", "ID", "id in Ironic")
			f.value("name", "NAME", "name of the node", func(s string) error { req.Name = &s; return nil })
			f.text(&req.UUID, "uuid", "UUID", "uuid (default a new one)")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				_, meta, err := client.Nodes().Create(ctx, &req, api.WriteOptions{})
				if err != nil {
					return err
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}
