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

// hostResult is how commands show the hosts that they have changed.
type hostResult struct {
	output
	progress *progress // ends before they are shown; nil for none
}

// onEach does something to each of several hosts, and lists in the arguments'
// order those where it went well, as they are afterwards.
func (o *hostResult) forEach(ctx context.Context, e *env, verb string, idents []string, do func(ctx context.Context, ident string) (api.Meta, error)) error {
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
			delete(changed, ident) // named twice
		}
	}
	return cmp.Or(o.list(e.stdout, items, slices.Concat(hosts.columns, []string{"draining", "fenced"}), nil, false), failed)
}

func hostCommands() []*command {
	return []*command{hosts.listCommand(), hosts.showCommand(), hostMembersCommand(), drainCommand(), undrainCommand(), fenceCommand(), releaseCommand(), adoptCommand(), hostLabelCommand()}
}
