package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/server"
	"github.com/stackforge/magnum/structs"
)

func snapshotSaveCommand() *command {
	return &command{
		name: "operator snapshot save", group: groupOperators, args: "FILE", complete: completeFileNames,
		synopsis: "Save the servers' state to a file",
		about: "Saves the current state while the servers run. FILE contains secrets: those of the servers, hashes of\n" +
			"tokens, and the environment of containers. It is readable by you only; keep it so. The snapshot gets the\n" +
			"name FILE after it is complete and checked; an existing file is replaced. -stale saves the state of a\n" +
			"server that knows of no leader.",
		examples: []string{
			"magnum operator snapshot save /var/backups/magnum-$(date +%F).snap",
			"magnum operator snapshot save -stale -addr 192.0.2.1 /root/lost.snap",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			stale := false
			f.switchOn(&stale, "stale", "save the state of this server, even if it lags")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, "FILE")
				if err != nil {
					return err
				}
				info, err := saveSnapshot(ctx, client, args[0], stale)
				if err != nil {
					return err
				}
				if !out.isTable() {
					return showSnapshot(e, &out, info)
				}
				_, err = fmt.Fprintf(e.stdout, "%s: %s, index %d, %d containers on %d hosts\n", printable(args[0]), sizeText(info.Size),
					info.Index, info.Rows[structs.TableContainers], info.Rows[structs.TableHosts])
				return err
			}
		},
	}
}

// saveSnapshot saves a snapshot to a temporary file in the directory of path. It renames
// the file to path after it has been synced and checked.
func saveSnapshot(ctx context.Context, client *api.Client, path string, stale bool) (info structs.Snapshot, err error) {
	if at, err := os.Stat(path); err == nil && !at.Mode().IsRegular() {
		return info, fmt.Errorf("%s is no regular file", path)
	}
	body, err := client.Operator().SaveSnapshot(ctx, api.QueryOptions{Consistent: !stale, Stale: stale})
	if err != nil {
		return info, err
	}
	defer body.Close()
	f, err := os.CreateTemp(filepath.Dir(path), ".magnum-snapshot-") // readable by its owner only
	if err != nil {
		return info, err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	defer f.Close()
	if _, err := io.Copy(f, body); err != nil {
		return info, fmt.Errorf("the snapshot broke off, and nothing was saved: %w", err)
	}
	if err := f.Sync(); err != nil {
		return info, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return info, err
	}
	if info, err = server.InspectSnapshot(f); err != nil {
		return info, fmt.Errorf("the snapshot that the server sent can't be restored, and nothing was saved: %w", err)
	}
	if err := f.Close(); err != nil {
		return info, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return info, err
	}
	return info, atomicfile.SyncDir(filepath.Dir(path))
}

func snapshotInspectCommand() *command {
	return &command{
		name: "operator snapshot inspect", group: groupOperators, args: "FILE", complete: completeFileNames,
		synopsis: "Check a snapshot file and show its content",
		about: "Calls no server. It reads the whole file and verifies every checksum. Exit code 0 means that this version\n" +
			"of magnum can restore the file. FILE can also be a server's DATA_DIR/server/raft/snapshots/*/state.bin.",
		examples: []string{
			"magnum operator snapshot inspect /var/backups/magnum.snap",
			"magnum operator snapshot inspect -format '{{.index}} {{.cluster_id}}' /var/backups/magnum.snap",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var out output
			out.flags(f)
			return func(_ context.Context, args []string) error {
				if err := exactly(args, "FILE"); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				info, err := inspectSnapshot(args[0])
				if err != nil {
					return err
				}
				return showSnapshot(e, &out, info)
			}
		},
	}
}

// showSnapshot prints the description of a snapshot.
func showSnapshot(e *env, out *output, info structs.Snapshot) error {
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encoding the snapshot's description as JSON: %w", err)
	}
	return out.show(e.stdout, raw)
}

func snapshotRestoreCommand() *command {
	return &command{
		name: "operator snapshot restore", group: groupOperators, args: "FILE", complete: completeFileNames,
		synopsis: "Replace the servers' state with that of a file",
		about: "Restores the state in the same cluster or in another one. All servers lose their current state. The file\n" +
			"is checked before anything changes. Tokens are then those of the file; the servers keep their join\n" +
			"token.\n\n" +
			"Hosts keep their containers running, but are lost to the servers until you start each agent with\n" +
			"-follow-restore. The agent then continues with the containers that the file knows, and puts others into\n" +
			"quarantine. By default the agents of the file's cluster can follow. If you restore into another cluster,\n" +
			"-keep-cluster-id lets that cluster's agents follow instead.",
		examples: []string{
			"magnum operator snapshot inspect /var/backups/magnum.snap && " +
				"magnum operator snapshot restore /var/backups/magnum.snap",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			keep := false
			f.switchOn(&keep, "keep-cluster-id", "keep the cluster's ID instead of that of the file")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args, "FILE")
				if err != nil {
					return err
				}
				if _, err := inspectSnapshot(args[0]); err != nil {
					return err
				}
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				restored, meta, err := client.Operator().RestoreSnapshot(ctx, file, keep)
				if err != nil {
					return err
				}
				if !out.isTable() {
					return out.show(e.stdout, meta.Raw)
				}
				_, err = fmt.Fprintf(e.stdout, "%s is the state now: index %d of cluster %s, incarnation %d\n",
					printable(args[0]), restored.Index, restored.ClusterID, restored.Incarnation)
				fmt.Fprintln(e.stderr, "Hosts leave their containers alone until their agents are started with -follow-restore.")
				return err
			}
		},
	}
}

// inspectSnapshot reads and checks a snapshot file.
func inspectSnapshot(path string) (structs.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return structs.Snapshot{}, err
	}
	defer f.Close()
	info, err := server.InspectSnapshot(f)
	if err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}
