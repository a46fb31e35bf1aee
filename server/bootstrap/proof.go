package bootstrap

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// Proofs shows other servers that this one has the gossip key and means the same
// cluster, and checks that they have it: before there is a cluster with a secret of
// its own, and before what gossip tells of a server is believed.
type Proofs struct {
	Cluster string // name of the cluster: Config.Cluster of package server
	Key     []byte // gossip key; nil proves that there is none
}

// Identity signs what a server says of itself. The nonce is of the question, so that
// a proof can't be repeated, and what it proves is in it, so that another server's
// can't be passed off.
func (p Proofs) Identity(nonce string, is structs.PeerIdentity) string {
	mac := hmac.New(sha256.New, p.Key)
	fmt.Fprintf(mac, "magnum identity %q %q %q %q %q", p.Cluster, nonce, is.ID, is.RaftAddr, is.HTTPAddr)
	return hex.EncodeToString(mac.Sum(nil))
}

// Grant is what a server shows that asks for a grant.
func (p Proofs) Grant() string {
	mac := hmac.New(sha256.New, p.Key)
	mac.Write([]byte("magnum grant " + p.Cluster))
	return hex.EncodeToString(mac.Sum(nil))
}

// CheckGrant checks what another server has shown. CodeForbidden.
func (p Proofs) CheckGrant(proof string) error {
	if subtle.ConstantTimeCompare([]byte(proof), []byte(p.Grant())) != 1 {
		return structs.Errorf(structs.CodeForbidden, "only a server of cluster %q with its gossip key may ask that", p.Cluster)
	}
	return nil
}
