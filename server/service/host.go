package service

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Hosts carries out operators' requests about hosts.
type Hosts struct{ s *Service }

// Hosts returns the operations on hosts.
func (s *Service) Hosts() Hosts { return Hosts{s} }

// Label changes the labels that operators give a host. apply changes them in the form
// of a request. Errors are CodeInvalid, CodeNotFound, and those of onLeader.
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

// Fence takes an operator's word that a host is off. With force it also fences a host
// that is only suspect. Errors are CodeNotFound, CodeConflict, and those of onLeader.
func (n Hosts) Fence(ctx context.Context, c *Call, ident string, force bool) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.FenceHost{Caller: c.Caller, Ident: ident, Force: force})
}

// Release ends the mass-loss brake for a host. Errors are CodeNotFound, CodeConflict,
// and those of onLeader.
func (n Hosts) Release(ctx context.Context, c *Call, ident string) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.ReleaseHost{Caller: c.Caller, Ident: ident})
}

// Delete deletes a host that is lost, or drained and empty. Errors are CodeNotFound,
// CodeConflict, and those of onLeader.
func (n Hosts) Delete(ctx context.Context, c *Call, ident string) (Removed[*structs.Host], error) {
	h, err := remove(ctx, n.s, c, conductor.DeleteHost{Caller: c.Caller, Ident: ident})
	if err == nil && !h.Gone && !c.Forwarded {
		n.s.config.Logger.Info("host deleted", "request_id", c.RequestID, "host_id", h.Row.ID, "name", h.Row.Name, "user_id",
			c.Caller.UserID)
	}
	return h, err
}

// Adopt decides about a container in the host's quarantine: the cluster adopts it as
// its container of that UUID, or, with remove, the host removes it. Errors are
// CodeNotFound, CodeConflict, and those of onLeader.
func (n Hosts) Adopt(ctx context.Context, c *Call, ident, container string, remove bool) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.AdoptContainer{Caller: c.Caller, Host: ident, Container: container, Remove: remove})
}

// DrainHost is the request to begin or end a drain.
type DrainHost struct {
	Ident    string // UUID or name
	Draining bool
	Deadline time.Duration // when workloads that can't move are stopped; 0 means never
	Force    bool          // stop them at once
}

// Drain begins or ends a drain. Errors are CodeNotFound, CodeConflict, and those of
// onLeader.
func (n Hosts) Drain(ctx context.Context, c *Call, r DrainHost) (*structs.Host, error) {
	return decide(ctx, n.s, c, conductor.DrainHost{Caller: c.Caller, Ident: r.Ident, Draining: r.Draining, Deadline: r.Deadline,
		Force: r.Force})
}
