package operator

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func operatorRoutes(leader func() (name, address string)) []*web.Route {
	get, put, del := http.MethodGet, http.MethodPut, http.MethodDelete
	return []*web.Route{
		{Method: get, Path: "/operator/state", Action: identity.OperatorState, Handle: getOperatorState, Args: web.Consistency,
			Summary: "Index, hash and schema of the replicated state", Gives: web.OK(operatorState{})},
		{Method: get, Path: "/operator/members", Action: identity.OperatorMembers, Handle: listMembers,
			Args:    []wire.Arg{{Name: "role", Kind: wire.ArgText, Doc: "server or agent; default both."}},
			Summary: "The members of gossip as this server sees them: servers, and hosts, also unregistered ones",
			Gives:   web.OK(structs.MembersBody{})},
		{Method: get, Path: "/operator/raft/peers", Action: identity.OperatorPeers, Handle: listPeers, Args: web.Consistency,
			Summary: "The servers of the log's membership, and how far each has replicated", Gives: web.OK(structs.RaftPeersBody{})},
		{Method: del, Path: "/operator/raft/peers/:id", Action: identity.OperatorRemove, Handle: removePeer,
			Args:    []wire.Arg{{Name: "force", Kind: wire.ArgBool, Doc: "Also if no majority that answers is left."}},
			Summary: "Remove a server from the cluster for good", Gives: []wire.Answer{{Status: http.StatusNoContent}}},
		{Method: put, Path: "/operator/raft/transfer-leader", Action: identity.OperatorLead, Handle: transferLeader(leader),
			Args: []wire.Arg{{Name: "to", Kind: wire.ArgText,
				Doc: "The next leader: uuid or name; default the server that is most up to date."}},
			Summary: "Hand leadership over to another server", Gives: web.OK(leaderBody{})},
	}
}

// operatorState answers GET /v1/operator/state.
type operatorState struct {
	structs.OperatorState
	//api:doc Address of the leader; empty if there is none.
	Leader string `json:"leader"` // address of the leader, "" while there is none
}

func getOperatorState(q *web.Request) error {
	if err := q.Service.Await(q.Context(), &q.Call); err != nil {
		return err
	}
	snap := q.Service.Snapshot() // index and hash must be from one snapshot
	q.W.Index = snap.Index()
	body := operatorState{OperatorState: structs.OperatorState{
		Index: snap.Index(), Hash: state.FormatHash(snap.Hash()), Schema: snap.Cluster().SchemaInUse(), Understood: structs.SchemaVersion,
	}}
	body.Leader = q.Service.Operators().LeaderAddress()
	return q.JSON(http.StatusOK, body)
}

// listMembers answers with the members of gossip, which include hosts that are not in the
// state.
func listMembers(q *web.Request) error {
	role := q.Query.Text("role")
	if role != "" && role != structs.RoleServer && role != structs.RoleAgent {
		return structs.Invalid("role", role, "It must be %s or %s.", structs.RoleServer, structs.RoleAgent)
	}
	op, err := q.Service.Operators().Servers()
	if err != nil {
		return err
	}
	members := []structs.MemberBody{} // encodes as [] instead of null
	for _, m := range op.Members() {
		if role == "" || m.Role == role {
			members = append(members, m)
		}
	}
	return q.JSON(http.StatusOK, structs.MembersBody{Members: members})
}

func listPeers(q *web.Request) error {
	if err := q.Service.Await(q.Context(), &q.Call); err != nil {
		return err
	}
	op, err := q.Service.Operators().Servers()
	if err != nil {
		return err
	}
	peers, err := op.Peers(q.Context())
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, structs.RaftPeersBody{Peers: peers})
}

// nothing is the decision of a write without a result.
type nothing struct{}

// removePeer removes a server from the cluster.
var removePeer = web.Write(func(q *web.Request) (nothing, error) {
	return nothing{}, q.Service.Operators().RemovePeer(q.Context(), &q.Call, q.Ident(), q.Query.Bool("force", false))
}, func(q *web.Request, _ nothing) error { return q.NoContent() })

// transferLeader makes the handler that hands leadership over and answers with the new
// leader.
func transferLeader(leader func() (name, address string)) func(*web.Request) error {
	return web.Write(func(q *web.Request) (nothing, error) {
		var to *string
		if q.Query.Has("to") {
			ident := q.Query.Text("to")
			to = &ident
		}
		return nothing{}, q.Service.Operators().Transfer(q.Context(), &q.Call, to)
	}, func(q *web.Request, _ nothing) error {
		name, address := leader()
		return q.JSON(http.StatusOK, leaderBody{Leader: leaderAddress{Name: name, Address: address}})
	})
}
