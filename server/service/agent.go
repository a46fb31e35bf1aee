package service

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Agents carries out what the agents of hosts tell the leader. Each call may be
// repeated: a later registration replaces the earlier one, and a report that was
// taken already is dropped by its seq.
type Agents struct{ s *Service }

// Agents returns what callers ask of agents.
func (s *Service) Agents() Agents { return Agents{s} }

// Register takes a host's registration. Errors are those of the dispatcher, and
// what no leader means.
func (n Agents) Register(ctx context.Context, c *Call, r structs.HostRegister) (structs.HostRegistered, error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.HostRegistered, error) {
		return n.s.config.Dispatch.Register(ctx, r)
	})
}

// Report takes what an agent sees of its containers. Errors are those of the
// dispatcher, and what no leader means.
func (n Agents) Report(ctx context.Context, c *Call, hostID string, r structs.StatusReport) (structs.StatusReported, error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.StatusReported, error) {
		return n.s.config.Dispatch.Report(ctx, hostID, r)
	})
}

// ReportQuarantine takes what an agent says of its host's quarantine. Errors are
// those of the dispatcher, and what no leader means.
func (n Agents) ReportQuarantine(ctx context.Context, c *Call, hostID string, r structs.QuarantineReport) (structs.QuarantineReported,
	error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.QuarantineReported, error) {
		return n.s.config.Dispatch.ReportQuarantine(ctx, hostID, r)
	})
}
