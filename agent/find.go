package agent

import (
	"context"
	"os"
	"slices"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/gossip"
)

// finder finds servers by gossip.
type finder struct {
	gossip *gossip.Gossip
	api    *api.Agent
	quit   <-chan struct{} // closed when the servers advise against gossip
}

// openFinder opens the gossip port. The errors are those of gossip.New.
func openFinder(conf Config, hostID, knownFile string, a *api.Agent, quit <-chan struct{}) (*finder, error) {
	g := *conf.Gossip
	if conf.Name == "" { // the host is a cluster: members are processes, and hosts have other names
		conf.Name, _ = os.Hostname() // for people: the ID tells members apart
	}
	g.Node = gossip.Node{ID: hostID, Name: conf.Name, Role: gossip.RoleAgent, Version: conf.Version}
	g.Fallback, g.KnownFile, g.Logger = true, knownFile, conf.Logger
	opened, err := gossip.New(g)
	if err != nil {
		return nil, err
	}
	return &finder{gossip: opened, api: a, quit: quit}, nil
}

// run gossips until ctx ends, or until the servers advise against gossip. Each of their
// answers has the list of servers, too.
func (f *finder) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- f.gossip.Run(ctx) }()
	var passed []string
	for {
		changed := f.gossip.Changed()
		var found []string
		for _, m := range f.gossip.Servers() {
			if m.State == gossip.StateAlive && !m.Fresh {
				found = append(found, m.HTTPAddr) // any member may claim to be a server: package api drops what is not https
			}
		}
		if !slices.Equal(found, passed) {
			f.api.SetFound(found)
			passed = found
		}
		select {
		case <-changed:
		case <-f.quit:
			cancel()
			return <-ended
		case err := <-ended:
			return err
		}
	}
}
