package web

import (
	"net/http"
	"time"
)

// observeRoutes gives each route the function that records its requests. The two
// dialects of one route share it.
func (s *Server) observeRoutes() {
	type key struct{ method, path string }
	made := make(map[key]func(int, time.Duration))
	for _, rt := range s.allRoutes() {
		k := key{rt.Method, rt.FullPath()}
		if made[k] == nil {
			made[k] = s.config.Observe(k.method, k.path)
		}
		rt.observe = made[k]
	}
	s.others.observe = s.config.Observe("other", "other")
}

// observe records a request that has ended. A request without a route counts as "other",
// so that a client which tries paths creates no new series.
func (s *Server) observe(w *ResponseWriter, started time.Time) {
	rt := w.route
	if rt == nil || rt.observe == nil {
		rt = s.others
	}
	took := time.Since(started)
	if w.Parked || w.Status == http.StatusSwitchingProtocols {
		took = -1
	}
	rt.observe(w.Status, took)
}
