package dispatch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// Peers are the calls to other servers that concern hosts. Package peer implements them.
type Peers interface {
	// ReportHeartbeats reports to the leader which hosts have polled here.
	ReportHeartbeats(ctx context.Context, leaderID string, hosts map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged, error)
	// Silent returns the hosts that the server has not seen either.
	Silent(ctx context.Context, serverID string, hosts []string) ([]string, error)
	// Offer leaves a session's offer at the server for the host's next poll.
	Offer(ctx context.Context, serverID, hostID string, offer structs.SessionOffer) error
	// Followed returns which of the hosts have polled the server with the index or a later
	// one. The server waits until there is one, but not longer than given.
	Followed(ctx context.Context, serverID string, hosts []string, index uint64, wait time.Duration) ([]string, error)
}

// RelayConfig is what a Relay needs.
type RelayConfig struct {
	ServerID string
	Peers    Peers
	Cluster  peer.Cluster             // says which server leads
	Voters   func() ([]string, error) // ids of the servers that vote, this one among them
	Others   func() []string          // ids of the other servers that seem to be alive
	// Agents returns, by host whose agent gossips, whether the agent seems dead. changed is
	// closed when that may differ.
	Agents        func() (dead map[string]bool, changed <-chan struct{})
	Removed       func() bool   // an operator has removed this server from the cluster
	HostLostAfter time.Duration // as Config.HostLostAfter
	DataDir       string        // for a log message
	Logger        hclog.Logger
}

// Relay exchanges with other servers what each knows about hosts: which server a host has
// polled, which hosts are silent, and which server has a host's waiting poll.
type Relay struct{ conf RelayConfig }

// NewRelay returns a Relay. Its Ask, Agree and Followed are meant for the Config of a Dispatch.
func NewRelay(c RelayConfig) *Relay { return &Relay{c} }

// Run relays the heartbeats of d until ctx ends.
func (r *Relay) Run(ctx context.Context, d *Dispatch) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.reportToLeader(ctx, d) })
	g.Go(func() error { return r.followGossip(ctx, d) })
	g.Go(func() error { return r.followLeader(ctx, d) })
	return g.Wait()
}

// Ask leaves a session's offer with all other servers, one of which may have the host's
// poll. It doesn't wait for the servers.
func (r *Relay) Ask(hostID string, offer structs.SessionOffer) {
	for _, id := range r.conf.Others() {
		go func() { // bounded by the call's own timeout
			if err := r.conf.Peers.Offer(context.Background(), id, hostID, offer); err != nil {
				r.conf.Logger.Debug("session not offered", "server_id", id, "host_id", hostID, "error", err)
			}
		}()
	}
}

// Agree reports whether a majority of the voters, this server included, has seen none of
// the hosts.
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

// followedWait is how long another server waits for polls before it answers. It is shorter
// than the timeout of a call.
const followedWait = time.Second

// Followed asks all other servers at once which of the hosts have polled there with the index
// or a later one. It calls found with those, from several goroutines, and returns when each
// server has named all of them or has failed, or when ctx ends.
func (r *Relay) Followed(ctx context.Context, hosts []string, index uint64, found func(hostIDs []string)) {
	var asking sync.WaitGroup
	for _, id := range r.conf.Others() {
		asking.Go(func() {
			left := slices.Clone(hosts)
			for len(left) > 0 && ctx.Err() == nil {
				some, err := r.conf.Peers.Followed(ctx, id, left, index, followedWait)
				if err != nil {
					r.conf.Logger.Debug("server does not say what hosts have followed", "server_id", id, "error", err)
					return
				}
				if len(some) > 0 {
					found(some)
				}
				left = slices.DeleteFunc(left, func(host string) bool { return slices.Contains(some, host) })
			}
		})
	}
	asking.Wait()
}

// leaderReportTick is the longest time between two reports of a follower to the leader. The
// report's answer carries the acknowledgements that renew leases, which last for 7/10 of
// HostLostAfter. So it is sent ten times in HostLostAfter, if that is shorter.
const leaderReportTick = time.Second

// reportToLeader reports to the leader, while this server isn't it, which hosts have polled
// here. A failed report is repeated at the next tick, and at once to another leader.
func (r *Relay) reportToLeader(ctx context.Context, d *Dispatch) error {
	tick := time.NewTicker(min(leaderReportTick, r.conf.HostLostAfter/10))
	defer tick.Stop()
	unreported := make(map[string]Heartbeat)
	for {
		var missed, changed <-chan struct{} // the leader itself handles missed
		if len(unreported) > 0 {
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
		for id, heartbeat := range d.heartbeats.takePending() {
			unreported[id] = unreported[id].merge(heartbeat)
		}
		leader, _ := r.conf.Cluster.Leader()
		if leader == r.conf.ServerID {
			clear(unreported) // its own heartbeats are recorded already
		}
		if len(unreported) == 0 || leader == "" {
			continue
		}
		call, cancel := peer.WhileLeads(ctx, r.conf.Cluster, leader)
		heartbeats := make(map[string]structs.PeerHeartbeat, len(unreported))
		for id, heartbeat := range unreported {
			heartbeats[id] = structs.PeerHeartbeat{Sent: heartbeat.Sent, Age: time.Since(heartbeat.At)}
		}
		acknowledged, err := r.conf.Peers.ReportHeartbeats(call, leader, heartbeats)
		cancel()
		if err != nil {
			r.conf.Logger.Debug("heartbeats not reported to the leader", "server_id", leader, "error", err)
			continue
		}
		d.heartbeats.recordAcknowledged(acknowledged)
		clear(unreported)
	}
}

// followGossip makes a host suspect as soon as gossip reports its agent dead.
func (r *Relay) followGossip(ctx context.Context, d *Dispatch) error {
	dead := make(map[string]bool)
	for {
		agents, changed := r.conf.Agents()
		for id, now := range agents {
			if now && !dead[id] {
				d.AgentDead(id)
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

// leaderlessAfter is how long a server that knows no leader keeps its agents.
const leaderlessAfter = 3 * time.Second

// followLeader sends agents to other servers while this server knows no leader.
func (r *Relay) followLeader(ctx context.Context, d *Dispatch) error {
	without := time.NewTimer(leaderlessAfter)
	defer without.Stop()
	for led := false; ; {
		changed := r.conf.Cluster.Changed()
		id, _ := r.conf.Cluster.Leader()
		switch {
		case id != "":
			without.Stop()
			d.leaderless.set(false)
		case led: // an election without a winner doesn't restart the timer
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
				r.conf.Logger.Error("an operator has removed this server from the cluster: stop it, and start it with an empty "+
					"-data-dir to add it again", "path", r.conf.DataDir)
				continue
			}
			r.conf.Logger.Warn("no leader is known: agents are sent to other servers", "duration", leaderlessAfter)
		}
	}
}
