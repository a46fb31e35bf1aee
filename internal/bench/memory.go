package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// serverMemory measures the memory of the server with many containers in its state.
func (b *bench) serverMemory() error {
	s, err := rig.StartServer(b.ctx, b.program, b.dir)
	if err != nil {
		return err
	}
	defer s.End()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	have := 0
	sizes := []int{10_000, 100_000}
	if *quick {
		sizes = []int{1000, 5000}
	}
	for _, size := range sizes {
		err := rig.Workers(64, size-have, func(int) error {
			resp, err := client.Post("http://"+s.Addr+"/v1/containers", "application/json", strings.NewReader(typical))
			if err == nil {
				_, err = readAll(resp)
			}
			return err
		})
		if err != nil {
			return err
		}
		have = size
		busy, err := s.RSS()
		if err != nil {
			return err
		}
		if err := s.Restart(); err != nil {
			return err
		}
		fresh, err := s.RSS()
		if err != nil {
			return err
		}
		b.report(row{
			what: fmt.Sprintf("memory of a server with %d containers", size),
			ours: fmt.Sprintf("%.0f MB at the end of creating them, %.0f MB after a restart", busy/1e6, fresh/1e6), figure: busy,
		})
	}
	return nil
}

// agentMemory measures the memory of the agent with many running containers.
func (b *bench) agentMemory() error {
	return b.withNode(func(n *rig.Node, _ *structs.ContainerBody) error {
		one, err := n.Agent.RSS()
		if err != nil {
			return err
		}
		many := 100
		if *quick {
			many = 10
		}
		err = rig.Workers(8, many-1, func(i int) error {
			_, err := n.Run(b.ctx, fmt.Sprint("many-", i), rig.SleepCommand)
			return err
		})
		if err != nil {
			return err
		}
		all, err := n.Agent.RSS()
		if err != nil {
			return err
		}
		b.report(row{
			what: fmt.Sprintf("memory of an agent with %d running containers", many),
			ours: fmt.Sprintf("%.1f MB; %.1f MB with one", all/1e6, one/1e6), figure: all,
			gate: bound{"under 30 MB", all < 30e6},
		})
		return nil
	})
}
