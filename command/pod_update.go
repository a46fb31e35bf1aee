package command

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func podUpdateCommand() *command {
	return &command{
		name: "pod-update", group: groupPods, args: "POD add|replace|remove PATH=VALUE...", complete: completePods,
		synopsis: "Replace a pod's manifest",
		about: "Images, labels, annotations and activeDeadlineSeconds may differ; a container with another image is\n" +
			"made again. The value of manifest is a file, - for standard input, or the manifest's text. manifest_url\n" +
			"has the server fetch it.",
		examples: []string{
			"magnum pod-update web replace manifest=web.yaml",
			"magnum pod-update web replace manifest_url=https://example.org/web.yaml",
		},
		setup: podManifests.updateSetup("POD", func(
			ctx context.Context, e *env, c *api.Client, ident string, ops []structs.PatchOp, wait waitFlags,
		) (json.RawMessage, error) {
			var meta api.Meta
			p := newProgress(e)
			err := withProgress(ctx, ident, "update", p, podStatuses(c), func() (err error) {
				_, meta, err = c.Pods().Update(ctx, ident, ops, wait.writeOptions())
				return notDoneError(meta, err, wait)
			})
			p.clear()
			return meta.Raw, err
		}),
	}
}

// manifestOps is patchOps for an object of a manifest: the value of /manifest is the text of
// a file.
func manifestOps(e *env, kind, op string, changes []string) ([]structs.PatchOp, error) {
	plain := changes[:0:0]
	var manifests []structs.PatchOp
	for _, change := range changes {
		path, value, hasValue := strings.Cut(change, "=")
		if path = "/" + strings.TrimPrefix(path, "/"); path != "/manifest" || !hasValue || op == "remove" {
			plain = append(plain, change)
			continue
		}
		if len(manifests) > 0 {
			return nil, usagef("manifest is given twice")
		}
		if value == "" {
			return nil, usagef("%q has no value: write manifest=FILE", change)
		}
		text, err := manifestValue(e, value, kind)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, structs.PatchOp{Op: op, Path: path, Value: text})
	}
	ops, err := patchOps(op, plain)
	return append(manifests, ops...), err
}
