package bootstrap

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// Proofs proves to other servers that this one has the gossip key and the name of the
// cluster, and checks such proofs of others. They are needed before a cluster has a secret
// of its own, and before the gossip about a server is trusted.
type Proofs struct {
	Cluster string // name of the cluster: Config.Cluster of package server
	Key     []byte // gossip key; nil if the servers have none
}

// Identity signs the identity of a server. The signature covers the nonce of the caller,
// so that a proof can't be replayed, and all fields of the identity, so that it can't be
// used for another server.
func (p Proofs) Identity(nonce string, is structs.PeerIdentity) string {
	mac := hmac.New(sha256.New, p.Key)
	fmt.Fprintf(mac, "magnum identity %q %q %q %q %q", p.Cluster, nonce, is.ID, is.RaftAddr, is.HTTPAddr)
	return hex.EncodeToString(mac.Sum(nil))
}

// Grant returns the proof that a server sends with a request for a grant.
func (p Proofs) Grant() string {
	mac := hmac.New(sha256.New, p.Key)
	mac.Write([]byte("magnum grant " + p.Cluster))
	return hex.EncodeToString(mac.Sum(nil))
}

// CheckGrant returns CodeForbidden unless proof equals that of Grant.
func (p Proofs) CheckGrant(proof string) error {
	if subtle.ConstantTimeCompare([]byte(proof), []byte(p.Grant())) != 1 {
		return structs.Errorf(structs.CodeForbidden, "only a server of cluster %q with its gossip key may ask for a grant", p.Cluster)
	}
	return nil
}
