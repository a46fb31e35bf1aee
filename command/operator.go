package command

import (
	"context"
	"strings"
)

// operatorCommands are what operators do with the cluster as a whole. Their
// names are two words.
func operatorCommands() []*command {
	return []*command{
		operatorBootstrapCommand(),
		serverMembersCommand(),
		raftListPeersCommand(),
		raftTransferLeaderCommand(),
		raftRemovePeerCommand(),
		snapshotSaveCommand(),
		snapshotInspectCommand(),
		snapshotRestoreCommand(),
	}
}

// groupSynopses say what the commands have in common whose names begin with the
// same words.
var groupSynopses = map[string]string{
	"operator":          "What operators do with the cluster as a whole",
	"operator raft":     "The servers that keep the replicated log, and which of them leads",
	"operator snapshot": "Backups of the servers' state, and what is made of them",
}

func operatorBootstrapCommand() *command {
	return &command{
		name: "operator bootstrap", group: groupOperators,
		synopsis: "Get the first admin token of a new cluster",
		about: "Works once, on a cluster whose servers run with -auth token: do it as soon as they are up, for it needs\n" +
			"no token. Put what it prints into OS_TOKEN, and make others with token-create.",
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

// commandWords returns how many of the words name the command: more than one
// if that is how a command is called, such as "operator bootstrap".
func commandWords(words []string) int {
	for n := min(len(words), 3); n > 1; n-- {
		if findCommand(strings.Join(words[:n], " ")) != nil {
			return n
		}
	}
	return min(len(words), 1)
}

// groupPrefix returns the words that several commands' names begin with and that
// the line begins with, and how many they are; 0 for none.
func groupPrefix(line []string) (words string, n int) {
	for n := min(len(line), 2); n > 0; n-- {
		if words := strings.Join(line[:n], " "); commandsWithPrefix(words) != nil {
			return words, n
		}
	}
	return "", 0
}

// commandsWithPrefix returns the names of the commands that begin with the word,
// and more words, in the order of the help.
func commandsWithPrefix(word string) []string {
	var names []string
	for _, c := range commands() {
		if strings.HasPrefix(c.name, word+" ") {
			names = append(names, c.name)
		}
	}
	return names
}
