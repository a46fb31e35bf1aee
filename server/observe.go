package server

import (
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/metrics"
)

// newMetrics wires the metrics to their sources. Sources are called at each scrape, so
// they may be created later.
func (s *Server) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Config{
		Version:  s.config.Version,
		Store:    s.store,
		Raft:     func() metrics.Raft { return metrics.Raft(s.raft.Figures()) },
		Queue:    func() int { return s.conductor.Waiting() },
		Reads:    func() int { return s.rest.Parked() },
		Polls:    func() int { return s.dispatch.Parked() },
		Sessions: func() int { return s.dispatch.Joined() },
		Connections: func() (map[string]int, uint64, uint64) {
			f := s.gate.Figures()
			open := make(map[string]int, len(f.Open))
			for kind, n := range f.Open {
				open[string(kind)] = n
			}
			return open, f.Refused, f.Closed
		},
		Keystone: s.keystoneFigures(),
		Limits: func() (int64, map[string]uint64) {
			refused := make(map[string]uint64, len(limits.Kinds))
			for kind, n := range s.limits.Refused() {
				refused[string(kind)] = n
			}
			return s.limits.InFlight(), refused
		},
		Disk: func() (int64, error) { return s.space.free(s.config.DataDir) },
	})
}

// keystoneFigures returns the source of Keystone's metrics, nil if there is no Keystone.
func (s *Server) keystoneFigures() func() metrics.Keystone {
	if s.keystone == nil {
		return nil
	}
	return func() metrics.Keystone { return metrics.Keystone(s.keystone.Stats()) }
}
