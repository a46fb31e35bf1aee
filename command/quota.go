package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func quotaCommands() []*command {
	return []*command{quotaShowCommand(), quotaListCommand(), quotaSetCommand(), quotaDeleteCommand()}
}

const quotaNames = "Bays, hosts (by the node count of bays), containers, pods, rcs, services, named volumes, memory and cpu\n" +
	"(what containers and pods request) and spec_bytes (what has been written, in the servers' memory)."

// quotaTarget holds the flag and the argument that name a quota.
type quotaTarget struct{ isDefault bool }

func (t *quotaTarget) flags(f *flagSet) {
	f.switchOn(&t.isDefault, "default", "instead of a project: the default of all projects without limits of their own")
}

// of returns the project of the arguments, api.DefaultQuota with -default.
func (t *quotaTarget) of(args []string) (string, error) {
	if t.isDefault {
		return api.DefaultQuota, exactly(args)
	}
	if err := exactly(args, "PROJECT"); err != nil {
		return "", err
	}
	if args[0] == "" {
		return "", usagef("PROJECT is empty")
	}
	return args[0], nil
}

func quotaShowCommand() *command {
	return &command{
		name: "quota-show", group: groupQuotas, args: "[PROJECT]", complete: completeProjects,
		synopsis: "Show what a project may use, and what it uses",
		about: "Without PROJECT it shows your own project. Only operators see others. " + quotaNames + "\n\n" +
			"A limit of - is none. SOURCE is project for a limit that was set for the project, default for one that was\n" +
			"set for all projects, and shipped for one that nobody has set.",
		examples: []string{"magnum quota-show", "magnum quota-show -default", "magnum quota-show -format '{{.containers.in_use}}' alpha"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			var out output
			var target quotaTarget
			target.flags(f)
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				project, own := "", !target.isDefault && len(args) == 0
				var err error
				if !own {
					if project, err = target.of(args); err != nil {
						return err
					}
				}
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				o := api.QueryOptions{Consistent: fresh.consistent, Stale: fresh.stale}
				if !own {
					_, meta, err := client.Quotas().Get(ctx, project, o)
					if err != nil {
						return err
					}
					return showQuota(e.stdout, &out, meta.Raw)
				}
				_, meta, err := client.Quotas().List(ctx, o)
				if err != nil {
					return err
				}
				if len(meta.Items) != 1 {
					return fmt.Errorf("the server answers with %d quotas for one project", len(meta.Items))
				}
				return showQuota(e.stdout, &out, meta.Items[0])
			}
		},
	}
}

// showQuota prints a quota with a line for each resource.
func showQuota(w io.Writer, out *output, raw json.RawMessage) error {
	if !out.isTable() {
		return out.show(w, raw)
	}
	obj, err := parseObject(raw)
	if err != nil {
		return err
	}
	t := table{head: []string{"Resource", "Limit", "In use", "Source"}}
	for _, f := range obj {
		if use, ok := useOf(f.raw); ok {
			t.rows = append(t.rows, []string{f.key, limitText(use.Limit), numberText(use.InUse), printable(use.Source)})
		}
	}
	return t.writeTo(w)
}

// useOf returns the quota of one resource; ok is false for another field.
func useOf(raw json.RawMessage) (use structs.QuotaUse, ok bool) {
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &use) != nil {
		return use, false
	}
	return use, true
}

func limitText(limit float64) string {
	if limit == structs.Unlimited {
		return "-"
	}
	return numberText(limit)
}

func numberText(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// quotaCells shows resources in a list as what is used of the limit.
var quotaCells = func() cells {
	all := cells{}
	for r := range structs.NumResources {
		all[r.String()] = func(obj object) string {
			use, ok := useOf(obj.get(r.String()))
			if !ok {
				return ""
			}
			return numberText(use.InUse) + "/" + limitText(use.Limit)
		}
	}
	return all
}()

func quotaListCommand() *command {
	return &command{
		name: "quota-list", group: groupQuotas,
		synopsis: "List what all projects use of their quotas",
		about: "For operators. It lists the projects that use anything or have limits of their own: what is used, and the\n" +
			"limit. A limit of - is none.",
		examples: []string{"magnum quota-list -wide", "magnum quota-list -format '{{.project_id}} {{.pods.in_use}}'"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			out := output{hasWide: true, cells: quotaCells}
			o := api.QueryOptions{AllProjects: true}
			f.number("limit", "N", "list at most N (default all)", 1, func(n int) { o.Limit = n })
			f.text(&o.Marker, "marker", "PROJECT", "start after this project")
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				o.Consistent, o.Stale = fresh.consistent, fresh.stale
				_, meta, err := client.Quotas().List(ctx, o)
				if err != nil {
					return err
				}
				return out.list(e.stdout, meta.Items, []string{"project_id", "bays", "hosts", "containers", "pods", "memory", "cpu"},
					[]string{"rcs", "services", "volumes", "spec_bytes"}, true)
			}
		},
	}
}

func quotaSetCommand() *command {
	return &command{
		name: "quota-set", group: groupQuotas, args: "PROJECT", complete: completeProjects,
		synopsis: "Set limits of a project",
		about: "For operators. Limits that aren't given stay. -1 or unlimited is no limit. Nothing is removed if a project\n" +
			"uses more than a new limit: it only gets no more.\n\n" +
			"With a limit of memory or cpu each new container and pod has to say how much it needs.",
		examples: []string{
			"magnum quota-set -containers 50 -memory 64g -cpu 16 alpha",
			"magnum quota-set -bays unlimited alpha",
			"magnum quota-set -default -hosts 10",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var target quotaTarget
			var req structs.QuotaRequest
			target.flags(f)
			for _, l := range []struct {
				r                        structs.Resource
				flag, placeholder, usage string
			}{
				{structs.ResourceBays, "bays", "N", "bays"},
				{structs.ResourceHosts, "hosts", "N", "hosts of all bays together, by their node count"},
				{structs.ResourceContainers, "containers", "N", "containers"},
				{structs.ResourcePods, "pods", "N", "pods, those of replication controllers among them"},
				{structs.ResourceRCs, "rcs", "N", "replication controllers"},
				{structs.ResourceServices, "services", "N", "services"},
				{structs.ResourceVolumes, "volumes", "N", "named volumes of containers and pods"},
				{structs.ResourceMemory, "memory", "SIZE", "memory that containers and pods request, such as 64g"},
				{structs.ResourceCPU, "cpu", "CORES", "cores that containers and pods request, such as 2.5"},
				{structs.ResourceSpecBytes, "spec-bytes", "SIZE", "size of specs and manifests in the servers' memory, such as 64m"},
			} {
				f.value(l.flag, l.placeholder, l.usage, func(s string) error {
					limit, err := parseLimit(l.r, s)
					if err == nil {
						req.SetLimit(l.r, limit)
					}
					return err
				})
			}
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				project, err := target.of(args)
				if err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				if req.Each(func(structs.Resource, int64) {}) != nil {
					return usagef("no limit is given, such as -containers 50")
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				_, meta, err := client.Quotas().Set(ctx, project, &req)
				if err != nil {
					return err
				}
				return showQuota(e.stdout, &out, meta.Raw)
			}
		},
	}
}

// parseLimit parses a limit of a resource.
func parseLimit(r structs.Resource, s string) (int64, error) {
	if s == "unlimited" || s == "-1" {
		return structs.Unlimited, nil
	}
	var n int64
	var err error
	switch r {
	case structs.ResourceMemory, structs.ResourceSpecBytes:
		var size structs.Bytes
		size, err = structs.ParseBytes(s)
		n = int64(size)
	case structs.ResourceCPU:
		var cores float64
		if cores, err = strconv.ParseFloat(s, 64); err != nil || !(cores >= 0 && cores <= structs.MaxQuota/1000) {
			return 0, errors.New("is neither a number of cores, such as 2.5, nor unlimited")
		}
		n = int64(cores*1000 + 0.5)
	default:
		if n, err = strconv.ParseInt(s, 10, 64); err != nil {
			return 0, errors.New("is neither a whole number nor unlimited")
		}
	}
	if err == nil && (n < 0 || n > structs.MaxQuota) {
		err = fmt.Errorf("is not in 0..%d, nor unlimited", int64(structs.MaxQuota))
	}
	return n, err
}

func quotaDeleteCommand() *command {
	return &command{
		name: "quota-delete", group: groupQuotas, args: "PROJECT", complete: completeProjects,
		synopsis: "Delete the limits of a project, so that it has the default",
		about:    "For operators. With -default the limits apply again that magnum ships with. Nothing is removed.",
		examples: []string{"magnum quota-delete alpha", "magnum quota-delete -default"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var target quotaTarget
			target.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				project, err := target.of(args)
				if err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				_, err = client.Quotas().Delete(ctx, project)
				return err
			}
		},
	}
}
