package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// gets measures reads of one container and of a list of 100 on a single server.
func (b *bench) gets() error {
	s, err := rig.StartServer(b.ctx, b.program, b.dir)
	if err != nil {
		return err
	}
	defer s.End()
	return b.reads(s.Addr, s.Bay, "", 0.5)
}

// followerGets measures the same reads on a follower of three servers, which asks the
// leader for its index.
func (b *bench) followerGets() error {
	t, err := rig.StartCluster(b.ctx, b.program, b.dir, 0)
	if err != nil {
		return err
	}
	defer t.End()
	leader, err := t.Leader()
	if err != nil {
		return err
	}
	name, one := "rig", 1
	bay, _, err := leader.Client.Bays().Create(b.ctx, &structs.BayRequest{Name: &name, NodeCount: &one}, api.WriteOptions{})
	if err != nil {
		return err
	}
	for _, s := range t.Servers {
		if s != leader {
			return b.reads(s.Addr, bay.UUID, " of a follower", 0.4)
		}
	}
	return errors.New("the cluster has no follower")
}

// reads measures GET and list on the server at addr. suffix is added to the names of the
// rows, least is the gate of their ratios.
func (b *bench) reads(addr, bay, suffix string, least float64) error {
	theirs, err := startBaseline(b.ctx, b.dir, addr, bay)
	if err != nil {
		return err
	}
	defer theirs.Stop()
	raw, err := get(b.ctx, list(addr))
	if err != nil {
		return err
	}
	var page struct{ Containers []structs.ContainerBody }
	if err := json.Unmarshal(raw, &page); err != nil {
		return err
	}
	if len(page.Containers) != listed {
		return fmt.Errorf("the list has %d containers, not %d", len(page.Containers), listed)
	}
	const connections = 64
	for _, m := range []struct{ what, ours, theirs string }{
		{"GET one container", one(addr, page.Containers[0].UUID), "/one"},
		{fmt.Sprintf("GET a list of %d", listed), list(addr), "/list"},
	} {
		side := func(url string) func(int) (float64, error) {
			return func(int) (float64, error) {
				got, err := wrk(b.ctx, b.dir, request{url: url}, connections, *duration)
				return got.rate, err
			}
		}
		p, err := b.interleave(*rounds, side(m.ours), side("http://"+theirs.addr+m.theirs))
		if err != nil {
			return err
		}
		b.report(row{
			what: fmt.Sprintf("%s%s, %d connections", m.what, suffix, connections),
			ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s",
			other: "a bare handler that writes the same bytes", ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), higher: true,
			gate: bound{fmt.Sprintf("≥ %g", least), median(p.ratios()) >= least},
		})
	}
	return nil
}
