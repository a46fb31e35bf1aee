package server

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// directory is what this server knows of the other servers: from gossip, from the log's
// membership, and from the cluster's row.
type directory struct {
	config  *Config
	id      string        // of this server
	url     func() string // of this server's REST API
	address func() string // host:port of this server's REST API
	tls     *certificates
	log     hclog.Logger
	store   *state.Store
	raft    *raftlog.Log
	gossip  *gossip.Gossip // nil on a solo server
	peers   *peer.Client   // likewise

	outdated   sync.Map // IDs of servers already logged as too old
	lastReason leaderlessReason
}

// urlsOf returns the possible URLs of a server's REST API, the likeliest first. A
// server that seems dead keeps its URLs: gossip may be wrong.
func (d *directory) urlsOf(id string) []string {
	var urls []string
	for _, m := range d.instances(id) {
		if !slices.Contains(urls, m.HTTPAddr) {
			urls = append(urls, m.HTTPAddr)
		}
	}
	return urls
}

// known returns a server as gossip shows it, or the zero Member.
func (d *directory) known(id string) gossip.Member {
	if all := d.instances(id); len(all) > 0 {
		return all[0]
	}
	return gossip.Member{}
}

// instances returns the gossip members that claim to be the server; the claims prove
// nothing. A member whose HTTP address has shown the certificate of a server comes
// first, then one at the Raft address that the log's membership has for the server.
// With TLS, members without an https address are left out.
func (d *directory) instances(id string) []gossip.Member {
	if d.gossip == nil {
		return nil
	}
	all := slices.DeleteFunc(d.gossip.Instances(id), func(m gossip.Member) bool { return m.Role != gossip.RoleServer || !d.callable(m) })
	if len(all) < 2 {
		return all
	}
	verified, raftAddr := d.peers.VerifiedURL(id), ""
	peers, _ := d.raft.Peers() // none while it shuts down
	for _, p := range peers {
		if p.ID == id {
			raftAddr = p.Addr
		}
	}
	trust := func(m gossip.Member) (n int) {
		if m.HTTPAddr == verified {
			n += 2
		}
		if m.RaftAddr == raftAddr {
			n++
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b gossip.Member) int { return trust(b) - trust(a) })
	return all
}

// callable reports whether this server may call a member's HTTP address.
func (d *directory) callable(m gossip.Member) bool {
	return strings.HasPrefix(m.HTTPAddr, d.tls.scheme())
}

// removed returns the servers that operators have removed from the cluster.
func (d *directory) removed() []string {
	if c := d.store.Snapshot().Cluster(); c != nil {
		return c.Removed
	}
	return nil
}

// serverURLs returns the REST URLs that agents get: those of all live servers of the
// cluster.
func (d *directory) serverURLs() []string {
	if d.gossip == nil {
		return []string{d.url()}
	}
	urls := []string{d.url()}
	removed := d.removed()
	for _, m := range d.others() {
		if m.ClusterID != "" && !slices.Contains(removed, m.ID) {
			urls = append(urls, m.HTTPAddr)
		}
	}
	return urls
}

// others returns the other servers of the log's membership that are alive. Gossip alone
// is no proof: any member may claim to be a server.
func (d *directory) others() []gossip.Member {
	var others []gossip.Member
	peers, _ := d.raft.Peers() // none while it shuts down
	for _, p := range peers {
		if m := d.known(p.ID); p.ID != d.id && m.State == gossip.StateAlive {
			others = append(others, m)
		}
	}
	return others
}

// voters returns the IDs of the voters.
func (d *directory) voters() (voters []string, err error) {
	peers, err := d.raft.Peers()
	for _, p := range peers {
		if p.Voter {
			voters = append(voters, p.ID)
		}
	}
	return voters, err
}

// agents returns, for the agent of each host that gossips, whether it seems to be dead.
// changed is closed at the next change of the members.
func (d *directory) agents() (dead map[string]bool, changed <-chan struct{}) {
	changed, dead = d.gossip.Changed(), make(map[string]bool)
	for _, m := range d.gossip.Members() {
		if m.Role == gossip.RoleAgent {
			dead[m.ID] = m.State == gossip.StateDead
		}
	}
	return dead, changed
}

// candidates returns the servers that should belong to the cluster: those of this
// cluster or of none that understand its entries and were not removed by an operator. A
// removed server is forgotten by gossip once it has stopped. Gossip may have several
// members with one ID; the one that was started last comes first.
func (d *directory) candidates() []raftlog.Candidate {
	var known []raftlog.Candidate
	inUse, removed := d.store.Snapshot().Cluster().SchemaInUse(), d.removed()
	for _, m := range d.gossip.Servers() {
		if slices.Contains(removed, m.ID) {
			d.gossip.Forget(m.ID)
			continue
		}
		for _, m := range d.gossip.Instances(m.ID) {
			if m.Role != gossip.RoleServer || m.ClusterID != "" && m.ClusterID != d.raft.ClusterID() || !d.callable(m) {
				continue
			}
			if m.Schema < inUse {
				if _, said := d.outdated.LoadOrStore(m.ID, true); !said {
					d.log.Error("server not added: its version is older than the cluster's entries", "name", m.Name, "server_id", m.ID,
						"schema", m.Schema, "schema_in_use", inUse)
				}
				continue
			}
			known = append(known, raftlog.Candidate{
				Peer: raftlog.Peer{ID: m.ID, Addr: m.RaftAddr, Voter: true}, Name: m.Name,
				Failed: m.State != gossip.StateAlive && time.Since(m.Since) > d.config.deadAfter,
			})
		}
	}
	return known
}

// schemaOfAll returns the latest schema that every server understands, as far as this
// server knows. It fails only while this server shuts down.
func (d *directory) schemaOfAll() (int, error) {
	if d.config.Solo {
		return d.config.schema, nil
	}
	peers, err := d.raft.Peers()
	if err != nil {
		return 0, err
	}
	understood := map[string]int{d.id: d.config.schema}
	for _, m := range d.gossip.Servers() {
		understood[m.ID] = m.Schema
	}
	all := d.config.schema
	for _, p := range peers {
		all = min(all, understood[p.ID])
	}
	return max(all, structs.LeastSchema), nil
}

// leader returns the leader's name and the host:port of its REST API, "" while there is
// no leader or its address is unknown.
func (d *directory) leader() (name, address string) {
	id, _ := d.raft.Leader()
	switch {
	case id == "":
		return "", ""
	case id == d.id:
		return d.config.Name, d.address()
	}
	for _, m := range d.gossip.Servers() {
		if m.ID == id {
			u, err := url.Parse(m.HTTPAddr)
			if err != nil {
				return "", ""
			}
			return m.Name, u.Host
		}
	}
	return "", ""
}

// progress asks servers for their progress. Servers that don't answer are left out.
func (d *directory) progress(ctx context.Context, peers []raftlog.Peer) map[string]*structs.PeerProgress {
	found := make(map[string]*structs.PeerProgress, len(peers))
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, p := range peers {
		asking.Go(func() {
			at := d.raft.Progress()
			if p.ID != d.id {
				if d.peers == nil {
					return
				}
				var err error
				if at, err = d.peers.Progress(ctx, p.ID); err != nil {
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			found[p.ID] = &at
		})
	}
	asking.Wait()
	return found
}

// nameOf returns a server's name, "" if gossip doesn't know it.
func (d *directory) nameOf(id string) string {
	if id == d.id {
		return d.config.Name
	}
	return d.known(id).Name
}
