package server

import (
	"cmp"
	"context"
	"slices"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// operations carries out requests of operators.
type operations struct{ s *Server }

// Members returns the servers and agents that gossip, by name. A server without gossip
// returns only itself.
func (o operations) Members() []structs.MemberBody {
	known := []gossip.Member{{
		Node: gossip.Node{
			ID: o.s.id, Name: o.s.config.Name, Role: gossip.RoleServer, ClusterID: o.s.raft.ClusterID(), HTTPAddr: o.s.URL(),
			Schema: structs.SchemaVersion, Version: o.s.config.Version,
		},
		State: gossip.StateAlive, Since: o.s.started,
	}}
	if o.s.gossip != nil {
		known = o.s.gossip.Members()
	}
	peers, _ := o.s.raft.Peers() // nil while it shuts down
	leader, _ := o.s.raft.Leader()
	snap := o.s.store.Snapshot()
	members := make([]structs.MemberBody, 0, len(known))
	for _, k := range known {
		m := structs.MemberBody{
			UUID: k.ID, Name: k.Name, Role: string(k.Role), Status: string(k.State), Since: structs.Time{Time: k.Since}, GossipAddr: k.Addr,
			HTTPAddr: orNull(k.HTTPAddr), RaftAddr: orNull(k.RaftAddr), ClusterID: orNull(k.ClusterID), Schema: k.Schema,
			Version: k.Version,
		}
		switch k.Role {
		case gossip.RoleServer:
			m.Leader = k.ID == leader
			if i := slices.IndexFunc(peers, func(p raftlog.Peer) bool { return p.ID == k.ID }); i >= 0 {
				m.Registered, m.Voter = true, peers[i].Voter
			}
		case gossip.RoleAgent:
			m.Registered, m.Schema = snap.Host(k.ID) != nil, 0
		}
		members = append(members, m)
	}
	return members
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Peers returns the servers of the log's membership in its order, with their progress.
// All are asked at once.
func (o operations) Peers(ctx context.Context) ([]structs.RaftPeerBody, error) {
	peers, err := o.s.raft.Peers()
	if err != nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "this server is shutting down (%w)", err)
	}
	progress := o.s.servers.progress(ctx, peers)
	leader, _ := o.s.raft.Leader()
	bodies := make([]structs.RaftPeerBody, len(peers))
	for i, p := range peers {
		b := structs.RaftPeerBody{UUID: p.ID, Name: orNull(o.s.servers.nameOf(p.ID)), RaftAddr: p.Addr, Voter: p.Voter,
			State: structs.PeerUnreachable}
		if at := progress[p.ID]; at != nil {
			b.State, b.LastIndex = structs.PeerFollower, &at.LastIndex
			if lead := progress[leader]; lead != nil {
				behind := lead.LastIndex - min(at.LastIndex, lead.LastIndex)
				b.Behind = &behind
			}
			if p.ID == leader {
				b.State = structs.PeerLeader
			}
		}
		bodies[i] = b
	}
	return bodies, nil
}

// Peer returns the ID of the peer with a UUID or name. Errors: CodeNotFound;
// CodeConflict for a name that several peers have.
func (o operations) Peer(ident string) (id string, err error) {
	peers, err := o.s.raft.Peers()
	if err != nil {
		return "", structs.Errorf(structs.CodeUnavailable, "this server is shutting down (%w)", err)
	}
	for _, p := range peers {
		switch {
		case p.ID == ident:
			return p.ID, nil
		case o.s.servers.nameOf(p.ID) != ident:
		case id != "":
			return "", structs.Errorf(structs.CodeConflict, "More than one server has the name %.64s: give its uuid.", ident)
		default:
			id = p.ID
		}
	}
	if id == "" {
		return "", structs.Errorf(structs.CodeNotFound, "Server %.64s is not one of those that keep the log.", ident)
	}
	return id, nil
}

// RemovePeer removes a server from the cluster and records the removal: the server may
// still run and gossip. Without force, the remaining voters that answer must be a
// majority. Errors: CodeNoLeader, CodeConflict, CodeNotFound.
func (o operations) RemovePeer(ctx context.Context, id string, force bool) error {
	switch {
	case !o.s.raft.IsLeader():
		return structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	case id == o.s.id:
		return structs.Errorf(structs.CodeConflict,
			"server %s is the leader: transfer leadership first (operator raft transfer-leader), then remove it",
			cmp.Or(o.s.config.Name, id))
	}
	if !force {
		if err := o.dispensable(ctx, id); err != nil {
			return err
		}
	}
	if _, err := conductor.Do(ctx, o.s.conductor, conductor.RemoveServer{ID: id}); err != nil {
		return err
	}
	if err := o.s.raft.RemovePeer(ctx, id); err != nil {
		return err
	}
	o.s.log.Warn("server removed from the cluster by an operator", "server_id", id, "name", o.s.servers.nameOf(id))
	o.s.gossip.Forget(id)
	return nil
}

// dispensable returns CodeConflict if the voters that remain without the server and
// answer are no majority.
func (o operations) dispensable(ctx context.Context, id string) error {
	peers, err := o.s.raft.Peers()
	if err != nil {
		return structs.Errorf(structs.CodeUnavailable, "this server is shutting down (%w)", err)
	}
	others := slices.DeleteFunc(peers, func(p raftlog.Peer) bool { return p.ID == id || !p.Voter })
	answer := o.s.servers.progress(ctx, others)
	if len(answer) > len(others)/2 {
		return nil
	}
	silent := ""
	for _, p := range others {
		if answer[p.ID] == nil {
			silent = cmp.Or(o.s.servers.nameOf(p.ID), p.ID)
		}
	}
	return structs.Errorf(structs.CodeConflict,
		"of the %d remaining voters only %d answer, which is no majority: bring back or remove %s first, or use force",
		len(others), len(answer), silent)
}

// Transfer transfers leadership to another server. Errors: CodeNoLeader, and those of
// raftlog's Transfer.
func (o operations) Transfer(ctx context.Context, id string) error {
	if !o.s.raft.IsLeader() {
		return structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	err := o.s.raft.Transfer(ctx, id)
	if structs.CodeOf(err) == structs.CodeNoLeader {
		return structs.Errorf(structs.CodeNoLeader, "%w (%w)", err, conductor.ErrUnknown)
	}
	return err
}
