package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"

	"github.com/stackforge/magnum/structs"
	"github.com/stackforge/magnum/tlsconf"
)

// member is what other servers may ask of this one.
type member struct{ *Server }

// ID is this server's own.
func (m member) ID() string { return m.id }

// FromServer reports whether the other end of a connection has the certificate of
// a server. Without TLS that can't be told.
func (m member) FromServer(connection *tls.ConnectionState) bool {
	return m.tls == nil || tlsconf.IsServer(connection)
}

// Secret returns the peer secret, "" while this server has no state.
func (m member) Secret() string { return m.peerSecret() }

func (s *Server) peerSecret() string {
	if c := s.store.Snapshot().Cluster(); c != nil {
		return c.PeerSecret
	}
	return ""
}

// LeaderIndex is the read index if this server leads. CodeNoLeader.
func (m member) LeaderIndex(ctx context.Context) (uint64, error) { return m.raft.ReadIndex(ctx) }

// Heard takes what a follower has heard of hosts, and returns which polls are
// acknowledged. CodeNoLeader.
func (m member) Heard(ctx context.Context, hosts map[string]structs.PeerPulse) (structs.PeerAcknowledged, error) {
	if !m.raft.IsLeader() {
		return structs.PeerAcknowledged{}, structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	return m.dispatch.HearFrom(ctx, hosts), nil
}

// Silent returns which of the hosts this server has not heard of either.
func (m member) Silent(hosts []string) []string { return m.dispatch.Silent(hosts) }

// Offer leaves a session of another server for a host's next poll.
func (m member) Offer(hostID string, offer structs.SessionOffer) error {
	return m.dispatch.Offer(hostID, offer)
}

// Progress returns how far this server has come with the log, and whether it
// has room for more.
func (m member) Progress() structs.PeerProgress {
	p := m.raft.Progress()
	p.Short = m.space.room() != nil
	return p
}

// Grant gives this server's part in a new cluster to it, or takes it back.
func (m member) Grant(proof string, g structs.PeerGrant) error {
	if subtle.ConstantTimeCompare([]byte(proof), []byte(m.grantProof())) != 1 {
		return structs.Errorf(structs.CodeForbidden, "only a server of cluster %q with its gossip key may ask that", m.Cluster)
	}
	return m.founding.grant(g)
}

// grantProof shows another server, before there is a cluster with a secret, that
// this one has the gossip key and means the same cluster.
func (s *Server) grantProof() string {
	mac := hmac.New(sha256.New, s.gossipKey)
	mac.Write([]byte("magnum grant " + s.Cluster))
	return hex.EncodeToString(mac.Sum(nil))
}
