package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var bays = noun{
	kind: structs.KindBay, group: groupBays, plural: "bays", example: "web", complete: completeBays,
	columns: []string{"uuid", "name", "node_count", "status"},
	wide:    []string{"coe", "placement", "shared", "node_addresses", "labels", "status_reason"},
	filters: []string{"name", "status"},
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Bays().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Bays().Get(ctx, ident, o)
		return meta, err
	},
}

func bayCommands() []*command {
	return []*command{bayCreateCommand(), bays.listCommand(), bays.showCommand(), bayUpdateCommand(), bayDeleteCommand(),
		bayConfigCommand(), bayActionsCommand()}
}

func bayCreateCommand() *command {
	return &command{
		name: "bay-create", group: groupBays,
		synopsis: "Claim hosts for a new bay",
		about: "Claims -node-count free hosts that have the labels. While hosts are missing, the bay waits for them\n" +
			"and its status_reason says so; containers can be created in it already.",
		examples: []string{
			"magnum bay-create -name web -node-count 3",
			"magnum bay-create -name web -baymodel small -label zone=a -placement binpack -detach",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var wait waitFlags
			req := structs.BayRequest{Labels: map[string]string{}}
			f.value("name", "NAME", "name (default a generated one)", func(s string) error { req.Name = &s; return nil })
			f.text(&req.BayModelID, "baymodel baymodel-id", "BAYMODEL", "uuid or name of its template").
				predict = e.predictNames(completeBayModels)
			f.text(&req.COE, "coe", "docker|kubernetes", "kind of hosts (default the baymodel's, else docker)").
				suggest("docker", "swarm", "kubernetes")
			f.number("node-count", "N", "hosts wanted (default 1)", 1, func(n int) { req.NodeCount = intOf(n) })
			f.number("timeout bay-create-timeout", "MINUTES", "fail if hosts are still missing after this time; 0 is never (default 0)", 0,
				func(n int) { req.BayCreateTimeout = intOf(n) })
			f.repeatable("label l labels", "KEY=VALUE", "label that the hosts must have", addPairTo(req.Labels))
			f.value("placement", "spread|binpack", "how containers are placed on its hosts (default spread)",
				func(s string) error { req.Placement = structs.PlacementStrategy(s); return nil }).suggest("spread", "binpack")
			f.toggle("shared", "let all projects use the bay (operators)", func(b bool) { req.Shared = b })
			f.text(&req.DiscoveryURL, "discovery-url", "URL", "stored and shown, not used")
			f.text(&req.UUID, "uuid", "UUID", "uuid (default a new one)")
			wait.flags(f, "wait", "detach d")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				body, meta, err := client.Bays().Create(ctx, &req, api.WriteOptions{})
				if err != nil {
					return err
				}
				return waitForBay(ctx, e, client, body, meta, wait, out)
			}
		},
	}
}

// waitForBay waits until a created or changed bay has its hosts, and prints it.
func waitForBay(ctx context.Context, e *env, client *api.Client, body *structs.BayBody, meta api.Meta, wait waitFlags, out output) error {
	if wait.detach || !body.Status.InProgress() {
		return out.show(e.stdout, meta.Raw)
	}
	p := newProgress(e)
	p.show("%s: %s", body.Name, statusText(string(body.Status), body.StatusReason))
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	last := body
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.BayBody, api.Meta, error) {
		return client.Bays().Get(ctx, body.UUID, o)
	}, func(b *structs.BayBody, m api.Meta) (bool, error) {
		last, meta = b, m
		p.show("%s: %s", b.Name, statusText(string(b.Status), b.StatusReason))
		return !b.Status.InProgress(), nil
	}, p)
	p.clear()
	switch {
	case errors.Is(err, errWaitTimeout):
		return fmt.Errorf("bay %s is %s. It goes on without you: see \"magnum bay-show %s\"",
			last.Name, stillText(string(last.Status), last.StatusReason, wait.limit), last.UUID)
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(e.stderr, "bay %s goes on without you: see \"magnum bay-show %s\"\n", printable(last.Name), last.UUID)
		return err
	case err != nil:
		return err
	case last.Status == structs.BayCreateFailed:
		return fmt.Errorf("bay %s: %s. Delete it with \"magnum bay-delete %s\"",
			last.Name, statusText(string(last.Status), last.StatusReason), last.UUID)
	}
	return out.show(e.stdout, meta.Raw)
}

// stillText returns a status that has not changed for the time waited, with its reason.
func stillText(status string, reason *string, waited time.Duration) string {
	return statusText(fmt.Sprintf("still %s after %v", status, waited), reason)
}

// statusText returns a status with its reason.
func statusText(status string, reason *string) string {
	if reason == nil || *reason == "" {
		return status
	}
	return status + ": " + *reason
}

func bayUpdateCommand() *command {
	return &command{
		name: "bay-update", group: groupBays, args: "BAY add|replace|remove PATH=VALUE...", complete: completeBays,
		synopsis: "Change a bay's node_count",
		about:    "A VALUE that is valid JSON is sent as JSON, any other as text. remove takes PATHs without values.",
		examples: []string{"magnum bay-update web replace node_count=5"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var wait waitFlags
			wait.flags(f, "wait timeout", "detach d")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) < 3 {
					return exactly(args, "BAY", "add, replace or remove", "PATH=VALUE")
				}
				if err := out.check(); err != nil {
					return err
				}
				ops, err := patchOps(args[1], args[2:])
				if err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				body, meta, err := client.Bays().Update(ctx, args[0], ops, api.WriteOptions{})
				if err != nil {
					return err
				}
				return waitForBay(ctx, e, client, body, meta, wait, out)
			}
		},
	}
}

// patchOps returns the PATCH body of PATH=VALUE arguments.
func patchOps(op string, changes []string) ([]structs.PatchOp, error) {
	switch op {
	case "add", "replace", "remove":
	default:
		return nil, usagef("%q is not add, replace or remove", op)
	}
	var ops []structs.PatchOp
	for _, change := range changes {
		path, text, hasValue := strings.Cut(change, "=")
		o := structs.PatchOp{Op: op, Path: "/" + strings.TrimPrefix(path, "/")}
		if o.Path == "/" {
			return nil, usagef("%q has no path: write PATH=VALUE", change)
		}
		if op != "remove" {
			if !hasValue {
				return nil, usagef("%q has no value: write PATH=VALUE", change)
			}
			if json.Unmarshal([]byte(text), &o.Value) != nil {
				o.Value = text
			}
		}
		ops = append(ops, o)
	}
	return ops, nil
}

func bayDeleteCommand() *command {
	return &command{
		name: "bay-delete", group: groupBays, args: "BAY [BAY...]", complete: completeBays,
		synopsis: "Delete bays and all that is in them",
		about:    "Removes each bay's containers from its hosts first, then frees the hosts.",
		examples: []string{"magnum bay-delete web", "magnum bay-delete -detach web db"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				p := newProgress(e)
				defer p.clear()
				return e.forEach(ctx, "Delete", structs.KindBay, args, func(ctx context.Context, ident string) error {
					return deleteBay(ctx, client, ident, wait, p)
				})
			}
		},
	}
}

// deleteBay deletes one bay and waits until it is gone. The server responds to a
// DELETE of a bay at once, as the 2015 API did.
func deleteBay(ctx context.Context, client *api.Client, ident string, wait waitFlags, p *progress) error {
	id := ident
	if !wait.detach {
		// Wait for the uuid: after the deletion another bay may have the name.
		body, _, err := client.Bays().Get(ctx, ident, api.QueryOptions{})
		if err != nil {
			return err
		}
		id = body.UUID
	}
	if _, err := client.Bays().Delete(ctx, id, api.WriteOptions{Wait: -1}); err != nil || wait.detach {
		return err
	}
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	var last *structs.BayBody
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.BayBody, api.Meta, error) {
		return client.Bays().Get(ctx, id, o)
	}, func(b *structs.BayBody, _ api.Meta) (bool, error) {
		last = b
		p.show("%s: %s", ident, statusText(string(b.Status), b.StatusReason))
		return false, nil
	}, p)
	switch {
	case structs.CodeOf(err) == structs.CodeNotFound:
		return nil
	case errors.Is(err, errWaitTimeout) && last != nil:
		return fmt.Errorf("it is %s. It goes on without you", stillText(string(last.Status), last.StatusReason, wait.limit))
	}
	return err
}

// intOf returns a number as the optional integer of a request.
func intOf(n int) *int {
	v := n
	return &v
}

// addPairTo returns the function of a flag that adds KEY=VALUE to a map.
func addPairTo(m map[string]string) func(string) error {
	return func(s string) error {
		key, value, err := parsePair(s)
		if err == nil {
			m[key] = value
		}
		return err
	}
}
