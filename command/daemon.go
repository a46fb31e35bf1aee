package command

// daemonCommands returns the commands of groupDaemons.
func daemonCommands() []*command {
	return []*command{serverCommand(), agentCommand(), tlsInitCommand(), keygenCommand()}
}
