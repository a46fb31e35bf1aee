// Package objects decides about what a Kubernetes bay has beside the rows of Docker bays: an
// Object for each service and replication controller, the pods that the cluster itself has
// made, and what its agent reports of all of them. The conductor's requests, reports and
// steps call it, in the scratch view of their batch.
package objects

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/endpoints"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// On reports whether the bay is a Kubernetes cluster.
func On(t *scratch.Tx, bayID string) bool {
	bay := scratch.Row[structs.Bay](t, bayID)
	return bay != nil && bay.Backend() == structs.BackendKubernetes
}

// CheckSchema refuses what a server of the cluster may not understand. kind is what is
// created. CodeUnavailable: the leader of a new cluster finds out within seconds, and clients
// try again.
func CheckSchema(t *scratch.Tx, kind string) error {
	if t.Base.Cluster().SchemaInUse() >= structs.SchemaKubernetes {
		return nil
	}
	return structs.Errorf(structs.CodeUnavailable,
		"Kubernetes bays need a cluster whose servers all run this version or a newer one, which the leader has not found out yet: "+
			"try again in a few seconds, or upgrade the other servers first").About(kind)
}

// Check refuses fields of a request beside the manifest that only Docker bays have.
// CodeInvalid; otherwise that of CheckSchema.
func Check(t *scratch.Tx, kind string, bay *structs.Bay, exclusive structs.Exclusive, infraImage string, secrets *structs.Secrets) error {
	refuse := func(field, why string) error {
		return structs.Errorf(structs.CodeInvalid, "%s: bay %s is of coe %s, %s", field, bay.Name, bay.COE, why).About(kind)
	}
	switch {
	case exclusive != structs.ExclusiveNo:
		return refuse("exclusive", "whose cluster alone decides when a pod runs again: leave it out, or use a docker bay")
	case infraImage != "":
		return refuse("infra_image", "whose nodes have an image of their own for a pod's network: leave it out")
	case secrets.Registry != nil:
		return refuse("registry", "whose nodes pull the images: leave it out, and name a Secret of the project's namespace in "+
			"spec.imagePullSecrets of the manifest")
	}
	return CheckSchema(t, kind)
}

// Create writes the object of a new service or replication controller, and places it in the
// bay's cluster if the bay has one. owner is the Meta of the row, kind its kind. CodeConflict
// if the cluster still has the object of an earlier row with this UUID, CodeInvalid if that was
// another project's.
func Create(t *scratch.Tx, owner *structs.Meta, kind, name string, bay *structs.Bay) error {
	id := kind + "/" + owner.ID
	if o := t.Get(structs.TableObjects, id); o != nil {
		if o.Base().ProjectID != owner.ProjectID {
			return structs.UnusableID(kind, owner.ID)
		}
		return structs.Errorf(structs.CodeConflict, "A %s with UUID %s is being deleted from the cluster: try again when it is gone.", kind,
			owner.ID).About(kind)
	}
	o := &structs.Object{
		Meta: structs.Meta{ID: id, Seq: owner.Seq, ProjectID: owner.ProjectID, UserID: owner.UserID, CreatedAt: owner.CreatedAt},
		Kind: kind, OwnerID: owner.ID, Name: name,
		Placement: structs.Placement{BayID: bay.ID, Desired: structs.DesiredRunning, Generation: 1, StartGeneration: 1},
	}
	placing.Place(t, o, bay)
	t.Assign(o)
	return nil
}

// Change raises the generation of an object whose manifest has changed.
func Change(t *scratch.Tx, id string) {
	if was := scratch.Row[structs.Object](t, id); was != nil {
		o := *was
		o.Generation++
		o.UpdatedAt = t.Now
		t.Assign(&o)
	}
}

// Delete has the object removed from the cluster. It forgets one in a lost cluster if force
// is true.
func Delete(t *scratch.Tx, id string, force bool) {
	if o := scratch.Row[structs.Object](t, id); o != nil {
		placing.Delete(t, o, force)
	}
}

// Take writes what the report says of an object into the rows that users see: those of its
// service or replication controller. o is the object with the report taken. host is not needed
// if the report has no service.
func Take(t *scratch.Tx, host *structs.Host, o *structs.Object, report *structs.ContainerReport) {
	said := report.Object
	if said == nil {
		said = &structs.ObjectReport{}
	}
	switch o.Kind {
	case structs.KindService:
		if s := scratch.Row[structs.Service](t, o.OwnerID); s != nil && said.Service != nil {
			takeService(t, host, s, said.Service)
		}
	case structs.KindRC:
		if rc := scratch.Row[structs.RC](t, o.OwnerID); rc != nil && !rc.Deleting {
			takeRC(t, o, rc, said.RC)
		}
	}
}

// NewEndpoints returns the endpoints of a service in a cluster that has reported none.
func NewEndpoints(s *structs.Service) *structs.Endpoints {
	return &structs.Endpoints{Meta: structs.Meta{ID: s.ID, Seq: s.Seq, ProjectID: s.ProjectID}, BayID: s.BayID}
}

func takeService(t *scratch.Tx, host *structs.Host, was *structs.Service, said *structs.ServiceReport) {
	s := *was
	s.Address = said.Address
	s.Spec.Ports = nil
	for _, p := range was.Spec.Ports {
		for _, q := range said.Ports {
			if q.Port == p.Port && cmp.Or(q.Protocol, "tcp") == cmp.Or(p.Protocol, "tcp") {
				p.NodePort = q.NodePort
			}
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	if s.Address != was.Address || !slices.Equal(s.Spec.Ports, was.Spec.Ports) {
		t.Put(&s)
	}
	e := NewEndpoints(was)
	e.Matched = said.Matched
	for _, p := range said.Endpoints[:min(len(said.Endpoints), structs.MaxEndpoints)] {
		p.HostID = host.ID
		e.Pods = append(e.Pods, p)
	}
	if old := scratch.Row[structs.Endpoints](t, was.ID); old == nil || !endpoints.Same(old, e) {
		t.Put(e)
	}
}

// takeRC writes what was counted. said is nil if the cluster has no such object.
func takeRC(t *scratch.Tx, o *structs.Object, was *structs.RC, said *structs.RCReport) {
	rc := *was
	rc.Observed.Reason = "" // the counts stay if there are no others
	if said != nil {
		rc.Observed = said.RCObserved
		rc.Observed.OverQuota = false // such a replication controller is refused as a whole
	}
	rc.Observed.Reason = cmp.Or(o.Observed.Reason, rc.Observed.Reason)
	if rc.Observed != was.Observed {
		t.Put(&rc)
	}
}

// Leaving says what a replication controller that is being deleted waits for; "" once the
// cluster has no such object. lost reports whether the cluster's host is lost.
func Leaving(t *scratch.Tx, rc *structs.RC) (reason string, lost bool) {
	o := scratch.Row[structs.Object](t, rc.BesideID())
	if o == nil {
		return "", false
	}
	reason = "it is deleted once the cluster has no such object and none of its pods"
	if host := scratch.Row[structs.Host](t, o.HostID); host != nil && host.State == structs.HostLost {
		return fmt.Sprintf("%s, and the agent of the cluster, host %s, is lost: delete with force to forget it", reason, host.Name), true
	}
	if o.Observed.Reason != "" {
		reason += ": " + o.Observed.Reason
	}
	return reason, false
}
