package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// sample is one row of the table.
type sample struct {
	at      time.Duration      // since the first lifecycle began
	lives   int64              // completed lifecycles
	index   uint64             // of the server's log
	figures map[string]float64 // by column; a column without a value is missing
	load    string
}

// run runs lifecycles for a duration and takes samples. It takes more samples if the last
// ones are inconclusive.
func (s *soak) run(ctx context.Context, d time.Duration) (*table, error) {
	t := &table{duration: d, machine: rig.Machine(ctx, *binary)}
	fmt.Println(strings.Join(t.machine, "\n"))
	var err error
	if t.fresh, err = s.goroutinesOfFresh(ctx); err != nil {
		return nil, fmt.Errorf("goroutines of a fresh server and agent: %w", err)
	}
	t.head()
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	g, work := errgroup.WithContext(working)
	for worker := range *lives {
		g.Go(func() error { return s.work(work, worker) })
	}
	g.Go(func() error { return s.control(work) })
	g.Go(func() error {
		defer cancel()
		began := time.Now()
		tick := time.NewTicker(d / intervals)
		defer tick.Stop()
		for n := 1; n <= intervals || n <= intervals+extraSamples && t.inconclusive(); n++ {
			select {
			case <-work.Done():
				return nil
			case <-tick.C:
			}
			now, err := s.sample(ctx, time.Since(began))
			if err != nil {
				return err
			}
			t.add(now)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.end, err = idleGoroutines(s.node); err != nil {
		return nil, fmt.Errorf("goroutines: %w", err)
	}
	return t, nil
}

// sample measures both processes, the data directory and the latencies since the last
// sample.
func (s *soak) sample(ctx context.Context, at time.Duration) (sample, error) {
	now := sample{at: at, lives: s.completed.Load(), figures: make(map[string]float64), load: rig.LoadAverage()}
	state, _, err := s.node.Client.OperatorState(ctx)
	if err != nil {
		return now, err
	}
	now.index = state.Index
	for name, p := range map[string]*rig.Process{"server": s.node.Process, "agent": s.node.Agent} {
		rss, err1 := p.RSS()
		files, err2 := p.Files()
		threads, err3 := p.Threads()
		goroutines, err4 := p.Goroutines()
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return now, err
		}
		now.figures[name+" MB"], now.figures[name+" fds"] = rss/1e6, files
		now.figures[name+" threads"], now.figures[name+" goroutines"] = threads, goroutines
	}
	size, err := sizeOf(s.node.Dir)
	if err != nil {
		return now, err
	}
	now.figures["data MB"] = size / 1e6
	for step, latencies := range s.takeLatencies() {
		slices.Sort(latencies)
		now.figures[step+" ms"] = latencies[len(latencies)/2].Seconds() * 1000
	}
	return now, nil
}

// sizeOf returns the size in bytes of all files below dir, without the ballast file, which
// the server reserves for a full disk.
func sizeOf(dir string) (float64, error) {
	var size float64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a snapshot replaced in the meantime
		}
		if err != nil || d.IsDir() || d.Name() == "ballast" {
			return err
		}
		if info, err := d.Info(); err == nil {
			size += float64(info.Size())
		}
		return nil
	})
	return size, err
}

// goroutinesOfFresh counts the goroutines of a server and an agent that have only started
// the standing containers.
func (s *soak) goroutinesOfFresh(ctx context.Context) (map[string]float64, error) {
	n, err := rig.StartNode(ctx, *binary, filepath.Dir(filepath.Dir(s.node.Dir)), *image, logFlags...)
	if err != nil {
		return nil, err
	}
	defer n.End()
	err = rig.Workers(4, *standing, func(i int) error {
		_, err := n.Run(ctx, fmt.Sprint("fresh-", i), rig.SleepCommand)
		return err
	})
	if err != nil {
		return nil, err
	}
	return idleGoroutines(n)
}

// idleGoroutines counts the goroutines of an idle server and agent.
func idleGoroutines(n *rig.Node) (map[string]float64, error) {
	time.Sleep(3 * rig.TraceEvery) // afterwards the last complete trace began after this call
	server, err1 := n.Process.Goroutines()
	agent, err2 := n.Agent.Goroutines()
	return map[string]float64{"server": server, "agent": agent}, errors.Join(err1, err2)
}
