package conductor

import (
	"cmp"
	"reflect"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// CreatePod creates a pod from a manifest that the caller has read, and, if a host fits,
// places it. A pod runs from its creation on.
type CreatePod struct {
	Caller   structs.Caller
	Once     Once
	UUID     string          // "" means a generated one
	Bay      string          // UUID or name; "" means the only usable bay
	Pod      structs.Pod     // Name, Labels, Annotations, Spec, Secrets and ManifestURL
	Prefix   string          // what a generated name begins with; not used if Pod has a name
	Manifest string          // as it was sent or fetched
	Backend  structs.Backend // that Pod was read for; "" means docker, Unread that nothing was read
}

func (r CreatePod) decide(t *scratch.Tx) (*structs.Pod, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Pod, error) {
		if err := checkPodSchema(t, structs.KindPod); err != nil {
			return nil, err
		}
		bay, err := bayFor(t, t.BaysOf, r.Caller, r.Bay, usable)
		if err != nil {
			return nil, err
		}
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
		p := r.Pod
		if p.Spec.Cluster = r.Backend == structs.BackendKubernetes; p.Spec.Cluster {
			if err := objects.Check(t, structs.KindPod, bay, p.Spec.Exclusive, p.Spec.InfraImage, &p.Secrets); err != nil {
				return nil, err
			}
		}
		if p.Meta, err = newMeta(t, r.Caller, structs.TablePods, structs.KindPod, r.UUID); err != nil {
			return nil, err
		}
		if p.Name == "" {
			p.Name = generatePodName(t, r.Prefix, &p, bay)
		}
		if other := podNamed(t, r.Caller.ProjectID, bay, p.Name); other != nil {
			why := "delete it first, or use another name"
			if other.Desired == structs.DesiredAbsent {
				why = "it is being deleted; try again when it is gone"
			}
			return nil, structs.Errorf(structs.CodeConflict, "Bay %s has a pod %s already, with UUID %s: %s.", bay.Name, p.Name, other.ID,
				why).About(structs.KindPod)
		}
		p.Request = r.Caller.RequestID
		startPod(t, &p, bay)
		putManifest(t, &p, r.Manifest)
		return &p, nil
	})
}

// checkPodSchema refuses an object that a server of the cluster may not understand.
// CodeUnavailable: the leader of a new cluster finds out within seconds, and clients try
// again.
func checkPodSchema(t *scratch.Tx, kind string) error {
	if t.Base.Cluster().SchemaInUse() >= structs.SchemaPods {
		return nil
	}
	return structs.Errorf(structs.CodeUnavailable,
		"pods need a cluster whose servers all run this version or a newer one, which the leader has not found out yet: "+
			"try again in a few seconds, or upgrade the other servers first").About(kind)
}

// startPod writes a new pod that runs from now on, and places it if a host fits.
func startPod(t *scratch.Tx, p *structs.Pod, bay *structs.Bay) {
	if !p.Spec.Cluster {
		p.Spec.Hostname = cmp.Or(p.Spec.Hostname, p.Name)
	}
	p.Placement = structs.Placement{BayID: bay.ID, Desired: structs.DesiredRunning, Generation: 1, StartGeneration: 1}
	placing.Place(t, p, bay)
	t.Assign(p)
}

// podNamed returns the project's pod of that name in the bay, nil if there is none.
func podNamed(t *scratch.Tx, projectID string, bay *structs.Bay, name string) *structs.Pod {
	for p := range scratch.Typed[*structs.Pod](t.ByName(structs.TablePods, projectID, name)) {
		if p.BayID == bay.ID {
			return p
		}
	}
	return nil
}

// generatePodName returns a name with the prefix that no pod of the project in the bay has.
// It depends on the UUID alone, as far as possible: a retried create gets the same name.
func generatePodName(t *scratch.Tx, prefix string, p *structs.Pod, bay *structs.Bay) string {
	return structs.GenerateLabel(prefix, p.ID, func(name string) bool { return podNamed(t, p.ProjectID, bay, name) != nil })
}

// putManifest writes the manifest that a pod was made from.
func putManifest(t *scratch.Tx, p *structs.Pod, text string) {
	meta := structs.Meta{ID: p.Ref().BesideID(), Seq: p.Seq, ProjectID: p.ProjectID}
	t.Put(&structs.Manifest{Meta: meta, Text: text})
}

// PatchPod replaces the manifest of a pod. Its host makes a container with another image
// again; the others stay as they are.
type PatchPod struct {
	Caller   structs.Caller
	Ident    string          // UUID or name
	Manifest string          // as it was sent or fetched
	Backend  structs.Backend // that the manifest was read for; "" means docker
	// Apply sets what the manifest says in the copy of a pod, or refuses it.
	Apply func(p *structs.Pod) error
}

func (r PatchPod) decide(t *scratch.Tx) (*structs.Pod, error) {
	was, err := find[*structs.Pod](t, r.Caller, structs.KindPod, r.Ident)
	if err != nil {
		return nil, err
	}
	if was.Desired == structs.DesiredAbsent {
		return nil, structs.Errorf(structs.CodeConflict, "Pod %s is being deleted", r.Ident).About(structs.KindPod)
	}
	if err := refuseFound(was); err != nil {
		return nil, err
	}
	if bay := scratch.Row[structs.Bay](t, was.BayID); bay != nil {
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
	}
	p := *was
	if err := r.Apply(&p); err != nil {
		return nil, err
	}
	p.Spec.Cluster = was.Spec.Cluster
	old := scratch.Row[structs.Manifest](t, was.Ref().BesideID())
	if reflect.DeepEqual(&p, was) && old != nil && old.Text == r.Manifest {
		return was, nil
	}
	generation := uint64(0)
	if !reflect.DeepEqual(p.Spec, was.Spec) || !reflect.DeepEqual(p.Labels, was.Labels) ||
		!reflect.DeepEqual(p.Annotations, was.Annotations) || p.Spec.Cluster && (old == nil || old.Text != r.Manifest) {
		p.Generation++
		generation = p.Generation
	}
	p.UpdatedAt = t.Now
	if !reflect.DeepEqual(p.Labels, was.Labels) {
		releaseUnmatched(t, &p)
	}
	t.Assign(&p)
	putManifest(t, &p, r.Manifest)
	actions.Note(t, r.Caller, "update", was, generation)
	return &p, nil
}

// DeletePod has a pod removed from its host, in its grace period. Its row and its manifest
// are deleted when the host reports that the pod is gone.
type DeletePod struct {
	Caller structs.Caller
	Ident  string // UUID or name
	Force  bool   // kill it at once; forget one on a lost host
}

// decide returns the last row of the pod.
func (r DeletePod) decide(t *scratch.Tx) (*structs.Pod, error) {
	p, err := find[*structs.Pod](t, r.Caller, structs.KindPod, r.Ident)
	if err != nil {
		return nil, err
	}
	after := placing.Delete(t, p, r.Force).(*structs.Pod)
	if after != p {
		actions.Note(t, r.Caller, "delete", p, after.Generation)
	}
	return after, nil
}
