package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// soak is one run.
type soak struct {
	node  *rig.Node
	lived atomic.Int64 // lives so far
	mu    sync.Mutex   // guards laps
	laps  map[string][]time.Duration
}

// The steps of a life whose latency is in the table.
const (
	stepRun    = "run"
	stepExec   = "exec"
	stepLogs   = "logs"
	stepStop   = "stop"
	stepDelete = "delete"
)

func newSoak(n *rig.Node) *soak { return &soak{node: n, laps: make(map[string][]time.Duration)} }

// live has a worker's containers live one after the other until ctx ends. A
// step that fails ends it: a soak is no test of faults.
func (s *soak) live(ctx context.Context, worker int) error {
	for i := 0; ctx.Err() == nil; i++ {
		// A life that has begun is lived to its end.
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		err := s.life(whole, fmt.Sprintf("life-%d-%d", worker, i))
		cancel()
		if err != nil {
			return fmt.Errorf("life %d of worker %d: %w", i, worker, err)
		}
		s.lived.Add(1)
	}
	return nil
}

// life is one container, from its creation to its deletion.
func (s *soak) life(ctx context.Context, name string) error {
	containers := s.node.Client.Containers()
	var uuid string
	wait := api.WriteOptions{Wait: time.Minute}
	steps := []struct {
		name string
		do   func() error
	}{
		{stepRun, func() error {
			body, err := s.node.Run(ctx, name, append([]string{"sh", "-c", "echo " + name + "; exec \"$@\"", "-"}, rig.Napping...))
			if err == nil {
				uuid = body.UUID
			}
			return err
		}},
		{stepExec, func() error {
			out, _, err := containers.Execute(ctx, uuid, structs.ExecRequest{Command: []string{"echo", "hello " + name}})
			return want(err, func() string { return out.Output }, "hello "+name)
		}},
		{stepLogs, func() error {
			log, err := containers.Logs(ctx, uuid, structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1})
			if err != nil {
				return err
			}
			defer log.Close()
			text, err := io.ReadAll(log)
			return want(err, func() string { return string(text) }, name)
		}},
		{stepStop, func() error {
			_, err := containers.Action(ctx, uuid, api.Stop, api.ActionOptions{WriteOptions: wait})
			return err
		}},
		{stepDelete, func() error {
			_, err := containers.Delete(ctx, uuid, api.DeleteOptions{WriteOptions: wait})
			return err
		}},
	}
	for _, step := range steps {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s %s: %w", step.name, name, err)
		}
		s.note(step.name, time.Since(began))
	}
	return nil
}

// want checks what a step has said.
func want(err error, said func() string, part string) error {
	if err != nil {
		return err
	}
	if text := said(); !strings.Contains(text, part) {
		return fmt.Errorf("%q is not in %q", part, text)
	}
	return nil
}

func (s *soak) note(step string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.laps[step] = append(s.laps[step], took)
}

// takeLaps returns the latencies since the last call.
func (s *soak) takeLaps() map[string][]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	laps := s.laps
	s.laps = make(map[string][]time.Duration)
	return laps
}
