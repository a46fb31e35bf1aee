package command

// daemonCommands are server, agent and what they need, in the group
// groupDaemons.
func daemonCommands() []*command {
	return []*command{serverCommand(), agentCommand(), tlsInitCommand(), keygenCommand()}
}
