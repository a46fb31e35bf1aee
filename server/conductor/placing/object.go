package placing

import (
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// leaving reports whether the cluster still has an object of the workload's kind and name
// that is being deleted. A service's row goes at once, so there may be another one of its
// name before the object is gone.
func leaving(t *scratch.Tx, w structs.Workload) bool {
	o, ok := w.(*structs.Object)
	if !ok {
		return false
	}
	for other := range scratch.Typed[*structs.Object](t.ByName(structs.TableObjects, o.ProjectID, o.Name)) {
		if other.ID != o.ID && other.Kind == o.Kind && other.BayID == o.BayID && other.Desired == structs.DesiredAbsent {
			return true
		}
	}
	return false
}
