package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Containers carries out requests about containers.
type Containers struct{ s *Service }

// Containers returns the operations on containers.
func (s *Service) Containers() Containers { return Containers{s} }

// CreateContainer is the request for a container.
type CreateContainer struct {
	Body *structs.ContainerRequest
	Once conductor.Once
	Run  bool // start the container at once
}

// Create creates a container. It does not wait for the host. Errors are CodeInvalid,
// CodeConflict, CodeQuota, and those of onLeader.
func (n Containers) Create(ctx context.Context, c *Call, r CreateContainer) (*structs.Container, error) {
	body := r.Body
	request := conductor.CreateContainer{Caller: c.Caller, Once: r.Once, UUID: body.UUID, Bay: body.BayUUID, Run: r.Run}
	var err error
	if request.Name, err = checkUUIDAndName(body.UUID, body.Name); err != nil {
		return nil, err
	}
	request.Secrets = body.Secrets
	if request.Spec, err = body.Spec(); err != nil {
		return nil, err
	}
	if err := n.s.config.HostPorts.Container(c.Caller, &request.Spec); err != nil {
		return nil, err
	}
	if body.Bay != "" {
		if request.Bay != "" && request.Bay != body.Bay {
			return nil, structs.Errorf(structs.CodeInvalid, "bay %q and bay_uuid %q are two spellings of one field: give one of them",
				structs.Shorten(body.Bay), structs.Shorten(body.BayUUID))
		}
		request.Bay = body.Bay
	}
	if err := structs.CheckLine("bay_uuid", request.Bay, structs.MaxText); err != nil {
		return nil, err
	}
	minted := request.UUID == ""
	if minted {
		request.UUID = n.s.newID(c)
	}
	return create(ctx, n.s, c, request.UUID, minted, request)
}

// PatchContainer is a change of a container's fields. nil leaves a field as it is.
type PatchContainer struct {
	Ident   string            // UUID or name
	Name    *string           // "" means a generated one
	Image   *string           // the conductor decides whether the container can take it
	Command *structs.Command  // the zero Command means the image's own
	Memory  *structs.Bytes    // 0 means no limit
	CPU     *structs.MilliCPU // 0 means no limit
}

// Limits reports whether the change sets limits, which the host has to carry out. A
// change of other fields is complete once it is decided.
func (r PatchContainer) Limits() bool { return r.Memory != nil || r.CPU != nil }

// Patch changes a container. It does not wait for the host. Errors are CodeInvalid,
// CodeNotFound, CodeConflict, and those of onLeader.
func (n Containers) Patch(ctx context.Context, c *Call, r PatchContainer) (*structs.Container, error) {
	change := conductor.PatchContainer{Caller: c.Caller, Ident: r.Ident, Name: r.Name, Image: r.Image, Command: r.Command}
	if r.Name != nil && *r.Name != "" {
		if err := structs.CheckName(*r.Name); err != nil {
			return nil, err
		}
	}
	checked := structs.ContainerRequest{Image: "unchanged", Command: r.Command}
	if r.Image != nil {
		checked.Image = *r.Image
	}
	if r.Memory != nil {
		checked.Memory, change.Memory = *r.Memory, new(int64(*r.Memory))
	}
	if r.CPU != nil {
		checked.MilliCPU, change.MilliCPU = *r.CPU, new(int64(*r.CPU))
	}
	if _, err := checked.Spec(); err != nil {
		return nil, err
	}
	return decide(ctx, n.s, c, change)
}

// RebuildContainer is the request to create a container again on its engine.
type RebuildContainer struct {
	Ident string  // UUID or name
	Image *string // another image; nil keeps the present one
}

// Rebuild has the host create a container again. It does not wait for the host.
// Errors are CodeInvalid, CodeNotFound, CodeConflict, and those of onLeader.
func (n Containers) Rebuild(ctx context.Context, c *Call, r RebuildContainer) (*structs.Container, error) {
	change := conductor.RebuildContainer{Caller: c.Caller, Ident: r.Ident}
	if r.Image != nil {
		if err := structs.CheckImage(*r.Image); err != nil {
			return nil, err
		}
		change.Image = *r.Image
	}
	return decide(ctx, n.s, c, change)
}

// DeleteContainer is the request to delete a container.
type DeleteContainer struct {
	Ident string // UUID or name
	Stop  bool   // stop a running container first
	Force bool   // kill a running container; forget a container on a lost host
}

// Delete deletes a container. It does not wait for the host. Errors are
// CodeNotFound, CodeConflict, and those of onLeader.
func (n Containers) Delete(ctx context.Context, c *Call, r DeleteContainer) (Removed[*structs.Container], error) {
	return remove(ctx, n.s, c, conductor.DeleteContainer{Caller: c.Caller, Ident: r.Ident, Stop: r.Stop, Force: r.Force})
}

// ActOnContainer is the request for an action on a container.
type ActOnContainer struct {
	Ident   string // UUID or name
	Action  conductor.Action
	Timeout *int   // seconds between SIGTERM and SIGKILL; nil means the container's stop_timeout
	Signal  string // name or number of the signal of a kill; "" means SIGKILL
}

// Act starts or stops a container, or carries out another action on it. It does not
// wait for the host. Errors are CodeInvalid, CodeNotFound, CodeConflict, and those of
// onLeader.
func (n Containers) Act(ctx context.Context, c *Call, r ActOnContainer) (*structs.Container, error) {
	action := conductor.ActOnContainer{Caller: c.Caller, Ident: r.Ident, Action: r.Action, Timeout: r.Timeout}
	if r.Action == conductor.ActionKill {
		signal, err := structs.ParseSignal(cmp.Or(r.Signal, "SIGKILL"))
		if err != nil {
			return nil, err
		}
		action.Signal = signal
	}
	// The action's record has the request's ID, by which a retry finds it.
	return onLeader(ctx, n.s, c, true, func(retryAfterUnknown bool) (*structs.Container, error) {
		var again conductor.Request[*structs.Container] = action
		if retryAfterUnknown {
			again = conductor.RetryAfterUnknown[*structs.Container]{Request: action, SinceIndex: c.SinceIndex}
		}
		changed, err := conductor.Do(ctx, n.s.config.Conductor, again)
		if retryAfterUnknown && structs.CodeOf(err) == structs.CodeNotFound {
			// The action's record was deleted with the container.
			err = structs.Errorf(structs.CodeUnavailable,
				"the container was deleted meanwhile, and an earlier try of this request may have been carried out before that (%w)",
				conductor.ErrUnknown)
		}
		return changed, err
	})
}

// AwaitDone waits until the container's host has carried out the generation of
// wanted, or has failed to. It returns the container as it is then, nil if it was
// deleted. done is false if atMost has passed before. The error says why the host
// failed.
func (n Containers) AwaitDone(
	ctx context.Context, c *Call, wanted *structs.Container, atMost time.Duration,
) (now *structs.Container, done bool, err error) {
	carriedOut := func(row structs.Row) bool {
		now, ok := row.(*structs.Container)
		return !ok || now.Observed.Generation >= wanted.Generation && now.Observed.Status != ""
	}
	row := n.s.AwaitRow(ctx, c, wanted, atMost, carriedOut)
	now, _ = row.(*structs.Container)
	if now == nil {
		return nil, true, nil
	}
	done = carriedOut(row)
	// A failure of a later generation belongs to somebody else's request.
	if done && now.Observed.Failed && now.Observed.Generation == wanted.Generation {
		return now, true, ErrFailed(now)
	}
	return now, done, nil
}

// ErrFailed returns the error of an action that a container's host failed to carry
// out. CodeInternal.
func ErrFailed(c *structs.Container) error {
	reason := c.StatusReason()
	if reason == "" {
		reason = "its host gave no reason"
	}
	return structs.Errorf(structs.CodeInternal, "Container %s: %s", c.Name, reason).About(structs.KindContainer)
}

// ErrDeleted returns the error of a wait for a container that was deleted meanwhile.
// CodeConflict.
func ErrDeleted(c *structs.Container) error {
	return structs.Errorf(structs.CodeConflict, "Container %s was deleted meanwhile.", c.Name).About(structs.KindContainer)
}
