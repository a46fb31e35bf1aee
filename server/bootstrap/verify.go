package bootstrap

import (
	"context"
	"crypto/hmac"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/structs"
)

// Peers are the calls of this package to other servers.
type Peers interface {
	Identify(ctx context.Context, id, url, nonce string) (structs.PeerIdentity, error)
	Grant(ctx context.Context, id, proof string, g structs.PeerGrant) error
}

// Verifier asks what passes for a server, of which gossip alone has told, whether it
// is who it says.
type Verifier struct {
	Proofs    Proofs
	Peers     Peers
	Instances func(id string) []gossip.Member // what passes for the server in gossip, the likeliest first
}

// Verify asks a server at its Raft address. A server is asked before it is added to
// Raft's configuration or moved in it, and before a cluster is made of it: one that
// is forged would count for the majority and never vote. CodeForbidden for a forged
// one, CodeNoLeader for one that isn't there.
func (v Verifier) Verify(ctx context.Context, id, raftAddr string) error {
	var err error = structs.Errorf(structs.CodeNoLeader, "server %s is not there", id)
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
		return structs.Errorf(structs.CodeForbidden, "gossip has server %s at %s and %s, and what answers there is %.64s at %.128s and %.128s",
			m.ID, m.RaftAddr, m.HTTPAddr, is.ID, is.RaftAddr, is.HTTPAddr)
	}
	return structs.Errorf(structs.CodeForbidden, "what answers at %s has no proof that it is a server of cluster %q with its gossip key", m.HTTPAddr, v.Proofs.Cluster)
}
