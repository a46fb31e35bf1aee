package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// noun describes a kind of objects for its list and show commands.
type noun struct {
	kind     string // singular, such as "bay"
	long     string // the kind in words, if it is an abbreviation
	group    string
	plural   string // such as "bays", for texts
	example  string // a name, for the help
	complete completion
	columns  []string                                     // of the list: those of the 2015 client
	wide     []string                                     // more columns for -wide
	filters  []string                                     // keys of filterHelp
	detail   bool                                         // the summary lacks some of the columns
	cells    cells                                        // of columns that are not fields
	about    string                                       // more for the help of show
	show     func(w io.Writer, raw json.RawMessage) error // prints an object as a table; nil means all of its fields
	list     func(context.Context, *api.Client, api.QueryOptions) (api.Meta, error)
	get      func(context.Context, *api.Client, string, api.QueryOptions) (api.Meta, error)
}

// freshness holds the flags that say how new a response must be.
type freshness struct{ consistent, stale bool }

func (r *freshness) flags(f *flagSet) {
	f.switchOn(&r.consistent, "consistent", "require a state at least as new as the request").common()
	f.switchOn(&r.stale, "stale", "accept any state at once, even from a server that lags").common()
}

// filterHelp has the placeholder and the usage of each filter.
var filterHelp = map[string][2]string{
	"name":   {"NAME", "only those of this name"},
	"status": {"STATUS", "only those of this status, ignoring case"},
	"bay":    {"BAY", "only those of this bay, uuid or name"},
	"host":   {"HOST", "only those on this host, uuid or name"},
	"label":  {"KEY=VALUE", "only those with this label"},
}

// listCommand returns the command that lists objects.
func (n noun) listCommand() *command {
	return &command{
		name: n.kind + "-list", group: n.group, synopsis: "List " + n.plural,
		about: "The table is sorted by the first column unless -sort-key or -sort-dir is given. -wide, -json and templates\n" +
			"request all fields.",
		examples: []string{
			"magnum " + n.kind + "-list -wide",
			"magnum " + n.kind + "-list -format '{{.uuid}} {{.name}}'",
			"magnum " + n.kind + "-list -watch",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			out := output{hasWide: len(n.wide) > 0, cells: n.cells}
			o := api.QueryOptions{Filters: url.Values{}}
			quiet, follow := false, false
			for _, name := range n.filters {
				help := filterHelp[name]
				add := f.repeatable
				if name != "label" {
					add = f.value
				}
				filter := add(name, help[0], help[1], func(s string) error {
					o.Filters.Add(name, s)
					return nil
				})
				switch name {
				case "bay":
					filter.predict = e.predictNames(completeBays)
				case "host":
					filter.predict = e.predictNames(completeHosts)
				}
			}
			f.switchOn(&quiet, "quiet q", "print uuids only")
			f.number("limit", "N", "list at most N (default all)", 1, func(n int) { o.Limit = n })
			f.text(&o.Marker, "marker", "UUID", "start after the object of this uuid")
			f.text(&o.SortKey, "sort-key", "FIELD", "field that the server sorts by")
			f.text(&o.SortDir, "sort-dir", "asc|desc", "direction of -sort-key").suggest("asc", "desc")
			f.switchOn(&o.AllProjects, "all-projects", "list all projects (operators)")
			f.switchOn(&follow, "watch w", "then print each "+cmp.Or(n.long, n.kind)+" that changes, with all columns, until interrupted")
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if follow && quiet {
					return usagef("-watch and -quiet exclude each other")
				}
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				o.Consistent, o.Stale = fresh.consistent, fresh.stale
				if follow {
					return n.follow(ctx, e, client, o, &out)
				}
				o.Detail = !quiet && (n.detail || out.wide || !out.isTable())
				meta, err := n.list(ctx, client, o)
				if err != nil {
					return err
				}
				if quiet {
					return printIDs(e, meta)
				}
				return out.list(e.stdout, meta.Items, n.columns, n.wide, o.SortKey == "" && o.SortDir == "")
			}
		},
	}
}

// printIDs prints the uuids of a list in the server's order.
func printIDs(e *env, meta api.Meta) error {
	for _, raw := range meta.Items {
		obj, err := parseObject(raw)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(e.stdout, obj.text("uuid")); err != nil {
			return err
		}
	}
	return nil
}

// showCommand returns the command that shows an object.
func (n noun) showCommand() *command {
	upper := strings.ToUpper(n.kind)
	return &command{
		name: n.kind + "-show", group: n.group, args: upper, complete: n.complete,
		synopsis: "Show a " + cmp.Or(n.long, n.kind),
		about:    upper + " is a uuid or a name. -json prints the server's response on one line." + n.about,
		examples: []string{
			"magnum " + n.kind + "-show " + n.example,
			"magnum " + n.kind + "-show -format '{{json .}}' " + n.example,
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			var out output
			var o api.QueryOptions
			if n.kind != structs.KindHost && n.kind != structs.KindToken { // these have no project
				f.switchOn(&o.AllProjects, "all-projects", "look for the name in all projects (operators)")
			}
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, upper)
				if err != nil {
					return err
				}
				o.Consistent, o.Stale = fresh.consistent, fresh.stale
				meta, err := n.get(ctx, client, args[0], o)
				if err != nil {
					return err
				}
				if n.show != nil && out.isTable() {
					return n.show(e.stdout, meta.Raw)
				}
				return out.show(e.stdout, meta.Raw)
			}
		},
	}
}
