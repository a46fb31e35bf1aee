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
		synopsis: "Save the state of the servers in a file",
		about: "As it is at this moment, while they go on. FILE holds secrets (the servers' own, hashes of tokens, what\n" +
			"containers have in their environment): only you can read it; keep it so. It is whole and checked once it\n" +
			"has its name; one of that name is replaced. -stale takes what a server has that knows of no leader.",
		examples: []string{"magnum operator snapshot save /var/backups/magnum-$(date +%F).snap", "magnum operator snapshot save -stale -addr 192.0.2.1 /root/lost.snap"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			stale := false
			f.switchOn(&stale, "stale", "take what this server has, even if it lags")
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
				_, err = fmt.Fprintf(e.stdout, "%s: %s, index %d, %d containers on %d hosts\n", printable(args[0]), sizeText(info.Size), info.Index, info.Rows[structs.TableContainers], info.Rows[structs.TableHosts])
				return err
			}
		},
	}
}

// saveSnapshot saves a snapshot beside the file first, and gives it its name only
// when it is on disk and has been read back.
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
	defer os.Remove(f.Name()) // there is none once it has its name
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
		return info, fmt.Errorf("what the server has sent can't be restored, and nothing was saved: %w", err)
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
		synopsis: "Check a snapshot file and show what is in it",
		about: "Asks no server. The whole file is read, and every checksum in it is checked: exit code 0 means that this\n" +
			"version of magnum can restore it. A server's own DATA_DIR/server/raft/snapshots/*/state.bin will do, too.",
		examples: []string{"magnum operator snapshot inspect /var/backups/magnum.snap", "magnum operator snapshot inspect -format '{{.index}} {{.cluster_id}}' /var/backups/magnum.snap"},
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

// showSnapshot prints what is in a snapshot.
func showSnapshot(e *env, out *output, info structs.Snapshot) error {
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("the snapshot can't be described as JSON: %w", err)
	}
	return out.show(e.stdout, raw)
}

func snapshotRestoreCommand() *command {
	return &command{
		name: "operator snapshot restore", group: groupOperators, args: "FILE", complete: completeFileNames,
		synopsis: "Replace the state of the servers by that of a file",
		about: "In the cluster that it was saved of, or in another: what is there now is gone, on all servers, and what\n" +
			"was done since the file was saved is undone. The file is checked before anything changes. Tokens are\n" +
			"those of the file then; the servers keep their own join token.\n\n" +
			"Hosts keep what they run and are lost to the servers until you say of each that it may follow: start its\n" +
			"agent with -follow-restore. It goes on with the containers that the file knows; others go into quarantine.\n" +
			"That is for agents of the cluster of the file. -keep-cluster-id is for those of the cluster that it is\n" +
			"restored into, if that is another one.",
		examples: []string{"magnum operator snapshot inspect /var/backups/magnum.snap && magnum operator snapshot restore /var/backups/magnum.snap"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			keep := false
			f.switchOn(&keep, "keep-cluster-id", "agents know the cluster by the id that it has, not by that of the file")
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
				_, err = fmt.Fprintf(e.stdout, "%s is the state now: index %d of cluster %s, incarnation %d\n", printable(args[0]), restored.Index, restored.ClusterID, restored.Incarnation)
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
