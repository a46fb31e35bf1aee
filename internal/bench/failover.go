package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// The rounds of the measurements that are not pairs.
const (
	killRounds = 20
	stopRounds = 10
	lostRounds = 3
)

// roundsFor returns the rounds, at most 2 with -quick.
func roundsFor(rounds int) int {
	if *quick {
		return min(rounds, 2)
	}
	return rounds
}

// failover measures for how long no client can write after the leader is killed, and after
// it is stopped.
func (b *bench) failover() error {
	t, err := rig.StartCluster(b.ctx, b.program, b.dir, 0)
	if err != nil {
		return err
	}
	defer t.End()
	var killed, stopped []float64
	for range roundsFor(killRounds) {
		leader, err := t.Leader()
		if err != nil {
			return err
		}
		w := startWriters(b.ctx, t, leader)
		at := time.Now()
		leader.Kill()
		next, err := w.next(at)
		w.end()
		if err != nil {
			return err
		}
		killed = append(killed, next.Seconds())
		if err := leader.Start(); err != nil {
			return err
		}
	}
	for range roundsFor(stopRounds) {
		leader, err := t.Leader()
		if err != nil {
			return err
		}
		w := startWriters(b.ctx, t, leader)
		at := time.Now()
		leader.Stop()
		_, err = w.next(time.Now()) // the leader has ended: this write is done without it
		w.end()
		if err != nil {
			return err
		}
		stopped = append(stopped, float64(w.longest(at))/float64(time.Millisecond))
		if err := leader.Start(); err != nil {
			return err
		}
	}
	b.report(row{
		what: fmt.Sprintf("kill -9 of the leader to the next write through any server, %d rounds", len(killed)),
		ours: worst("%.2f", killed) + " s" + loaded(), figure: median(killed), theirs: "2.7 s", other: "Nomad's, on another machine",
		gate: bound{"median ≤ 1.0 s, worst ≤ 2.0 s", median(killed) <= 1 && slices.Max(killed) <= 2},
	})
	b.report(row{
		what: fmt.Sprintf("clean stop of the leader: longest time between two writes through the others, %d rounds", len(stopped)),
		ours: worst("%.0f", stopped) + " ms" + loaded(),
		gate: bound{"worst < 150 ms", slices.Max(stopped) < 150},
	})
	return nil
}

// worst formats the median and the maximum.
func worst(format string, v []float64) string {
	return fmt.Sprintf(format+" (worst "+format+")", median(v), slices.Max(v))
}

// loaded returns the load averages as a suffix of a value that depends on them.
func loaded() string { return ", at load average " + rig.LoadAverage() }

// writers write through all servers but the leader. Each writes sequentially.
type writers struct {
	stop    context.CancelFunc
	working sync.WaitGroup
	mu      sync.Mutex    // guards done
	done    []write       // in the order of their ends
	wrote   chan struct{} // receives a value after a write
}

// write is a successful write.
type write struct{ began, ended time.Time }

// startWriters starts the writers, and returns when each has written.
func startWriters(ctx context.Context, t *rig.Cluster, leader *rig.Member) *writers {
	ctx, stop := context.WithCancel(ctx)
	w := &writers{stop: stop, wrote: make(chan struct{}, 1)}
	var first sync.WaitGroup
	for _, s := range t.Servers {
		if s == leader {
			continue
		}
		first.Add(1)
		once := sync.OnceFunc(first.Done)
		w.working.Go(func() {
			defer once()
			for ctx.Err() == nil {
				began := time.Now()
				kind := "bench"
				_, _, err := s.Client.Nodes().Create(ctx, &structs.NodeRequest{Type: kind}, api.WriteOptions{})
				if err == nil {
					w.record(write{began, time.Now()})
					once()
				}
				time.Sleep(2 * time.Millisecond) // a busy loop would take CPU time from the election
			}
		})
	}
	first.Wait()
	return w
}

func (w *writers) record(one write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, one)
	select {
	case w.wrote <- struct{}{}:
	default:
	}
}

// next waits for a write that began after a time, and returns the time from then to the
// end of the write.
func (w *writers) next(after time.Time) (time.Duration, error) {
	timeout := time.After(time.Minute)
	for {
		w.mu.Lock()
		for _, one := range w.done {
			if one.began.After(after) {
				w.mu.Unlock()
				return one.ended.Sub(after), nil
			}
		}
		w.mu.Unlock()
		select {
		case <-w.wrote:
		case <-timeout:
			return 0, errors.New("no write succeeded for a minute")
		}
	}
}

// longest returns the longest time between the ends of two writes since a time.
func (w *writers) longest(since time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest, last := time.Duration(0), since
	for _, one := range w.done {
		if one.ended.After(since) {
			longest, last = max(longest, one.ended.Sub(last)), one.ended
		}
	}
	return longest
}

func (w *writers) end() {
	w.stop()
	w.working.Wait()
}

// lostHost measures the time from the kill of a host's agent until its container runs on
// another host.
func (b *bench) lostHost() error {
	t, err := rig.StartCluster(b.ctx, b.program, b.dir, 2)
	if err != nil {
		return err
	}
	defer t.End()
	var took []float64
	for i := range roundsFor(lostRounds) {
		d, err := b.loseHost(t, fmt.Sprint("moves-", i))
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		took = append(took, d.Seconds())
	}
	b.report(row{
		what: fmt.Sprintf("lost host to replacement running elsewhere, %d rounds", len(took)),
		ours: worst("%.1f", took) + " s" + loaded(), figure: median(took),
		gate: bound{"worst ≤ 15 s", slices.Max(took) <= 15},
	})
	return nil
}

func (b *bench) loseHost(t *rig.Cluster, name string) (time.Duration, error) {
	containers := t.Servers[0].Client.Containers()
	wait := api.WriteOptions{Wait: time.Minute}
	r := &structs.ContainerRequest{Name: &name, Image: *image, Command: &structs.Command{Args: rig.SleepCommand}}
	r.RestartPolicy.Name = structs.RestartAlways
	made, meta, err := containers.Create(b.ctx, r, api.CreateOptions{Run: true, WriteOptions: wait})
	if err != nil {
		return 0, err
	}
	if !meta.Done() || made.Host == nil {
		return 0, fmt.Errorf("%s is %s", name, made.Status)
	}
	on := t.Agents[slices.IndexFunc(t.Agents, func(a *rig.Member) bool { return a.Name == *made.Host })]
	at := time.Now()
	on.Kill()
	var took time.Duration
	err = rig.Until(time.Minute, func() bool {
		now, _, err := containers.Get(b.ctx, made.UUID, api.QueryOptions{})
		took = time.Since(at)
		return err == nil && now.Status == structs.ContainerRunning && now.Host != nil && *now.Host != on.Name
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the replacement: %w", err)
	}
	if err := on.Start(); err != nil {
		return 0, err
	}
	err = rig.Until(time.Minute, func() bool {
		h, _, err := t.Servers[0].Client.Hosts().Get(b.ctx, on.Name, api.QueryOptions{})
		return err == nil && h.State == structs.HostReady
	})
	if err != nil {
		return 0, fmt.Errorf("wait until the restarted host is ready: %w", err)
	}
	_, err = containers.Delete(b.ctx, made.UUID, api.DeleteOptions{Force: true, WriteOptions: wait})
	return took, err
}
