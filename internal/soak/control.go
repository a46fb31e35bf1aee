package main

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// stepEngine is the control: a create and a start on the engine itself. If it gets slower,
// the machine has become slower, and the steps may be slower, too.
const stepEngine = "engine"

// control runs the control every two seconds until ctx ends.
func (s *soak) control(ctx context.Context) error {
	pause := time.NewTicker(2 * time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if err := s.runOnEngine(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("on the engine itself: %w", err)
		}
	}
}

// runOnEngine measures a create and a start on the engine itself.
func (s *soak) runOnEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	network, err := s.node.Network(ctx)
	if err != nil || network == "" { // there is no container right now
		return err
	}
	began := time.Now()
	made, err := s.node.Engine.ContainerCreate(ctx, &container.Config{Image: *image, Cmd: rig.SleepCommand},
		&container.HostConfig{NetworkMode: network}, nil, nil, "")
	if err != nil {
		return err
	}
	if err := s.node.Engine.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return err
	}
	s.record(stepEngine, time.Since(began))
	return s.node.Engine.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
}
