package structs

import "time"

// This file holds the bodies of the routes below /v1/peer, which servers use among
// themselves.

// PeerReadIndex is the body of POST /v1/peer/read-index.
type PeerReadIndex struct {
	// Leased lets the leader rely on its lease. Otherwise it asks the voters whether it
	// still leads.
	Leased bool `json:"leased,omitempty"`
}

// PeerIndex answers POST /v1/peer/read-index. The state of Index contains every write
// that was acknowledged before the request.
type PeerIndex struct {
	Index uint64 `json:"index"`
}

// PeerHeartbeats is the body of POST /v1/peer/heard, in which a follower relays heartbeats
// of hosts to the leader: once a second, and at once when a host returns.
type PeerHeartbeats struct {
	Hosts map[string]PeerHeartbeat `json:"hosts"` // by host ID
}

// PeerHeartbeat is the newest heartbeat of a host since the follower's last PeerHeartbeats.
type PeerHeartbeat struct {
	Sent uint64        `json:"sent,omitempty"` // the largest "sent" of the host's polls; 0 for a host without leases
	Age  time.Duration `json:"age"`            // since the last heartbeat
}

// PeerAcknowledged answers PeerHeartbeats. The leader sends it after it has verified that
// it still led when PeerHeartbeats arrived.
type PeerAcknowledged struct {
	Hosts map[string]Acknowledgement `json:"hosts"` // by host ID
}

// Acknowledgement renews a host's lease.
type Acknowledgement struct {
	Sent  uint64        `json:"sent"`  // the largest "sent" of the host's acknowledged polls
	Lease time.Duration `json:"lease"` // how long the lease lasts after that poll was sent
}

// PeerSilent is the body of POST /v1/peer/silent, in which the leader asks another
// server for heartbeats of hosts. It is also the answer, which lists the hosts that
// the server has had no heartbeat of.
type PeerSilent struct {
	Hosts []string `json:"hosts"`
}

// PeerFollowed is the body of POST /v1/peer/followed, in which a server asks another one
// which of the hosts have polled there with the index or a later one. It is also the answer,
// which lists those hosts; none if none has within Wait.
type PeerFollowed struct {
	Hosts []string      `json:"hosts"`
	Index uint64        `json:"index"`
	Wait  time.Duration `json:"wait,omitempty"`
}

// PeerOffer is the body of POST /v1/peer/offers: a session that waits for a host at
// the server to which the user is connected.
type PeerOffer struct {
	HostID string       `json:"host_id"`
	Offer  SessionOffer `json:"offer"`
}

// PeerProgress answers GET /v1/peer/progress: how much of the log a server has.
type PeerProgress struct {
	Contact   time.Duration `json:"contact"` // since the last contact from the leader; 0 on the leader, negative if there was none
	LastTerm  uint64        `json:"last_term"`
	LastIndex uint64        `json:"last_index"`
	Short     bool          `json:"short"` // its disk is nearly full: it accepts no writes
}

// PeerChallenge is the body of POST /v1/peer/identity, which asks a server to prove
// its identity before it is added.
type PeerChallenge struct {
	Nonce string `json:"nonce"` // new in each request
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
	Proof    string `json:"proof"` // with the gossip key, over the other fields and the nonce
}

// PeerGrant is the body of POST /v1/peer/grant, in which a server asks another one for
// its grant of a proposed cluster. A server grants one proposal at a time.
type PeerGrant struct {
	ClusterID string      `json:"cluster_id"`
	Voters    []PeerVoter `json:"voters"`
	Abandoned bool        `json:"abandoned"` // the proposal is abandoned for good: its grant is released
}

// PeerVoter is a voter of a proposed cluster.
type PeerVoter struct {
	ID       string `json:"id"`
	RaftAddr string `json:"raft_addr"`
}
