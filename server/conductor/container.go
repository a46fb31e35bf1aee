package conductor

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// CreateContainer makes a container and, if a host fits, places it.
type CreateContainer struct {
	Caller structs.Caller
	Once   Once
	UUID   string // "" means a new one
	Name   string // "" means a generated one
	Bay    string // UUID or name; "" means the only one that fits
	Run    bool   // start it at once
	Spec   structs.ContainerSpec
}

func (r CreateContainer) decide(t *tx) (*structs.Container, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Container, error) {
		bay, err := t.bayFor(r.Caller, r.Bay)
		if err != nil {
			return nil, err
		}
		meta, err := t.newMeta(r.Caller, structs.TableContainers, structs.KindContainer, r.UUID)
		if err != nil {
			return nil, err
		}
		c := &structs.Container{
			Meta: meta, Name: r.Name, BayID: bay.ID, Spec: r.Spec, Request: r.Caller.RequestID,
			Desired: structs.DesiredCreated, Generation: 1,
		}
		if c.Name == "" {
			c.Name = generateName(c.ID)
		}
		if r.Run {
			c.Desired, c.StartGeneration = structs.DesiredRunning, c.Generation
		}
		t.place(c, bay)
		t.assign(c)
		return c, nil
	})
}

// newMeta returns the Meta of a new row, with the UUID that the caller asked
// for, if any.
func (t *tx) newMeta(caller structs.Caller, table structs.Table, kind, uuid string) (structs.Meta, error) {
	if uuid != "" && t.get(table, uuid) != nil {
		return structs.Meta{}, structs.Errorf(structs.CodeConflict, "A %s with UUID %s already exists.", kind, uuid).About(kind)
	}
	return t.meta(caller, uuid), nil
}

// bayFor is BayFor in the batch.
func (t *tx) bayFor(caller structs.Caller, ident string) (*structs.Bay, error) {
	return bayFor(t, t.baysOf, caller, ident)
}

// BayFor returns the docker bay that the caller means; ident "" means the only
// one there is for the caller. Errors: CodeInvalid, also for a bay that doesn't
// exist; CodeConflict.
func BayFor(snap *state.Snapshot, caller structs.Caller, ident string) (*structs.Bay, error) {
	mine := func(projectID string) []*structs.Bay {
		var found []*structs.Bay
		for b := range typed[*structs.Bay](snap.List(structs.TableBays, state.AllProjects, 0)) {
			if b.ProjectID == projectID || b.Shared {
				found = append(found, b)
			}
		}
		return found
	}
	return bayFor(snapshotReader{snap}, mine, caller, ident)
}

func bayFor(r reader, mine func(projectID string) []*structs.Bay, caller structs.Caller, ident string) (*structs.Bay, error) {
	if ident != "" {
		found, err := lookup(r, caller, structs.KindBay, ident)
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil, structs.Errorf(structs.CodeInvalid, "Bay %s could not be found.", ident).About(structs.KindBay).With(structs.HintUnknown)
		}
		if err != nil {
			return nil, err
		}
		bay := found.(*structs.Bay)
		return bay, usable(bay)
	}
	var fit []*structs.Bay
	for _, b := range mine(caller.ProjectID) {
		if usable(b) == nil {
			fit = append(fit, b)
		}
	}
	switch len(fit) {
	case 0:
		return nil, structs.Errorf(structs.CodeInvalid, "bay_uuid is missing, and there is no bay for containers: create one with bay-create").About(structs.KindBay)
	case 1:
		return fit[0], nil
	}
	var names []string
	for _, b := range fit {
		names = append(names, fmt.Sprintf("%s (%s)", b.Name, b.ID))
	}
	slices.Sort(names)
	return nil, structs.Errorf(structs.CodeInvalid, "bay_uuid is missing, and there are %d bays to choose from: %s", len(fit), listSome(names)).About(structs.KindBay).With(structs.HintChoose)
}

// listSome writes the first few names.
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

// usable says why containers can't be created in the bay, nil if they can.
func usable(b *structs.Bay) error {
	switch {
	case b.Backend() != structs.BackendDocker:
		return structs.Errorf(structs.CodeInvalid, "bay %s is of coe %s: containers run on docker bays; pods run on this one", b.Name, b.COE).About(structs.KindBay)
	case b.Status == structs.BayDeleting:
		return structs.Errorf(structs.CodeConflict, "bay %s is being deleted", b.Name).About(structs.KindBay)
	}
	return nil
}

// place gives the container a host of the bay and a new epoch, or the reason
// why it has to wait. The caller writes the row.
func (t *tx) place(c *structs.Container, bay *structs.Bay) {
	// Where an earlier placement is, it goes before the new one comes.
	priors := c.Priors
	for _, p := range priors {
		t.used(p.HostID).Remove(c)
	}
	defer func() {
		for _, p := range priors {
			t.used(p.HostID).Add(c)
		}
	}()
	hosts := t.candidates(bay)
	if len(hosts) == 0 {
		c.PlaceReason = fmt.Sprintf("waits for bay %s to get a host: %s", bay.Name, orElse(bay.StatusReason, "it has none"))
		return
	}
	t.placeOn(c, bay, t.withNetworks(hosts, c))
}

// placeOn is place on one of the hosts.
func (t *tx) placeOn(c *structs.Container, bay *structs.Bay, hosts []schedule.Host) {
	id, reason := schedule.Choose(hosts, &c.Spec, bay.Placement)
	c.PlaceReason = reason
	if id == "" {
		return
	}
	c.Priors = without(c.Priors, id)
	c.HostID, c.Gone, c.Observed = id, false, structs.Observed{}
	c.Epoch = t.nextEpoch(c)
}

// nextEpoch returns the epoch of the container's next placement. Those since a
// restore are above all that may have been given out between the save and it: a
// host may still run such a one. So are those of what a host keeps in quarantine,
// which a history that is lost has given out; but who creates a container under the
// uuid of one in quarantine may want to keep that one, under its epoch.
func (t *tx) nextEpoch(c *structs.Container) uint64 {
	restored := uint64(0)
	if cluster := row[structs.Cluster](t, structs.ClusterRowID); cluster != nil {
		restored = cluster.Incarnation << 32
	}
	quarantined := uint64(0)
	if c.Epoch > 0 || t.base.Container(c.ID) != nil {
		quarantined = t.base.QuarantinedEpoch(c.ID)
	}
	return max(c.Epoch, restored, quarantined) + 1
}

// candidates returns the hosts on which the bay places containers. A bay that
// has to give hosts back places nothing on those that will go: the ones with
// the fewest containers. Lost ones are there for the reason only.
func (t *tx) candidates(bay *structs.Bay) []schedule.Host {
	hosts := t.hostsOf(bay.ID)
	var lost []schedule.Host
	if slices.ContainsFunc(hosts, func(h schedule.Host) bool { return !h.Ready }) {
		all := hosts
		hosts = nil
		for _, h := range all {
			if h.Ready {
				hosts = append(hosts, h)
			} else {
				lost = append(lost, h)
			}
		}
	}
	if len(hosts) > bay.NodeCount {
		hosts = slices.Clone(hosts)
		slices.SortStableFunc(hosts, func(a, b schedule.Host) int { return b.Used.Containers - a.Used.Containers })
		hosts = hosts[:bay.NodeCount]
	}
	return append(hosts, lost...)
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// PatchContainer changes what a container is called, what it is made of and
// what it may use. As in 2015 image and command change nothing that runs: they
// count when the container is next made. Memory and cpu change while it runs.
type PatchContainer struct {
	Caller  structs.Caller
	Ident   string  // UUID or name
	Name    *string // "" means a generated one
	Image   *string
	Command *structs.Command // the zero Command means the image's own

	Memory   *int64 // bytes, 0 for no limit
	MilliCPU *int64 // thousandths of a core, 0 for no limit
}

func (r PatchContainer) decide(t *tx) (*structs.Container, error) {
	c, err := t.container(r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	changed := *c
	if r.Name != nil {
		changed.Name = orElse(*r.Name, generateName(c.ID))
	}
	if r.Image != nil {
		changed.Spec.Image = *r.Image
	}
	if r.Command != nil {
		changed.Spec.Command, changed.Spec.CommandText = r.Command.Args, r.Command.Text
	}
	if r.Memory != nil || r.MilliCPU != nil {
		if err := t.resize(&changed, r.Memory, r.MilliCPU); err != nil {
			return nil, err
		}
	}
	changed.UpdatedAt = t.now
	t.assign(&changed)
	generation := uint64(0)
	if changed.Generation != c.Generation {
		generation = changed.Generation
	}
	t.noteAction(r.Caller, "update", c, generation)
	return &changed, nil
}

// container finds a container of the caller.
func (t *tx) container(caller structs.Caller, ident string) (*structs.Container, error) {
	found, err := lookup(t, caller, structs.KindContainer, ident)
	if err != nil {
		return nil, err
	}
	return found.(*structs.Container), nil
}

// DeleteContainer has a container removed from its host; its row goes when the
// host says that it is gone.
type DeleteContainer struct {
	Caller structs.Caller
	Ident  string
	Stop   bool // a running one is stopped first
	Force  bool // a running one is killed; one on a lost host is forgotten
}

// decide returns the container as it was last.
func (r DeleteContainer) decide(t *tx) (*structs.Container, error) {
	c, err := t.container(r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	// One that has yet to be made, or waits for a host, has nothing to stop,
	// whatever is wanted of it.
	made := c.HostID != "" && c.Status() != structs.ContainerCreating
	if s := effective(c); made && (s == structs.DesiredRunning || s == structs.DesiredPaused) && !r.Stop && !r.Force {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is %s: stop it first, or delete it with stop or force", r.Ident, wordFor(s)).About(structs.KindContainer)
	}
	after := t.delete(c, r.Force)
	if after != c {
		t.noteAction(r.Caller, "delete", c, after.Generation)
	}
	return after, nil
}

// delete lets the container go: at once if no host has it.
func (t *tx) delete(c *structs.Container, force bool) *structs.Container {
	host := row[structs.Host](t, c.HostID)
	if host == nil || force && host.State == structs.HostLost {
		// Should the host come back with it, it removes what it doesn't know.
		left := *c
		left.Desired, left.HostID = structs.DesiredAbsent, ""
		if c.HostID == "" && c.Desired == structs.DesiredAbsent && !t.over(c) {
			return c
		}
		if t.over(&left) {
			t.remove(c)
			return c
		}
		left.Generation++
		left.UpdatedAt = t.now
		t.assign(&left)
		return &left
	}
	if c.Desired == structs.DesiredAbsent && c.Force == force && !c.Observed.Failed {
		return c
	}
	changed := *c
	changed.Desired, changed.Force = structs.DesiredAbsent, force
	changed.Generation++
	changed.UpdatedAt = t.now
	t.assign(&changed)
	return &changed
}
