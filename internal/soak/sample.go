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

// sample is one line of the table.
type sample struct {
	at      time.Duration // since the lives began
	lives   int64         // that were lived to their end by then
	index   uint64        // of the server's log
	figures map[string]float64
	load    string
}

// run lets containers live for so long and takes samples all the while. It goes
// on for a while if the last samples leave open whether something grows.
func (s *soak) run(ctx context.Context, d time.Duration) (*table, error) {
	t := &table{duration: d, machine: rig.Machine(ctx, *binary)}
	fmt.Println(strings.Join(t.machine, "\n"))
	var err error
	if t.fresh, err = s.goroutinesOfFresh(ctx); err != nil {
		return nil, fmt.Errorf("goroutines of a fresh server and agent: %w", err)
	}
	t.head()
	living, cancel := context.WithCancel(ctx)
	defer cancel()
	g, live := errgroup.WithContext(living)
	for worker := range *lives {
		g.Go(func() error { return s.live(live, worker) })
	}
	g.Go(func() error { return s.control(live) })
	g.Go(func() error {
		defer cancel()
		began := time.Now()
		tick := time.NewTicker(d / intervals)
		defer tick.Stop()
		for n := 1; n <= intervals || n <= intervals+more && t.open(); n++ {
			select {
			case <-live.Done():
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
	if t.end, err = idle(s.node); err != nil {
		return nil, fmt.Errorf("goroutines: %w", err)
	}
	return t, nil
}

// sample looks at both processes, the data directory and the latencies since
// the last look.
func (s *soak) sample(ctx context.Context, at time.Duration) (sample, error) {
	now := sample{at: at, lives: s.lived.Load(), figures: make(map[string]float64), load: rig.LoadAverage()}
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
	for step, laps := range s.takeLaps() {
		slices.Sort(laps)
		now.figures[step+" ms"] = laps[len(laps)/2].Seconds() * 1000
	}
	return now, nil
}

// sizeOf returns the bytes of all files below dir, but for the ballast, which
// the server keeps for a full disk.
func sizeOf(dir string) (float64, error) {
	var size float64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a snapshot that was replaced meanwhile
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

// goroutinesOfFresh counts those of a server and an agent that have only
// started what stands.
func (s *soak) goroutinesOfFresh(ctx context.Context) (map[string]float64, error) {
	n, err := rig.StartNode(ctx, *binary, filepath.Dir(filepath.Dir(s.node.Dir)), *image, logFlags...)
	if err != nil {
		return nil, err
	}
	defer n.End()
	err = rig.Workers(4, *standing, func(i int) error {
		_, err := n.Run(ctx, fmt.Sprint("fresh-", i), rig.Napping)
		return err
	})
	if err != nil {
		return nil, err
	}
	return idle(n)
}

// idle counts the goroutines of a server and an agent that have nothing to do.
func idle(n *rig.Node) (map[string]float64, error) {
	time.Sleep(3 * rig.TraceEvery) // the last trace that is whole is of now
	server, err1 := n.Process.Goroutines()
	agent, err2 := n.Agent.Goroutines()
	return map[string]float64{"server": server, "agent": agent}, errors.Join(err1, err2)
}
