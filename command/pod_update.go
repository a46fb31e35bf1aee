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
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var wait waitFlags
			wait.flags(f, "wait timeout", "detach")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) < 3 {
					return exactly(args, "POD", "add, replace or remove", "PATH=VALUE")
				}
				if err := out.check(); err != nil {
					return err
				}
				ops, err := manifestOps(e, kindOfPods, args[1], args[2:])
				if err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				var meta api.Meta
				p := newProgress(e)
				err = withProgress(ctx, args[0], "update", p, podStatuses(client), func() (err error) {
					_, meta, err = client.Pods().Update(ctx, args[0], ops, wait.writeOptions())
					return notDoneError(meta, err, wait)
				})
				p.clear()
				if err != nil {
					return err
				}
				return out.showPods(e.stdout, []json.RawMessage{meta.Raw}, false)
			}
		},
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
