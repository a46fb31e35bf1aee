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

// What the leader's loop about servers is given.
type (
	Peer             = autopilot.Peer
	Candidate        = autopilot.Candidate
	MembershipConfig = autopilot.Config
)

// RunMembership looks after the servers while this one leads: takes new ones in as
// non-voters, promotes those that keep up, and removes the dead ones that have
// been replaced. It blocks until ctx ends.
func (l *Log) RunMembership(ctx context.Context, c MembershipConfig) error {
	loop := autopilot.Loop{Raft: l.raft, ServerID: l.config.ServerID, Log: l, Config: c, Logger: l.config.Logger}
	return loop.Run(ctx)
}

// Progress returns how far this server has come.
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

// Self returns this server as others see it.
func (l *Log) Self() Peer {
	return Peer{ID: l.config.ServerID, Addr: string(l.transport.LocalAddr()), Voter: true}
}

// Bootstrap makes a new cluster of the voters, by default of this server
// alone. One server bootstraps; the others are told by it. It fails on a server
// that has state.
func (l *Log) Bootstrap(voters ...Peer) error {
	if len(voters) == 0 {
		voters = []Peer{l.Self()}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	done := make(chan error, 1)
	go func() { done <- l.raft.BootstrapCluster(c).Error() }() // never, if the disk breaks
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

// Peers returns the servers of the newest configuration that this server has,
// in its order. There are none on a server that waits to be taken in.
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

// Alone reports whether this server is the only one of its configuration, or was
// a moment ago: each write asks.
func (l *Log) Alone() bool { return l.alone.Load() }

func (l *Log) countServers() {
	future := l.raft.GetConfiguration()
	l.alone.Store(future.Error() == nil && len(future.Configuration().Servers) == 1)
}

// ClusterID returns the cluster that this server has joined, "" if none yet.
func (l *Log) ClusterID() string { return l.clusterID.Get() }

// Join makes this server one of the cluster, as if its leader had called.
func (l *Log) Join(clusterID string) error { return l.clusterID.Accept(clusterID) }

// SetProposed has this server call others in the name of a cluster that it is about to
// make. They vote only for the cluster to which they have granted their part, and a
// connection names a cluster once.
func (l *Log) SetProposed(clusterID string) { l.clusterID.SetProposed(clusterID) }

// peerTimeout bounds a change of the configuration.
const peerTimeout = 10 * time.Second

// RemovePeer takes a server out of the configuration; the leader can. Errors:
// CodeNotFound, CodeConflict for one without which no majority is left,
// CodeNoLeader.
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
		return structs.Errorf(structs.CodeConflict, "server %s is the only one that votes: without it there is no cluster", id)
	}
	return l.change(ctx, "remove a server", func() error { return l.raft.RemoveServer(raft.ServerID(id), 0, peerTimeout).Error() })
}

// Transfer hands leadership to the voter with the id, or to the one that is
// most up to date if it is "". It returns once this server leads no longer.
// Errors: CodeNotFound, CodeConflict, CodeNoLeader; CodeUnavailable if it was not
// taken.
func (l *Log) Transfer(ctx context.Context, id string) error {
	peers, err := l.Peers()
	if err != nil {
		return err
	}
	if id == "" {
		if !l.hasOtherVoters() {
			return structs.Errorf(structs.CodeConflict, "there is no other server that votes, so none that could lead")
		}
		return l.change(ctx, "hand leadership over", func() error { return l.raft.LeadershipTransfer().Error() })
	}
	for _, p := range peers {
		if p.ID != id {
			continue
		}
		switch {
		case !p.Voter:
			return structs.Errorf(structs.CodeConflict, "server %s does not vote yet, so it can't lead: wait until it has caught up", id)
		case id == l.config.ServerID:
			return structs.Errorf(structs.CodeConflict, "server %s leads already", id)
		}
		return l.change(ctx, "hand leadership over", func() error {
			return l.raft.LeadershipTransferToServer(raft.ServerID(p.ID), raft.ServerAddress(p.Addr)).Error()
		})
	}
	return structs.Errorf(structs.CodeNotFound, "Server %s is not one of the cluster's.", id)
}

// change makes a call that only the leader can.
func (l *Log) change(ctx context.Context, what string, f func() error) error {
	err := l.call(ctx, f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, errClosed), ctx.Err() != nil:
		return noLeader(what, err)
	}
	return structs.Errorf(structs.CodeUnavailable, "the leader could not %s: %s", what, strings.TrimSuffix(err.Error(), "."))
}
