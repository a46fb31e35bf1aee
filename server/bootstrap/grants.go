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

// Grants has servers that have no cluster yet make one and not two, however their
// views of each other differ. A server that sees enough others mints a cluster id
// and asks each of them for its grant. A server grants one cluster at a time, and
// has that on disk before it answers; the asker makes the cluster only once it has
// the grants of all its voters. So two clusters would need a server that has granted
// both.
//
// Only the asker can make its cluster. Once it has abandoned it, durably, it tells
// the others that their grants are free.
type Grants struct {
	file *memberfile.File
	log  hclog.Logger
	self func() raftlog.Peer

	mu sync.Mutex // held from a look at the record to its update
}

// NewGrants returns the grants that the record holds. self says who this server is;
// it is not called before Grant is.
func NewGrants(file *memberfile.File, self func() raftlog.Peer, logger hclog.Logger) *Grants {
	return &Grants{file: file, self: self, log: logger}
}

// Keep notes the cluster that this server belongs to from now on; raftlog calls it.
// CodeConflict if it has given its grant to another one.
func (g *Grants) Keep(clusterID string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.file.Now()
	if now.ClusterID == clusterID {
		return nil
	}
	if now.Grant != nil && now.Grant.ClusterID != clusterID {
		return structs.Errorf(structs.CodeConflict, "this server has given its part to cluster %s, which is being made, not to %s", now.Grant.ClusterID, clusterID)
	}
	if err := g.file.Update(func(r *memberfile.Record) { r.ClusterID = clusterID }); err != nil {
		return err
	}
	g.log.Info("this server belongs to a cluster", "cluster_id", clusterID)
	return nil
}

// Begun returns the cluster that this server has made, though it was stopped before
// it could note that it belongs to it; "" if there is none.
func (g *Grants) Begun() string {
	if now := g.file.Now(); now.ClusterID == "" && now.Proposes && now.Grant != nil {
		return now.Grant.ClusterID
	}
	return ""
}

// Granted reports whether this server has given its grant to the cluster.
func (g *Grants) Granted(clusterID string) bool {
	now := g.file.Now()
	return clusterID != "" && now.Grant != nil && now.Grant.ClusterID == clusterID
}

// Grant gives this server's grant to a cluster, or takes it back. Errors:
// CodeInvalid, CodeConflict for a grant that another cluster has.
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
		g.log.Info("the part in a cluster is free again: its maker has given it up", "cluster_id", asked.ClusterID)
		return g.file.Update(func(r *memberfile.Record) { r.Grant = nil })
	case asked.Abandoned, now.ClusterID == asked.ClusterID && now.ClusterID != "":
		return nil
	case now.ClusterID != "":
		return structs.Errorf(structs.CodeConflict, "this server belongs to cluster %s", now.ClusterID)
	case same:
		return nil
	case now.Grant != nil:
		return structs.Errorf(structs.CodeConflict, "this server has given its part to cluster %s, which is being made", now.Grant.ClusterID)
	case !slices.ContainsFunc(asked.Voters, func(v structs.PeerVoter) bool { return v.ID == self.ID && v.RaftAddr == self.Addr }):
		return structs.Errorf(structs.CodeInvalid, "voters: this server, %s at %s, is not among them", self.ID, self.Addr)
	}
	g.log.Info("giving this server's part to a new cluster", "cluster_id", asked.ClusterID, "servers", len(asked.Voters))
	return g.file.Update(func(r *memberfile.Record) { r.Grant, r.Proposes = &asked, false })
}

// propose begins to make a cluster of the voters, or goes on with the one that was
// begun. ok is false if another cluster has this server's grant.
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

// abandon notes that this server will never make the cluster that it has proposed.
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

// waits says which other server this one waits for to make the cluster, "" for none.
func (g *Grants) waits() string {
	now := g.file.Now()
	if now.Grant == nil || now.Proposes {
		return ""
	}
	return fmt.Sprintf("another server is making cluster %s of this one; should that server be gone for good, stop this one and give it an empty data directory", now.Grant.ClusterID)
}
