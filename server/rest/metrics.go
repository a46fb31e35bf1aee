package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// The types of metrics: Prometheus's own, and the one that it asks for first.
const (
	mediaProm        = "text/plain"
	mediaOpenMetrics = "application/openmetrics-text"
)

// metrics answers Prometheus.
type metrics struct{ handler http.Handler } // nil: this server counts nothing

func (m metrics) routes() []*route {
	return []*route{
		{method: http.MethodGet, path: "/metrics", action: identity.OperatorMetrics, handle: m.get, summary: "Metrics for Prometheus; the token may be a bearer token",
			gives: []wire.Answer{{Status: http.StatusOK, Media: mediaProm}, {Status: http.StatusOK, Media: mediaOpenMetrics}}},
	}
}

func (m metrics) get(q *request) error {
	if m.handler == nil {
		return structs.Errorf(structs.CodeNotFound, "This server counts nothing.")
	}
	q.w.Header().Set("Cache-Control", "no-store")
	m.handler.ServeHTTP(q.w, q.r)
	return nil
}
