package server

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/structs"
)

// member answers the requests of other servers.
type member struct{ s *Server }

// ID returns this server's ID.
func (m member) ID() string { return m.s.id }

// FromServer reports whether the other end of a connection has the certificate of a
// server. Without TLS it is always true.
func (m member) FromServer(connection *tls.ConnectionState) bool {
	return m.s.tls.loaded == nil || tlsconf.IsServer(connection)
}

// Secret returns the peer secret, "" while this server has no state.
func (m member) Secret() string { return m.s.peerSecret() }

func (s *Server) peerSecret() string {
	if c := s.store.Snapshot().Cluster(); c != nil {
		return c.PeerSecret
	}
	return ""
}

// ReadIndex returns the read index if this server leads. Errors are CodeNoLeader.
func (m member) ReadIndex(ctx context.Context) (uint64, error) { return m.s.raft.ReadIndex(ctx) }

// LeaderIndex returns the leader's index if this server leads. Errors are CodeNoLeader.
func (m member) LeaderIndex(ctx context.Context) (uint64, error) { return m.s.raft.LeaderIndex(ctx) }

// TakeHeartbeats takes the heartbeats of hosts that a follower has received, and returns the
// acknowledged polls. Errors are CodeNoLeader.
func (m member) TakeHeartbeats(ctx context.Context, hosts map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged, error) {
	if !m.s.raft.IsLeader() {
		return structs.PeerAcknowledged{}, structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	return m.s.dispatch.TakeHeartbeats(ctx, hosts), nil
}

// Silent returns those of the hosts from which this server had no heartbeat either.
func (m member) Silent(hosts []string) []string { return m.s.dispatch.Silent(hosts) }

func (m member) Followed(ctx context.Context, hosts []string, index uint64, wait time.Duration) []string {
	return m.s.dispatch.Followed(ctx, hosts, index, wait)
}

// Offer stores a session offer of another server for a host's next poll.
func (m member) Offer(hostID string, offer structs.SessionOffer) { m.s.dispatch.Offer(hostID, offer) }

// Progress returns this server's progress in the log, and whether its disk is nearly
// full.
func (m member) Progress() structs.PeerProgress {
	p := m.s.raft.Progress()
	p.Short = m.s.space.room() != nil
	return p
}

// Grant grants a proposal for a new cluster, or releases the grant.
func (m member) Grant(proof string, g structs.PeerGrant) error {
	if err := m.s.proofs().CheckGrant(proof); err != nil {
		return err
	}
	return m.s.grants.Grant(g)
}

// Identity returns this server's ID and addresses, with a proof that it has the gossip
// key.
func (m member) Identity(nonce string) structs.PeerIdentity {
	is := structs.PeerIdentity{ID: m.s.id, RaftAddr: m.s.raft.Self().Addr, HTTPAddr: m.s.URL()}
	is.Proof = m.s.proofs().Identity(nonce, is)
	return is
}

// proofs returns what this server proves and checks possession of the gossip key with.
func (s *Server) proofs() bootstrap.Proofs {
	return bootstrap.Proofs{Cluster: s.config.Cluster, Key: s.gossipKey}
}

// verifier returns what checks the claims that other servers make in gossip.
func (s *Server) verifier() bootstrap.Verifier {
	return bootstrap.Verifier{Proofs: s.proofs(), Peers: s.peers, Instances: s.servers.instances}
}

// JoinTokenInUse returns the token with which agents register, "" if this server
// doesn't know it.
func (s *Server) JoinTokenInUse() string { return s.joinToken }

// openToken finds the join token. A server that bootstraps a cluster by itself mints
// one; in a cluster of several servers the first leader does.
func (s *Server) openToken() (err error) {
	switch {
	case s.config.JoinToken != "":
		s.joinToken = s.config.JoinToken
	case s.config.BootstrapExpect == 1:
		s.joinToken, err = bootstrap.MintJoinToken(s.config.DataDir)
	default:
		s.joinToken, err = bootstrap.ReadJoinToken(s.config.DataDir)
	}
	return err
}
