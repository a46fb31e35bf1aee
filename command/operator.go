package command

import (
	"context"
	"strings"
)

// operatorCommands returns the commands for the cluster as a whole.
func operatorCommands() []*command {
	return []*command{
		operatorBootstrapCommand(),
		keystoneSetupCommand(),
		serverMembersCommand(),
		raftListPeersCommand(),
		raftTransferLeaderCommand(),
		raftRemovePeerCommand(),
		snapshotSaveCommand(),
		snapshotInspectCommand(),
		snapshotRestoreCommand(),
	}
}

// groupSynopses has the synopses of the prefixes of commands' names.
var groupSynopses = map[string]string{
	"operator":          "Operate the cluster",
	"operator raft":     "Manage the servers of the Raft log and their leader",
	"operator snapshot": "Save, inspect and restore the servers' state",
}

func operatorBootstrapCommand() *command {
	return &command{
		name: "operator bootstrap", group: groupOperators,
		synopsis: "Get the first admin token of a new cluster",
		about: "Works once, on a cluster whose servers run with -auth token. Run it as soon as the servers are up, because\n" +
			"it needs no token. Set OS_TOKEN to the token that it prints, and create other tokens with token-create.",
		examples: []string{"export OS_TOKEN=$(magnum operator bootstrap -q)"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			quiet := false
			f.switchOn(&quiet, "quiet q", "print the token only")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				made, meta, err := client.Tokens().Bootstrap(ctx)
				if err != nil {
					return err
				}
				return showSecret(e, &out, quiet, made, meta)
			}
		},
	}
}

// commandWords returns the number of words of the command's name at the beginning of
// words. "operator bootstrap" has two.
func commandWords(words []string) int {
	for n := min(len(words), 3); n > 1; n-- {
		if findCommand(strings.Join(words[:n], " ")) != nil {
			return n
		}
	}
	return min(len(words), 1)
}

// groupPrefix returns the longest prefix of commands' names, such as "operator raft",
// with which the line begins, and its number of words; 0 if there is none.
func groupPrefix(line []string) (words string, n int) {
	for n := min(len(line), 2); n > 0; n-- {
		if words := strings.Join(line[:n], " "); commandsWithPrefix(words) != nil {
			return words, n
		}
	}
	return "", 0
}

// commandsWithPrefix returns the names of the commands that begin with the words and a
// space, in the order of the help.
func commandsWithPrefix(word string) []string {
	var names []string
	for _, c := range commands() {
		if strings.HasPrefix(c.name, word+" ") {
			names = append(names, c.name)
		}
	}
	return names
}
