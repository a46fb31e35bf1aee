package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/redirect"
)

// runDatapath is the process that carries the connections of services on a host. The agent
// starts it; it is not a command for users. It ends by SIGTERM, but not by what a terminal
// sends, because it is to outlive the agent. With -stop it ends the process that serves DIR,
// for a host that is to have no services any more.
func runDatapath(args []string) int {
	stops := len(args) == 3 && args[2] == "-stop"
	if len(args) != 2 && !stops || args[0] != "-dir" || args[1] == "" {
		fmt.Fprintf(os.Stderr, "ERROR: usage: magnum %s -dir DIR [-stop]\n", datapath.Subcommand)
		return exitUsage
	}
	if stops {
		if err := stopDatapath(args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "ERROR: stopping the data path of %s: %v\n", args[1], err)
			return exitFailure
		}
		return exitOK
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

// stopDatapath ends the data path of an agent's data directory, if one runs, and removes the
// host's rules from the kernel's packet filter.
func stopDatapath(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	id, err := os.ReadFile(filepath.Join(dir, "host_id"))
	if err != nil {
		return err
	}
	if err := redirect.New(strings.TrimSpace(string(id))).Remove(); err != nil {
		return err
	}
	client, err := datapath.Connect(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil // none runs
	case err != nil:
		return err
	}
	defer client.Close()
	return client.Stop(ctx)
}
