package raftlog

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/stackforge/magnum/structs"
)

// Candidate is a server that is known by other means than the log's
// configuration.
type Candidate struct {
	Peer
	Name   string
	Failed bool // it has been gone for so long that it may be replaced
}

// Steward says what the leader takes its decisions about servers from.
type Steward struct {
	// Known returns the servers that are to belong to the cluster, this one too. There
	// may be several of one ID: the first that can be vouched for counts.
	Known func() []Candidate
	// Vouch finds out whether a candidate is the server that it is said to be, at its
	// address. It is asked before one is taken in or moved.
	Vouch func(ctx context.Context, c Candidate) error
	// Progress asks a server how far it is.
	Progress func(ctx context.Context, id string) (structs.PeerProgress, error)
	// Removed is called with a server that was taken out because it had failed.
	Removed func(id string)
	// Least is the number of voters below which none is removed for having
	// failed: a dead server stays in the configuration until another one has
	// come in its place. 0 means 3.
	Least int
	// Stable is how long a new server has to keep up before it may vote; 0 means
	// 5s.
	Stable time.Duration
}

// tend bounds how fast servers are taken in, promoted and removed.
const (
	tendTick        = time.Second
	reconcileTick   = 2 * time.Second
	contactBound    = 2 * time.Second // a server that has not heard the leader for so long is not healthy
	maxTrailingLogs = 1000            // entries that a server may be behind and still be promoted
)

// Tend looks after the servers while this one leads: takes new ones in as
// non-voters, promotes those that keep up, and removes the dead ones that have
// been replaced. It blocks until ctx ends.
func (l *Log) Tend(ctx context.Context, s Steward) error {
	if s.Least == 0 {
		s.Least = 3
	}
	if s.Stable == 0 {
		s.Stable = 5 * time.Second
	}
	pilot := autopilot.New(l.raft, &application{log: l, Steward: s},
		autopilot.WithLogger(l.config.Logger.Named("autopilot")),
		autopilot.WithUpdateInterval(tendTick), autopilot.WithReconcileInterval(reconcileTick))
	pilot.Start(ctx)
	defer func() { <-pilot.Stop() }()
	tick := time.NewTicker(tendTick)
	defer tick.Stop()
	refused := make(map[Peer]bool) // of these it was said already
	for {
		l.admit(ctx, pilot, s, refused)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// admit takes in the servers that are known and not yet in the configuration,
// and those whose address is another.
func (l *Log) admit(ctx context.Context, pilot *autopilot.Autopilot, s Steward, refused map[Peer]bool) {
	peers, err := l.Peers()
	if err != nil {
		return // shutting down
	}
	at := make(map[string]string, len(peers))
	for _, p := range peers {
		at[p.ID] = p.Addr
	}
	known := s.Known()
	vouched := make([]error, len(known))
	var asking sync.WaitGroup
	for i, c := range known {
		if !c.Failed && c.Addr != "" && at[c.ID] != c.Addr {
			asking.Go(func() { vouched[i] = s.Vouch(ctx, c) })
		}
	}
	asking.Wait()
	still := make(map[Peer]bool)
	settled := make(map[string]bool)
	for i, c := range known {
		switch {
		case c.Failed || c.Addr == "" || settled[c.ID]:
			continue
		case at[c.ID] == c.Addr: // and those that follow were started before it
			settled[c.ID] = true
			continue
		case vouched[i] != nil:
			still[c.Peer] = true
			if !refused[c.Peer] && ctx.Err() == nil {
				refused[c.Peer] = true
				l.config.Logger.Warn("server not taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", vouched[i])
			}
			continue
		}
		settled[c.ID] = true
		server := &autopilot.Server{ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: autopilot.NodeAlive}
		if err := pilot.AddServer(server); err != nil {
			l.config.Logger.Warn("server not taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", err)
			continue
		}
		l.config.Logger.Info("server taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr)
	}
	maps.DeleteFunc(refused, func(p Peer, _ bool) bool { return !still[p] })
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
	if p.LastIndex > 0 && l.logs.GetLog(p.LastIndex, &entry) == nil {
		p.LastTerm = entry.Term
	} else {
		p.LastTerm = l.Term() // the last entry is in a snapshot
	}
	return p
}

// application is the library's view of magnum.
type application struct {
	log *Log
	Steward
}

// AutopilotConfig returns the library's tunables.
func (a *application) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers: true, LastContactThreshold: contactBound, MaxTrailingLogs: maxTrailingLogs,
		MinQuorum: uint(a.Least), ServerStabilizationTime: a.Stable,
	}
}

// NotifyState has nothing to do.
func (*application) NotifyState(*autopilot.State) {}

// KnownServers returns the servers of the configuration, as alive those that are
// not known: gossip may not have come around yet. Others are none of the library's
// business before they have been vouched for.
func (a *application) KnownServers() map[raft.ServerID]*autopilot.Server {
	known := make(map[raft.ServerID]*autopilot.Server)
	if peers, err := a.log.Peers(); err == nil {
		for _, p := range peers {
			known[raft.ServerID(p.ID)] = a.server(Candidate{Peer: p, Name: p.ID})
		}
	}
	for _, c := range a.Known() {
		if s := known[raft.ServerID(c.ID)]; s != nil {
			c.Addr = string(s.Address)
			known[raft.ServerID(c.ID)] = a.server(c)
		}
	}
	return known
}

func (a *application) server(c Candidate) *autopilot.Server {
	s := &autopilot.Server{
		ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: autopilot.NodeAlive, NodeType: autopilot.NodeVoter,
		RaftVersion: int(raft.ProtocolVersionMax), IsLeader: c.ID == a.log.config.ServerID,
	}
	if c.Failed {
		s.NodeStatus = autopilot.NodeFailed
	}
	return s
}

// FetchServerStats asks all servers at once how far they are.
func (a *application) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	stats := make(map[raft.ServerID]*autopilot.ServerStats, len(servers))
	var mu sync.Mutex
	var asking sync.WaitGroup
	for id := range servers {
		asking.Go(func() {
			p := a.log.Progress()
			if string(id) != a.log.config.ServerID {
				var err error
				if p, err = a.Progress(ctx, string(id)); err != nil {
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			stats[id] = &autopilot.ServerStats{LastContact: p.Contact, LastTerm: p.LastTerm, LastIndex: p.LastIndex}
		})
	}
	asking.Wait()
	return stats
}

// RemoveFailedServer takes a dead server out of the configuration. The library
// wants it not to block.
func (a *application) RemoveFailedServer(s *autopilot.Server) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), peerTimeout)
		defer cancel()
		if err := a.log.RemovePeer(ctx, string(s.ID)); err != nil {
			a.log.config.Logger.Warn("dead server not removed", "server_id", string(s.ID), "name", s.Name, "error", err)
			return
		}
		a.log.config.Logger.Warn("dead server removed: another one has come in its place", "server_id", string(s.ID), "name", s.Name)
		if a.Removed != nil {
			a.Removed(string(s.ID))
		}
	}()
}
