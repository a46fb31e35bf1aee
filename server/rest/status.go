package rest

import (
	"net/http"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// The routes here are for load balancers and probes, which have no token. They
// tell nothing but what is asked.

// leaderBody answers GET /v1/status/leader.
type leaderBody struct {
	Leader leaderAddress `json:"leader"`
}

type leaderAddress struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its REST API, host:port
}

// statusBody answers a probe if all is well.
type statusBody struct {
	Status string `json:"status"`
}

// unwellBody answers it otherwise: an error that also lists the reasons.
type unwellBody struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
	structs.ErrorBody
}

// maxBehind is how many committed entries a server may have to apply and still
// be up to date: a moment's work.
const maxBehind = 1024

func getLeader(q *request) error {
	name, address := q.Leader()
	if address == "" {
		return q.errLeaderless()
	}
	return q.json(http.StatusOK, leaderBody{Leader: leaderAddress{Name: name, Address: address}})
}

// getReady answers whether requests can be served.
func getReady(q *request) error { return q.probe("ready", q.unready()) }

// getHealth answers whether a person should look.
func getHealth(q *request) error {
	reasons := q.unready()
	if q.Room() != nil {
		reasons = append(reasons, "the disk is nearly full: nothing is written")
	}
	return q.probe("ok", reasons)
}

// unready returns why requests can't be served.
func (q *request) unready() []string {
	var reasons []string
	if _, address := q.Leader(); address == "" {
		reasons = append(reasons, "there is no leader")
	}
	switch {
	case q.Store.Snapshot().Cluster() == nil:
		reasons = append(reasons, "the state is not loaded")
	case q.Behind() > maxBehind:
		reasons = append(reasons, "the state is behind")
	}
	return reasons
}

func (q *request) probe(well string, reasons []string) error {
	q.w.Header().Set("Cache-Control", "no-store")
	if len(reasons) == 0 {
		return q.json(http.StatusOK, statusBody{Status: well})
	}
	e := structs.Errorf(structs.CodeUnavailable, "not %s: %s", well, strings.Join(reasons, "; "))
	status, body := errorBody(q.w, e)
	return q.json(status, unwellBody{Status: "not " + well, Reasons: reasons, ErrorBody: body})
}
