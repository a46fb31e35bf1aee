// Package autopilot is the membership loop of the leader: it adds, promotes and removes
// servers of the log. It knows the log only by the interface Log, and nothing of the
// entries. Package raftlog runs it.
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

// Peer is a server of the log's membership.
type Peer struct {
	ID    string
	Addr  string // host:port of its Raft port
	Voter bool   // otherwise it only follows, as a new server does
}

// Log is what the loop needs of this server's log. *raftlog.Log satisfies it.
type Log interface {
	// Peers returns the newest membership.
	Peers() ([]Peer, error)
	// Progress returns this server's progress in the log.
	Progress() structs.PeerProgress
	// RemovePeer removes a server from the membership.
	RemovePeer(ctx context.Context, id string) error
}

// Candidate is a server that is known by other means than the membership.
type Candidate struct {
	Peer
	Name   string
	Failed bool // it has been dead for so long that it may be replaced
}

// Config is what the membership loop bases its decisions on.
type Config struct {
	// Candidates returns the servers that should belong to the cluster, including this
	// one. An ID may occur several times; the first candidate that can be verified
	// counts.
	Candidates func() []Candidate
	// Verify checks that a candidate is the server that it claims to be, at its
	// address. It is called before a server is added or its address changes.
	Verify func(ctx context.Context, c Candidate) error
	// Progress asks a server for its progress.
	Progress func(ctx context.Context, id string) (structs.PeerProgress, error)
	// Removed is called with the ID of a server that was removed because it had failed;
	// nil does nothing.
	Removed func(id string)
	// MinVoters is the number of voters below which no failed server is removed: a dead
	// server keeps its membership until another one has replaced it. 0 means 3.
	MinVoters int
	// Stable is how long a new server has to keep up before it becomes a voter; 0 means
	// 5s.
	Stable time.Duration
}

// The pace and the bounds of the loop.
const (
	loopTick        = time.Second
	reconcileTick   = 2 * time.Second
	contactBound    = 2 * time.Second // a server whose last contact with the leader is longer ago is unhealthy
	maxTrailingLogs = 1000            // a server further behind is not promoted
)

// removeTimeout bounds the removal of a failed server.
const removeTimeout = 10 * time.Second

// Loop is the membership loop.
type Loop struct {
	Raft     *raft.Raft
	ServerID string // of this server
	Log      Log
	Config   Config
	Logger   hclog.Logger
}

// Run adds new servers as non-voters, promotes those that keep up, and removes dead
// ones that have been replaced, until ctx ends.
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
	refused := make(map[Peer]bool) // already logged
	for {
		l.addServers(ctx, pilot, refused)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// addServers adds the candidates that are not in the membership, and updates those
// whose address has changed.
func (l *Loop) addServers(ctx context.Context, pilot *library.Autopilot, refused map[Peer]bool) {
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
		case at[c.ID] == c.Addr: // later candidates of the ID were started earlier
			placed[c.ID] = true
			continue
		case verified[i] != nil:
			still[c.Peer] = true
			if !refused[c.Peer] && ctx.Err() == nil {
				refused[c.Peer] = true
				l.Logger.Warn("server not added", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", verified[i])
			}
			continue
		}
		placed[c.ID] = true
		server := &library.Server{ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: library.NodeAlive}
		if err := pilot.AddServer(server); err != nil {
			l.Logger.Warn("server not added", "server_id", c.ID, "name", c.Name, "addr", c.Addr, "error", err)
			continue
		}
		l.Logger.Info("server added", "server_id", c.ID, "name", c.Name, "addr", c.Addr)
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

// NotifyState does nothing.
func (*application) NotifyState(*library.State) {}

// KnownServers returns the servers of the membership. Those without a candidate count
// as alive: gossip may not have reached this server yet. Candidates outside the
// membership are left out, because they are not verified.
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
		ID: raft.ServerID(c.ID), Name: c.Name, Address: raft.ServerAddress(c.Addr), NodeStatus: library.NodeAlive,
		NodeType:    library.NodeVoter,
		RaftVersion: int(raft.ProtocolVersionMax), IsLeader: c.ID == a.ServerID,
	}
	if c.Failed {
		s.NodeStatus = library.NodeFailed
	}
	return s
}

// FetchServerStats asks all servers for their progress at once.
func (a *application) FetchServerStats(ctx context.Context,
	servers map[raft.ServerID]*library.Server) map[raft.ServerID]*library.ServerStats {
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

// RemoveFailedServer removes a dead server from the membership. The library requires
// that it doesn't block.
func (a *application) RemoveFailedServer(s *library.Server) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
		defer cancel()
		if err := a.Log.RemovePeer(ctx, string(s.ID)); err != nil {
			a.Logger.Warn("dead server not removed", "server_id", string(s.ID), "name", s.Name, "error", err)
			return
		}
		a.Logger.Warn("dead server removed, another one has replaced it", "server_id", string(s.ID), "name", s.Name)
		if a.Config.Removed != nil {
			a.Config.Removed(string(s.ID))
		}
	}()
}
