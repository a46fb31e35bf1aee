package command

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var hosts = noun{
	kind: structs.KindHost, group: groupHosts, plural: "hosts", example: "host-1", complete: completeHosts,
	columns: []string{"uuid", "name", "state", "backend", "containers"},
	wide: []string{
		"draining", "braked", "fenced", "bay_uuid", "cores", "cpu_used", "memory", "memory_used", "engine_version", "labels", "addresses",
		"state_reason",
	},
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

// hostResult prints the hosts that a command has changed.
type hostResult struct {
	output
	progress *progress // cleared before the hosts are printed; may be nil
}

// forEach calls do for each host, and prints the changed hosts in the order of the
// arguments. do returns the host after the change in Meta.Raw.
func (o *hostResult) forEach(
	ctx context.Context, e *env, verb string, idents []string, do func(ctx context.Context, ident string) (api.Meta, error),
) error {
	var mu sync.Mutex
	changed := make(map[string]json.RawMessage, len(idents))
	failed := e.forEach(ctx, verb, structs.KindHost, idents, func(ctx context.Context, ident string) error {
		meta, err := do(ctx, ident)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		changed[ident] = meta.Raw
		return nil
	})
	if o.progress != nil {
		o.progress.clear()
	}
	if failed != nil && len(changed) == 0 {
		return failed
	}
	var items []json.RawMessage
	for _, ident := range idents {
		if raw, ok := changed[ident]; ok {
			items = append(items, raw)
			delete(changed, ident) // idents may have it twice
		}
	}
	columns := slices.Concat(hosts.columns, []string{"draining", "fenced"})
	return cmp.Or(o.list(e.stdout, items, columns, nil, false), failed)
}

func hostCommands() []*command {
	return []*command{
		hosts.listCommand(), hosts.showCommand(), hostMembersCommand(), drainCommand(), undrainCommand(), fenceCommand(),
		releaseCommand(), adoptCommand(), hostLabelCommand(), hostDeleteCommand(),
	}
}
