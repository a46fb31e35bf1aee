package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// Peers are the calls to other servers about hosts. Package peer has them.
type Peers interface {
	// Heard tells the leader which hosts have polled here.
	Heard(ctx context.Context, leaderID string, hosts map[string]structs.PeerPulse) (structs.PeerAcknowledged, error)
	// Silent returns which of the hosts the server has not heard of either.
	Silent(ctx context.Context, serverID string, hosts []string) ([]string, error)
	// Offer leaves a session's offer for the host's next poll at the server.
	Offer(ctx context.Context, serverID, hostID string, offer structs.SessionOffer) error
}

// RelayConfig is what a Relay needs.
type RelayConfig struct {
	ServerID      string
	Peers         Peers
	Cluster       peer.Cluster                                           // says who leads
	Voters        func() ([]string, error)                               // ids of the servers that vote, this one among them
	Others        func() []string                                        // ids of the other servers that seem to be alive
	Agents        func() (dead map[string]bool, changed <-chan struct{}) // hosts whose agents gossip: whether each seems to be dead; changed is closed when that may differ
	Removed       func() bool                                            // an operator has taken this server out of the cluster
	HostLostAfter time.Duration                                          // as Config.HostLostAfter
	DataDir       string                                                 // for a log message
	Logger        hclog.Logger
}

// Relay exchanges with other servers what each knows of hosts: who has polled where,
// which hosts are silent, and who has a host's poll.
type Relay struct{ conf RelayConfig }

// NewRelay returns a Relay; its Ask and Agree are for a Dispatch's Config.
func NewRelay(c RelayConfig) *Relay { return &Relay{c} }

// Run relays what d hears, until ctx ends.
func (r *Relay) Run(ctx context.Context, d *Dispatch) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.tellLeader(ctx, d) })
	g.Go(func() error { return r.watchAgents(ctx, d) })
	g.Go(func() error { return r.watchLeader(ctx, d) })
	return g.Wait()
}

// Ask leaves a session's offer with all other servers: one of them may have the
// host's poll. It doesn't wait for them.
func (r *Relay) Ask(hostID string, offer structs.SessionOffer) {
	for _, id := range r.conf.Others() {
		go func() { // bounded by the call's own timeout
			if err := r.conf.Peers.Offer(context.Background(), id, hostID, offer); err != nil {
				r.conf.Logger.Debug("session not offered", "server_id", id, "host_id", hostID, "error", err)
			}
		}()
	}
}

// Agree reports whether a majority of the voters, this one counted, has not heard of
// any of the hosts.
func (r *Relay) Agree(ctx context.Context, hosts []string) bool {
	voters, err := r.conf.Voters()
	if err != nil {
		return false
	}
	var asking sync.WaitGroup
	var agreed atomic.Int32
	for _, id := range voters {
		if id == r.conf.ServerID {
			agreed.Add(1)
			continue
		}
		asking.Go(func() {
			silent, err := r.conf.Peers.Silent(ctx, id, hosts)
			if err == nil && len(silent) == len(hosts) {
				agreed.Add(1)
			}
		})
	}
	asking.Wait()
	return int(agreed.Load()) > len(voters)/2
}

// tellTick is how often a follower tells the leader which hosts it has heard of, at
// most. A lease lasts for 7/10 of HostLostAfter, and the acknowledgement that renews
// it comes with this: ten times in HostLostAfter, if that is short.
const tellTick = time.Second

// tellLeader tells the leader, while this server isn't it, which hosts have polled
// here. What couldn't be told is told the next time, and at once to another leader.
func (r *Relay) tellLeader(ctx context.Context, d *Dispatch) error {
	tick := time.NewTicker(min(tellTick, r.conf.HostLostAfter/10))
	defer tick.Stop()
	untold := make(map[string]Signal)
	for {
		var missed, changed <-chan struct{} // of missed the leader itself takes care
		if len(untold) > 0 {
			changed = r.conf.Cluster.Changed()
		}
		if leader, _ := r.conf.Cluster.Leader(); leader != r.conf.ServerID {
			missed = d.heartbeats.missed()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-missed:
		case <-changed:
		}
		for id, signal := range d.heartbeats.takeHeard() {
			untold[id] = untold[id].And(signal)
		}
		leader, _ := r.conf.Cluster.Leader()
		if leader == r.conf.ServerID {
			clear(untold) // it has heard of them itself
		}
		if len(untold) == 0 || leader == "" {
			continue
		}
		call, cancel := peer.WhileLeads(ctx, r.conf.Cluster, leader)
		pulses := make(map[string]structs.PeerPulse, len(untold))
		for id, signal := range untold {
			pulses[id] = structs.PeerPulse{Sent: signal.Sent, Age: time.Since(signal.At)}
		}
		acknowledged, err := r.conf.Peers.Heard(call, leader, pulses)
		cancel()
		if err != nil {
			r.conf.Logger.Debug("leader not told of hosts", "server_id", leader, "error", err)
			continue
		}
		d.heartbeats.acknowledge(acknowledged)
		clear(untold)
	}
}

// watchAgents has hosts suspected at once whose agents gossip takes for dead.
func (r *Relay) watchAgents(ctx context.Context, d *Dispatch) error {
	dead := make(map[string]bool)
	for {
		agents, changed := r.conf.Agents()
		for id, now := range agents {
			if now && !dead[id] {
				d.heartbeats.gossipDead(id)
			}
			if now {
				dead[id] = true
			} else {
				delete(dead, id)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// leaderlessAfter is how long a server without a leader keeps its agents.
const leaderlessAfter = 3 * time.Second

// watchLeader sends agents elsewhere while this server knows of no leader.
func (r *Relay) watchLeader(ctx context.Context, d *Dispatch) error {
	without := time.NewTimer(leaderlessAfter)
	defer without.Stop()
	for led := false; ; {
		changed := r.conf.Cluster.Changed()
		id, _ := r.conf.Cluster.Leader()
		switch {
		case id != "":
			without.Stop()
			d.leaderless.set(false)
		case led: // not each time that an election comes to nothing
			without.Reset(leaderlessAfter)
		}
		led = id != ""
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-without.C:
			d.leaderless.set(true)
			if r.conf.Removed() {
				r.conf.Logger.Error("an operator has taken this server out of the cluster: stop it, and give it an empty -data-dir to have it taken in again", "path", r.conf.DataDir)
				continue
			}
			r.conf.Logger.Warn("no leader is known: agents are sent to other servers", "duration", leaderlessAfter)
		}
	}
}
