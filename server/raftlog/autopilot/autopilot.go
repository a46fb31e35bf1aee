// Package autopilot looks after the servers of the log's configuration while this
// one leads. It knows of the log what Log says, and nothing of what is in it. Package
// raftlog runs it.
package autopilot

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	library "github.com/hashicorp/raft-autopilot"

	"github.com/stackforge/magnum/structs"
)

// Peer is a server in the log's configuration.
type Peer struct {
	ID    string
	Addr  string // host:port of its Raft port
	Voter bool   // else it only follows, as one that has just come
}

// Log is what is asked of this server's log. *raftlog.Log satisfies it.
type Log interface {
	// Peers returns the servers of the newest configuration.
	Peers() ([]Peer, error)
	// Progress returns how far this server has come.
	Progress() structs.PeerProgress
	// RemovePeer takes a server out of the configuration.
	RemovePeer(ctx context.Context, id string) error
}

// Candidate is a server that is known by other means than the log's
// configuration.
type Candidate struct {
	Peer
	Name   string
	Failed bool // it has been gone for so long that it may be replaced
}

// Config says what the leader takes its decisions about servers from.
type Config struct {
	// Candidates returns the servers that are to belong to the cluster, this one too. There
	// may be several of one ID: the first that can be verified for counts.
	Candidates func() []Candidate
	// Verify finds out whether a candidate is the server that it is said to be, at its
	// address. It is asked before one is taken in or moved.
	Verify func(ctx context.Context, c Candidate) error
	// Progress asks a server how far it is.
	Progress func(ctx context.Context, id string) (structs.PeerProgress, error)
	// Removed is called with a server that was taken out because it had failed.
	Removed func(id string)
	// MinVoters is the number of voters below which none is removed for having
	// failed: a dead server stays in the configuration until another one has
	// come in its place. 0 means 3.
	MinVoters int
	// Stable is how long a new server has to keep up before it may vote; 0 means
	// 5s.
	Stable time.Duration
}

// tend bounds how fast servers are taken in, promoted and removed.
const (
	loopTick        = time.Second
	reconcileTick   = 2 * time.Second
	contactBound    = 2 * time.Second // a server that has not heard the leader for so long is not healthy
	maxTrailingLogs = 1000            // entries that a server may be behind and still be promoted
)

// removeTimeout bounds the removal of a server that has failed.
const removeTimeout = 10 * time.Second

// Loop looks after the servers.
type Loop struct {
	Raft     *raft.Raft
	ServerID string // this server's own
	Log      Log
	Config   Config
	Logger   hclog.Logger
}

// Run takes new servers in as non-voters, promotes those that keep up, and removes
// the dead ones that have been replaced, until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	if l.Config.MinVoters == 0 {
		l.Config.MinVoters = 3
	}
	if l.Config.Stable == 0 {
		l.Config.Stable = 5 * time.Second
	}
	pilot := library.New(l.Raft, (*application)(l), library.WithLogger(l.Logger.Named("autopilot")),
		library.WithUpdateInterval(loopTick), library.WithReconcileInterval(reconcileTick))
	pilot.Start(ctx)
	defer func() { <-pilot.Stop() }()
	tick := time.NewTicker(loopTick)
	defer tick.Stop()
	refused := make(map[Peer]bool) // of these it was said already
	for {
		l.admit(ctx, pilot, refused)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// admit takes in the servers that are known and not yet in the configuration,
// and those whose address is another.
func (l *Loop) admit(ctx context.Context, pilot *library.Autopilot, refused map[Peer]bool) {
	peers, err := l.Log.Peers()
	if err != nil {
		return // shutting down
	}
	at := make(map[string]string, len(peers))
	for _, p := range peers {
		at[p.ID] = p.Addr
	}
	known := l.Config.Candidates()
	verified := make([]error, len(known))
	var asking sync.WaitGroup
	for i, c := range known {
		if !c.Failed && c.Addr != "" && at[c.ID] != c.Addr {
			asking.Go(func() { verified[i] = l.Config.Verify(ctx, c) })
		}
	}
	asking.Wait()
	still := make(map[Peer]bool)
	placed := make(map[string]bool)
	for i, c := range known {
		switch {
		case c.Failed || c.Addr == "" || placed[c.ID]:
			continue
		case at[c.ID] == c.Addr: // and those that follow were started before it
			placed[c.ID] = true
			continue
		case verified[i] != nil:
			still[c.Peer] = true
			if !refused[c.Peer] && ctx.Err() == nil {
				refused[c.Peer] = true
				l.Logger.Warn("server not taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", verified[i])
			}
			continue
		}
		placed[c.ID] = true
		server := &library.Server{ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: library.NodeAlive}
		if err := pilot.AddServer(server); err != nil {
			l.Logger.Warn("server not taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", err)
			continue
		}
		l.Logger.Info("server taken in", "server_id", c.ID, "name", c.Name, "addr", c.Addr)
	}
	maps.DeleteFunc(refused, func(p Peer, _ bool) bool { return !still[p] })
}

// application is the library's view of the loop.
type application Loop

// AutopilotConfig returns the library's tunables.
func (a *application) AutopilotConfig() *library.Config {
	return &library.Config{
		CleanupDeadServers: true, LastContactThreshold: contactBound, MaxTrailingLogs: maxTrailingLogs,
		MinQuorum: uint(a.Config.MinVoters), ServerStabilizationTime: a.Config.Stable,
	}
}

// NotifyState has nothing to do.
func (*application) NotifyState(*library.State) {}

// KnownServers returns the servers of the configuration, as alive those that are
// not known: gossip may not have come around yet. Others are none of the library's
// business before they have been verified for.
func (a *application) KnownServers() map[raft.ServerID]*library.Server {
	known := make(map[raft.ServerID]*library.Server)
	if peers, err := a.Log.Peers(); err == nil {
		for _, p := range peers {
			known[raft.ServerID(p.ID)] = a.server(Candidate{Peer: p, Name: p.ID})
		}
	}
	for _, c := range a.Config.Candidates() {
		if s := known[raft.ServerID(c.ID)]; s != nil {
			c.Addr = string(s.Address)
			known[raft.ServerID(c.ID)] = a.server(c)
		}
	}
	return known
}

func (a *application) server(c Candidate) *library.Server {
	s := &library.Server{
		ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: library.NodeAlive, NodeType: library.NodeVoter,
		RaftVersion: int(raft.ProtocolVersionMax), IsLeader: c.ID == a.ServerID,
	}
	if c.Failed {
		s.NodeStatus = library.NodeFailed
	}
	return s
}

// FetchServerStats asks all servers at once how far they are.
func (a *application) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*library.Server) map[raft.ServerID]*library.ServerStats {
	stats := make(map[raft.ServerID]*library.ServerStats, len(servers))
	var mu sync.Mutex
	var asking sync.WaitGroup
	for id := range servers {
		asking.Go(func() {
			p := a.Log.Progress()
			if string(id) != a.ServerID {
				var err error
				if p, err = a.Config.Progress(ctx, string(id)); err != nil {
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			stats[id] = &library.ServerStats{LastContact: p.Contact, LastTerm: p.LastTerm, LastIndex: p.LastIndex}
		})
	}
	asking.Wait()
	return stats
}

// RemoveFailedServer takes a dead server out of the configuration. The library
// wants it not to block.
func (a *application) RemoveFailedServer(s *library.Server) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
		defer cancel()
		if err := a.Log.RemovePeer(ctx, string(s.ID)); err != nil {
			a.Logger.Warn("dead server not removed", "server_id", string(s.ID), "name", s.Name, "error", err)
			return
		}
		a.Logger.Warn("dead server removed: another one has come in its place", "server_id", string(s.ID), "name", s.Name)
		if a.Config.Removed != nil {
			a.Config.Removed(string(s.ID))
		}
	}()
}
