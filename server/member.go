package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"

	"github.com/stackforge/magnum/gossip"
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

// ReadIndex is the read index if this server leads. CodeNoLeader.
func (m member) ReadIndex(ctx context.Context) (uint64, error) { return m.raft.ReadIndex(ctx) }

// LeaderIndex is the leader's index if this server leads. CodeNoLeader.
func (m member) LeaderIndex(ctx context.Context) (uint64, error) { return m.raft.LeaderIndex(ctx) }

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
func (m member) Offer(hostID string, offer structs.SessionOffer) { m.dispatch.Offer(hostID, offer) }

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

// Identity says who this server is, and that it has the gossip key.
func (m member) Identity(nonce string) structs.PeerIdentity {
	is := structs.PeerIdentity{ID: m.id, RaftAddr: m.raft.Self().Addr, HTTPAddr: m.URL()}
	is.Proof = m.identityProof(nonce, is)
	return is
}

// identityProof is made anew for each question, so that it can't be repeated, and
// over what it proves, so that another server's can't be passed off.
func (s *Server) identityProof(nonce string, is structs.PeerIdentity) string {
	mac := hmac.New(sha256.New, s.gossipKey)
	fmt.Fprintf(mac, "magnum identity %q %q %q %q %q", s.Cluster, nonce, is.ID, is.RaftAddr, is.HTTPAddr)
	return hex.EncodeToString(mac.Sum(nil))
}

// vouch asks what passes for a server, of which gossip alone has told, whether it
// is who it says. A server is asked before it is added to Raft's configuration or
// moved in it, and before a cluster is made of it: one that is forged would count
// for the majority and never vote.
func (s *Server) vouch(ctx context.Context, id, raftAddr string) error {
	var err error = structs.Errorf(structs.CodeNoLeader, "server %s is not there", id)
	for _, m := range s.instances(id) {
		if m.RaftAddr != raftAddr {
			continue
		}
		if err = s.vouchAt(ctx, m); err == nil {
			break
		}
	}
	return err
}

func (s *Server) vouchAt(ctx context.Context, m gossip.Member) error {
	nonce := structs.NewSecret()
	is, err := s.peers.Identify(ctx, m.ID, m.HTTPAddr, nonce)
	if err != nil {
		return err
	}
	want := structs.PeerIdentity{ID: m.ID, RaftAddr: m.RaftAddr, HTTPAddr: m.HTTPAddr}
	want.Proof = s.identityProof(nonce, want)
	if hmac.Equal([]byte(is.Proof), []byte(want.Proof)) {
		return nil
	}
	if is.Proof = want.Proof; is != want {
		return structs.Errorf(structs.CodeForbidden, "gossip has server %s at %s and %s, and what answers there is %.64s at %.128s and %.128s", m.ID, m.RaftAddr, m.HTTPAddr, is.ID, is.RaftAddr, is.HTTPAddr)
	}
	return structs.Errorf(structs.CodeForbidden, "what answers at %s has no proof that it is a server of cluster %q with its gossip key", m.HTTPAddr, s.Cluster)
}

// grantProof shows another server, before there is a cluster with a secret, that
// this one has the gossip key and means the same cluster.
func (s *Server) grantProof() string {
	mac := hmac.New(sha256.New, s.gossipKey)
	mac.Write([]byte("magnum grant " + s.Cluster))
	return hex.EncodeToString(mac.Sum(nil))
}
