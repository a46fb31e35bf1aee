package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// kubernetes measures the time from the request until a pod runs in a Kubernetes cluster,
// through magnum and through the cluster's own API, and the memory of the cluster's agent.
func (b *bench) kubernetes() error {
	if *kubernetesDir == "" {
		return errors.New("-kubernetes must name the directory of a cluster of scripts/peers/kubernetes-up")
	}
	n, err := rig.StartKubeNode(b.ctx, b.program, b.dir, *kubernetesDir)
	if err != nil {
		return err
	}
	defer n.End()
	// The first pod makes the namespace, and connections.
	first, err := n.RunPod(b.ctx, "first")
	if err != nil {
		return err
	}
	if err := n.RunPodDirectly(b.ctx, "first"); err != nil {
		return err
	}
	p, err := b.interleave(3**rounds, func(round int) (float64, error) {
		began := time.Now()
		uuid, err := n.RunPod(b.ctx, fmt.Sprint("pod-", round))
		took := milliseconds(time.Since(began))
		if err != nil {
			return 0, err
		}
		return took, n.DeletePod(b.ctx, uuid)
	}, func(round int) (float64, error) {
		name := fmt.Sprint("pod-", round)
		began := time.Now()
		err := n.RunPodDirectly(b.ctx, name)
		took := milliseconds(time.Since(began))
		if err != nil {
			return 0, err
		}
		return took, n.DeletePodDirectly(b.ctx, name)
	})
	if err != nil {
		return err
	}
	ratio := p.ratios()
	b.report(row{
		what: "pod in a Kubernetes cluster, until it runs", ours: spread("%.0f", p.ours) + " ms", theirs: spread("%.0f", p.theirs) + " ms",
		other: "create and watch through the cluster's API", ratio: spread("%.2f", ratio), figure: median(ratio),
		gate: bound{"≤ 1.1", median(ratio) <= 1.1},
	})

	if err := n.DeletePod(b.ctx, first); err != nil {
		return err
	}
	most := 0.0
	for range 20 { // includes the peaks of polls and lease renewals
		now, err := n.Agent.RSS()
		if err != nil {
			return err
		}
		most = max(most, now)
		time.Sleep(250 * time.Millisecond)
	}
	b.report(row{
		what: "memory of the idle agent of a Kubernetes cluster", ours: fmt.Sprintf("%.1f MB", most/1e6), figure: most,
		gate: bound{"under 45 MB", most < 45e6},
	})
	return nil
}
