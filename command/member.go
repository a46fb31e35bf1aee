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
		synopsis: "List the servers that gossip knows",
		about: "Shows the servers as the responding server sees them: alive, dead, or left after a clean stop. voter\n" +
			"means that the server votes in Raft. \"operator raft list-peers\" shows how far each server's log is.",
		examples: []string{"magnum server-members", "magnum server-members -wide -addr 192.0.2.1"},
		columns:  []string{"name", "uuid", "http_addr", "status", "leader", "voter", "version"},
		wide:     []string{"raft_addr", "gossip_addr", "cluster_id", "schema", "since"},
	}.command()
}

func hostMembersCommand() *command {
	return memberListing{
		name: "host-members", group: groupHosts, role: structs.RoleAgent,
		synopsis: "List the hosts that gossip knows, registered or not",
		about: "Also shows hosts that host-list doesn't have: an agent gossips before it registers, and continues if the\n" +
			"servers refuse its registration; its log says why. Agents with -gossip=false are not listed.",
		examples: []string{"magnum host-members -unregistered", "magnum host-members -wide"},
		columns:  []string{"name", "uuid", "gossip_addr", "status", "registered", "version"},
		wide:     []string{"since"},
	}.command()
}

// memberListing describes a command that lists gossip members.
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
				f.switchOn(&unregistered, "unregistered", "only hosts that host-list doesn't have")
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

// showList prints a list or, with quiet, its uuids.
func showList(e *env, out *output, quiet bool, meta api.Meta, columns, wide []string) error {
	if quiet {
		return printIDs(e, meta)
	}
	return out.list(e.stdout, meta.Items, columns, wide, true)
}
