package command

import (
	"context"
	"slices"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func serverMembersCommand() *command {
	return memberListing{
		name: "server-members", group: groupOperators, role: structs.RoleServer,
		synopsis: "List the servers that gossip",
		about: "As the server that answers sees them: alive, dead, or left by a clean stop. voter tells which ones make\n" +
			"decisions; how far each has come is in \"operator raft list-peers\".",
		examples: []string{"magnum server-members", "magnum server-members -wide -addr 192.0.2.1"},
		columns:  []string{"name", "uuid", "http_addr", "status", "leader", "voter", "version"},
		wide:     []string{"raft_addr", "gossip_addr", "cluster_id", "schema", "since"},
	}.command()
}

func hostMembersCommand() *command {
	return memberListing{
		name: "host-members", group: groupHosts, role: structs.RoleAgent,
		synopsis: "List hosts whose agents gossip, registered or not",
		about: "Also those that host-list does not have: an agent gossips before it has registered, and goes on if the\n" +
			"servers refuse it; its log says why. Agents with -gossip=false are not here.",
		examples: []string{"magnum host-members -unregistered", "magnum host-members -wide"},
		columns:  []string{"name", "uuid", "gossip_addr", "status", "registered", "version"},
		wide:     []string{"since"},
	}.command()
}

// memberListing is what the lists of members have in common.
type memberListing struct {
	name, group, role, synopsis, about string
	examples, columns, wide            []string
}

func (l memberListing) command() *command {
	return &command{
		name: l.name, group: l.group, synopsis: l.synopsis, about: l.about, examples: l.examples,
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			out := output{hasWide: true}
			unregistered, quiet := false, false
			if l.role == structs.RoleAgent {
				f.switchOn(&unregistered, "unregistered", "only those that host-list does not have")
			}
			f.switchOn(&quiet, "quiet q", "print uuids only")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				members, meta, err := client.Operator().Members(ctx, l.role)
				if err != nil {
					return err
				}
				for i := len(members) - 1; unregistered && i >= 0; i-- {
					if members[i].Registered {
						meta.Items = slices.Delete(meta.Items, i, i+1)
					}
				}
				return showList(e, &out, quiet, meta, l.columns, l.wide)
			}
		},
	}
}

// showList prints a list, or with quiet the uuids in it.
func showList(e *env, out *output, quiet bool, meta api.Meta, columns, wide []string) error {
	if quiet {
		return printIDs(e, meta)
	}
	return out.list(e.stdout, meta.Items, columns, wide, true)
}
