package main

import (
	"encoding/json"
	"fmt"

	"github.com/stackforge/magnum/scripts/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// gets measures reads of one container and of a list of 100.
func (b *bench) gets() error {
	s, err := rig.StartServer(b.ctx, *binary, b.dir)
	if err != nil {
		return err
	}
	defer s.End()
	theirs, err := startYardstick(b.ctx, b.dir, s)
	if err != nil {
		return err
	}
	defer theirs.Stop()
	raw, err := get(b.ctx, list(s))
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
		{"GET one container", one(s, page.Containers[0].UUID), "/one"},
		{fmt.Sprintf("GET a list of %d", listed), list(s), "/list"},
	} {
		side := func(url string) func(int) (float64, error) {
			return func(int) (float64, error) {
				got, err := wrk(b.ctx, b.dir, request{url: url}, connections, *duration)
				return got.rate, err
			}
		}
		p, err := interleave(*rounds, side(m.ours), side("http://"+theirs.addr+m.theirs))
		if err != nil {
			return err
		}
		b.report(row{
			what: fmt.Sprintf("%s, %d connections", m.what, connections), ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s",
			other: "a bare handler that writes the same bytes", ratio: spread("%.2f", p.ratios()), gate: bound{"≥ 0.5", median(p.ratios()) >= 0.5},
		})
	}
	return nil
}
