package command

// daemonCommands are server and agent, in the group groupDaemons.
func daemonCommands() []*command { return []*command{serverCommand(), agentCommand()} }
