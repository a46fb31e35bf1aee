package operator

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// The media types of metrics: Prometheus's own, and the one that it prefers.
const (
	mediaProm        = "text/plain"
	mediaOpenMetrics = "application/openmetrics-text"
)

// metrics serves the metrics for Prometheus.
type metrics struct{ handler http.Handler } // nil: this server has no metrics

func (m metrics) routes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/metrics", Action: identity.OperatorMetrics, Handle: m.get,
			Summary: "Metrics for Prometheus; the token may be a bearer token",
			Gives:   []wire.Answer{{Status: http.StatusOK, Media: mediaProm}, {Status: http.StatusOK, Media: mediaOpenMetrics}}},
	}
}

func (m metrics) get(q *web.Request) error {
	if m.handler == nil {
		return structs.Errorf(structs.CodeNotFound, "This server has no metrics.")
	}
	q.W.Header().Set("Cache-Control", "no-store")
	m.handler.ServeHTTP(q.W, q.R)
	return nil
}
