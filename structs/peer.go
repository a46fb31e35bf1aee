package structs

import "time"

// This file holds what servers say to each other over HTTP, below /v1/peer.

// PeerReadIndex is the body of POST /v1/peer/read-index.
type PeerReadIndex struct {
	// Leased asks for an index that holds what was acknowledged before the question,
	// as far as the leader's lease tells; otherwise the leader asks the voters whether
	// it still leads.
	Leased bool `json:"leased,omitempty"`
}

// PeerIndex answers POST /v1/peer/read-index: all that was acknowledged before the
// question is in the state of this index.
type PeerIndex struct {
	Index uint64 `json:"index"`
}

// PeerHeard is the body of POST /v1/peer/heard: once a second, and at once when
// a host is back, a follower tells the leader which hosts it has heard of.
type PeerHeard struct {
	Hosts map[string]PeerPulse `json:"hosts"` // by host
}

// PeerPulse is what a follower has heard of a host since it last told the leader.
type PeerPulse struct {
	Sent uint64        `json:"sent,omitempty"` // the largest "sent" of its polls; 0 for a host without leases
	Age  time.Duration `json:"age"`            // since the last of them came
}

// PeerAcknowledged answers PeerHeard, once the leader has made sure that it
// still led after it was told.
type PeerAcknowledged struct {
	Hosts map[string]Acknowledgement `json:"hosts"` // by host
}

// Acknowledgement renews a host's lease.
type Acknowledgement struct {
	Sent  uint64        `json:"sent"`  // the largest "sent" of the host's polls that is acknowledged
	Lease time.Duration `json:"lease"` // how long after that poll was sent the lease lasts
}

// PeerSilent is the body of POST /v1/peer/silent, by which the leader asks
// whether another server has heard of hosts, and its answer: those of them that
// it has not.
type PeerSilent struct {
	Hosts []string `json:"hosts"`
}

// PeerOffer is the body of POST /v1/peer/offers: a session that waits for a host
// at the server with the user.
type PeerOffer struct {
	HostID string       `json:"host_id"`
	Offer  SessionOffer `json:"offer"`
}

// PeerProgress answers GET /v1/peer/progress: how far a server has come with the
// log.
type PeerProgress struct {
	Contact   time.Duration `json:"contact"` // since it last heard of the leader; 0 on the leader, negative if never
	LastTerm  uint64        `json:"last_term"`
	LastIndex uint64        `json:"last_index"`
	Short     bool          `json:"short"` // its disk is nearly full: it takes no writes
}

// PeerChallenge is the body of POST /v1/peer/identity, by which a server is asked
// who it is before it is taken in.
type PeerChallenge struct {
	Nonce string `json:"nonce"` // new with each question
}

// MinNonce and MaxNonce bound the length of a nonce.
const (
	MinNonce = 32
	MaxNonce = 128
)

// PeerIdentity answers PeerChallenge.
type PeerIdentity struct {
	ID       string `json:"id"`
	RaftAddr string `json:"raft_addr"`
	HTTPAddr string `json:"http_addr"`
	Proof    string `json:"proof"` // of the gossip key, over all this and the nonce
}

// PeerGrant is the body of POST /v1/peer/grant: a server asks whether another
// one will be of the new cluster that it is about to make. A server grants one
// cluster at a time.
type PeerGrant struct {
	ClusterID string      `json:"cluster_id"`
	Voters    []PeerVoter `json:"voters"`
	Abandoned bool        `json:"abandoned"` // the asker has given the cluster up for good: the grant is free again
}

// PeerVoter is a server of a cluster that is being made.
type PeerVoter struct {
	ID       string `json:"id"`
	RaftAddr string `json:"raft_addr"`
}
