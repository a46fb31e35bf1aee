package command

import (
	"context"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var baymodels = noun{
	kind: structs.KindBayModel, group: groupBayModels, plural: "baymodels", example: "small", complete: completeBayModels,
	columns: []string{"uuid", "name"},
	wide:    []string{"coe", "image_id", "flavor_id", "keypair_id", "apiserver_port", "cluster_distro"},
	filters: []string{"name"},
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.BayModels().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.BayModels().Get(ctx, ident, o)
		return meta, err
	},
}

func baymodelCommands() []*command {
	return []*command{
		baymodelCreateCommand(), baymodels.listCommand(), baymodels.showCommand(), baymodelDeleteCommand(), baymodelActionsCommand(),
	}
}

func baymodelCreateCommand() *command {
	return &command{
		name: "baymodel-create", group: groupBayModels,
		synopsis: "Store a template for bays",
		about:    "magnum uses -coe only; the other fields are stored and shown for clients of the 2015 API.",
		examples: []string{"magnum baymodel-create -name small -coe docker"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var req structs.BayModelRequest
			f.value("name", "NAME", "name (default a generated one)", func(s string) error { req.Name = &s; return nil })
			f.text(&req.COE, "coe", "docker|kubernetes", "kind of hosts of its bays; required").suggest("docker", "swarm", "kubernetes")
			f.text(&req.ImageID, "image-id", "IMAGE", "image of the hosts")
			f.text(&req.KeypairID, "keypair-id", "KEYPAIR", "key pair of the hosts")
			f.text(&req.ExternalNetworkID, "external-network-id", "NETWORK", "external network")
			f.text(&req.FixedNetwork, "fixed-network", "NETWORK", "network of the hosts")
			f.text(&req.SSHAuthorizedKey, "ssh-authorized-key", "KEY", "public key of the hosts")
			f.text(&req.DNSNameserver, "dns-nameserver", "ADDRESS", "DNS server of the hosts, IPv4")
			f.text(&req.FlavorID, "flavor-id", "FLAVOR", "flavor of the hosts")
			f.text(&req.MasterFlavorID, "master-flavor-id", "FLAVOR", "flavor of the first host")
			f.number("docker-volume-size", "GB", "size of the hosts' volume", 1, func(n int) { req.DockerVolumeSize = intOf(n) })
			f.number("apiserver-port", "PORT", "port of the cluster's own API, 1024..65535", 1024,
				func(n int) { req.APIServerPort = intOf(n) })
			f.text(&req.ClusterDistro, "cluster-distro", "NAME", "distribution of the hosts")
			f.text(&req.UUID, "uuid", "UUID", "uuid (default a new one)")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				if req.COE == "" {
					return usagef("flag -coe is missing: docker or kubernetes")
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				_, meta, err := client.BayModels().Create(ctx, &req, api.WriteOptions{})
				if err != nil {
					return err
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}

func baymodelDeleteCommand() *command {
	return &command{
		name: "baymodel-delete", group: groupBayModels, args: "BAYMODEL [BAYMODEL...]", complete: completeBayModels,
		synopsis: "Delete baymodels that no bay uses",
		examples: []string{"magnum baymodel-delete small"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEach(ctx, "Delete", structs.KindBayModel, args, func(ctx context.Context, ident string) error {
					_, err := client.BayModels().Delete(ctx, ident, api.WriteOptions{})
					return err
				})
			}
		},
	}
}
