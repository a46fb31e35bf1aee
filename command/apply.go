package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// applied is a document with what its kind does with it.
type applied struct {
	document
	manifestKind
}

// name returns how messages call the object of a document: "pod/web".
func (a *applied) name() string { return a.noun.kind + "/" + printable(a.Name) }

// readApplied returns the documents of the files. All have a name and a kind that is taken.
func readApplied(e *env, from *manifestFlags) ([]applied, error) {
	byKind := make(map[string]manifestKind)
	var kinds []string
	for _, k := range manifestKinds() {
		byKind[k.kind] = k
		kinds = append(kinds, k.kind)
	}
	if len(from.paths) == 0 {
		return nil, usagef("-f is missing: give a file, a directory, or - for standard input")
	}
	documents, err := from.read(e, kinds...)
	if err != nil {
		return nil, err
	}
	all := make([]applied, len(documents))
	for i, d := range documents {
		if d.Name == "" {
			return nil, fmt.Errorf("%s has no metadata.name: give it one, so that it is found again", d.from)
		}
		all[i] = applied{d, byKind[d.Kind]}
	}
	return all, nil
}

// existing is an object as a list or a show returns it.
type existing struct {
	UUID        string  `json:"uuid"`
	BayUUID     string  `json:"bay_uuid"`
	Manifest    *string `json:"manifest"`
	ManifestURL *string `json:"manifest_url"`
	Status      string  `json:"status"`   // of a pod
	Deleting    bool    `json:"deleting"` // of a replication controller
}

// goes reports whether the object is being deleted.
func (o *existing) goes() bool { return o.Deleting || o.Status == string(structs.ContainerDeleting) }

// find returns the object of a document's kind and name, nil if there is none. bay is a uuid
// or name, "" means any bay.
func (a *applied) find(ctx context.Context, client *api.Client, bay string) (*existing, error) {
	o := api.QueryOptions{Filters: map[string][]string{"name": {a.Name}}}
	if bay != "" {
		o.Filters["bay"] = []string{bay}
	}
	meta, err := a.noun.list(ctx, client, o)
	switch {
	case err != nil:
		return nil, err
	case len(meta.Items) == 0:
		return nil, nil
	case len(meta.Items) > 1:
		return nil, fmt.Errorf("%d bays have a %s %s: choose one with -bay", len(meta.Items), a.noun.kind, a.Name)
	}
	found := new(existing)
	if err := json.Unmarshal(meta.Items[0], found); err != nil {
		return nil, fmt.Errorf("the server's answer can't be read: %w", err)
	}
	return found, nil
}

// The results of apply and delete.
const (
	resultCreated   = "created"
	resultChanged   = "changed"
	resultUnchanged = "unchanged"
	resultDeleted   = "deleted"
)

// apply makes the object of a document be as the document says.
func (a *applied) apply(
	ctx context.Context, client *api.Client, o newObject, wait waitFlags, p *progress,
) (uuid, result string, err error) {
	var found *existing
	for try := 1; ; try++ {
		if found, err = a.current(ctx, client, o.Bay, wait, p); err != nil {
			return "", "", err
		}
		if found != nil {
			break
		}
		o.Manifest = a.Text
		made, err := a.create(ctx, client, o)
		if structs.CodeOf(err) == structs.CodeConflict && try == 1 {
			continue // somebody else was faster
		}
		return made.uuid, resultCreated, err
	}
	if found.Manifest != nil && *found.Manifest == a.Text && found.ManifestURL == nil {
		return found.UUID, resultUnchanged, nil
	}
	return found.UUID, resultChanged, a.update(ctx, client, found.UUID, a.Text, wait)
}

// current returns the object of a document's kind and name as it is shown; nil if there is
// none. If it is being deleted, current waits until it is gone.
func (a *applied) current(ctx context.Context, client *api.Client, bay string, wait waitFlags, p *progress) (*existing, error) {
	found, err := a.find(ctx, client, bay)
	if err != nil || found == nil {
		return nil, err
	}
	meta, err := a.noun.get(ctx, client, found.UUID, api.QueryOptions{}) // lists don't have manifests
	switch {
	case structs.CodeOf(err) == structs.CodeNotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(meta.Raw, found); err != nil {
		return nil, fmt.Errorf("the server's answer can't be read: %w", err)
	}
	switch {
	case !found.goes():
		return found, nil
	case wait.detach:
		return nil, errors.New("it is being deleted: apply again when it is gone, or without -detach, which waits for that")
	}
	return nil, a.awaitGone(ctx, client, found.UUID, wait, p)
}

// replaceManifest returns the patch that replaces a manifest.
func replaceManifest(text string) []structs.PatchOp {
	return []structs.PatchOp{{Op: "replace", Path: "/manifest", Value: text}}
}

func applyCommand() *command {
	return &command{
		name: "apply", group: groupManifests,
		synopsis: "Create or change what manifests say",
		about: "-f names files with manifests of Kubernetes v1, of the kinds " + kindList() + ". The objects\n" +
			"are looked for by kind and name, and created or changed in the order of the documents. A line for each\n" +
			"says \"created\", \"changed\" or \"unchanged\". One that is being deleted is created again once it is gone.\n" +
			"If the server refuses one, the others are done nevertheless, and the exit code is 1. Nothing is done if a\n" +
			"document is of another kind or has no name.\n\n" +
			"A pod's images, labels, annotations and activeDeadlineSeconds can be changed. For anything else of a pod,\n" +
			"delete it first. -bay can be omitted if the name is used in one bay only, or you can use one bay only.\n\n" +
			"Waits until all is as the manifests say. Ends before that if a container can't be started.",
		examples: []string{
			"magnum apply -f web.yaml",
			"magnum apply -bay web -f manifests/ -detach",
			"kubectl run web --image nginx --dry-run=client -o yaml | magnum apply -f -",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			var from manifestFlags
			var registry credentials
			var o newObject
			from.pathFlags(f, "f filename manifest")
			f.text(&o.Bay, "bay bay-uuid bay-id", "BAY", "uuid or name of the bay").predict = e.predictNames(completeBays)
			registry.flags(f)
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if registry.passwordStdin && slices.Contains(from.paths, "-") {
					return usagef("-f - and -registry-password-stdin both read standard input")
				}
				documents, err := readApplied(e, &from)
				if err != nil {
					return err
				}
				if o.Registry, err = registry.read(e); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.applyAll(ctx, client, documents, o, wait)
			}
		},
	}
}

// kindList returns the kinds that apply and delete take, for texts.
func kindList() string {
	var kinds []string
	for _, k := range manifestKinds() {
		kinds = append(kinds, k.kind)
	}
	last := len(kinds) - 1
	return strings.Join(kinds[:last], ", ") + " and " + kinds[last]
}

// applyAll applies documents in their order, prints what was done, and waits for all of it.
func (e *env) applyAll(ctx context.Context, client *api.Client, documents []applied, o newObject, wait waitFlags) error {
	var failures applyFailures
	type waiting struct {
		document *applied
		uuid     string
		err      error
	}
	var changed []*waiting
	p := newProgress(e)
	for i := range documents {
		d := &documents[i]
		uuid, result, err := d.apply(ctx, client, o, wait, p)
		p.clear()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failures.add(e, d, err)
			continue
		}
		if _, err := fmt.Fprintf(e.stdout, "%s %s\n", d.name(), result); err != nil {
			return err
		}
		if result != resultUnchanged {
			changed = append(changed, &waiting{document: d, uuid: uuid})
		}
	}
	if !wait.detach {
		var wg sync.WaitGroup
		for _, w := range changed {
			wg.Go(func() { _, w.err = w.document.await(ctx, client, madeObject{uuid: w.uuid}, wait, p) })
		}
		wg.Wait()
		p.clear()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, w := range changed {
			if w.err != nil {
				failures.add(e, w.document, w.err)
			}
		}
	}
	return failures.end(e)
}

// applyFailures collects the failures of single documents.
type applyFailures struct {
	failed   bool
	next     string   // advice about the first one that there is advice about
	recreate []string // what has to be deleted and created again: "pod/web"
}

// add prints a failure.
func (a *applyFailures) add(e *env, d *applied, err error) {
	a.failed = true
	fmt.Fprintf(e.stderr, "%s of %s failed: %s\n", d.name(), printable(d.from), describe(err))
	var known *structs.Error
	if errors.As(err, &known) && known.Hint == structs.HintRecreate {
		a.recreate = append(a.recreate, fmt.Sprintf("\"magnum %s-delete %s\"", d.noun.kind, d.Name))
	} else if a.next == "" {
		a.next = nextStep(err)
	}
}

// end prints what to do about the failures, and returns the error of the command.
func (a *applyFailures) end(e *env) error {
	if len(a.recreate) > 0 {
		fmt.Fprintf(e.stderr, "What can't be changed has to be deleted before: %s. Then apply again.\n", strings.Join(a.recreate, ", "))
	}
	if a.next != "" {
		fmt.Fprintln(e.stderr, a.next)
	}
	if a.failed {
		return &exitError{exitFailure}
	}
	return nil
}

func deleteCommand() *command {
	return &command{
		name: "delete", group: groupManifests,
		synopsis: "Delete what manifests name",
		about: "-f names files with manifests, as for apply. The objects are looked for by kind and name, and deleted in\n" +
			"the order of the documents; nothing else of a manifest counts. A line for each says \"deleted\" or \"not found\".\n" +
			"The exit code is 1 if one was not found, unless -ignore-not-found is given.\n\n" +
			"Waits until all is gone.",
		examples: []string{
			"magnum delete -f web.yaml",
			"magnum delete -ignore-not-found -f manifests/",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var wait waitFlags
			var from manifestFlags
			var o api.DeleteOptions
			bay, ignore := "", false
			from.pathFlags(f, "f filename manifest")
			f.text(&bay, "bay bay-uuid bay-id", "BAY", "uuid or name of the bay").predict = e.predictNames(completeBays)
			f.switchOn(&o.Force, "force", "kill the containers at once")
			f.switchOn(&ignore, "ignore-not-found", "exit with 0 also if something was not found")
			wait.flags(f, "wait timeout", "detach d")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				documents, err := readApplied(e, &from)
				if err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				o.Wait = -1 // it waits for all of them at the end
				return e.deleteAll(ctx, client, documents, bay, ignore, o, wait)
			}
		},
	}
}

// deleteAll deletes what documents name in their order, prints what was done, and waits until
// all is gone.
func (e *env) deleteAll(
	ctx context.Context, client *api.Client, documents []applied, bay string, ignoreMissing bool, o api.DeleteOptions, wait waitFlags,
) error {
	var failures applyFailures
	failed := make([]error, len(documents))
	uuids := make([]string, len(documents))
	for i := range documents {
		d := &documents[i]
		found, err := d.find(ctx, client, bay)
		if err == nil && found != nil {
			if _, err = d.remove(ctx, client, found.UUID, o); structs.CodeOf(err) == structs.CodeNotFound {
				found, err = nil, nil // somebody else was faster
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			failures.add(e, d, err)
			continue
		case found == nil:
			failures.failed = failures.failed || !ignoreMissing
			fmt.Fprintf(e.stderr, "%s not found\n", d.name())
			continue
		}
		uuids[i] = found.UUID
		if _, err := fmt.Fprintf(e.stdout, "%s %s\n", d.name(), resultDeleted); err != nil {
			return err
		}
	}
	if wait.detach {
		return failures.end(e)
	}
	p := newProgress(e)
	var wg sync.WaitGroup
	for i, uuid := range uuids {
		if uuid != "" && slices.Index(uuids, uuid) == i {
			wg.Go(func() { failed[i] = documents[i].awaitGone(ctx, client, uuid, wait, p) })
		}
	}
	wg.Wait()
	p.clear()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, err := range failed {
		if err != nil {
			failures.add(e, &documents[i], err)
		}
	}
	return failures.end(e)
}

// awaitGone waits until an object that is being deleted is gone.
func (a *applied) awaitGone(ctx context.Context, client *api.Client, uuid string, wait waitFlags, p *progress) error {
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	begin, status := time.Now(), "Deleting"
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*api.Meta, api.Meta, error) {
		meta, err := a.noun.get(ctx, client, uuid, o)
		return &meta, meta, err
	}, func(meta *api.Meta, _ api.Meta) (bool, error) {
		var body struct {
			Reason *string `json:"status_reason"`
		}
		if err := json.Unmarshal(meta.Raw, &body); err != nil {
			return false, fmt.Errorf("the server's answer can't be read: %w", err)
		}
		if status = statusText("Deleting", body.Reason); time.Since(begin) > progressAfter {
			p.show("%s: %s", a.name(), status)
		}
		return false, nil
	}, p)
	switch {
	case structs.CodeOf(err) == structs.CodeNotFound:
		return nil
	case errors.Is(err, errWaitTimeout):
		return fmt.Errorf("it is still %s after %v. It goes on without you", status, wait.limit.Round(time.Second))
	}
	return err
}
