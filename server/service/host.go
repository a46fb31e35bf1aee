package service

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Hosts carries out what operators ask of hosts.
type Hosts struct{ s *Service }

// Hosts returns what callers ask of hosts.
func (s *Service) Hosts() Hosts { return Hosts{s} }

// Label changes the labels that operators give a host, by apply. CodeInvalid,
// CodeNotFound, and what no leader means.
func (n Hosts) Label(ctx context.Context, c *Call, ident string, apply func(*structs.HostRequest) error) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.LabelHost{Caller: c.Caller, Ident: ident,
		Apply: func(was map[string]string) (map[string]string, error) {
			body := structs.HostRequest{Labels: was}
			if err := apply(&body); err != nil {
				return nil, err
			}
			return body.Labels, structs.CheckRowLabels("labels", body.Labels)
		}})
}

// Fence takes an operator's word that a host is off: with force also of one that is
// only suspect. CodeNotFound, CodeConflict, and what no leader means.
func (n Hosts) Fence(ctx context.Context, c *Call, ident string, force bool) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.FenceHost{Caller: c.Caller, Ident: ident, Force: force})
}

// Release ends the mass-loss brake for a host. CodeNotFound, CodeConflict, and what
// no leader means.
func (n Hosts) Release(ctx context.Context, c *Call, ident string) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.ReleaseHost{Caller: c.Caller, Ident: ident})
}

// Adopt decides what becomes of a container in the host's quarantine: it is kept as
// the cluster's container of that UUID, or removed from the host. CodeNotFound,
// CodeConflict, and what no leader means.
func (n Hosts) Adopt(ctx context.Context, c *Call, ident, container string, remove bool) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.AdoptContainer{Caller: c.Caller, Host: ident, Container: container, Remove: remove})
}

// DrainHost asks for a drain or its end.
type DrainHost struct {
	Ident    string // UUID or name
	Draining bool
	Deadline time.Duration // after which what can't move is stopped; 0 means never
	Force    bool          // it is stopped at once
}

// Drain begins or ends a drain. CodeNotFound, CodeConflict, and what no leader
// means.
func (n Hosts) Drain(ctx context.Context, c *Call, r DrainHost) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.DrainHost{Caller: c.Caller, Ident: r.Ident, Draining: r.Draining, Deadline: r.Deadline,
		Force: r.Force})
}
