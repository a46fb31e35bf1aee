package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// operations returns what operates the servers. CodeUnavailable if nothing does.
func (q *request) operations() (operations, error) {
	if q.Operations == nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "This server has nothing to operate.")
	}
	return q.Operations, nil
}

// listMembers answers with who gossips: also hosts that are not in the state.
func listMembers(q *request) error {
	role := q.query.Text("role")
	if role != "" && role != structs.RoleServer && role != structs.RoleAgent {
		return wire.Invalid("role", role, "It is neither %s nor %s.", structs.RoleServer, structs.RoleAgent)
	}
	op, err := q.operations()
	if err != nil {
		return err
	}
	members := []structs.MemberBody{} // never null
	for _, m := range op.Members() {
		if role == "" || m.Role == role {
			members = append(members, m)
		}
	}
	return q.json(http.StatusOK, structs.MembersBody{Members: members})
}

func listPeers(q *request) error {
	if err := q.await(); err != nil {
		return err
	}
	op, err := q.operations()
	if err != nil {
		return err
	}
	peers, err := op.Peers(q.r.Context())
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.RaftPeersBody{Peers: peers})
}

// removePeer takes a server out of the cluster.
func removePeer(q *request) error {
	op, err := q.operations()
	if err != nil {
		return err
	}
	force := q.query.Bool("force", false)
	_, err = onLeader(q, true, func(unsure bool) (struct{}, error) {
		id, err := op.Peer(q.ident())
		if err == nil {
			err = op.RemovePeer(q.r.Context(), id, force)
		}
		if unsure && structs.CodeOf(err) == structs.CodeNotFound {
			err = nil // an earlier try has done it
		}
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	return q.noContent()
}

// transferLeader hands leadership over and answers with who has got it. The
// server that hands on a request to the leader gives that leader up as soon as it
// leads no longer, which here means that all is well: what came of it is seen by
// who leads then.
func transferLeader(q *request) error {
	op, err := q.operations()
	if err != nil {
		return err
	}
	to := ""
	if q.query.Has("to") {
		if to, err = op.Peer(q.query.Text("to")); err != nil {
			return err
		}
	}
	before := q.awaitLeader(func(id string) bool { return id != "" })
	if before == "" {
		return q.errLeaderless()
	}
	_, err = onLeader(q, false, func(bool) (struct{}, error) {
		return struct{}{}, op.Transfer(q.r.Context(), to)
	})
	if err != nil && !isUnknown(err) {
		return err
	}
	switch now := q.awaitLeader(func(id string) bool { return id != "" && id != before }); {
	case now == "":
		return structs.Errorf(structs.CodeNoLeader, "leadership was given up, and no server has taken it yet: try again in a second")
	case now == before:
		return structs.Errorf(structs.CodeUnavailable, "server %s leads still, or again: try again in a second", now)
	case to != "" && now != to:
		return structs.Errorf(structs.CodeUnavailable, "server %s leads now, and not %s, which may be behind: see the list of peers", now, to)
	}
	name, address := q.Leader()
	return q.json(http.StatusOK, leaderBody{Leader: leaderAddress{Name: name, Address: address}})
}

// leaderTick is how often it is looked whether the leader's address is known.
const leaderTick = 50 * time.Millisecond

// awaitLeader waits for up to Hold for a leader that fits and whose address is
// known, and returns the last that was seen.
func (q *request) awaitLeader(fits func(id string) bool) (id string) {
	ctx, cancel := context.WithTimeout(q.r.Context(), q.Hold)
	defer cancel()
	for {
		changed := q.Cluster.Changed()
		id, _ = q.Cluster.Leader()
		if _, address := q.Leader(); fits(id) && address != "" {
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
