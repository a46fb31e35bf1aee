// Command bench measures magnum side by side with what it stands on: the bare
// Docker engine, a bare HTTP handler, a bare Raft log. `make bench` runs it and
// keeps what it found in website/docs/performance.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

var (
	binary          = flag.String("bin", "bin/magnum", "the magnum to measure")
	before          = flag.String("before", "", "an earlier build of magnum: measure both, one after the other for each measurement, and say how the ratios compare; writes no page")
	yardstickBinary = flag.String("yardstick", "bin/yardstick", "internal/bench/yardstick, built")
	image           = flag.String("image", "magnum-test/busybox:latest", "an image that the engine has")
	only            = flag.String("only", "", "measure only these, with commas between them: creates, hosts, gets, follower-gets, run, sessions, agent-memory, server-memory, failover, lost-host")
	quick           = flag.Bool("quick", false, "few rounds, short ones, small states: to see that it works; a missed gate is no failure")
	rounds          = flag.Int("rounds", 7, "pairs of each measurement")
	duration        = flag.Duration("duration", 3*time.Second, "of one wrk run, whole seconds")
	page            = flag.String("page", "", "write the report to this file, unless -only or -quick is given")
)

// measurement is one group of lines of the report.
type measurement struct {
	name    string
	measure func(*bench) error
}

// measurements are in the order in which they are taken and reported.
func measurements() []measurement {
	return []measurement{
		{"creates", (*bench).creates},
		{"hosts", (*bench).createsAmongHosts},
		{"gets", (*bench).gets},
		{"follower-gets", (*bench).followerGets},
		{"run", (*bench).createAndRun},
		{"sessions", (*bench).sessions},
		{"agent-memory", (*bench).agentMemory},
		{"server-memory", (*bench).serverMemory},
		{"failover", (*bench).failover},
		{"lost-host", (*bench).lostHost},
	}
}

func names() []string {
	var out []string
	for _, m := range measurements() {
		out = append(out, m.name)
	}
	return out
}

// bench is one run.
type bench struct {
	ctx     context.Context
	dir     string // of everything, removed at the end
	program string // the magnum that is measured
	machine []string
	rows    []row
}

func main() {
	flag.Parse()
	if *quick {
		*rounds, *duration = 2, time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\nbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	wanted := names()
	if *only != "" {
		wanted = strings.Split(*only, ",")
		for _, name := range wanted {
			if !slices.Contains(names(), name) {
				return fmt.Errorf("-only: there is no %q; there are %s", name, strings.Join(names(), ", "))
			}
		}
	}
	dir, err := os.MkdirTemp("", "magnum-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, machine: rig.Machine(ctx, *binary)}
	fmt.Println(strings.Join(b.machine, "\n"))
	earlier := &bench{ctx: ctx, dir: dir}
	for i, m := range slices.DeleteFunc(measurements(), func(m measurement) bool { return !slices.Contains(wanted, m.name) }) {
		for turn := range 2 {
			side, program := b, *binary
			if (i+turn)%2 == 1 {
				side, program = earlier, *before
			}
			if program == "" {
				continue
			}
			if *before != "" {
				fmt.Println("- magnum " + rig.Version(ctx, program))
			}
			side.program = program
			if err := m.measure(side); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	if *before != "" {
		compare(os.Stdout, earlier.rows, b.rows)
		return nil
	}
	if *quick {
		return nil // such few and short rounds prove nothing
	}
	if *page != "" && *only == "" {
		if err := b.write(*page); err != nil {
			return err
		}
	}
	return b.missed()
}
