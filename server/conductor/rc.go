package conductor

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/quotas"
	"github.com/stackforge/magnum/server/conductor/replicas"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// CreateRC creates a replication controller from a manifest that the caller has read. The
// step "keep replicas" creates its pods.
type CreateRC struct {
	Caller   structs.Caller
	Once     Once
	UUID     string          // "" means a generated one
	Bay      string          // UUID or name; "" means the only usable bay
	RC       structs.RC      // Name, Labels, Secrets and ManifestURL
	Prefix   string          // what a generated name begins with; not used if RC has a name
	Spec     structs.RCSpec  // what the manifest says
	Manifest string          // as it was sent or fetched
	Backend  structs.Backend // that Spec was read for; "" means docker, Unread that nothing was read
}

func (r CreateRC) decide(t *scratch.Tx) (*structs.RC, error) {
	return once(t, r.Once, r.Caller, func() (*structs.RC, error) {
		if err := checkPodSchema(t, structs.KindRC); err != nil {
			return nil, err
		}
		bay, err := bayFor(t, t.BaysOf, r.Caller, r.Bay, usable)
		if err != nil {
			return nil, err
		}
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
		rc := r.RC
		if r.Spec.Template.Cluster = bay.Backend() == structs.BackendKubernetes; r.Spec.Template.Cluster {
			template := &r.Spec.Template
			if err := objects.Check(t, structs.KindRC, bay, template.Exclusive, template.InfraImage, &rc.Secrets); err != nil {
				return nil, err
			}
		}
		if rc.Meta, err = newMeta(t, r.Caller, structs.TableRCs, structs.KindRC, r.UUID); err != nil {
			return nil, err
		}
		taken := func(name string) *structs.RC { return rcNamed(t, rc.ProjectID, bay, name) }
		if rc.Name == "" {
			rc.Name = structs.GenerateLabel(r.Prefix, rc.ID, func(name string) bool { return taken(name) != nil })
		}
		if other := taken(rc.Name); other != nil {
			why := "delete it first, or use another name"
			if other.Deleting {
				why = "it is being deleted; try again when it is gone"
			}
			return nil, structs.Errorf(structs.CodeConflict, "Bay %s has a replication controller %s already, with UUID %s: %s.", bay.Name,
				rc.Name, other.ID, why).About(structs.KindRC)
		}
		rc.BayID, rc.Generation, rc.Request = bay.ID, 1, r.Caller.RequestID
		if err := setTemplate(t, &rc, &r.Spec); err != nil {
			return nil, err
		}
		putRC(t, &rc, &r.Spec, r.Manifest)
		if r.Spec.Template.Cluster {
			if err := objects.Create(t, &rc.Meta, structs.KindRC, rc.Name, bay); err != nil {
				return nil, err
			}
		}
		return &rc, nil
	})
}

// rcNamed returns the project's replication controller of that name in the bay, nil if there
// is none.
func rcNamed(t *scratch.Tx, projectID string, bay *structs.Bay, name string) *structs.RC {
	for rc := range scratch.Typed[*structs.RC](t.ByName(structs.TableRCs, projectID, name)) {
		if rc.BayID == bay.ID {
			return rc
		}
	}
	return nil
}

// setTemplate sets what the spec says in a replication controller. Errors: CodeInvalid for a
// template that is too large, or a selector that overlaps another one's.
func setTemplate(t *scratch.Tx, rc *structs.RC, spec *structs.RCSpec) error {
	if size, largest, of := state.SpecSize(&structs.StoredSpec{Pod: &spec.Template}); size > structs.MaxSpec {
		return structs.Errorf(structs.CodeInvalid,
			"spec.template.spec: it takes %d bytes, more than %d: make it smaller; most of it is %s with %d bytes", size, structs.MaxSpec,
			largest, of).About(structs.KindRC)
	}
	for other := range scratch.RCsInBay(t, rc.BayID) {
		if other.ID != rc.ID && other.ProjectID == rc.ProjectID && !other.Deleting && structs.Overlap(other.Selector, spec.Selector) {
			return structs.Errorf(structs.CodeInvalid,
				"spec.selector: a pod could match it and that of replication controller %s too, and both would count it: give both "+
					"selectors a label with different values", other.Name).About(structs.KindRC)
		}
	}
	revision, err := spec.Revision()
	if err != nil {
		return err
	}
	rc.Replicas, rc.Selector, rc.Images, rc.Revision = spec.Replicas, spec.Selector, spec.Template.Images(), revision
	rc.Exclusive, rc.InfraImage = spec.Template.Exclusive, spec.Template.InfraImage
	return nil
}

// putRC writes a replication controller with its manifest.
func putRC(t *scratch.Tx, rc *structs.RC, spec *structs.RCSpec, text string) {
	t.Put(rc)
	meta := structs.Meta{ID: rc.BesideID(), Seq: rc.Seq, ProjectID: rc.ProjectID}
	t.Put(&structs.Manifest{Meta: meta, Text: text, RC: spec})
}

// PatchRC replaces the manifest of a replication controller. Another number of replicas is
// kept at once; pods of another template are replaced one by one.
type PatchRC struct {
	Caller   structs.Caller
	Ident    string          // UUID or name
	RC       structs.RC      // Labels and ManifestURL; a Name must be the present one
	Spec     structs.RCSpec  // what the manifest says; InfraImage and Exclusive stay
	Manifest string          // as it was sent or fetched
	Backend  structs.Backend // that Spec was read for; "" means docker
}

func (r PatchRC) decide(t *scratch.Tx) (*structs.RC, error) {
	was, err := find[*structs.RC](t, r.Caller, structs.KindRC, r.Ident)
	if err != nil {
		return nil, err
	}
	if was.Deleting {
		return nil, structs.Errorf(structs.CodeConflict, "Replication controller %s is being deleted", r.Ident).About(structs.KindRC)
	}
	if r.RC.Name != "" && r.RC.Name != was.Name {
		return nil, structs.Errorf(structs.CodeInvalid, "metadata.name: %q is not the replication controller's name, %q, which can't be "+
			"changed: create another one", structs.Shorten(r.RC.Name), was.Name).About(structs.KindRC)
	}
	if bay := scratch.Row[structs.Bay](t, was.BayID); bay != nil {
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
	}
	rc, spec := *was, r.Spec
	spec.Template.Cluster = r.Backend == structs.BackendKubernetes
	spec.Template.InfraImage, spec.Template.Exclusive = was.InfraImage, was.Exclusive
	rc.Labels, rc.ManifestURL = r.RC.Labels, r.RC.ManifestURL
	if err := setTemplate(t, &rc, &spec); err != nil {
		return nil, err
	}
	old := scratch.Row[structs.Manifest](t, was.BesideID())
	if registry := was.Secrets.Registry; old == nil || old.RC == nil || old.RC.Template.CheckCredentials(registry) == nil {
		if err := spec.Template.CheckCredentials(registry); err != nil { // else it is no fault of the change
			return nil, structs.Errorf(structs.CodeInvalid, "%w: create the replication controller again with it",
				err).About(structs.KindRC)
		}
	}
	if reflect.DeepEqual(&rc, was) && old != nil && old.Text == r.Manifest {
		return was, nil
	}
	rc.Generation++
	rc.UpdatedAt = t.Now
	putRC(t, &rc, &spec, r.Manifest)
	objects.Change(t, rc.BesideID())
	return &rc, nil
}

// DeleteRC deletes a replication controller and its pods. Its row and its manifest are
// deleted after the last pod.
type DeleteRC struct {
	Caller structs.Caller
	Ident  string // UUID or name
	Force  bool   // kill the pods at once; forget those on lost hosts
}

// decide returns the last row of the replication controller.
func (r DeleteRC) decide(t *scratch.Tx) (*structs.RC, error) {
	was, err := find[*structs.RC](t, r.Caller, structs.KindRC, r.Ident)
	if err != nil || was.Deleting && (was.Force || !r.Force) {
		return was, err
	}
	rc := *was
	rc.Deleting, rc.Force, rc.UpdatedAt = true, r.Force, t.Now
	rc.Generation++
	t.Put(&rc)
	objects.Delete(t, rc.BesideID(), r.Force)
	return &rc, nil
}

// keepReplicas creates and deletes the pods of replication controllers, and counts them.
func keepReplicas(t *scratch.Tx) (full bool) {
	found := make(map[string]*baysPods)
	changed := false
	for rc := range scratch.RCs(t) {
		bay := scratch.Row[structs.Bay](t, rc.BayID)
		if bay == nil || bay.Status == structs.BayDeleting {
			continue // it is deleted with the bay
		}
		if !t.Room() {
			return true
		}
		pods := found[bay.ID]
		if pods == nil {
			pods = podsInBay(t, bay.ID)
			found[bay.ID] = pods
		}
		k := keeper{t: t, rc: rc, bay: bay}
		if bay.Backend() != structs.BackendKubernetes {
			k.keep(pods)
		} else if rc.Deleting { // else the cluster keeps its pods
			endClusterRC(&k, pods)
		}
		if k.full {
			return true
		}
		changed = changed || k.changed
	}
	return changed // the pods are counted when the changes are applied
}

// baysPods has the pods of a bay.
type baysPods struct {
	of   map[string][]*structs.Pod // by owner
	free map[string][]*structs.Pod // without an owner, by project
}

func podsInBay(t *scratch.Tx, bayID string) *baysPods {
	found := &baysPods{of: make(map[string][]*structs.Pod), free: make(map[string][]*structs.Pod)}
	for w := range t.InBay(bayID) {
		switch p, _ := w.(*structs.Pod); {
		case p == nil:
		case p.Owner != "":
			found.of[p.Owner] = append(found.of[p.Owner], p)
		default:
			found.free[p.ProjectID] = append(found.free[p.ProjectID], p)
		}
	}
	return found
}

// keeper is keepReplicas for one replication controller.
type keeper struct {
	t       *scratch.Tx
	rc      *structs.RC
	bay     *structs.Bay
	changed bool // a pod was created, deleted, adopted or released
	full    bool // the entry has no room for all of it
}

// item makes one change, and reports whether to go on.
func (k *keeper) item(f func()) bool {
	before := k.t.Writes()
	k.full = k.full || !k.t.Room() || !k.t.Item(f)
	k.changed = k.changed || k.t.Writes() > before
	return !k.full
}

func (k *keeper) keep(pods *baysPods) {
	own := pods.of[k.rc.ID]
	if k.rc.Deleting {
		k.end(own)
		return
	}
	for _, p := range pods.free[k.rc.ProjectID] {
		if p.Desired == structs.DesiredRunning && !p.Ended() && k.rc.Matches(p) {
			k.item(func() { k.adopt(p) })
		}
	}
	var active []*structs.Pod
	for _, p := range own {
		always, claims := p.Policy().Restart.Always(), p.Policy().Volume != ""
		host := scratch.Row[structs.Host](k.t, p.HostID)
		switch {
		case p.Desired == structs.DesiredAbsent:
		case p.Ended() && !always: // it stays for its logs
			k.item(func() { k.release(p) })
		case p.Ended() && claims: // another one would run without what is in its volume
			active = append(active, p)
		case p.Ended(), !always && host != nil && host.State == structs.HostLost: // it is not moved
			k.item(func() { placing.Delete(k.t, p, false) })
		default:
			active = append(active, p)
		}
	}
	if k.changed || k.full {
		return // what is left is decided by rows that have all of this
	}
	plan := replicas.Decide(k.rc, active)
	for _, p := range plan.Delete {
		k.item(func() { placing.Delete(k.t, p, false) })
	}
	if manifest := scratch.Row[structs.Manifest](k.t, k.rc.BesideID()); manifest != nil && manifest.RC != nil {
		if short := k.createAll(plan.Create, manifest.RC, own); short != "" {
			plan.Observed.OverQuota, plan.Observed.Reason = true, short
		}
	}
	if !k.changed && !k.full {
		k.observe(plan.Observed)
	}
}

// createAll creates n pods, or as many as the project's quota has room for: then short says why
// there are no more. own are all pods of the replication controller. Those that only wait for a
// lost host to return don't count: the loss of a host is charged to nobody.
func (k *keeper) createAll(n int, spec *structs.RCSpec, own []*structs.Pod) (short string) {
	var spared structs.Amounts
	for _, p := range own {
		if host := scratch.Row[structs.Host](k.t, p.HostID); p.Desired == structs.DesiredAbsent && host != nil && host.State == structs.HostLost {
			takes := k.t.Takes(p)
			for i := range takes {
				spared[i] += takes[i]
			}
		}
	}
	for i := range n {
		p := k.pod(spec)
		p.Name = generatePodName(k.t, k.rc.Name+"-", p, k.bay)
		p.Spec.Hostname = cmp.Or(p.Spec.Hostname, p.Name) // it is charged too
		if why := quotas.Short(k.t, p, &spared); why != "" {
			return fmt.Sprintf("%d of %d pods are not created: %s; they follow when there is room", n-i, k.rc.Replicas, why)
		}
		if !k.item(func() { startPod(k.t, p, k.bay) }) {
			break
		}
	}
	return ""
}

// pod returns a pod of the template, without a name.
func (k *keeper) pod(spec *structs.RCSpec) *structs.Pod {
	rc := k.rc
	return &structs.Pod{
		Meta:   k.t.Meta(structs.Caller{ProjectID: rc.ProjectID, UserID: rc.UserID}, ""),
		Labels: maps.Clone(spec.Labels), Annotations: maps.Clone(spec.Annotations), Spec: spec.Template, Secrets: rc.Secrets,
		Request: rc.Request, Owner: rc.ID, Revision: rc.Revision,
	}
}

// adopt makes a pod count for the replication controller. It is not replaced because it was
// made of another template, unless the template changes later.
func (k *keeper) adopt(was *structs.Pod) {
	p := *was
	p.Owner, p.Revision = k.rc.ID, k.rc.Revision
	k.t.Put(&p)
}

// release makes a pod count no longer.
func (k *keeper) release(was *structs.Pod) {
	p := *was
	p.Owner, p.Revision = "", ""
	k.t.Put(&p)
}

// end deletes the pods, and the replication controller when they are gone.
func (k *keeper) end(own []*structs.Pod) {
	for _, p := range own {
		host := scratch.Row[structs.Host](k.t, p.HostID)
		forget := k.rc.Force && (!p.Force || host != nil && host.State == structs.HostLost)
		if p.Desired != structs.DesiredAbsent || forget {
			k.item(func() { placing.Delete(k.t, p, k.rc.Force) })
		}
	}
	switch {
	case k.changed || k.full:
	case len(own) == 0:
		k.item(func() { k.t.Remove(k.rc) })
	default:
		reason := fmt.Sprintf("it is deleted once its pods are gone: %d are left, such as %s", len(own), own[0].Name)
		if i := slices.IndexFunc(own, func(p *structs.Pod) bool { return p.Phase() == structs.PodUnknown }); i >= 0 {
			reason = fmt.Sprintf("it is deleted once its pods are gone, and the host of pod %s is lost: "+
				"delete with force to forget such pods", own[i].Name)
		}
		k.observe(structs.RCObserved{Generation: k.rc.Generation, Current: len(own), Reason: reason})
	}
}

// observe writes what was counted.
func (k *keeper) observe(seen structs.RCObserved) {
	if seen == k.rc.Observed {
		return
	}
	rc := *k.rc
	rc.Observed = seen
	k.full = k.full || !k.t.Room() || !k.t.Item(func() { k.t.Put(&rc) })
}

// releaseUnmatched makes a pod whose labels have changed count no longer, if its replication
// controller's selector doesn't match them.
func releaseUnmatched(t *scratch.Tx, p *structs.Pod) {
	if rc := scratch.Row[structs.RC](t, p.Owner); p.Owner != "" && (rc == nil || !rc.Matches(p)) {
		p.Owner, p.Revision = "", ""
	}
}
