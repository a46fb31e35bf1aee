package conductor

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// CreateContainer creates a container and, if a host fits, places it.
type CreateContainer struct {
	Caller structs.Caller
	Once   Once
	UUID   string // "" means a generated one
	Name   string // "" means a generated one
	Bay    string // UUID or name; "" means the only usable bay
	Run    bool   // start it at once
	Spec   structs.ContainerSpec
	structs.Secrets
}

func (r CreateContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Container, error) {
		bay, err := bayFor(t, t.BaysOf, r.Caller, r.Bay, usable, takesContainers)
		if err != nil {
			return nil, err
		}
		meta, err := newMeta(t, r.Caller, structs.TableContainers, structs.KindContainer, r.UUID)
		if err != nil {
			return nil, err
		}
		c := &structs.Container{
			Meta: meta, Name: r.Name, Spec: structs.PrivateSpec{ContainerSpec: r.Spec, Secrets: r.Secrets}, Request: r.Caller.RequestID,
			Placement: structs.Placement{BayID: bay.ID, Desired: structs.DesiredCreated, Generation: 1},
		}
		if c.Name == "" {
			c.Name = structs.GenerateName(c.ID)
		}
		if r.Run {
			c.Desired, c.StartGeneration = structs.DesiredRunning, c.Generation
		}
		placing.Place(t, c, bay)
		t.Assign(c)
		return c, nil
	})
}

// newMeta returns the Meta of a new row. uuid is the requested one, "" for a generated one.
// Errors: CodeConflict for the UUID of an object that the caller may see, and CodeInvalid for
// one that can't be used, which doesn't tell that another project has it.
func newMeta(t *scratch.Tx, caller structs.Caller, table structs.Table, kind, uuid string) (structs.Meta, error) {
	if uuid == structs.NoID {
		return structs.Meta{}, structs.UnusableID(kind, uuid)
	}
	if taken := t.Get(table, uuid); uuid != "" && taken != nil {
		if !Visible(caller, taken) {
			return structs.Meta{}, structs.UnusableID(kind, uuid)
		}
		return structs.Meta{}, structs.Errorf(structs.CodeConflict, "A %s with UUID %s already exists.", kind, uuid).About(kind)
	}
	return t.Meta(caller, uuid), nil
}

// BayFor returns the docker bay that the caller means; ident "" means the caller's only
// usable bay. Errors: CodeInvalid, also for a bay that doesn't exist; CodeConflict.
func BayFor(snap *state.Snapshot, caller structs.Caller, ident string) (*structs.Bay, error) {
	return bayFor(snapshotReader{snap}, baysIn(snap), caller, ident, usable, takesContainers)
}

// PodBayFor is BayFor for bays of all backends.
func PodBayFor(snap *state.Snapshot, caller structs.Caller, ident string) (*structs.Bay, error) {
	return bayFor(snapshotReader{snap}, baysIn(snap), caller, ident, usable)
}

func baysIn(snap *state.Snapshot) func(projectID string) []*structs.Bay {
	return func(projectID string) []*structs.Bay {
		var found []*structs.Bay
		for b := range scratch.Typed[*structs.Bay](snap.List(structs.TableBays, state.AllProjects, 0)) {
			if b.ProjectID == projectID || b.Shared {
				found = append(found, b)
			}
		}
		return found
	}
}

// bayFor returns the bay that the caller means. Each of the checks refuses bays that don't fit.
func bayFor(
	r reader, baysOf func(projectID string) []*structs.Bay, caller structs.Caller, ident string, checks ...func(*structs.Bay) error,
) (*structs.Bay, error) {
	check := func(b *structs.Bay) error {
		for _, refuses := range checks {
			if err := refuses(b); err != nil {
				return err
			}
		}
		return nil
	}
	if ident != "" {
		found, err := lookup(r, caller, structs.KindBay, ident)
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil, structs.Errorf(structs.CodeInvalid, "Bay %s could not be found.",
				ident).About(structs.KindBay).With(structs.HintUnknown)
		}
		if err != nil {
			return nil, err
		}
		bay := found.(*structs.Bay)
		return bay, check(bay)
	}
	var fit []*structs.Bay
	var other error // of a bay that doesn't fit
	for _, b := range baysOf(caller.ProjectID) {
		if err := check(b); err == nil {
			fit = append(fit, b)
		} else if usable(b) == nil {
			other = err
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 && other != nil:
		return nil, structs.Errorf(structs.CodeInvalid, "bay_uuid is missing, and %w", other).About(structs.KindBay)
	case len(fit) == 0:
		return nil, structs.Errorf(structs.CodeInvalid,
			"bay_uuid is missing, and there is no bay for containers and pods: create one with bay-create").About(structs.KindBay)
	}
	var names []string
	for _, b := range fit {
		names = append(names, fmt.Sprintf("%s (%s)", b.Name, b.ID))
	}
	slices.Sort(names)
	return nil, structs.Errorf(structs.CodeInvalid, "bay_uuid is missing, and there are %d bays to choose from: %s", len(fit),
		listSome(names)).About(structs.KindBay).With(structs.HintChoose)
}

// listSome joins the first ten names.
func listSome(names []string) string {
	const most = 10
	text, rest := "", ""
	if len(names) > most {
		names, rest = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	for i, n := range names {
		if i > 0 {
			text += ", "
		}
		text += n
	}
	return text + rest
}

// usable returns an error if nothing can be created in the bay.
func usable(b *structs.Bay) error {
	if b.Status == structs.BayDeleting {
		return structs.Errorf(structs.CodeConflict, "bay %s is being deleted", b.Name).About(structs.KindBay)
	}
	return nil
}

// takesContainers returns an error if containers can't be created in the bay.
func takesContainers(b *structs.Bay) error {
	if b.Backend() != structs.BackendDocker {
		return structs.Errorf(structs.CodeInvalid, "bay %s is of coe %s, which runs pods and no containers by themselves: use a pod "+
			"(pod-create), or a docker bay", b.Name, b.COE).About(structs.KindBay)
	}
	return nil
}

// PatchContainer changes a container's name, image, command or limits. As in the API of
// 2015, a new image or command doesn't affect a running container: it applies when the
// container is next created on a host. Memory and cpu change while the container runs.
type PatchContainer struct {
	Caller  structs.Caller
	Ident   string  // UUID or name
	Name    *string // "" means a generated one
	Image   *string
	Command *structs.Command // the zero Command means the image's own

	Memory   *int64 // bytes, 0 for no limit
	MilliCPU *int64 // thousandths of a core, 0 for no limit
}

func (r PatchContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	c, err := find[*structs.Container](t, r.Caller, structs.KindContainer, r.Ident)
	if err != nil {
		return nil, err
	}
	changed := *c
	if r.Name != nil {
		changed.Name = cmp.Or(*r.Name, structs.GenerateName(c.ID))
	}
	if r.Image != nil {
		changed.Spec.Image = *r.Image
	}
	if r.Command != nil {
		changed.Spec.Command, changed.Spec.CommandText = r.Command.Args, r.Command.Text
	}
	if r.Memory != nil || r.MilliCPU != nil {
		if err := resize(t, &changed, r.Memory, r.MilliCPU); err != nil {
			return nil, err
		}
	}
	changed.UpdatedAt = t.Now
	t.Assign(&changed)
	generation := uint64(0)
	if changed.Generation != c.Generation {
		generation = changed.Generation
	}
	actions.Note(t, r.Caller, "update", c, generation)
	return &changed, nil
}

// DeleteContainer has a container removed from its host. Its row is deleted when the host
// reports that the container is gone.
type DeleteContainer struct {
	Caller structs.Caller
	Ident  string
	Stop   bool // stop a running container first
	Force  bool // kill a running container; forget one on a lost host
}

// decide returns the last row of the container.
func (r DeleteContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	c, err := find[*structs.Container](t, r.Caller, structs.KindContainer, r.Ident)
	if err != nil {
		return nil, err
	}
	// A container that hasn't been created on a host has nothing to stop.
	made := c.HostID != "" && c.Status() != structs.ContainerCreating
	if s := effective(c); made && (s == structs.DesiredRunning || s == structs.DesiredPaused) && !r.Stop && !r.Force {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is %s: stop it first, or delete it with stop or force", r.Ident,
			statusWord(s)).About(structs.KindContainer)
	}
	after := placing.Delete(t, c, r.Force).(*structs.Container)
	if after != c {
		actions.Note(t, r.Caller, "delete", c, after.Generation)
	}
	return after, nil
}
