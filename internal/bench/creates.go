package main

import (
	"fmt"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// creates measures durable creates of containers in a bay without hosts, which is the cost
// of the server alone.
func (b *bench) creates() error {
	samples, err := rig.StartServer(b.ctx, b.program, b.dir)
	if err != nil {
		return err
	}
	defer samples.End()
	theirs, err := startBaseline(b.ctx, b.dir, samples.Addr, samples.Bay)
	if err != nil {
		return err
	}
	defer theirs.Stop()
	samples.Stop() // its answers are saved; it must not use the cores from now on

	p, err := b.interleave(*rounds, b.createsOn(0, 1, p50), func(int) (float64, error) {
		m, err := wrk(b.ctx, b.dir, request{url: "http://" + theirs.addr + "/applied", body: typical}, 1, *duration)
		return m.p50, err
	})
	if err != nil {
		return err
	}
	b.report(row{
		what: "durable create, 1 client, p50",
		ours: spread("%.2f", p.ours) + " ms", theirs: spread("%.2f", p.theirs) + " ms",
		other: "one bare POST handler and one raft.Apply",
		ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), gate: bound{"≤ 1.6", median(p.ratios()) <= 1.6},
	})
	// The gates allow for a log on bbolt, which syncs twice for each commit.
	for _, g := range []struct {
		clients int
		least   float64
	}{{64, 0.30}, {256, 0.33}} {
		clients := g.clients
		p, err := b.interleave(*rounds, b.createsOn(0, clients, rate), func(int) (float64, error) {
			m, err := wrk(b.ctx, b.dir, request{url: "http://" + theirs.addr + "/bare", body: typical}, clients, *duration)
			return m.rate, err
		})
		if err != nil {
			return err
		}
		b.report(row{
			what: fmt.Sprintf("durable creates, %d clients", clients),
			ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s",
			other: "a bare POST handler", ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), higher: true,
			gate: bound{fmt.Sprintf("≥ %.2f", g.least), median(p.ratios()) >= g.least},
			aim:  bound{"≥ 0.5", median(p.ratios()) >= 0.5},
		})
	}
	return nil
}

func p50(m measured) float64  { return m.p50 }
func rate(m measured) float64 { return m.rate }

// createsOn returns a measurement of creates on a magnum server with no containers yet,
// and with that many hosts.
func (b *bench) createsOn(hosts, clients int, figure func(measured) float64) func(int) (float64, error) {
	return func(int) (float64, error) {
		s, err := rig.StartServer(b.ctx, b.program, b.dir, "-host-lost-after", "1h") // hosts need not poll
		if err != nil {
			return 0, err
		}
		defer s.End()
		if err := b.enlist(s, hosts); err != nil {
			return 0, err
		}
		m, err := wrk(b.ctx, b.dir, request{url: "http://" + s.Addr + "/v1/containers", body: typical}, clients, *duration)
		return figure(m), err
	}
}
