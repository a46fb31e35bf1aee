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
	node      *rig.Node
	completed atomic.Int64 // lifecycles so far
	mu        sync.Mutex   // guards latencies
	latencies map[string][]time.Duration
}

// The steps of a lifecycle whose latency is in the table.
const (
	stepRun    = "run"
	stepExec   = "exec"
	stepLogs   = "logs"
	stepStop   = "stop"
	stepDelete = "delete"
)

func newSoak(n *rig.Node) *soak { return &soak{node: n, latencies: make(map[string][]time.Duration)} }

// work runs the lifecycles of a worker's containers one after the other until ctx ends. A
// step that fails ends the run: a soak does not test faults.
func (s *soak) work(ctx context.Context, worker int) error {
	for i := 0; ctx.Err() == nil; i++ {
		// A lifecycle that has begun is completed.
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		err := s.lifecycle(whole, fmt.Sprintf("life-%d-%d", worker, i))
		cancel()
		if err != nil {
			return fmt.Errorf("lifecycle %d of worker %d: %w", i, worker, err)
		}
		s.completed.Add(1)
	}
	return nil
}

// lifecycle takes one container through all steps, from its creation to its deletion.
func (s *soak) lifecycle(ctx context.Context, name string) error {
	containers := s.node.Client.Containers()
	var uuid string
	wait := api.WriteOptions{Wait: time.Minute}
	steps := []struct {
		name string
		do   func() error
	}{
		{stepRun, func() error {
			body, err := s.node.Run(ctx, name, append([]string{"sh", "-c", "echo " + name + "; exec \"$@\"", "-"}, rig.SleepCommand...))
			if err == nil {
				uuid = body.UUID
			}
			return err
		}},
		{stepExec, func() error {
			out, _, err := containers.Execute(ctx, uuid, structs.ExecRequest{Command: []string{"echo", "hello " + name}})
			return wantOutput(err, func() string { return out.Output }, "hello "+name)
		}},
		{stepLogs, func() error {
			log, err := containers.Logs(ctx, uuid, structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1})
			if err != nil {
				return err
			}
			defer log.Close()
			text, err := io.ReadAll(log)
			return wantOutput(err, func() string { return string(text) }, name)
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
		s.record(step.name, time.Since(began))
	}
	return nil
}

// wantOutput checks that the output of a step contains a text; err is the step's error.
func wantOutput(err error, output func() string, part string) error {
	if err != nil {
		return err
	}
	if text := output(); !strings.Contains(text, part) {
		return fmt.Errorf("%q is not in %q", part, text)
	}
	return nil
}

func (s *soak) record(step string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latencies[step] = append(s.latencies[step], took)
}

// takeLatencies returns the latencies since the last call.
func (s *soak) takeLatencies() map[string][]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	latencies := s.latencies
	s.latencies = make(map[string][]time.Duration)
	return latencies
}
