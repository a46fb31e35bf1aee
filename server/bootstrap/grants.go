package bootstrap

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Grants makes sure that servers without a cluster bootstrap at most one, however their
// views of each other differ. A server that sees -bootstrap-expect servers proposes a
// cluster ID and asks each of them for its grant. A server grants one cluster at a time,
// and has the grant on disk before it answers. The proposer bootstraps the cluster only
// with the grants of all its voters. So two clusters would need a server that has granted
// both.
//
// Only the proposer can bootstrap its cluster. When it has abandoned the cluster, and has
// that on disk, it tells the others that their grants are released.
type Grants struct {
	file *memberfile.File
	log  hclog.Logger
	self func() raftlog.Peer

	mu sync.Mutex // held from reading the record to its update
}

// NewGrants returns the grants of the record. self returns this server; only Grant calls
// it.
func NewGrants(file *memberfile.File, self func() raftlog.Peer, logger hclog.Logger) *Grants {
	return &Grants{file: file, self: self, log: logger}
}

// RecordCluster records the cluster that this server belongs to from now on; raftlog calls
// it. CodeConflict if this server has granted another one.
func (g *Grants) RecordCluster(clusterID string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.file.Now()
	if now.ClusterID == clusterID {
		return nil
	}
	if now.Grant != nil && now.Grant.ClusterID != clusterID {
		return structs.Errorf(structs.CodeConflict, "this server has granted cluster %s, which is being bootstrapped, not %s",
			now.Grant.ClusterID, clusterID)
	}
	if err := g.file.Update(func(r *memberfile.Record) { r.ClusterID = clusterID }); err != nil {
		return err
	}
	g.log.Info("this server belongs to a cluster", "cluster_id", clusterID)
	return nil
}

// Proposed returns the cluster that this server has proposed and neither joined nor
// abandoned, "" if there is none. The server may have bootstrapped it and stopped before
// RecordCluster.
func (g *Grants) Proposed() string {
	if now := g.file.Now(); now.ClusterID == "" && now.Proposes && now.Grant != nil {
		return now.Grant.ClusterID
	}
	return ""
}

// Granted reports whether this server has granted the cluster.
func (g *Grants) Granted(clusterID string) bool {
	now := g.file.Now()
	return clusterID != "" && now.Grant != nil && now.Grant.ClusterID == clusterID
}

// Grant grants a cluster, or releases the grant if asked.Abandoned is set. Errors:
// CodeInvalid for a malformed cluster ID or voters without this server, CodeConflict if
// this server belongs to, or has granted, another cluster.
func (g *Grants) Grant(asked structs.PeerGrant) error {
	if !structs.IsID(asked.ClusterID) {
		return structs.Errorf(structs.CodeInvalid, "cluster_id: Expected a uuid but received %.64s.", asked.ClusterID)
	}
	self := g.self()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.file.Now()
	same := now.Grant != nil && now.Grant.ClusterID == asked.ClusterID
	switch {
	case asked.Abandoned && same && !now.Proposes:
		g.log.Info("grant released: the proposer has abandoned the cluster", "cluster_id", asked.ClusterID)
		return g.file.Update(func(r *memberfile.Record) { r.Grant = nil })
	case asked.Abandoned, now.ClusterID == asked.ClusterID && now.ClusterID != "":
		return nil
	case now.ClusterID != "":
		return structs.Errorf(structs.CodeConflict, "this server belongs to cluster %s", now.ClusterID)
	case same:
		return nil
	case now.Grant != nil:
		return structs.Errorf(structs.CodeConflict, "this server has granted cluster %s, which is being bootstrapped", now.Grant.ClusterID)
	case !slices.ContainsFunc(asked.Voters, func(v structs.PeerVoter) bool { return v.ID == self.ID && v.RaftAddr == self.Addr }):
		return structs.Errorf(structs.CodeInvalid, "voters: this server, %s at %s, is not among them", self.ID, self.Addr)
	}
	g.log.Info("granting a new cluster", "cluster_id", asked.ClusterID, "servers", len(asked.Voters))
	return g.file.Update(func(r *memberfile.Record) { r.Grant, r.Proposes = &asked, false })
}

// propose records the proposal of a cluster of the voters, or returns the proposal that
// the record holds already. ok is false if there is nothing to propose: this server
// belongs to a cluster, has granted another server's, or there are no voters.
func (g *Grants) propose(voters []structs.PeerVoter) (proposed structs.PeerGrant, ok bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.file.Now()
	switch {
	case now.ClusterID != "" || now.Grant != nil && !now.Proposes:
		return proposed, false, nil
	case now.Grant != nil:
		return *now.Grant, true, nil
	case len(voters) == 0:
		return proposed, false, nil
	}
	proposed = structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	err = g.file.Update(func(r *memberfile.Record) { r.Grant, r.Proposes = &proposed, true })
	return proposed, err == nil, err
}

// abandon records that this server will never bootstrap the cluster that it has proposed.
func (g *Grants) abandon() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.file.Now()
	if !now.Proposes || now.Grant == nil {
		return nil
	}
	all := append(slices.Clone(now.Abandoned), now.Grant.ClusterID)
	return g.file.Update(func(r *memberfile.Record) {
		r.Grant, r.Proposes = nil, false
		r.Abandoned = all[max(0, len(all)-memberfile.MaxAbandoned):]
	})
}

// waitReason says that this server waits for the proposer of the cluster that it has
// granted; "" if it doesn't.
func (g *Grants) waitReason() string {
	now := g.file.Now()
	if now.Grant == nil || now.Proposes {
		return ""
	}
	return fmt.Sprintf("another server is bootstrapping cluster %s with this one; "+
		"if that server is gone for good, stop this one and give it an empty data directory", now.Grant.ClusterID)
}
