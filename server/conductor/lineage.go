package conductor

import (
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// newTx returns the scratch view for a batch of this leadership. The first batch writes the
// leadership's lineage before anything else: any state that contains a write of this
// leadership names its lineage.
func (c *Conductor) newTx(now time.Time) *scratch.Tx {
	t := scratch.NewFor(c.lastBatch, c.store.Snapshot(), now)
	t.SetShipped(&c.quota)
	beginLineage(t, c.lineage)
	return t
}

// beginLineage writes the lineage unless it is the newest already. Clusters of an earlier
// schema have no lineages.
func beginLineage(t *scratch.Tx, id string) {
	if t.Base.Cluster().SchemaInUse() < structs.SchemaLineages {
		return
	}
	was := scratch.Row[structs.Lineages](t, structs.LineagesRowID)
	if was.Current() == id {
		return
	}
	next := was.With(id, t.Base.Index()+1)
	if was == nil {
		next.CreatedAt = t.Now
	}
	t.Put(next)
}

// hasDiverged reports whether an agent has followed another history than this state's:
// another incarnation of the cluster, or a lineage that isn't this state's at the index. It
// is false for an agent that has followed nothing, or doesn't say what.
func hasDiverged(t *scratch.Tx, f structs.Following, cluster *structs.Cluster) bool {
	switch {
	case f.ClusterID == "":
		return false
	case f.Incarnation != cluster.Incarnation:
		return true
	}
	return !scratch.Row[structs.Lineages](t, structs.LineagesRowID).Holds(f.Lineage, f.Index)
}
