package service

import (
	"context"
	"io"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Operations is what operators can do with the servers. Package server implements it.
type Operations interface {
	// Members returns the servers and agents that gossip, this server among them.
	Members() []structs.MemberBody
	// Peers returns the servers of the membership, and how far each has replicated.
	Peers(ctx context.Context) ([]structs.RaftPeerBody, error)
	// Peer returns the ID of the peer with a UUID or name. CodeNotFound,
	// CodeConflict.
	Peer(ident string) (id string, err error)
	// RemovePeer removes a server from the cluster for good. Only the leader can.
	// Without force it refuses to remove a server without which no majority answers.
	// CodeNotFound, CodeConflict, CodeNoLeader, CodeUnavailable.
	RemovePeer(ctx context.Context, id string, force bool) error
	// Transfer hands leadership over to a peer, or, with "", to the one that is most
	// up to date. Only the leader can. CodeNotFound, CodeConflict, CodeNoLeader,
	// CodeUnavailable.
	Transfer(ctx context.Context, id string) error
	// Save writes a state as a snapshot file.
	Save(w io.Writer, s *state.Snapshot) error
	// Restore replaces the state of all servers by that of a snapshot file. Only the
	// leader can. With keep the cluster keeps its own ID. CodeInvalid if the file is
	// not an intact snapshot, CodeConflict, CodeNoSpace, CodeNoLeader, CodeUnavailable.
	Restore(ctx context.Context, file io.Reader, keep bool) (structs.RestoredBody, error)
	// PeerSecret returns the secret with which servers of the cluster call each other.
	PeerSecret() string
}

// Operators carries out operators' requests about the servers.
type Operators struct{ s *Service }

// Operators returns the operations on the cluster's servers.
func (s *Service) Operators() Operators { return Operators{s} }

// Servers returns the configured Operations. CodeUnavailable if there are none.
func (n Operators) Servers() (Operations, error) {
	if n.s.config.Operations == nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "This server has no operations for operators.")
	}
	return n.s.config.Operations, nil
}

// RemovePeer removes a server from the cluster for good, with force also if no
// majority that answers is left. Errors are CodeNotFound, CodeConflict,
// CodeUnavailable, and those of onLeader.
func (n Operators) RemovePeer(ctx context.Context, c *Call, ident string, force bool) error {
	op, err := n.Servers()
	if err != nil {
		return err
	}
	_, err = onLeader(ctx, n.s, c, true, func(retryAfterUnknown bool) (struct{}, error) {
		id, err := op.Peer(ident)
		if err == nil {
			err = op.RemovePeer(ctx, id, force)
		}
		if retryAfterUnknown && structs.CodeOf(err) == structs.CodeNotFound {
			err = nil // an earlier try has removed it
		}
		return struct{}{}, err
	})
	return err
}

// Transfer hands leadership over to the server with a UUID or name, or, with nil, to
// the one that is most up to date. A forwarded call returns once that is done. Any
// other call waits until another server leads. A forwarding server stops waiting for
// the leader's answer when that leader loses leadership. Here that is the aim, so the
// result is judged by who leads afterwards. Errors are CodeNotFound, CodeConflict,
// CodeUnavailable, and those of onLeader.
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
		return structs.Errorf(structs.CodeNoLeader, "the leader handed leadership over, and no server leads yet: try again in a second")
	case now == before:
		return structs.Errorf(structs.CodeUnavailable, "server %s still leads, or leads again: try again in a second", now)
	case to != "" && now != to:
		return structs.Errorf(structs.CodeUnavailable, "server %s leads now instead of %s, which may be behind: see the list of peers", now,
			to)
	}
	return nil
}

// leaderTick is how often AwaitLeader checks whether the leader's address is known.
const leaderTick = 50 * time.Millisecond

// AwaitLeader waits for up to Hold for a leader for which fits is true and whose
// address is known. It returns the ID of the last leader that it saw.
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

// LeaderAddress returns the leader's address for other servers, "" while there is no
// leader.
func (n Operators) LeaderAddress() string {
	_, address := n.s.config.Cluster.Leader()
	return address
}
