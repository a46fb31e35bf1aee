package rest

import (
	"net/http"
	"time"
)

// observeRoutes gives each route what notes its requests. Both spellings of a
// route count alike.
func (s *webServer) observeRoutes() {
	type key struct{ method, path string }
	made := make(map[key]func(int, time.Duration))
	for _, rt := range s.allRoutes() {
		k := key{rt.method, rt.fullPath()}
		if made[k] == nil {
			made[k] = s.config.Observe(k.method, k.path)
		}
		rt.observe = made[k]
	}
	s.others.observe = s.config.Observe("other", "other")
}

// observe notes a request that ends. What found no route counts as "other", so
// that who tries paths makes no new series.
func (s *webServer) observe(w *responseWriter, started time.Time) {
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
