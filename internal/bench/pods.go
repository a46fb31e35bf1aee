package main

import (
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// infraImage is the image of infra containers, which the agent has made on the engine.
const infraImage = "magnum/infra:1"

// pods measures the time from the requests until all pods of a burst have been started.
func (b *bench) pods() error {
	return b.withNode(func(n *rig.Node, _ *structs.ContainerBody) error {
		size, times := 100, min(*rounds, 3)
		if *quick {
			size = 10
		}
		run := bursts{
			one: func(round, i int) (string, error) {
				return n.RunPod(b.ctx, fmt.Sprintf("pod-%d-%d", round+1, i), rig.SleepCommand)
			},
			end: func(uuid string) error { return n.DeletePod(b.ctx, uuid) },
			theirs: func(int) ([]string, error) {
				return b.runPodOnEngine(n)
			},
			other: "the engine, for the same containers and infra containers",
			gate:  1.25,
		}
		return b.runBursts(n, fmt.Sprintf("%d pods of two containers", size), times, size, run)
	})
}

// runPodOnEngine creates and starts on the engine itself what a pod of two containers is,
// with the settings that magnum uses.
func (b *bench) runPodOnEngine(n *rig.Node) (ids []string, err error) {
	network, err := n.Network(b.ctx) // that of the resident container
	if err != nil {
		return nil, err
	}
	start := func(conf container.Config, host container.HostConfig) error {
		conf.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		host.LogConfig = logConfig
		made, err := n.Engine.ContainerCreate(b.ctx, &conf, &host, nil, nil, "")
		if err != nil {
			return err
		}
		ids = append(ids, made.ID)
		return n.Engine.ContainerStart(b.ctx, made.ID, container.StartOptions{})
	}
	err = start(container.Config{Image: infraImage}, container.HostConfig{
		NetworkMode: network, IpcMode: container.IPCModeShareable, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}})
	for range 2 {
		if err == nil {
			shared := "container:" + ids[0]
			err = start(container.Config{Image: *image, Cmd: rig.SleepCommand},
				container.HostConfig{NetworkMode: container.NetworkMode(shared), IpcMode: container.IpcMode(shared)})
		}
	}
	return ids, err
}

// podMemory measures the memory of the agent with running pods.
func (b *bench) podMemory() error {
	return b.withNode(func(n *rig.Node, _ *structs.ContainerBody) error {
		many := 20
		if *quick {
			many = 4
		}
		err := rig.Workers(8, many, func(i int) error {
			_, err := n.RunPod(b.ctx, fmt.Sprint("many-", i), rig.SleepCommand)
			return err
		})
		if err != nil {
			return err
		}
		most := 0.0
		for range 20 { // includes the peaks of polls and reports
			now, err := n.Agent.RSS()
			if err != nil {
				return err
			}
			most = max(most, now)
			time.Sleep(100 * time.Millisecond)
		}
		b.report(row{
			what: fmt.Sprintf("memory of an agent with %d running pods of two containers", many),
			ours: fmt.Sprintf("%.1f MB", most/1e6), figure: most, gate: bound{"under 30 MB", most < 30e6},
		})
		return nil
	})
}
