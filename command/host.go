package command

import (
	"context"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var hosts = noun{
	kind: structs.KindHost, group: groupHosts, plural: "hosts", complete: completeHosts,
	columns: []string{"uuid", "name", "state", "backend", "containers"},
	wide:    []string{"draining", "braked", "fenced", "bay_uuid", "cores", "cpu_used", "memory", "memory_used", "engine_version", "labels", "addresses", "state_reason"},
	filters: []string{"name", "status", "bay", "label"},
	detail:  true,
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Hosts().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Hosts().Get(ctx, ident, o)
		return meta, err
	},
}

func hostCommands() []*command {
	return []*command{hosts.listCommand(), hosts.showCommand(), hostMembersCommand(), drainCommand(), undrainCommand(), fenceCommand(), releaseCommand(), hostLabelCommand()}
}
