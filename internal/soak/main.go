// Command soak runs complete lifecycles of containers on a real engine for a long time,
// and fails if the resources of the server or the agent grow. `make soak` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

var (
	binary   = flag.String("bin", "bin/magnum", "the magnum to soak")
	image    = flag.String("image", "magnum-test/busybox:latest", "an image that the engine has")
	duration = flag.Duration("duration", 30*time.Minute,
		"duration of the run, at least 1m; it is extended by a fifth if the last samples are inconclusive")
	lives    = flag.Int("lives", 4, "number of containers whose lifecycles run at the same time")
	standing = flag.Int("standing", 10, "number of containers that run from the beginning to the end")
	page     = flag.String("page", "", "write the table to this file, as a page of the manual; not if -duration is below 30m")
)

// snapshotEvery is the number of log entries between two snapshots, and the number of
// entries kept behind a snapshot. It is small, so that the log is truncated many times.
const snapshotEvery = 512

// logFlags are the server's flags for snapshotEvery.
var logFlags = []string{"-raft-snapshot-threshold", strconv.Itoa(snapshotEvery), "-raft-trailing-logs", strconv.Itoa(snapshotEvery)}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if *duration < time.Minute {
		return fmt.Errorf("-duration %v is shorter than 1m: too short to detect growth", *duration)
	}
	if err := rig.TraceGoroutines(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "magnum-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := rig.StartNode(ctx, *binary, dir, *image, logFlags...)
	if err != nil {
		return err
	}
	defer n.End()
	err = rig.Workers(4, *standing, func(i int) error {
		_, err := n.Run(ctx, fmt.Sprint("standing-", i), rig.SleepCommand)
		return err
	})
	if err != nil {
		return fmt.Errorf("standing containers: %w", err)
	}
	fmt.Println("rates of requests: no limit, because the server runs with -auth none")
	s := newSoak(n)
	table, err := s.run(ctx, *duration)
	if err != nil {
		return err
	}
	verdict := table.growth()
	if *page != "" && *duration >= 30*time.Minute {
		if err := table.write(*page, verdict); err != nil {
			return err
		}
	}
	if verdict == nil {
		fmt.Println("nothing grew")
	}
	return verdict
}
