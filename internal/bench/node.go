package main

import (
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// withNode runs a measurement that needs an agent and an engine. A resident container
// keeps the project's network on the engine.
func (b *bench) withNode(measure func(n *rig.Node, resident *structs.ContainerBody) error) error {
	n, err := rig.StartNode(b.ctx, b.program, b.dir, *image)
	if err != nil {
		return err
	}
	defer n.End()
	command := append([]string{"sh", "-c", "echo a line of the log; exec \"$@\"", "-"}, rig.SleepCommand...)
	resident, err := n.Run(b.ctx, "resident", command)
	if err != nil {
		return err
	}
	return measure(n, resident)
}

// runOnEngine creates and starts a container on the engine itself, with the settings that
// magnum uses.
func (b *bench) runOnEngine(n *rig.Node) (id string, err error) {
	network, err := n.Network(b.ctx) // that of the resident container
	if err != nil {
		return "", err
	}
	made, err := n.Engine.ContainerCreate(b.ctx,
		&container.Config{Image: *image, Cmd: rig.SleepCommand},
		&container.HostConfig{
			NetworkMode: network,
			LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "3"}},
		}, nil, nil, "")
	if err != nil {
		return "", err
	}
	return made.ID, n.Engine.ContainerStart(b.ctx, made.ID, container.StartOptions{})
}

// createAndRun measures the time from the request until the container runs, one container
// at a time and in bursts.
func (b *bench) createAndRun() error {
	return b.withNode(func(n *rig.Node, _ *structs.ContainerBody) error {
		if err := b.runMany(n, "create and run, one at a time", 2**rounds, 1); err != nil {
			return err
		}
		burst := 50
		if *quick {
			burst = 10
		}
		return b.runMany(n, fmt.Sprintf("create and run, a burst of %d", burst), *rounds, burst)
	})
}

// runMany measures bursts of the size on both sides. The removal of the containers
// between the measurements isn't measured.
func (b *bench) runMany(n *rig.Node, what string, rounds, size int) error {
	ours := func(round int) (float64, error) {
		uuids := make([]string, size)
		began := time.Now()
		err := rig.Workers(size, size, func(i int) error {
			body, err := n.Run(b.ctx, fmt.Sprintf("run-%d-%d", round, i), rig.SleepCommand)
			if err == nil {
				uuids[i] = body.UUID
			}
			return err
		})
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return milliseconds(took), rig.Workers(8, size, func(i int) error { return n.Delete(b.ctx, uuids[i]) })
	}
	theirs := func(int) (float64, error) {
		ids := make([]string, size)
		began := time.Now()
		err := rig.Workers(min(8, size), size, func(i int) (err error) {
			ids[i], err = b.runOnEngine(n)
			return err
		})
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return milliseconds(took), rig.Workers(8, size, func(i int) error {
			return n.Engine.ContainerRemove(b.ctx, ids[i], container.RemoveOptions{Force: true})
		})
	}
	for _, warm := range []func(int) (float64, error){ours, theirs} {
		if _, err := warm(-1); err != nil {
			return err
		}
	}
	p, err := b.interleave(rounds, ours, theirs)
	if err != nil {
		return err
	}
	b.report(row{
		what: what, ours: spread("%.0f", p.ours) + " ms", theirs: spread("%.0f", p.theirs) + " ms", other: "the engine",
		ratio: spread("%.3f", p.ratios()), figure: median(p.ratios()), gate: bound{"≤ 1.10", median(p.ratios()) <= 1.10},
	})
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
