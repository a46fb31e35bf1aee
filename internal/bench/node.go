package main

import (
	"errors"
	"fmt"
	"slices"
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

// logConfig has the log settings that magnum uses.
var logConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "3"}}

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
			NetworkMode: network, LogConfig: logConfig,
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

// runMany measures bursts of containers on both sides.
func (b *bench) runMany(n *rig.Node, what string, rounds, size int) error {
	return b.runBursts(n, what, rounds, size, bursts{
		one: func(round, i int) (string, error) {
			body, err := n.Run(b.ctx, fmt.Sprintf("run-%d-%d", round, i), rig.SleepCommand)
			if err != nil {
				return "", err
			}
			return body.UUID, nil
		},
		end: func(uuid string) error { return n.Delete(b.ctx, uuid) },
		theirs: func(int) ([]string, error) {
			id, err := b.runOnEngine(n)
			return []string{id}, err
		},
		other: "the engine", gate: 1.10,
	})
}

// bursts are what runBursts does.
type bursts struct {
	one    func(round, i int) (uuid string, err error) // of magnum
	end    func(uuid string) error
	theirs func(i int) (ids []string, err error) // of the engine: containers that it has started
	other  string
	gate   float64
}

// runBursts measures bursts of the size on both sides. The removal of the containers
// between the measurements isn't measured.
func (b *bench) runBursts(n *rig.Node, what string, rounds, size int, run bursts) error {
	ours := func(round int) (float64, error) {
		uuids := make([]string, size)
		began := time.Now()
		err := rig.Workers(size, size, func(i int) (err error) {
			uuids[i], err = run.one(round, i)
			return err
		})
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return milliseconds(took), rig.Workers(8, size, func(i int) error { return run.end(uuids[i]) })
	}
	theirs := func(int) (float64, error) {
		ids := make([][]string, size)
		began := time.Now()
		err := rig.Workers(min(8, size), size, func(i int) (err error) {
			ids[i], err = run.theirs(i)
			return err
		})
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return milliseconds(took), rig.Workers(8, size, func(i int) (err error) {
			for _, id := range slices.Backward(ids[i]) {
				err = errors.Join(err, n.Engine.ContainerRemove(b.ctx, id, container.RemoveOptions{Force: true}))
			}
			return err
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
		what: what, ours: spread("%.0f", p.ours) + " ms", theirs: spread("%.0f", p.theirs) + " ms", other: run.other,
		ratio: spread("%.3f", p.ratios()), figure: median(p.ratios()),
		gate: bound{fmt.Sprintf("≤ %.2f", run.gate), median(p.ratios()) <= run.gate},
	})
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
