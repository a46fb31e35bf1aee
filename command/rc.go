package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// kindOfRCs is the kind of the manifests of replication controllers.
const kindOfRCs = "ReplicationController"

var rcs = noun{
	kind: structs.KindRC, long: "replication controller", plural: "replication controllers", group: groupRCs, example: "web",
	complete: completeRCs,
	columns:  []string{"uuid", "name"},
	wide:     []string{"replicas", "current", "ready", "updated", "reason", "age", "images", "selector", "bay_uuid"},
	filters:  []string{"name", "bay", "label"},
	cells:    cells{"reason": func(o object) string { return o.text("status_reason") }, "age": ofRC(rcAge)},
	show:     showRC,
	about: "\n\nstatus_reason says what is not as wanted, and which pod it waits for. rc_uuid of a pod is the uuid of its\n" +
		"replication controller.",
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.RCs().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.RCs().Get(ctx, ident, o)
		return meta, err
	},
}

func rcCommands() []*command {
	return []*command{rcCreateCommand(), rcs.listCommand(), rcs.showCommand(), rcUpdateCommand(), rcDeleteCommand(), rcActionsCommand()}
}

// ofRC returns the function of a column.
func ofRC(text func(*structs.RCBody) string) func(object) string {
	return func(o object) string {
		var rc structs.RCBody
		raw, err := o.MarshalJSON()
		if err != nil || json.Unmarshal(raw, &rc) != nil {
			return "None" // of a server that shows them in another way
		}
		return text(&rc)
	}
}

func rcAge(rc *structs.RCBody) string { return ageText(rc.CreatedAt) }

// showRC prints a replication controller as a table: its fields in the server's order, the
// manifest last.
func showRC(w io.Writer, raw json.RawMessage) error {
	obj, err := parseObject(raw)
	if err != nil {
		return err
	}
	t := table{head: []string{"Property", "Value"}}
	for _, f := range obj {
		if f.key != "links" && f.key != "manifest" {
			t.rows = append(t.rows, []string{f.key, cellText(f.raw)})
		}
	}
	if manifest := obj.get("manifest"); manifest != nil {
		t.rows = append(t.rows, []string{"manifest", strings.TrimRight(cellText(manifest), "\n")})
	}
	return t.writeTo(w)
}

func rcCreateCommand() *command {
	return &command{
		name: "rc-create", group: groupRCs,
		synopsis: "Create replication controllers from manifests",
		about: "-manifest names files with manifests of Kubernetes v1 ReplicationControllers. A file may have several\n" +
			"documents; they are created in their order. Nothing is created if a document is of another kind.\n" +
			"-manifest-url has the server fetch a manifest. -bay can be omitted if you can use one bay only.\n\n" +
			"Waits until all pods are ready. Ends before that if a pod can't be started.",
		examples: []string{
			"magnum rc-create -manifest web.yaml",
			"magnum rc-create -bay web -manifest manifests/ -detach",
			"magnum rc-create -manifest-url https://example.org/web.yaml",
		},
		setup: rcManifests.createSetup,
	}
}

// waitForRC waits until the pods of a replication controller are as its last change wants
// them, or until one of them can't be started. It returns the replication controller as the
// server showed it last.
func waitForRC(ctx context.Context, client *api.Client, rc *structs.RCBody, wait waitFlags, p *progress) (json.RawMessage, error) {
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	last, raw, failure := rc, json.RawMessage(nil), ""
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.RCBody, api.Meta, error) {
		return client.RCs().Get(ctx, rc.UUID, o)
	}, func(now *structs.RCBody, meta api.Meta) (bool, error) {
		last, raw = now, meta.Raw
		if rcSettled(now) || now.Deleting {
			return true, nil
		}
		failure = whyPodsDontStart(limited, client, now)
		p.show("rc %s: %s", now.Name, rcStatus(now))
		return failure != "", nil
	}, p)
	see := fmt.Sprintf("see \"magnum rc-show %s\"", last.UUID)
	switch {
	case errors.Is(err, errWaitTimeout):
		return raw, fmt.Errorf("rc %s is not done after %v: %s. It goes on without you: %s", last.Name, wait.limit.Round(time.Second),
			rcStatus(last), see)
	case structs.CodeOf(err) == structs.CodeNotFound, err == nil && last.Deleting:
		return raw, fmt.Errorf("rc %s was deleted meanwhile", last.Name)
	case err != nil:
		return raw, err
	case failure != "":
		return raw, fmt.Errorf("rc %s is not done: %s. It goes on without you: %s", last.Name, failure, see)
	}
	return raw, nil
}

// rcSettled reports whether the pods are as the last change wants them.
func rcSettled(rc *structs.RCBody) bool {
	return rc.ObservedGeneration >= rc.Generation && rc.Current == rc.Replicas && rc.Ready == rc.Replicas && rc.Updated == rc.Replicas
}

// rcStatus returns how far a replication controller is, in one line.
func rcStatus(rc *structs.RCBody) string {
	if rc.Deleting {
		return statusText("Deleting", rc.StatusReason)
	}
	return statusText(fmt.Sprintf("%d of %d pods are ready", rc.Ready, rc.Replicas), rc.StatusReason)
}

// whyPodsDontStart returns what keeps a pod of a replication controller from starting if a
// user has to mend it, "" if nothing is known to.
func whyPodsDontStart(ctx context.Context, client *api.Client, rc *structs.RCBody) string {
	if rc.StatusReason == nil {
		return ""
	}
	pods, _, err := client.Pods().List(ctx, api.QueryOptions{Detail: true, Filters: map[string][]string{"bay": {rc.BayUUID}}})
	if err != nil {
		return "" // it is only not known
	}
	for i := range pods {
		pod := &pods[i]
		if pod.RCUUID == nil || *pod.RCUUID != rc.UUID || pod.Host == nil || pod.CreatedAt.Before(rcChanged(rc)) {
			continue
		}
		if why := whyNotStarted(ctx, client, pod); why != "" {
			return "pod " + pod.Name + ": " + why
		}
	}
	return ""
}

// rcChanged returns the time of the last change. Pods from before it don't count for a wait,
// because it may be made to mend them.
func rcChanged(rc *structs.RCBody) time.Time {
	if rc.UpdatedAt.IsZero() {
		return rc.CreatedAt.Time
	}
	return rc.UpdatedAt.Time
}

func rcUpdateCommand() *command {
	return &command{
		name: "rc-update", group: groupRCs, args: "RC add|replace|remove PATH=VALUE...", complete: completeRCs,
		synopsis: "Replace a replication controller's manifest",
		about: "Another number of replicas is kept at once. Pods of another template are replaced one by one, each old\n" +
			"one after a new one is ready. The value of manifest is a file, - for standard input, or the manifest's\n" +
			"text. manifest_url has the server fetch it.\n\n" +
			"Waits until all pods are ready and of the new template. Ends before that if a new pod can't be started;\n" +
			"the old ones stay.",
		examples: []string{
			"magnum rc-update web replace manifest=web.yaml",
			"magnum rc-update web replace manifest_url=https://example.org/web.yaml",
		},
		setup: rcManifests.updateSetup("RC", func(
			ctx context.Context, e *env, c *api.Client, ident string, ops []structs.PatchOp, wait waitFlags,
		) (json.RawMessage, error) {
			rc, meta, err := c.RCs().Update(ctx, ident, ops, api.WriteOptions{})
			if err != nil || wait.detach {
				return meta.Raw, err
			}
			p := newProgress(e)
			defer p.clear()
			return waitForRC(ctx, c, rc, wait, p)
		}),
	}
}

func rcDeleteCommand() *command {
	return &command{
		name: "rc-delete", group: groupRCs, args: "RC [RC...]", complete: completeRCs,
		synopsis: "Delete replication controllers and their pods",
		about: "The containers get the manifest's grace period to end in, and none with -force. To keep a pod, change its\n" +
			"labels before.",
		examples: []string{"magnum rc-delete web", "magnum rc-delete -force $(magnum rc-list -q)"},
		setup: rcManifests.deleteSetup(rcStatuses, func(meta api.Meta, wait waitFlags) error {
			var rc structs.RCBody
			if !meta.Done() && !wait.detach && json.Unmarshal(meta.Raw, &rc) == nil && rc.Deleting {
				return fmt.Errorf("it is %s. It goes on without you", stillText("Deleting", rc.StatusReason, wait.writeOptions().Wait))
			}
			return notDoneError(meta, nil, wait)
		}),
	}
}

// rcStatuses watches the status of replication controllers.
func rcStatuses(client *api.Client) statusWatcher {
	return func(ctx context.Context, ident string, each func(string)) {
		_ = watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.RCBody, api.Meta, error) {
			return client.RCs().Get(ctx, ident, o)
		}, func(rc *structs.RCBody, _ api.Meta) (bool, error) {
			each(rcStatus(rc))
			return false, nil
		}, nil)
	}
}
