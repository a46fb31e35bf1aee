// Command bench measures magnum against the parts that it is built on: a bare Docker
// engine, a bare HTTP handler, a bare Raft log. `make bench` runs it and writes the
// results to website/docs/performance.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/internal/bench/rig"
)

var (
	binary = flag.String("bin", "bin/magnum", "the magnum to measure")
	before = flag.String("before", "", "an earlier build of magnum: measure both builds in turns, "+
		"and compare their ratios; writes no page")
	baselineBinary = flag.String("baseline", "bin/baseline", "the built internal/bench/baseline")
	image          = flag.String("image", "magnum-test/busybox:latest", "an image that the engine has")
	only           = flag.String("only", "", "comma-separated measurements to take: creates, hosts, gets, follower-gets, run, pods, "+
		"services, sessions, agent-memory, pod-memory, server-memory, failover, lost-host, kubernetes (default all)")
	kubernetesDir = flag.String("kubernetes", "", "the directory of a cluster that scripts/peers/kubernetes-up has started")
	quick         = flag.Bool("quick", false, "check that it works: few, short rounds and small states; a missed gate is no failure")
	rounds        = flag.Int("rounds", 7, "pairs of each measurement")
	duration      = flag.Duration("duration", 3*time.Second, "duration of one wrk run, in whole seconds")
	page          = flag.String("page", "", "write the report to this file, unless -only or -quick is given")
)

// measurement is a group of rows of the report.
type measurement struct {
	name    string
	measure func(*bench) error
}

// measurements returns all measurements in the order in which they are taken and reported.
func measurements() []measurement {
	return []measurement{
		{"creates", (*bench).creates},
		{"hosts", (*bench).createsAmongHosts},
		{"gets", (*bench).gets},
		{"follower-gets", (*bench).followerGets},
		{"run", (*bench).createAndRun},
		{"pods", (*bench).pods},
		{"services", (*bench).services},
		{"sessions", (*bench).sessions},
		{"agent-memory", (*bench).agentMemory},
		{"pod-memory", (*bench).podMemory},
		{"server-memory", (*bench).serverMemory},
		{"failover", (*bench).failover},
		{"lost-host", (*bench).lostHost},
		{"kubernetes", (*bench).kubernetes},
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
	dir     string // directory of all files, removed at the end
	program string // the magnum that is measured
	machine []string
	rows    []row
	turns   *turns // with the measurement of another build; nil if there is none
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
	wanted := slices.DeleteFunc(names(), func(name string) bool { return name == "kubernetes" && *kubernetesDir == "" })
	if *only != "" {
		wanted = strings.Split(*only, ",")
		for _, name := range wanted {
			if !slices.Contains(names(), name) {
				return fmt.Errorf("-only: %q must be one of %s", name, strings.Join(names(), ", "))
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
	fmt.Println("rates of requests: no limit, because the servers run with -auth none")
	earlier := &bench{ctx: ctx, dir: dir}
	for _, m := range slices.DeleteFunc(measurements(), func(m measurement) bool { return !slices.Contains(wanted, m.name) }) {
		sides := map[*bench]string{b: *binary}
		if *before != "" {
			sides[earlier] = *before
			b.turns, earlier.turns = takeTurns()
		}
		var group errgroup.Group
		for side, program := range sides {
			side.program = program
			group.Go(func() error {
				side.turns.await()
				defer side.turns.end()
				if err := m.measure(side); err != nil {
					return fmt.Errorf("%s of %s: %w", m.name, program, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	if *before != "" {
		compare(os.Stdout, earlier.rows, b.rows)
		return nil
	}
	if *quick {
		return nil // so few and short rounds prove nothing
	}
	if *page != "" && *only == "" {
		if err := b.write(*page); err != nil {
			return err
		}
	}
	return b.missed()
}
