package service

import (
	"cmp"
	"context"
	"fmt"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Target returns the container of a session, and checks that its host can serve the
// session. Errors are CodeNotFound, CodeConflict, CodeUnavailable, and those of Await.
func (n Sessions) Target(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	if err := n.s.Await(ctx, call); err != nil {
		return nil, err
	}
	snap := n.s.Snapshot()
	row, err := conductor.Lookup(snap, call.Caller, structs.KindContainer, ident)
	if err != nil {
		return nil, err
	}
	c := row.(*structs.Container)
	host := snap.Host(c.HostID)
	switch {
	case host == nil:
		return nil, structs.Errorf(structs.CodeConflict, "Container %s has no host yet: %s", ident,
			cmp.Or(c.StatusReason(), "it is waiting for one")).About(structs.KindContainer)
	case c.Status() == structs.ContainerUnknown: // also for a moment after the host is back
		return nil, errUnreachable(ident, cmp.Or(c.StatusReason(), "its host is lost"))
	case host.State == structs.HostLost:
		return nil, errUnreachable(ident, fmt.Sprintf("host %s is lost: %s", host.Name, cmp.Or(host.StateReason, "its agent is silent")))
	case c.Gone:
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is no longer on its host: start it to create it again",
			ident).About(structs.KindContainer)
	}
	return c, nil
}

func errUnreachable(ident, why string) error {
	return structs.Errorf(structs.CodeUnavailable, "Container %s can't be reached: %s", ident, why).About(structs.KindContainer)
}

// inBrackets returns a reason in brackets, "" if there is none.
func inBrackets(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// logsTarget returns a container that has been started.
func (n Sessions) logsTarget(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	c, err := n.Target(ctx, call, ident)
	if err == nil && c.Observed.StartedAt.IsZero() {
		err = structs.Errorf(structs.CodeConflict, "Container %s has not been started yet, so it has no logs%s: start it", ident,
			inBrackets(c.StatusReason())).About(structs.KindContainer)
	}
	return c, err
}

// execTarget returns a container that is running.
func (n Sessions) execTarget(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	c, err := n.Target(ctx, call, ident)
	if err == nil && c.Status() != structs.ContainerRunning {
		err = errNotRunning(c, ident, "commands can only be executed in one that is Running")
	}
	return c, err
}

// attachTarget returns a container that is running.
func (n Sessions) attachTarget(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	c, err := n.Target(ctx, call, ident)
	if err == nil && c.Status() != structs.ContainerRunning {
		err = errNotRunning(c, ident, "only one that is Running can be attached to")
	}
	return c, err
}

// unstartedTarget returns a container that is running, or that was created on its host
// and never started.
func (n Sessions) unstartedTarget(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	c, err := n.Target(ctx, call, ident)
	if err == nil && c.Status() != structs.ContainerRunning && (c.Status() != structs.ContainerStopped || !c.Observed.StartedAt.IsZero()) {
		err = errNotRunning(c, ident, "only one that is Running, or was created and never started, can be attached to")
	}
	return c, err
}

// liveTarget returns a container that has processes, which may be paused.
func (n Sessions) liveTarget(ctx context.Context, call *Call, ident string) (*structs.Container, error) {
	c, err := n.Target(ctx, call, ident)
	if err == nil && c.Status() != structs.ContainerRunning && c.Status() != structs.ContainerPaused {
		err = errNotRunning(c, ident, "only one that is Running or Paused has processes")
	}
	return c, err
}

func errNotRunning(c *structs.Container, ident, rule string) error {
	return structs.Errorf(structs.CodeConflict, "Container %s is %s%s: %s", ident, c.Status(), inBrackets(c.StatusReason()),
		rule).About(structs.KindContainer)
}
