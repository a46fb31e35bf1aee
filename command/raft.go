package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/stackforge/magnum/api"
)

func raftListPeersCommand() *command {
	return &command{
		name: "operator raft list-peers", group: groupOperators,
		synopsis: "List the servers of the Raft configuration",
		about: "behind is the number of log entries of the leader that the server doesn't have yet. -stale lists the\n" +
			"configuration of a server that knows of no leader.",
		examples: []string{"magnum operator raft list-peers", "magnum operator raft list-peers -stale -addr 192.0.2.1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			var out output
			quiet := false
			f.switchOn(&quiet, "quiet q", "print uuids only")
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				o := api.QueryOptions{Consistent: fresh.consistent || !fresh.stale, Stale: fresh.stale}
				_, meta, err := client.Operator().Peers(ctx, o)
				if err != nil {
					return err
				}
				columns := []string{"name", "uuid", "raft_addr", "state", "voter", "last_index", "behind"}
				return showList(e, &out, quiet, meta, columns, nil)
			}
		},
	}
}

func raftTransferLeaderCommand() *command {
	return &command{
		name: "operator raft transfer-leader", group: groupOperators, args: "[SERVER]", complete: completeServers,
		synopsis: "Transfer leadership to another server",
		about: "SERVER is a uuid or a name; the default is the most up-to-date server. Requests wait during the\n" +
			"transfer. Prints the new leader.",
		examples: []string{"magnum operator raft transfer-leader", "magnum operator raft transfer-leader s2"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) > 1 {
					return usagef("%q is one argument too many", args[1])
				}
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				to := ""
				if len(args) == 1 {
					to = args[0]
				}
				leader, _, err := client.Operator().TransferLeader(ctx, to)
				if err != nil {
					return err
				}
				if out.isTable() {
					_, err := fmt.Fprintf(e.stdout, "%s (%s) leads\n", printable(leader.Name), printable(leader.Address))
					return err
				}
				raw, err := json.Marshal(leader)
				if err != nil {
					return fmt.Errorf("encoding the leader as JSON: %w", err)
				}
				return out.show(e.stdout, raw)
			}
		},
	}
}

func raftRemovePeerCommand() *command {
	return &command{
		name: "operator raft remove-peer", group: groupOperators, args: "SERVER", complete: completeServers,
		synopsis: "Remove a server from the cluster permanently",
		about: "SERVER is a uuid or a name. The server may be running or not. It joins again only with an empty\n" +
			"-data-dir. The cluster removes a dead server by itself after another server has replaced it. The leader\n" +
			"can't be removed: use transfer-leader first. Without -force, neither can a server without which no\n" +
			"reachable majority remains.",
		examples: []string{"magnum operator raft remove-peer s3"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			force := false
			f.switchOn(&force, "force f", "remove it even if no reachable majority remains")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args, "SERVER"); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if _, err := client.Operator().RemovePeer(ctx, args[0], force); err != nil {
					return err
				}
				fmt.Fprintf(e.stderr, "%s is removed from the cluster. Stop it if it runs; it can join again with an empty -data-dir.\n",
					printable(args[0]))
				return nil
			}
		},
	}
}
