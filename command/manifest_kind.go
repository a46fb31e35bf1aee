package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// manifestKind is what commands do with manifests of one kind: those that create objects of
// the kind, apply and delete.
type manifestKind struct {
	kind string // as manifests write it, such as "Pod"
	noun *noun
	// pods says that the objects are pods or create some: their containers may have to be
	// pulled with credentials.
	pods    bool
	columns []string // of a list of objects that were created
	create  func(ctx context.Context, c *api.Client, o newObject) (madeObject, error)
	// update replaces the manifest of an object and waits until that is done, as long as wait
	// says, unless await does that.
	update func(ctx context.Context, c *api.Client, uuid, text string, wait waitFlags) error
	// await waits until an object that was created or changed is as its manifest wants it, and
	// returns it.
	await  func(ctx context.Context, c *api.Client, made madeObject, wait waitFlags, p *progress) (json.RawMessage, error)
	remove func(ctx context.Context, c *api.Client, uuid string, o api.DeleteOptions) (api.Meta, error)
}

// newObject is what an object is created from. structs.RCRequest has the same fields,
// structs.ServiceRequest some of them.
type newObject = structs.PodRequest

// madeObject is what was made of a document; zero if nothing was.
type madeObject struct {
	uuid, name string
	raw        json.RawMessage // as the server showed it; nil if it is only known that it exists
}

// manifestKinds returns the kinds that apply and delete take.
func manifestKinds() []manifestKind {
	return []manifestKind{podManifests, rcManifests, serviceManifests}
}

var podManifests = manifestKind{
	kind: kindOfPods, noun: &pods, pods: true, columns: []string{"uuid", "name", "status", "host"},
	create: func(ctx context.Context, c *api.Client, o newObject) (madeObject, error) {
		pod, meta, err := c.Pods().Create(ctx, &o, api.WriteOptions{})
		if err != nil {
			return madeObject{}, err
		}
		return madeObject{pod.UUID, pod.Name, meta.Raw}, nil
	},
	update: func(ctx context.Context, c *api.Client, uuid, text string, wait waitFlags) error {
		_, meta, err := c.Pods().Update(ctx, uuid, replaceManifest(text), wait.writeOptions())
		return notDoneError(meta, err, wait)
	},
	await: func(ctx context.Context, c *api.Client, made madeObject, wait waitFlags, p *progress) (json.RawMessage, error) {
		pod, err := lastSeen(made, func() (*structs.PodBody, api.Meta, error) {
			return c.Pods().Get(ctx, made.uuid, api.QueryOptions{})
		})
		if err != nil {
			return nil, err
		}
		return waitForPod(ctx, c, pod, wait, p)
	},
	remove: func(ctx context.Context, c *api.Client, uuid string, o api.DeleteOptions) (api.Meta, error) {
		return c.Pods().Delete(ctx, uuid, o)
	},
}

var rcManifests = manifestKind{
	kind: kindOfRCs, noun: &rcs, pods: true, columns: []string{"uuid", "name", "replicas", "ready"},
	create: func(ctx context.Context, c *api.Client, o newObject) (madeObject, error) {
		req := structs.RCRequest(o)
		rc, meta, err := c.RCs().Create(ctx, &req, api.WriteOptions{})
		if err != nil {
			return madeObject{}, err
		}
		return madeObject{rc.UUID, rc.Name, meta.Raw}, nil
	},
	update: func(ctx context.Context, c *api.Client, uuid, text string, _ waitFlags) error {
		_, _, err := c.RCs().Update(ctx, uuid, replaceManifest(text), api.WriteOptions{Wait: -1})
		return err
	},
	await: func(ctx context.Context, c *api.Client, made madeObject, wait waitFlags, p *progress) (json.RawMessage, error) {
		rc, err := lastSeen(made, func() (*structs.RCBody, api.Meta, error) {
			return c.RCs().Get(ctx, made.uuid, api.QueryOptions{})
		})
		if err != nil {
			return nil, err
		}
		return waitForRC(ctx, c, rc, wait, p)
	},
	remove: func(ctx context.Context, c *api.Client, uuid string, o api.DeleteOptions) (api.Meta, error) {
		return c.RCs().Delete(ctx, uuid, o)
	},
}

var serviceManifests = manifestKind{
	kind: kindOfServices, noun: &services, columns: []string{"uuid", "name", "address", "node_ports"},
	create: func(ctx context.Context, c *api.Client, o newObject) (madeObject, error) {
		req := structs.ServiceRequest{UUID: o.UUID, Bay: o.Bay, Manifest: o.Manifest, ManifestURL: o.ManifestURL}
		s, meta, err := c.Services().Create(ctx, &req, api.WriteOptions{})
		if err != nil {
			return madeObject{}, err
		}
		return madeObject{s.UUID, s.Name, meta.Raw}, nil
	},
	update: func(ctx context.Context, c *api.Client, uuid, text string, _ waitFlags) error {
		_, _, err := c.Services().Update(ctx, uuid, replaceManifest(text), api.WriteOptions{})
		return err
	},
	await: func(ctx context.Context, c *api.Client, made madeObject, wait waitFlags, p *progress) (json.RawMessage, error) {
		s, err := lastSeen(made, func() (*structs.ServiceBody, api.Meta, error) {
			return c.Services().Get(ctx, made.uuid, api.QueryOptions{})
		})
		if err != nil {
			return nil, err
		}
		if s.Status != structs.ServicePending && made.raw != nil {
			return made.raw, nil // of a Docker bay
		}
		return waitForService(ctx, c, s, wait, p)
	},
	remove: func(ctx context.Context, c *api.Client, uuid string, _ api.DeleteOptions) (api.Meta, error) {
		return c.Services().Delete(ctx, uuid, api.WriteOptions{})
	},
}

// lastSeen returns an object as the server showed it when it was made, else as it is now.
func lastSeen[T any](made madeObject, get func() (*T, api.Meta, error)) (*T, error) {
	if made.raw == nil {
		body, _, err := get()
		return body, err
	}
	body := new(T)
	if err := json.Unmarshal(made.raw, body); err != nil {
		return nil, fmt.Errorf("the server's answer can't be read: %w", err)
	}
	return body, nil
}

// createSetup is the setup of the command that creates objects of the kind.
func (k manifestKind) createSetup(e *env, f *flagSet) runFunc {
	var conn connection
	var wait waitFlags
	var out output
	var from manifestFlags
	var registry credentials
	var o newObject
	from.flags(f)
	f.text(&o.Bay, "bay bay-uuid bay-id", "BAY", "uuid or name of the bay").predict = e.predictNames(completeBays)
	if k.pods {
		exclusiveFlag(f, func(x structs.Exclusive) { o.Exclusive = x })
		f.text(&o.InfraImage, "infra-image", "IMAGE", "image of the container that holds a pod's network (default the host's own)")
		registry.flags(f)
	}
	f.text(&o.UUID, "uuid", "UUID", "uuid (default a new one)")
	wait.flags(f, "wait timeout", "detach d")
	out.flags(f)
	conn.flags(f)
	return func(ctx context.Context, args []string) (err error) {
		if err := exactly(args); err != nil {
			return err
		}
		if err := out.check(); err != nil {
			return err
		}
		if registry.passwordStdin && slices.Contains(from.paths, "-") {
			return usagef("-manifest - and -registry-password-stdin both read standard input")
		}
		documents, err := from.read(e, k.kind)
		if err != nil {
			return err
		}
		if o.UUID != "" && len(documents) > 1 {
			return usagef("-uuid is for one %s, and there are %d", cmp.Or(k.noun.long, k.noun.kind), len(documents))
		}
		if k.pods {
			if o.Registry, err = registry.read(e); err != nil {
				return err
			}
		}
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		if from.url != "" {
			documents = []document{{from: from.url}}
			o.ManifestURL = from.url
		}
		return k.createAll(ctx, e, client, o, documents, wait, &out)
	}
}

// createAll creates an object for each document, in their order, and prints the objects. If one
// fails, the others are created nevertheless.
func (k manifestKind) createAll(
	ctx context.Context, e *env, client *api.Client, o newObject, documents []document, wait waitFlags, out *output,
) error {
	made, failures := make([]madeObject, len(documents)), make([]error, len(documents))
	for i, d := range documents {
		o.Manifest = d.Text
		if made[i], failures[i] = k.create(ctx, client, o); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if !wait.detach {
		p := newProgress(e)
		var wg sync.WaitGroup
		for i := range made {
			if failures[i] == nil {
				wg.Go(func() { made[i].raw, failures[i] = k.await(ctx, client, made[i], wait, p) })
			}
		}
		wg.Wait()
		p.clear()
	}
	created, failed := e.reportMade(k.noun.kind, documents, made, failures)
	if err := k.print(e.stdout, out, created, len(documents) > 1); err != nil {
		return err
	}
	return failed
}

// print prints objects that were created or changed: a single one as the show command does,
// several as a list.
func (k manifestKind) print(w io.Writer, out *output, all []json.RawMessage, several bool) error {
	switch {
	case len(all) == 0:
		return nil
	case !out.isTable():
		for _, raw := range all {
			if err := out.show(w, raw); err != nil {
				return err
			}
		}
		return nil
	case several:
		return out.list(w, all, k.columns, nil, false)
	}
	return k.noun.show(w, all[0])
}

// updateSetup returns the setup of the command that replaces the manifest of an object. update
// makes the change, waits for it as far as there is something to wait for, and returns the
// object. arg is what the help calls the object.
func (k manifestKind) updateSetup(
	arg string, update func(ctx context.Context, e *env, c *api.Client, ident string, ops []structs.PatchOp, wait waitFlags) (
		json.RawMessage, error),
) func(e *env, f *flagSet) runFunc {
	return func(e *env, f *flagSet) runFunc {
		var conn connection
		var out output
		var wait waitFlags
		wait.flags(f, "wait timeout", "detach d")
		out.flags(f)
		conn.flags(f)
		return func(ctx context.Context, args []string) error {
			if len(args) < 3 {
				return exactly(args, arg, "add, replace or remove", "PATH=VALUE")
			}
			if err := out.check(); err != nil {
				return err
			}
			ops, err := manifestOps(e, k.kind, args[1], args[2:])
			if err != nil {
				return err
			}
			client, err := conn.client(e)
			if err != nil {
				return err
			}
			raw, err := update(ctx, e, client, args[0], ops, wait)
			if err != nil {
				return err
			}
			return k.print(e.stdout, &out, []json.RawMessage{raw}, false)
		}
	}
}

// deleteSetup returns the setup of the command that deletes objects with containers. statuses
// watches one that is slow. undone returns an error if the wait ended before the object was gone,
// unless the user asked not to wait.
func (k manifestKind) deleteSetup(
	statuses func(*api.Client) statusWatcher, undone func(meta api.Meta, wait waitFlags) error,
) func(e *env, f *flagSet) runFunc {
	return func(e *env, f *flagSet) runFunc {
		var conn connection
		var wait waitFlags
		o := api.DeleteOptions{}
		f.switchOn(&o.Force, "force f", "kill the containers at once")
		wait.flags(f, "wait timeout", "detach d")
		conn.flags(f)
		return func(ctx context.Context, args []string) error {
			client, err := conn.client(e)
			if err != nil {
				return err
			}
			o.WriteOptions = wait.writeOptions()
			return e.forEachShown(ctx, "Delete", k.noun.kind, args, statuses(client), func(ctx context.Context, ident string) error {
				meta, err := k.remove(ctx, client, ident, o)
				if err != nil {
					return err
				}
				return undone(meta, wait)
			})
		}
	}
}
