package conductor

import (
	"cmp"
	"slices"
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// InitCluster creates the cluster's row. It is the first request of each leader. If the row
// exists, InitCluster fills in what is missing.
type InitCluster struct {
	ClusterID     string        // UUID for a new cluster
	JoinTokenHash string        // for a new cluster
	Replace       bool          // JoinTokenHash also replaces an existing one
	PeerSecret    string        // for a cluster without one
	HostLostAfter time.Duration // this leader's; a shorter one in the row is raised, see structs.Cluster
	Schema        int           // understood by all servers; an earlier one in the row is raised; 0 means LeastSchema
}

func (r InitCluster) decide(t *scratch.Tx) (*structs.Cluster, error) {
	was := scratch.Row[structs.Cluster](t, structs.ClusterRowID)
	if was == nil {
		c := &structs.Cluster{Meta: t.Meta(structs.Caller{}, structs.ClusterRowID), ClusterID: r.ClusterID, JoinTokenHash: r.JoinTokenHash,
			PeerSecret: r.PeerSecret, HostLostAfter: r.HostLostAfter, Schema: r.Schema}
		t.Put(c)
		return c, nil
	}
	changed := *was
	if r.JoinTokenHash != "" && (r.Replace || was.JoinTokenHash == "") {
		changed.JoinTokenHash = r.JoinTokenHash
	}
	changed.PeerSecret = cmp.Or(was.PeerSecret, r.PeerSecret)
	changed.HostLostAfter = max(was.HostLostAfter, r.HostLostAfter)
	if r.Schema > was.SchemaInUse() {
		raiseSchema(t, &changed, r.Schema)
	}
	if changed.JoinTokenHash == was.JoinTokenHash && changed.PeerSecret == was.PeerSecret && changed.HostLostAfter == was.HostLostAfter &&
		changed.Schema == was.Schema {
		return was, nil
	}
	t.Put(&changed)
	return &changed, nil
}

// RaiseSchema makes leaders propose entries of a later schema from now on. The caller has
// made sure that every server understands it.
type RaiseSchema struct {
	Schema int
}

func (r RaiseSchema) decide(t *scratch.Tx) (*structs.Cluster, error) {
	was, err := clusterRow(t)
	if err != nil || r.Schema <= was.SchemaInUse() {
		return was, err
	}
	changed := *was
	raiseSchema(t, &changed, r.Schema)
	t.Put(&changed)
	return &changed, nil
}

// raiseSchema sets a later schema in the copy of the cluster's row.
func raiseSchema(t *scratch.Tx, c *structs.Cluster, schema int) {
	c.Schema = schema
	// Servers that have restored a snapshot of an earlier schema don't know the time of the
	// last write. They take it from this one.
	c.UpdatedAt = t.Now
}

// RemoveServer records that an operator has removed a server from the cluster, so that it
// isn't added again although it gossips.
type RemoveServer struct {
	ID string
}

func (r RemoveServer) decide(t *scratch.Tx) (*structs.Cluster, error) {
	was, err := clusterRow(t)
	if err != nil || slices.Contains(was.Removed, r.ID) {
		return was, err
	}
	changed := *was
	changed.Removed = append(slices.Clone(was.Removed), r.ID)
	changed.Removed = changed.Removed[max(0, len(changed.Removed)-structs.MaxRemoved):]
	t.Put(&changed)
	return &changed, nil
}

// SetHostLostAfter sets the silence after which hosts are lost, once all leases by a longer
// one have ended: see structs.Cluster. InitCluster raises it.
type SetHostLostAfter struct {
	HostLostAfter time.Duration
}

func (r SetHostLostAfter) decide(t *scratch.Tx) (*structs.Cluster, error) {
	was, err := clusterRow(t)
	if err != nil || r.HostLostAfter == was.HostLostAfter {
		return was, err
	}
	changed := *was
	changed.HostLostAfter = r.HostLostAfter
	t.Put(&changed)
	return &changed, nil
}

func clusterRow(t *scratch.Tx) (*structs.Cluster, error) {
	if c := scratch.Row[structs.Cluster](t, structs.ClusterRowID); c != nil {
		return c, nil
	}
	return nil, structs.Errorf(structs.CodeUnavailable, "the cluster is not initialised yet: try again in a second")
}
