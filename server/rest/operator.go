package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func operatorRoutes(leader func() (name, address string)) []*route {
	get, put, del := http.MethodGet, http.MethodPut, http.MethodDelete
	return []*route{
		{method: get, path: "/operator/state", action: identity.OperatorState, handle: getOperatorState, args: consistency, summary: "Index, hash and schema of the replicated state", gives: ok(operatorState{})},
		{method: get, path: "/operator/members", action: identity.OperatorMembers, handle: listMembers,
			args:    []wire.Arg{{Name: "role", Kind: wire.ArgText, Doc: "server or agent; default both."}},
			summary: "Servers, and hosts registered or not, as this server's gossip has them", gives: ok(structs.MembersBody{})},
		{method: get, path: "/operator/raft/peers", action: identity.OperatorPeers, handle: listPeers, args: consistency,
			summary: "The servers of the log's configuration, and how far each is", gives: ok(structs.RaftPeersBody{})},
		{method: del, path: "/operator/raft/peers/:id", action: identity.OperatorRemove, handle: removePeer,
			args:    []wire.Arg{{Name: "force", Kind: wire.ArgBool, Doc: "Also if no majority that answers is left."}},
			summary: "Take a server out of the cluster for good", gives: []wire.Answer{{Status: http.StatusNoContent}}},
		{method: put, path: "/operator/raft/transfer-leader", action: identity.OperatorLead, handle: transferLeader(leader),
			args:    []wire.Arg{{Name: "to", Kind: wire.ArgText, Doc: "Server that shall lead: uuid or name; default the one that is most up to date."}},
			summary: "Hand leadership to another server", gives: ok(leaderBody{})},
	}
}

// operatorState answers GET /v1/operator/state.
type operatorState struct {
	structs.OperatorState
	Leader string `json:"leader"` // address of the leader, "" while there is none
}

func getOperatorState(q *request) error {
	if err := q.service.Await(q.ctx(), &q.call); err != nil {
		return err
	}
	snap := q.service.Snapshot() // index and hash of one instant
	q.w.index = snap.Index()
	body := operatorState{OperatorState: structs.OperatorState{
		Index: snap.Index(), Hash: state.FormatHash(snap.Hash()), Schema: snap.Cluster().SchemaInUse(), Understood: structs.SchemaVersion,
	}}
	body.Leader = q.service.Operators.LeaderAddress()
	return q.json(http.StatusOK, body)
}

// listMembers answers with who gossips: also hosts that are not in the state.
func listMembers(q *request) error {
	role := q.query.Text("role")
	if role != "" && role != structs.RoleServer && role != structs.RoleAgent {
		return structs.Invalid("role", role, "It is neither %s nor %s.", structs.RoleServer, structs.RoleAgent)
	}
	op, err := q.service.Operators.Servers()
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
	if err := q.service.Await(q.ctx(), &q.call); err != nil {
		return err
	}
	op, err := q.service.Operators.Servers()
	if err != nil {
		return err
	}
	peers, err := op.Peers(q.ctx())
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.RaftPeersBody{Peers: peers})
}

// nothing is what is decided where there is nothing to tell.
type nothing struct{}

// removePeer takes a server out of the cluster.
var removePeer = write(func(q *request) (nothing, error) {
	return nothing{}, q.service.Operators.RemovePeer(q.ctx(), &q.call, q.ident(), q.query.Bool("force", false))
}, func(q *request, _ nothing) error { return q.noContent() })

// transferLeader makes the handler that hands leadership over and answers with who
// has got it.
func transferLeader(leader func() (name, address string)) func(*request) error {
	return write(func(q *request) (nothing, error) {
		var to *string
		if q.query.Has("to") {
			ident := q.query.Text("to")
			to = &ident
		}
		return nothing{}, q.service.Operators.Transfer(q.ctx(), &q.call, to)
	}, func(q *request, _ nothing) error {
		name, address := leader()
		return q.json(http.StatusOK, leaderBody{Leader: leaderAddress{Name: name, Address: address}})
	})
}
