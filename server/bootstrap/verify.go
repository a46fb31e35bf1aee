package bootstrap

import (
	"context"
	"crypto/hmac"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/structs"
)

// Peers makes the calls of this package to other servers.
type Peers interface {
	Identify(ctx context.Context, id, url, nonce string) (structs.PeerIdentity, error)
	Grant(ctx context.Context, id, proof string, g structs.PeerGrant) error
}

// Verifier verifies servers that are known by gossip only.
type Verifier struct {
	Proofs    Proofs
	Peers     Peers
	Instances func(id string) []gossip.Member // the members that claim to be the server, the likeliest first
}

// Verify verifies the server with the ID and Raft address. It is called before a server is
// added to Raft's configuration, or its address is changed there, and before a bootstrap
// with it: a forged server would count for the majority and never vote. CodeForbidden for
// a forged server, CodeNoLeader for one that can't be reached.
func (v Verifier) Verify(ctx context.Context, id, raftAddr string) error {
	var err error = structs.Errorf(structs.CodeNoLeader, "server %s is not reachable", id)
	for _, m := range v.Instances(id) {
		if m.RaftAddr != raftAddr {
			continue
		}
		if err = v.verify(ctx, m); err == nil {
			break
		}
	}
	return err
}

func (v Verifier) verify(ctx context.Context, m gossip.Member) error {
	nonce := structs.NewSecret()
	is, err := v.Peers.Identify(ctx, m.ID, m.HTTPAddr, nonce)
	if err != nil {
		return err
	}
	want := structs.PeerIdentity{ID: m.ID, RaftAddr: m.RaftAddr, HTTPAddr: m.HTTPAddr}
	want.Proof = v.Proofs.Identity(nonce, want)
	if hmac.Equal([]byte(is.Proof), []byte(want.Proof)) {
		return nil
	}
	if is.Proof = want.Proof; is != want {
		return structs.Errorf(structs.CodeForbidden,
			"gossip has server %s at %s and %s, but the server that answers there is %.64s at %.128s and %.128s",
			m.ID, m.RaftAddr, m.HTTPAddr, is.ID, is.RaftAddr, is.HTTPAddr)
	}
	return structs.Errorf(structs.CodeForbidden, "the server at %s has not proved that it belongs to cluster %q and has its gossip key",
		m.HTTPAddr, v.Proofs.Cluster)
}
