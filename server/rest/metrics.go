package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// The types of metrics: Prometheus's own, and the one that it asks for first.
const (
	mediaProm        = "text/plain"
	mediaOpenMetrics = "application/openmetrics-text"
)

func getMetrics(q *request) error {
	if q.Metrics == nil {
		return structs.Errorf(structs.CodeNotFound, "This server counts nothing.")
	}
	q.w.Header().Set("Cache-Control", "no-store")
	q.Metrics.ServeHTTP(q.w, q.r)
	return nil
}

// token returns the token of the request. Prometheus can't send another header
// than Authorization, so metrics take a token there, too.
func (q *request) token() string {
	token := q.r.Header.Get("X-Auth-Token")
	if token == "" && q.route.action == identity.OperatorMetrics {
		token, _ = strings.CutPrefix(q.r.Header.Get("Authorization"), "Bearer ")
	}
	return token
}

// Parked returns how many blocking reads wait for a change.
func (s *Server) Parked() int { return int(s.parked.Load()) }

// observeRoutes gives each route what notes its requests. Both spellings of a
// route count alike.
func (s *Server) observeRoutes() {
	type key struct{ method, path string }
	made := make(map[key]func(int, time.Duration))
	for _, routes := range [][]*route{s.routes, s.zunRoutes} {
		for _, rt := range routes {
			k := key{rt.method, rt.fullPath()}
			if made[k] == nil {
				made[k] = s.Observe(k.method, k.path)
			}
			rt.observe = made[k]
		}
	}
	s.others.observe = s.Observe("other", "other")
}

// observe notes a request that ends. What found no route counts as "other", so
// that who tries paths makes no new series.
func (s *Server) observe(w *responseWriter, started time.Time) {
	rt := w.route
	if rt == nil || rt.observe == nil {
		rt = s.others
	}
	took := time.Since(started)
	if w.parked || w.status == http.StatusSwitchingProtocols {
		took = -1
	}
	rt.observe(w.status, took)
}
