package service

import (
	"context"
	"io"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Operations is what operators ask of the servers. package server has it.
type Operations interface {
	// Members returns the servers and agents that gossip, this server among them.
	Members() []structs.MemberBody
	// Peers returns the servers of the log's configuration, and how far each is.
	Peers(ctx context.Context) ([]structs.RaftPeerBody, error)
	// Peer returns the id of the peer of a uuid or name. CodeNotFound,
	// CodeConflict.
	Peer(ident string) (id string, err error)
	// RemovePeer takes a server out of the cluster for good; the leader can.
	// Without force not one whose loss leaves no majority that answers.
	// CodeNotFound, CodeConflict, CodeNoLeader, CodeUnavailable.
	RemovePeer(ctx context.Context, id string, force bool) error
	// Transfer hands leadership to a peer, with "" to the one that is most up to
	// date; the leader can. CodeNotFound, CodeConflict, CodeNoLeader,
	// CodeUnavailable.
	Transfer(ctx context.Context, id string) error
	// Save writes a state as a snapshot file.
	Save(w io.Writer, s *state.Snapshot) error
	// Restore replaces the state of all servers by that of a snapshot file; the
	// leader can. With keep the cluster keeps its own id. CodeInvalid for what is
	// no sound snapshot, CodeConflict, CodeNoSpace, CodeNoLeader, CodeUnavailable.
	Restore(ctx context.Context, file io.Reader, keep bool) (structs.RestoredBody, error)
	// PeerSecret is what another server knows this one by.
	PeerSecret() string
}

// Operators carries out what operators ask of the servers.
type Operators struct{ s *Service }

// Operators returns what callers ask of the cluster.
func (s *Service) Operators() Operators { return Operators{s} }

// Servers returns what operates the servers. CodeUnavailable if nothing does.
func (n Operators) Servers() (Operations, error) {
	if n.s.config.Operations == nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "This server has nothing to operate.")
	}
	return n.s.config.Operations, nil
}

// RemovePeer takes a server out of the cluster for good: with force also if no
// majority that answers is left. CodeNotFound, CodeConflict, CodeUnavailable, and
// what no leader means.
func (n Operators) RemovePeer(ctx context.Context, c *Call, ident string, force bool) error {
	op, err := n.Servers()
	if err != nil {
		return err
	}
	_, err = onLeader(ctx, n.s, c, true, func(unsure bool) (struct{}, error) {
		id, err := op.Peer(ident)
		if err == nil {
			err = op.RemovePeer(ctx, id, force)
		}
		if unsure && structs.CodeOf(err) == structs.CodeNotFound {
			err = nil // an earlier try has done it
		}
		return struct{}{}, err
	})
	return err
}

// Transfer hands leadership over, to the server of a UUID or name, with nil to the
// one that is most up to date. A forwarded call returns once that is done; any other waits
// until another server leads. The server that forwards a call to the leader gives
// that leader up as soon as it leads no longer, which here means that all is well:
// what came of it is seen by who leads then. CodeNotFound, CodeConflict,
// CodeUnavailable, and what no leader means.
func (n Operators) Transfer(ctx context.Context, c *Call, ident *string) error {
	op, err := n.Servers()
	if err != nil {
		return err
	}
	to := ""
	if ident != nil {
		if to, err = op.Peer(*ident); err != nil {
			return err
		}
	}
	before := n.AwaitLeader(ctx, func(id string) bool { return id != "" })
	if before == "" {
		return n.s.Leaderless()
	}
	_, err = onLeader(ctx, n.s, c, false, func(bool) (struct{}, error) {
		return struct{}{}, op.Transfer(ctx, to)
	})
	switch {
	case err != nil && !IsUnknown(err):
		return err
	case err == nil && c.Forwarded:
		return nil
	}
	switch now := n.AwaitLeader(ctx, func(id string) bool { return id != "" && id != before }); {
	case now == "":
		return structs.Errorf(structs.CodeNoLeader, "leadership was given up, and no server has taken it yet: try again in a second")
	case now == before:
		return structs.Errorf(structs.CodeUnavailable, "server %s leads still, or again: try again in a second", now)
	case to != "" && now != to:
		return structs.Errorf(structs.CodeUnavailable, "server %s leads now, and not %s, which may be behind: see the list of peers", now,
			to)
	}
	return nil
}

// leaderTick is how often it is looked whether the leader's address is known.
const leaderTick = 50 * time.Millisecond

// AwaitLeader waits for up to Hold for a leader that fits and whose address is
// known, and returns the last that was seen.
func (n Operators) AwaitLeader(ctx context.Context, fits func(id string) bool) (id string) {
	ctx, cancel := context.WithTimeout(ctx, n.s.config.Hold)
	defer cancel()
	for {
		changed := n.s.config.Cluster.Changed()
		id, _ = n.s.config.Cluster.Leader()
		if _, address := n.s.config.Leader(); fits(id) && address != "" {
			return id
		}
		select {
		case <-ctx.Done():
			return id
		case <-changed:
		case <-time.After(leaderTick):
		}
	}
}

// LeaderAddress returns the address of the leader in the cluster's own network, ""
// while there is none.
func (n Operators) LeaderAddress() string {
	_, address := n.s.config.Cluster.Leader()
	return address
}
