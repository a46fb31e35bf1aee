package command

import "github.com/stackforge/magnum/structs"

// daemonCommands are server, agent and what they need, in the group
// groupDaemons.
func daemonCommands() []*command {
	return []*command{serverCommand(), agentCommand(), tlsInitCommand(), keygenCommand()}
}

// refusedSettings makes an error that New of a daemon's part returns one of the
// command line, if it says that the configuration makes no sense. It is no help
// to start such a daemon again: those who restart daemons tell by the exit code.
func refusedSettings(err error) error {
	if structs.CodeOf(err) == structs.CodeInvalid {
		return usagef("%s", printable(err.Error()))
	}
	return err
}
