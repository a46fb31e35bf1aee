package operator

import (
	"net/http"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// The routes here are for load balancers and probes, which have no token. Their answers
// have nothing beyond what was asked.

// leaderBody answers GET /v1/status/leader.
type leaderBody struct {
	//api:doc Address of the leader; empty if there is none.
	Leader leaderAddress `json:"leader"`
}

type leaderAddress struct {
	//api:doc Name in gossip.
	Name    string `json:"name"`
	Address string `json:"address"` // of its REST API, host:port
}

// statusBody answers a probe of a healthy server.
type statusBody struct {
	//api:doc Current status.
	Status string `json:"status"`
}

// unwellBody answers a probe otherwise. It is an error that also lists the reasons.
type unwellBody struct {
	//api:doc Current status.
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
	structs.ErrorBody
}

// maxBehind is how many committed entries a server may still have to apply and count as
// up to date.
const maxBehind = 1024

// status serves probes.
type status struct {
	leader func() (name, address string) // of the leader's REST API
	room   func() error                  // why nothing can be written to the disk
	behind func() uint64                 // number of committed entries that this server has not applied
}

func (st status) routes() []*web.Route {
	probed := append(web.OK(statusBody{}), wire.Answer{Status: http.StatusServiceUnavailable, Body: unwellBody{}})
	return []*web.Route{
		{Method: http.MethodGet, Path: "/status/leader", Action: identity.Public, Handle: st.getLeader,
			Summary: "Who leads; 503 while nobody does", Gives: web.OK(leaderBody{})},
		{Method: http.MethodGet, Path: "/status/health", Action: identity.Public, Handle: st.getHealth,
			Summary: "Whether this server is healthy; 503 with the reasons if not", Gives: probed},
		{Method: http.MethodGet, Path: "/status/ready", Action: identity.Public, Handle: st.getReady,
			Summary: "Whether this server can serve requests; 503 with the reasons if not", Gives: probed},
	}
}

func (st status) getLeader(q *web.Request) error {
	name, address := st.leader()
	if address == "" {
		return q.Service.Leaderless()
	}
	return q.JSON(http.StatusOK, leaderBody{Leader: leaderAddress{Name: name, Address: address}})
}

// getReady answers whether requests can be served.
func (st status) getReady(q *web.Request) error { return probe(q, "ready", st.unready(q)) }

// getHealth answers whether an operator has to act.
func (st status) getHealth(q *web.Request) error {
	reasons := st.unready(q)
	if st.room() != nil {
		reasons = append(reasons, "the disk is nearly full: nothing is written")
	}
	return probe(q, "ok", reasons)
}

// unready returns why requests can't be served.
func (st status) unready(q *web.Request) []string {
	var reasons []string
	if _, address := st.leader(); address == "" {
		reasons = append(reasons, "there is no leader")
	}
	switch {
	case q.Service.Snapshot().Cluster() == nil:
		reasons = append(reasons, "the state is not loaded")
	case st.behind() > maxBehind:
		reasons = append(reasons, "the state is behind")
	}
	return reasons
}

func probe(q *web.Request, well string, reasons []string) error {
	q.W.Header().Set("Cache-Control", "no-store")
	if len(reasons) == 0 {
		return q.JSON(http.StatusOK, statusBody{Status: well})
	}
	e := structs.Errorf(structs.CodeUnavailable, "not %s: %s", well, strings.Join(reasons, "; "))
	status, body := web.ErrorBody(q.W, e)
	return q.JSON(status, unwellBody{Status: "not " + well, Reasons: reasons, ErrorBody: body})
}
