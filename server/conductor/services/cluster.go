package services

import (
	"slices"

	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// putText writes a service with its manifest.
func putText(t *scratch.Tx, s *structs.Service, text string) {
	t.Put(s)
	t.Put(&structs.Manifest{Meta: structs.Meta{ID: s.BesideID(), Seq: s.Seq, ProjectID: s.ProjectID}, Text: text})
}

// createInCluster writes a new service of a Kubernetes bay. The cluster gives it an address,
// node ports and endpoints, which its agent reports.
func createInCluster(t *scratch.Tx, s *structs.Service, bay *structs.Bay, text string) (*structs.Service, error) {
	if err := objects.CheckSchema(t, structs.KindService); err != nil {
		return nil, err
	}
	if _, err := countOthers(t, s); err != nil {
		return nil, err
	}
	putText(t, s, text)
	t.Put(objects.NewEndpoints(s))
	return s, objects.Create(t, &s.Meta, structs.KindService, s.Name, bay)
}

// changeInCluster gives a service of a Kubernetes bay another manifest. What can change is
// the cluster's decision.
func changeInCluster(t *scratch.Tx, was *structs.Service, to structs.Service, text string) *structs.Service {
	old := scratch.Row[structs.Manifest](t, was.BesideID())
	same := old != nil && old.Text == text
	if same && was.ManifestURL == to.ManifestURL {
		return was
	}
	s := *was
	s.ManifestURL, s.UpdatedAt = to.ManifestURL, t.Now
	if !same {
		s.Labels, s.Annotations, s.Spec = to.Labels, to.Annotations, to.Spec
		s.Spec.Ports = slices.Clone(s.Spec.Ports)
		for i := range s.Spec.Ports { // until the cluster's agent reports others
			if p := &s.Spec.Ports[i]; p.NodePort == 0 && s.Spec.NodePorts {
				p.NodePort = nodePortOf(&was.Spec, p)
			}
		}
		objects.Change(t, s.BesideID())
	}
	putText(t, &s, text)
	return &s
}
