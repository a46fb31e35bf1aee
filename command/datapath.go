package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath"
)

// runDatapath is the process that carries the connections of services on a host. The agent
// starts it; it is not a command for users. It ends by SIGTERM, but not by what a terminal
// sends, because it is to outlive the agent.
func runDatapath(args []string) int {
	if len(args) != 2 || args[0] != "-dir" || args[1] == "" {
		fmt.Fprintf(os.Stderr, "ERROR: usage: magnum %s -dir DIR\n", datapath.Subcommand)
		return exitUsage
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := hclog.New(&hclog.LoggerOptions{Name: "datapath", Level: hclog.Info, Output: os.Stderr})
	if err := datapath.Run(ctx, args[1], log); err != nil {
		log.Error("data path has failed", "error", err)
		return exitFailure
	}
	return exitOK
}
