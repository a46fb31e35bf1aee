package raftlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/autopilot"
	"github.com/stackforge/magnum/structs"
)

// The types of the membership loop.
type (
	Peer             = autopilot.Peer
	Candidate        = autopilot.Candidate
	MembershipConfig = autopilot.Config
)

// RunMembership runs the membership loop while this server leads: it adds new servers
// as non-voters, promotes those that keep up, and removes dead ones that have been
// replaced. It blocks until ctx ends.
func (l *Log) RunMembership(ctx context.Context, c MembershipConfig) error {
	loop := autopilot.Loop{Raft: l.raft, ServerID: l.config.ServerID, Log: l, Config: c, Logger: l.config.Logger}
	return loop.Run(ctx)
}

// Progress returns this server's progress in the log.
func (l *Log) Progress() structs.PeerProgress {
	p := structs.PeerProgress{LastIndex: l.raft.LastIndex()}
	switch contact := l.raft.LastContact(); {
	case l.IsLeader():
	case contact.IsZero():
		p.Contact = -1
	default:
		p.Contact = time.Since(contact)
	}
	var entry raft.Log
	if p.LastIndex > 0 && l.files.logs.GetLog(p.LastIndex, &entry) == nil {
		p.LastTerm = entry.Term
	} else {
		p.LastTerm = l.Term() // the last entry is in a snapshot
	}
	return p
}

// Self returns this server as a peer of the others, a voter.
func (l *Log) Self() Peer {
	return Peer{ID: l.config.ServerID, Addr: string(l.transport.LocalAddr()), Voter: true}
}

// Bootstrap bootstraps a cluster of the voters, by default of this server alone. Only
// one server calls it; the others get the membership from that server. It fails on a
// server that has state.
func (l *Log) Bootstrap(voters ...Peer) error {
	if len(voters) == 0 {
		voters = []Peer{l.Self()}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	done := make(chan error, 1)
	go func() { done <- l.raft.BootstrapCluster(c).Error() }() // sends nothing if the disk fails
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		return nil
	case <-l.files.disk.broken:
		return l.files.disk.failure()
	}
}

// Peers returns the newest membership that this server has, in its order. It is empty
// on a server that has not been added to a cluster.
func (l *Log) Peers() ([]Peer, error) {
	future := l.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("raft configuration: %w", err)
	}
	var peers []Peer
	for _, s := range future.Configuration().Servers {
		peers = append(peers, Peer{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return peers, nil
}

// Alone reports whether this server is the only one of its membership. The answer may
// be slightly out of date: each write asks, so it is cached.
func (l *Log) Alone() bool { return l.alone.Load() }

func (l *Log) countServers() {
	future := l.raft.GetConfiguration()
	l.alone.Store(future.Error() == nil && len(future.Configuration().Servers) == 1)
}

// ClusterID returns the cluster that this server has joined, "" if none yet.
func (l *Log) ClusterID() string { return l.clusterID.Get() }

// Join makes this server join the cluster, as if its leader had called.
func (l *Log) Join(clusterID string) error { return l.clusterID.Accept(clusterID) }

// SetProposed makes this server's calls name a cluster that it is about to bootstrap.
// Other servers vote only for the cluster to which they have granted, and a connection
// names its cluster only once.
func (l *Log) SetProposed(clusterID string) { l.clusterID.SetProposed(clusterID) }

// peerTimeout bounds a change of the membership.
const peerTimeout = 10 * time.Second

// RemovePeer removes a server from the membership; only the leader can. Errors:
// CodeNotFound, CodeConflict for the only voter, CodeNoLeader.
func (l *Log) RemovePeer(ctx context.Context, id string) error {
	peers, err := l.Peers()
	if err != nil {
		return err
	}
	voters, found := 0, (*Peer)(nil)
	for i := range peers {
		if peers[i].ID == id {
			found = &peers[i]
		}
		if peers[i].Voter {
			voters++
		}
	}
	if found == nil {
		return structs.Errorf(structs.CodeNotFound, "Server %s is not one of the cluster's.", id)
	}
	if found.Voter && voters == 1 {
		return structs.Errorf(structs.CodeConflict, "server %s is the only voter: without it there is no cluster", id)
	}
	return l.change(ctx, "remove a server", func() error { return l.raft.RemoveServer(raft.ServerID(id), 0, peerTimeout).Error() })
}

// Transfer transfers leadership to the voter with the ID, or to the most up-to-date one
// if the ID is "". It returns once this server no longer leads. Errors: CodeNotFound,
// CodeConflict, CodeNoLeader; CodeUnavailable if the voter didn't take over.
func (l *Log) Transfer(ctx context.Context, id string) error {
	peers, err := l.Peers()
	if err != nil {
		return err
	}
	if id == "" {
		if !l.hasOtherVoters() {
			return structs.Errorf(structs.CodeConflict, "there is no other voter that could lead")
		}
		return l.change(ctx, "hand leadership over", func() error { return l.raft.LeadershipTransfer().Error() })
	}
	for _, p := range peers {
		if p.ID != id {
			continue
		}
		switch {
		case !p.Voter:
			return structs.Errorf(structs.CodeConflict, "server %s is not a voter yet, so it can't lead: wait until it has caught up", id)
		case id == l.config.ServerID:
			return structs.Errorf(structs.CodeConflict, "server %s is the leader already", id)
		}
		return l.change(ctx, "hand leadership over", func() error {
			return l.raft.LeadershipTransferToServer(raft.ServerID(p.ID), raft.ServerAddress(p.Addr)).Error()
		})
	}
	return structs.Errorf(structs.CodeNotFound, "Server %s is not one of the cluster's.", id)
}

// change makes a call of the library that only the leader can make.
func (l *Log) change(ctx context.Context, what string, f func() error) error {
	err := l.call(ctx, f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err,
		errClosed), ctx.Err() != nil:
		return noLeader(what, err)
	}
	return structs.Errorf(structs.CodeUnavailable, "the leader could not %s: %s", what, strings.TrimSuffix(err.Error(), "."))
}
