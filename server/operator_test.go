package server

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// through returns the operations of a server.
func (m *oneOfThree) operations() operations { return operations{m.running()} }

// TestMembersAndPeersOfCluster: every server lists all servers and their roles in the
// log. A dead server stays in both lists, with its state.
func TestMembersAndPeersOfCluster(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	leads := c.leader().running().id
	for _, m := range c.members {
		c.eventually(m.config.Name+" lists three members that vote, one of which leads", func() bool {
			leaders := 0
			members := m.operations().Members()
			for _, b := range members {
				if b.Role != structs.RoleServer || b.Status != "alive" || !b.Voter || !b.Registered || b.RaftAddr == nil ||
					b.HTTPAddr == nil || b.Since.IsZero() {
					return false
				}
				if b.Leader && b.UUID == leads {
					leaders++
				}
			}
			return len(members) == 3 && leaders == 1
		})
		c.eventually(m.config.Name+" lists three peers that are up to date", func() bool {
			peers, err := m.operations().Peers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leaders := 0
			for _, p := range peers {
				if p.Name == nil || p.LastIndex == nil || p.Behind == nil || *p.Behind != 0 || !p.Voter {
					return false
				}
				if p.State == structs.PeerLeader && p.UUID == leads {
					leaders++
				}
			}
			return len(peers) == 3 && leaders == 1
		})
	}
	gone := c.members[0]
	id := gone.running().id
	if err := gone.die(); err != nil {
		t.Logf("died: %v", err)
	}
	c.leader()
	c.eventually("the others tell it apart", func() bool {
		peers, err := c.members[1].operations().Peers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if p.UUID == id && p.State == structs.PeerUnreachable && p.LastIndex == nil && p.Behind == nil {
				return true
			}
		}
		return false
	})
}

// TestMembersAndPeersOfSoloServer: a server without a gossip port has the same lists.
func TestMembersAndPeersOfSoloServer(t *testing.T) {
	s := start(t, t.TempDir()).Server
	for until := time.Now().Add(time.Minute); !s.raft.IsLeader(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it does not lead")
		}
	}
	members := operations{s}.Members()
	if len(members) != 1 || members[0].UUID != s.id || members[0].Status != "alive" || !members[0].Voter || !members[0].Leader {
		t.Errorf("members: %+v", members)
	}
	peers, err := operations{s}.Peers(t.Context())
	if err != nil || len(peers) != 1 || peers[0].State != structs.PeerLeader || peers[0].Behind == nil || *peers[0].Behind != 0 {
		t.Errorf("peers: %+v, %v", peers, err)
	}
}

// ask sends a request to a server.
func (m *oneOfThree) ask(t testing.TB, method, path string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, m.running().URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", method, path, m.config.Name, err)
	}
	defer resp.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil && resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s of %s: %v", method, path, m.config.Name, err)
	}
	return resp.StatusCode, string(raw)
}

// transfer asks for a transfer of leadership. A temporary refusal is asked again, as a user
// does: on a busy machine a follower is not elected within its election timeout, the leader
// is still busy with that transfer, or another server is elected meanwhile.
func (m *oneOfThree) transfer(t testing.TB, to string) (status int, body string, again bool) {
	t.Helper()
	for until := time.Now().Add(patience); ; again = true {
		status, body = m.ask(t, "PUT", "/v1/operator/raft/transfer-leader"+to)
		if status != http.StatusServiceUnavailable || time.Now().After(until) {
			return status, body, again
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestTransferLeadership: it works through any server.
func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader) // a transfer may take as long as an election
	c.eventually("all vote and are known", func() bool {
		peers, err := c.leader().operations().Peers(t.Context())
		return err == nil && len(peers) == 3 && !slices.ContainsFunc(peers, func(p structs.RaftPeerBody) bool {
			return p.Name == nil || !p.Voter
		})
	})
	for _, asked := range c.members {
		for _, to := range c.members {
			already := c.leader() == to
			status, body, again := asked.transfer(t, "?to="+to.config.Name)
			switch {
			case again && status == http.StatusConflict && c.leader() == to: // the first try was late
			case already && status != http.StatusConflict:
				t.Errorf("%s to %s, which leads: %d %s", asked.config.Name, to.config.Name, status, body)
			case !already && (status != http.StatusOK || !strings.Contains(body, `"name":"`+to.config.Name+`"`)):
				t.Errorf("%s to %s: %d %s", asked.config.Name, to.config.Name, status, body)
			}
		}
		before := c.leader()
		if status, body, again := asked.transfer(t, ""); status != http.StatusOK || c.leader() == before && !again {
			t.Errorf("%s to anybody: %d %s", asked.config.Name, status, body)
		}
	}
	w := history.New(history.Nodes, 1)
	create(t, w, c.members[0], 1)
	c.awaitSameState()
}

// TestRemovedServerStaysOut: a removed server that still runs and gossips is not added
// again, under the next leader either. With an empty directory it can join.
func TestRemovedServerStaysOut(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	leader := c.leader()
	i := slices.IndexFunc(c.members, func(m *oneOfThree) bool { return m != leader })
	out := c.members[i]
	rest := slices.DeleteFunc(slices.Clone(c.members), func(m *oneOfThree) bool { return m == out })
	follower := rest[0]
	if follower == leader {
		follower = rest[1]
	}
	c.eventually("all vote and are known", func() bool {
		peers, err := follower.operations().Peers(t.Context())
		return err == nil && len(peers) == 3 && !slices.ContainsFunc(peers, func(p structs.RaftPeerBody) bool {
			return p.Name == nil || !p.Voter
		})
	})
	if status, body := follower.ask(t, "DELETE", "/v1/operator/raft/peers/"+leader.config.Name); status != http.StatusConflict ||
		!strings.Contains(body, "transfer-leader") {
		t.Errorf("remove the leader: %d %s", status, body)
	}
	if status, body := follower.ask(t, "DELETE", "/v1/operator/raft/peers/nobody"); status != http.StatusNotFound {
		t.Errorf("remove nobody: %d %s", status, body)
	}
	if status, body := follower.ask(t, "DELETE", "/v1/operator/raft/peers/"+out.config.Name); status != http.StatusNoContent {
		t.Fatalf("remove %s through a follower: %d %s", out.config.Name, status, body)
	}
	peersOf := func(m *oneOfThree) int {
		peers, err := m.running().raft.Peers()
		if err != nil {
			t.Fatal(err)
		}
		return len(peers)
	}
	if got := peersOf(leader); got != 2 {
		t.Fatalf("%d peers are left", got)
	}
	// The next leader sees the removed server in gossip, too.
	if status, body, again := follower.transfer(t, "?to="+follower.config.Name); status != http.StatusOK &&
		!(again && status == http.StatusConflict) {
		t.Fatalf("transfer: %d %s", status, body)
	}
	var now *oneOfThree
	c.eventually("the other one leads", func() bool {
		now = follower
		return follower.running().raft.IsLeader() && follower.running().store.Snapshot().Cluster() != nil
	})
	c.eventually("it still gossips", func() bool {
		return slices.ContainsFunc(now.operations().Members(), func(m structs.MemberBody) bool {
			return m.UUID == out.running().id && m.Status == "alive" && !m.Registered
		})
	})
	if known := now.running().servers.candidates(); len(known) != 2 {
		t.Errorf("the removed server would be taken in again: %+v", known)
	}
	if urls := now.running().servers.serverURLs(); slices.Contains(urls, out.running().URL()) {
		t.Errorf("agents are sent to the removed server: %v", urls)
	}

	if status, body := now.ask(t, "DELETE", "/v1/operator/raft/peers/"+out.config.Name); status != http.StatusNotFound {
		t.Errorf("removed twice: %d %s", status, body)
	}
	id := out.running().id
	if err := out.stop(); err != nil {
		t.Errorf("the removed server ended with %v", err)
	}
	c.eventually("the removed server is shown no more", func() bool {
		return !slices.ContainsFunc(now.operations().Members(), func(m structs.MemberBody) bool { return m.UUID == id })
	})
	out.config.DataDir = t.TempDir()
	out.start(t)
	c.eventually("it is taken in again", func() bool { return peersOf(now) == 3 })
	c.awaitSameState()
}

// TestNeededServerIsRemovedOnlyByForce: without force, the last server that answers
// can't be removed.
func TestNeededServerIsRemovedOnlyByForce(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	leader := c.leader()
	others := slices.DeleteFunc(slices.Clone(c.members), func(m *oneOfThree) bool { return m == leader })
	c.eventually("all vote and are known", func() bool {
		peers, err := leader.operations().Peers(t.Context())
		return err == nil && len(peers) == 3 && !slices.ContainsFunc(peers,
			func(p structs.RaftPeerBody) bool { return p.LastIndex == nil || !p.Voter })
	})
	if err := others[0].die(); err != nil {
		t.Logf("died: %v", err)
	}
	if status, body := leader.ask(t, "DELETE", "/v1/operator/raft/peers/"+others[1].config.Name); status != http.StatusConflict ||
		!strings.Contains(body, others[0].config.Name) {
		t.Errorf("remove the last follower: %d %s", status, body)
	}
	if status, body := leader.ask(t, "DELETE", "/v1/operator/raft/peers/"+others[0].config.Name); status != http.StatusNoContent {
		t.Errorf("remove the dead one: %d %s", status, body)
	}
	if status, body := leader.ask(t, "DELETE", "/v1/operator/raft/peers/"+others[1].config.Name); status != http.StatusNoContent {
		t.Errorf("remove the follower, so that the leader is alone: %d %s", status, body)
	}
	w := history.New(history.Nodes, 1)
	create(t, w, leader, 1)
}
