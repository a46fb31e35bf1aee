package mirror

import (
	"cmp"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Room says whether the namespace of a project can be used. One that is missing is made, as
// for a workload, if Next is called before a time. Otherwise refused says why the namespace
// can't be used, or waits why it can't yet.
func (m *Mirror) Room(projectID string, until time.Time) (ok bool, waits string, refused error) {
	n := NamespaceOf(projectID)
	s := m.spaces[n]
	if s == nil {
		s = &space{name: n}
		m.spaces[n] = s
	}
	s.project, s.asked, s.dirty = projectID, until, true
	switch {
	case m.api.away != "":
		return false, "the cluster's API " + structs.AwayText(m.api.absence()), nil
	case !m.Listed():
		return false, "the agent has not seen yet what the cluster has", nil
	}
	w := &workload{key: Key{Namespace: n}, a: structs.Assignment{ProjectID: projectID}}
	ok, waits, no := w.room(m)
	if no != nil {
		refused = structs.Errorf(cmp.Or(no.code, structs.CodeConflict), "%s", no.reason)
	}
	return ok, waits, refused
}

// LabelsOf returns the labels of what a project has in its namespace beside workloads.
func (c *Config) LabelsOf(projectID string) map[string]string {
	return map[string]string{LabelCluster: c.ClusterID, LabelProject: labelValue(projectID)}
}
