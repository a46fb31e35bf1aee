package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/structs"
)

// createsAmongHosts measures what choosing a host costs: durable creates in a bay of
// many hosts against the same in a bay that waits for its first. The hosts register
// and do nothing more, so that nothing but the server has work.
func (b *bench) createsAmongHosts() error {
	hosts := structs.MaxNodeCount
	if *quick {
		hosts = 50
	}
	const clients = 64
	p, err := b.interleave(*rounds, b.createsOn(hosts, clients, rate), b.createsOn(0, clients, rate))
	if err != nil {
		return err
	}
	b.report(row{
		what: fmt.Sprintf("durable creates among %d hosts, %d clients", hosts, clients),
		ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s", other: "magnum without a host",
		ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), higher: true,
	})
	return nil
}

// enlist makes the server's bay one of n ready hosts with room for everything.
func (b *bench) enlist(s *rig.Server, n int) error {
	if n == 0 {
		return nil
	}
	token, err := os.ReadFile(bootstrap.JoinTokenPath(filepath.Join(s.Dir, "server")))
	if err != nil {
		return err
	}
	err = rig.Workers(16, n, func(i int) error {
		agent, err := api.NewAgent(api.AgentConfig{Servers: []string{s.Addr}})
		if err != nil {
			return err
		}
		host := structs.HostRegister{
			HostID: structs.NewID(), Name: fmt.Sprint("host-", i),
			JoinToken: strings.TrimSpace(string(token)), Secret: structs.NewSecret(), Instance: structs.NewID(),
			Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 1024, Memory: 1 << 42},
		}
		var refused error
		if err := rig.Until(time.Minute, func() bool {
			_, refused = agent.Register(b.ctx, host) // a new cluster isn't ready for agents at once
			return refused == nil
		}); err != nil {
			return refused
		}
		return nil
	})
	if err != nil {
		return err
	}
	patch := []structs.PatchOp{{Op: "replace", Path: "/node_count", Value: n}}
	if _, _, err := s.Client.Bays().Update(b.ctx, s.Bay, patch, api.WriteOptions{}); err != nil {
		return err
	}
	return rig.Until(time.Minute, func() bool {
		bay, _, err := s.Client.Bays().Get(b.ctx, s.Bay, api.QueryOptions{})
		return err == nil && bay.NodeCount == n && (bay.Status == structs.BayCreated || bay.Status == structs.BayUpdated)
	})
}
