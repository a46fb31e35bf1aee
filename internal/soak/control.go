package main

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// stepEngine is the control: the same create and start on the engine itself.
// Where it gets slower, the machine does, and a life may.
const stepEngine = "engine"

// control measures the engine itself now and then until ctx ends.
func (s *soak) control(ctx context.Context) error {
	pause := time.NewTicker(2 * time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if err := s.onEngine(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("on the engine itself: %w", err)
		}
	}
}

func (s *soak) onEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	network, err := s.node.Network(ctx)
	if err != nil || network == "" { // no container lives right now
		return err
	}
	began := time.Now()
	made, err := s.node.Engine.ContainerCreate(ctx, &container.Config{Image: *image, Cmd: rig.Napping},
		&container.HostConfig{NetworkMode: network}, nil, nil, "")
	if err != nil {
		return err
	}
	if err := s.node.Engine.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return err
	}
	s.note(stepEngine, time.Since(began))
	return s.node.Engine.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
}
