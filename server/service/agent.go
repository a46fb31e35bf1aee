package service

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Agents carries out the calls by which hosts' agents register and report. Each
// call may be repeated: a later registration replaces the earlier one, and a report
// that was accepted already is dropped by its seq.
type Agents struct{ s *Service }

// Agents returns the operations of agents.
func (s *Service) Agents() Agents { return Agents{s} }

// Register registers a host. Errors are those of the dispatcher and of onLeader.
func (n Agents) Register(ctx context.Context, c *Call, r structs.HostRegister) (structs.HostRegistered, error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.HostRegistered, error) {
		return n.s.config.Dispatch.Register(ctx, r)
	})
}

// Report accepts an agent's status report of its containers. Errors are those of
// the dispatcher and of onLeader.
func (n Agents) Report(ctx context.Context, c *Call, hostID string, r structs.StatusReport) (structs.StatusReported, error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.StatusReported, error) {
		return n.s.config.Dispatch.Report(ctx, hostID, r)
	})
}

// ReportQuarantine accepts an agent's report of its host's quarantine. Errors are
// those of the dispatcher and of onLeader.
func (n Agents) ReportQuarantine(
	ctx context.Context, c *Call, hostID string, r structs.QuarantineReport,
) (structs.QuarantineReported, error) {
	return onLeader(ctx, n.s, c, true, func(bool) (structs.QuarantineReported, error) {
		return n.s.config.Dispatch.ReportQuarantine(ctx, hostID, r)
	})
}
