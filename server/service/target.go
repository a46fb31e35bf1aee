package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Target is what a session is about: a container, or a container of a pod.
type Target struct {
	Ref     structs.Ref // names the part of a pod
	HostID  string
	Name    string                  // of the container or pod
	Status  structs.ContainerStatus // of the container, also in a pod
	Reason  string                  // why it is in this state; "" if there is no reason
	Started bool                    // its process has run
	Ended   bool                    // of a pod: an earlier attempt of it has ended
	TTY     bool
	Stdin   bool

	what string // begins messages
	kind string // what an error is about
}

// errorf returns an error about the target that begins with its name.
func (t *Target) errorf(code structs.Code, format string, args ...any) error {
	return structs.Errorf(code, "%s %w", t.what, fmt.Errorf(format, args...)).About(t.kind)
}

// Target returns what a session is about, and checks that its host can serve the session.
// Errors are CodeNotFound, CodeConflict, CodeUnavailable, CodeInvalid for a container that
// the pod doesn't have, and those of Await.
func (n Sessions) Target(ctx context.Context, call *Call, ident string) (*Target, error) {
	if err := n.s.Await(ctx, call); err != nil {
		return nil, err
	}
	snap := n.s.Snapshot()
	row, err := conductor.Lookup(snap, call.Caller, n.kind, ident)
	if err != nil {
		return nil, err
	}
	if p, ok := row.(*structs.Pod); ok {
		return podTarget(snap, p, ident, n.container)
	}
	c := row.(*structs.Container)
	return reachable(snap, c, &Target{
		Ref: c.Ref(), Name: c.Name, Status: c.Status(), Reason: c.StatusReason(), Started: !c.Observed.StartedAt.IsZero(),
		TTY: c.Spec.TTY, Stdin: c.Spec.Stdin, what: "Container " + ident, kind: structs.KindContainer,
	})
}

// podTarget returns a container of a pod; name "" means the default one.
func podTarget(snap *state.Snapshot, p *structs.Pod, ident, name string) (*Target, error) {
	spec, err := chooseContainer(p, name)
	if err != nil {
		return nil, err
	}
	t := &Target{
		Ref: p.Ref(), Name: p.Name, Status: structs.PartWaiting, Reason: structs.StatusReasonOf(p), TTY: spec.TTY, Stdin: spec.Stdin,
		what: fmt.Sprintf("Container %s of pod %s", spec.Name, ident), kind: structs.KindPod,
	}
	t.Ref.Part = spec.Name
	if seen := p.Part(spec.Name); seen != nil {
		t.Ended = seen.Last.State != ""
		t.Started = t.Ended || !seen.StartedAt.IsZero()
		if t.Reason = seen.Reason; seen.Message != "" {
			t.Reason = strings.TrimPrefix(seen.Reason+": "+seen.Message, ": ")
		}
		switch seen.State {
		case structs.PartRunning:
			t.Status = structs.ContainerRunning
		case structs.PartTerminated:
			t.Status = structs.ContainerStopped
		}
	}
	return reachable(snap, p, t)
}

// chooseContainer returns the pod's container of that name. "" means the one that the
// annotation names, else the first. CodeInvalid.
func chooseContainer(p *structs.Pod, name string) (*structs.PodContainer, error) {
	if name == "" {
		name = cmp.Or(p.Annotations[structs.DefaultContainerAnnotation], p.Spec.Containers[0].Name)
	}
	if c := p.Spec.Container(name); c != nil {
		return c, nil
	}
	var names []string
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		names = append(names, c.Name)
	}
	return nil, structs.Errorf(structs.CodeInvalid, "container %q: pod %s has no such container, but %s", structs.Shorten(name), p.Name,
		strings.Join(names, ", ")).About(structs.KindPod)
}

// reachable returns the target if the workload's host can serve a session.
func reachable(snap *state.Snapshot, w structs.Workload, t *Target) (*Target, error) {
	p, seen := w.Place(), w.Seen()
	t.HostID = p.HostID
	reason := structs.StatusReasonOf(w)
	host := snap.Host(p.HostID)
	switch {
	case host == nil:
		return nil, t.errorf(structs.CodeConflict, "has no host yet: %s", cmp.Or(reason, "it is waiting for one"))
	case seen.Status == structs.ContainerUnknown && p.Desired != structs.DesiredAbsent: // also for a moment after the host is back
		return nil, t.errorf(structs.CodeUnavailable, "can't be reached: %s", cmp.Or(reason, "its host is lost"))
	case host.State == structs.HostLost:
		return nil, t.errorf(structs.CodeUnavailable, "can't be reached: host %s is lost: %s", host.Name,
			cmp.Or(host.StateReason, "its agent is silent"))
	case p.Gone && t.kind == structs.KindContainer:
		return nil, t.errorf(structs.CodeConflict, "is no longer on its host: start it to create it again")
	case p.Gone:
		return nil, t.errorf(structs.CodeConflict, "is no longer on its host")
	}
	return t, nil
}

// inBrackets returns a reason in brackets, "" if there is none.
func inBrackets(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// logsTarget returns a container that has been started.
func (n Sessions) logsTarget(ctx context.Context, call *Call, ident string, r *structs.LogsRequest) (*Target, error) {
	t, err := n.Target(ctx, call, ident)
	switch {
	case err != nil:
		return nil, err
	case !t.Started && t.kind == structs.KindContainer:
		return nil, t.errorf(structs.CodeConflict, "has not been started yet, so it has no logs%s: start it", inBrackets(t.Reason))
	case !t.Started:
		return nil, t.errorf(structs.CodeConflict, "has not been started yet, so it has no logs%s", inBrackets(t.Reason))
	case r.Previous && !t.Ended:
		return nil, t.errorf(structs.CodeConflict, "has not been restarted, so there are no previous logs")
	}
	return t, nil
}

// inState returns a container that is in one of the states. rule says which states those
// are.
func (n Sessions) inState(ctx context.Context, call *Call, ident, rule string, in func(*Target) bool) (*Target, error) {
	t, err := n.Target(ctx, call, ident)
	if err == nil && !in(t) {
		return nil, t.errorf(structs.CodeConflict, "is %s%s: %s", t.Status, inBrackets(t.Reason), rule)
	}
	return t, err
}

func (t *Target) running() bool { return t.Status == structs.ContainerRunning }

// execTarget returns a container that is running.
func (n Sessions) execTarget(ctx context.Context, call *Call, ident string) (*Target, error) {
	return n.inState(ctx, call, ident, "commands can only be executed in one that is Running", (*Target).running)
}

// attachTarget returns a container that is running.
func (n Sessions) attachTarget(ctx context.Context, call *Call, ident string) (*Target, error) {
	return n.inState(ctx, call, ident, "only one that is Running can be attached to", (*Target).running)
}

// unstartedTarget returns a container that is running, or that was created on its host
// and never started.
func (n Sessions) unstartedTarget(ctx context.Context, call *Call, ident string) (*Target, error) {
	return n.inState(ctx, call, ident, "only one that is Running, or was created and never started, can be attached to",
		func(t *Target) bool { return t.running() || t.Status == structs.ContainerStopped && !t.Started })
}

// liveTarget returns a container that has processes, which may be paused.
func (n Sessions) liveTarget(ctx context.Context, call *Call, ident string) (*Target, error) {
	return n.inState(ctx, call, ident, "only one that is Running or Paused has processes",
		func(t *Target) bool { return t.running() || t.Status == structs.ContainerPaused })
}
