// Package command is magnum's command line.
package command

// Run runs the command line and returns the exit code.
func Run(args []string) int { return 0 }
