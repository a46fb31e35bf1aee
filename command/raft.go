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
		synopsis: "List the servers that keep the replicated log",
		about: "Those of the log's configuration, and how far each has come: behind is the number of entries that the\n" +
			"leader has and it has not. -stale asks a server that knows of no leader for what it has.",
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
				_, meta, err := client.Operator().Peers(ctx, api.QueryOptions{Consistent: fresh.consistent || !fresh.stale, Stale: fresh.stale})
				if err != nil {
					return err
				}
				return showList(e, &out, quiet, meta, []string{"name", "uuid", "raft_addr", "state", "voter", "last_index", "behind"}, nil)
			}
		},
	}
}

func raftTransferLeaderCommand() *command {
	return &command{
		name: "operator raft transfer-leader", group: groupOperators, args: "[SERVER]", complete: completeServers,
		synopsis: "Have another server lead",
		about: "SERVER is a uuid or a name; without it, it is the server that is most up to date. Requests wait for\n" +
			"the moment that it takes. Prints who leads then.",
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
					return fmt.Errorf("the leader can't be written as JSON: %w", err)
				}
				return out.show(e.stdout, raw)
			}
		},
	}
}

func raftRemovePeerCommand() *command {
	return &command{
		name: "operator raft remove-peer", group: groupOperators, args: "SERVER", complete: completeServers,
		synopsis: "Take a server out of the cluster for good",
		about: "SERVER is a uuid or a name. It need not run, and may: it is not taken in again before it is started\n" +
			"with an empty -data-dir. A dead server is removed by itself once another has come in its place. Not the\n" +
			"leader (transfer-leader first), and without -force no server whose loss leaves no majority that answers.",
		examples: []string{"magnum operator raft remove-peer s3"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			force := false
			f.switchOn(&force, "force f", "also if no majority that answers is left")
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
				fmt.Fprintf(e.stderr, "%s is out of the cluster. Stop it if it runs; with an empty -data-dir it is taken in again.\n", printable(args[0]))
				return nil
			}
		},
	}
}
