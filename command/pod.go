package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// kindOfPods is the kind of the manifests of pods.
const kindOfPods = "Pod"

var pods = noun{
	kind: structs.KindPod, group: groupPods, plural: "pods", example: "web", complete: completePods,
	columns: []string{"uuid", "name"},
	wide:    []string{"status", "ready", "restarts", "reason", "age", "address", "host", "images", "bay_uuid"},
	filters: []string{"name", "status", "bay", "host", "label"},
	cells:   podCells,
	show:    showPod,
	about: "\n\nIf the pod is not ready, why_not_ready says why: the conditions that are not met, and for each container\n" +
		"that is not ready its state, the last result of its probe, and how it ended before its last restart.",
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Pods().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Pods().Get(ctx, ident, o)
		return meta, err
	},
}

func podCommands() []*command {
	return []*command{
		podCreateCommand(), pods.listCommand(), pods.showCommand(), podUpdateCommand(),
		podLogsCommand(), podExecuteCommand(), podAttachCommand(), podCpCommand(), podTopCommand(), podStatsCommand(),
		portForwardCommand(), podActionsCommand(), podDeleteCommand(),
	}
}

func podCreateCommand() *command {
	return &command{
		name: "pod-create", group: groupPods,
		synopsis: "Create pods from manifests, and start them",
		about: "-manifest names files with manifests of Kubernetes v1 Pods. A file may have several documents; the pods\n" +
			"are created in their order. Nothing is created if a document is of another kind. -manifest-url has the\n" +
			"server fetch a manifest. -bay can be omitted if you can use one bay only.\n\n" +
			"Waits until the containers of each pod have been started.",
		examples: []string{
			"magnum pod-create -manifest web.yaml",
			"magnum pod-create -bay web -manifest manifests/ -detach",
			"kubectl run web --image nginx --dry-run=client -o yaml | magnum pod-create -manifest -",
			"magnum pod-create -manifest-url https://example.org/web.yaml",
		},
		setup: podManifests.createSetup,
	}
}

// reportMade prints the failures of a create from documents. It returns the objects to print,
// and the error of the command. If there is one document only, its failure is that error and is
// not printed.
func (e *env) reportMade(
	kind string, documents []document, made []madeObject, failures []error,
) (created []json.RawMessage, failed error) {
	next := ""
	for i, err := range failures {
		switch {
		case err == nil:
			created = append(created, made[i].raw)
		case errors.Is(err, context.Canceled):
			for _, m := range made {
				if m.uuid != "" {
					fmt.Fprintf(e.stderr, "%s %s goes on without you: see \"magnum %s-show %s\"\n", kind, printable(m.name), kind, m.uuid)
				}
			}
			return nil, err
		case len(documents) == 1:
			return nil, err
		default:
			failed = &exitError{exitFailure}
			fmt.Fprintf(e.stderr, "Create for %s failed: %s\n", printable(documents[i].from), describe(err))
			if next == "" {
				next = nextStep(err)
			}
		}
	}
	if next != "" {
		fmt.Fprintln(e.stderr, next)
	}
	return created, failed
}

// waitForPod waits until all containers of a new pod have been started, or until one of
// them can't be. It returns the pod as the server showed it last.
func waitForPod(ctx context.Context, client *api.Client, made *structs.PodBody, wait waitFlags, p *progress) (json.RawMessage, error) {
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	last, raw, failure, shown := made, json.RawMessage(nil), "", ""
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.PodBody, api.Meta, error) {
		return client.Pods().Get(ctx, made.UUID, o)
	}, func(pod *structs.PodBody, meta api.Meta) (bool, error) {
		last, raw, failure = pod, meta.Raw, whyNotStarted(limited, client, pod)
		done := podStarted(pod) || failure != ""
		if text := podStatus(pod); !done && text != shown && (p.tty || text != string(pod.Status)) { // as for containers
			p.show("%s: %s", pod.Name, text)
			shown = text
		}
		return done, nil
	}, p)
	switch {
	case errors.Is(err, errWaitTimeout):
		return raw, fmt.Errorf("pod %s is %s. It goes on without you: see \"magnum pod-show %s\"",
			last.Name, stillText(podStatus(last), nil, wait.limit), last.UUID)
	case structs.CodeOf(err) == structs.CodeNotFound:
		return raw, fmt.Errorf("pod %s was deleted meanwhile", last.Name)
	case err != nil:
		return raw, err
	case last.Status == structs.PodFailed:
		return raw, fmt.Errorf("pod %s: %s. Look at it with \"magnum pod-show %s\", delete it with \"magnum pod-delete %s\"",
			last.Name, podStatus(last), last.UUID, last.UUID)
	case failure != "":
		return raw, fmt.Errorf("pod %s is not running: %s. Look at it with \"magnum pod-show %s\", delete it with \"magnum pod-delete %s\"",
			last.Name, failure, last.UUID, last.UUID)
	}
	return raw, nil
}

// podStarted reports whether all containers of a pod have been started once, or the pod
// ends before that.
func podStarted(pod *structs.PodBody) bool {
	return pod.Status != structs.PodPending && pod.Status != structs.PodUnknown
}

// startFailures are the reasons of a waiting container that only a user can mend.
var startFailures = []string{
	structs.ReasonImagePull, structs.ReasonImagePullBackOff, structs.ReasonCreateError, structs.ReasonConfigError,
	structs.ReasonRunError, structs.ReasonCrashLoop,
}

// whyNotStarted returns what keeps a pod from starting if a user has to mend it, "" if
// nothing is known to.
func whyNotStarted(ctx context.Context, client *api.Client, pod *structs.PodBody) string {
	if podStarted(pod) {
		return ""
	}
	for _, list := range [][]structs.PodContainerBody{pod.InitContainers, pod.Containers} {
		for i := range list {
			if s := &list[i].State; s.State == structs.PartWaiting && s.Reason != nil && slices.Contains(startFailures, *s.Reason) {
				return containerText(&list[i])
			}
		}
	}
	if pod.StatusReason == nil || pod.Host == nil && pod.Epoch == 0 { // in a cluster, one that is placed may have no node
		return ""
	}
	// What concerns none of the containers, such as their network, is only in the record of
	// the creation.
	actions, _, err := client.Pods().Actions(ctx, pod.UUID)
	if err != nil {
		return "" // it is only not known
	}
	for _, a := range actions {
		if a.Action == "create" && a.Result == structs.ActionFailed && a.Message != nil {
			return *a.Message
		}
	}
	return ""
}

// podStatus returns a pod's status in one line, with what it waits for.
func podStatus(pod *structs.PodBody) string {
	for _, why := range whyNotReady(pod) {
		if !strings.HasSuffix(why, ": "+structs.PartWaiting) { // which says nothing
			return string(pod.Status) + ": " + why
		}
	}
	return string(pod.Status)
}

func podDeleteCommand() *command {
	return &command{
		name: "pod-delete", group: groupPods, args: "POD [POD...]", complete: completePods,
		synopsis: "Delete pods and their volumes",
		about: "The containers get the manifest's grace period to end in, and none with -force. Named volumes of\n" +
			"persistentVolumeClaims stay.",
		examples: []string{"magnum pod-delete web db", "magnum pod-delete -force $(magnum pod-list -q)"},
		setup:    podManifests.deleteSetup(podStatuses, func(meta api.Meta, wait waitFlags) error { return notDoneError(meta, nil, wait) }),
	}
}

// podStatuses watches the status of pods.
func podStatuses(client *api.Client) statusWatcher {
	return func(ctx context.Context, ident string, each func(string)) {
		_ = watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.PodBody, api.Meta, error) {
			return client.Pods().Get(ctx, ident, o)
		}, func(pod *structs.PodBody, _ api.Meta) (bool, error) {
			each(podStatus(pod))
			return false, nil
		}, nil)
	}
}
