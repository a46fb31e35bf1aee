package gossip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

// delegate implements the callbacks of memberlist. memberlist holds its own lock during
// most of them: they must be short and must not call memberlist.
type delegate struct{ gossip *Gossip }

func (g *Gossip) delegates() (memberlist.Delegate, memberlist.EventDelegate, memberlist.AliveDelegate, memberlist.MergeDelegate) {
	d := delegate{g}
	return d, d, d, d
}

// NodeMeta returns this process's metadata.
func (d delegate) NodeMeta(int) []byte {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	return bytes.Clone(d.gossip.meta)
}

// NotifyAlive refuses members of other clusters and unreadable members. memberlist
// calls it for each message about a living member, not only for new ones.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	i, _, err := d.gossip.admit(n)
	if err == nil || i == d.gossip.self {
		return nil
	}
	// It may have been a member before it, or this process, belonged to a cluster.
	if d.gossip.table.drop(i) {
		d.gossip.wake()
	}
	return err
}

// NotifyMerge refuses a whole answer to a join if none of its members is of this
// cluster. So the join fails with the reason.
func (d delegate) NotifyMerge(peers []*memberlist.Node) error {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	var refused error
	for _, n := range peers {
		if n.State != memberlist.StateAlive && n.State != memberlist.StateSuspect {
			continue
		}
		_, _, err := d.gossip.admit(n)
		if err == nil {
			return nil
		}
		refused = err
	}
	return refused
}

// admit decides whether a node may be a member. It logs a refusal once for each
// address. The caller holds mu.
func (g *Gossip) admit(n *memberlist.Node) (instance, Node, error) {
	i, ok := parseInstance(n.Name)
	if !ok {
		return i, Node{}, g.refuse(n, i, fmt.Errorf("%.64q is not the name of a magnum process", n.Name))
	}
	if r := g.table.find(i); r != nil && bytes.Equal(r.meta, n.Meta) && !differ(r.ClusterID, g.node.ClusterID) {
		return i, r.Node, nil // the usual case
	}
	node, err := decodeMeta(n.Meta)
	if err != nil {
		return i, node, g.refuse(n, i, err)
	}
	if differ(node.ClusterID, g.node.ClusterID) {
		return i, node, g.refuse(n, i, fmt.Errorf("%w: %s, not %s", errForeign, node.ClusterID, g.node.ClusterID))
	}
	return i, node, nil
}

func (g *Gossip) refuse(n *memberlist.Node, i instance, err error) error {
	if g.said.first("refused|" + address(n)) {
		g.log.Error("member refused", "addr", address(n), "id", i.id, "error", err)
	}
	return err
}

// NotifyJoin is called for a new member and for one that has come back.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.put(n) }

// NotifyUpdate is called for a member with new metadata.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.put(n) }

func (d delegate) put(n *memberlist.Node) {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	i, node, err := d.gossip.admit(n)
	if err != nil {
		return
	}
	if i == d.gossip.self {
		node = d.gossip.node // metadata may have the name cut short
	}
	before := d.gossip.table.current(i.id)
	fresh := before == nil || before.State != StateAlive
	if !d.gossip.table.put(i, node, n.Meta, address(n), time.Now()) {
		return
	}
	if i.id == d.gossip.self.id && i != d.gossip.self && i.start > d.gossip.self.start && !sameAddr(address(n), d.gossip.addr) {
		d.gossip.log.Error("another process has the id of this one: was its data directory copied?", "addr", address(n), "id", i.id)
	}
	if i.id != d.gossip.self.id {
		if fresh {
			d.gossip.log.Info("member is up", "name", node.Name, "role", node.Role, "addr", address(n))
		}
		if node.Role == RoleServer {
			d.gossip.know(i.id, address(n))
		}
	}
	d.gossip.wake()
}

// NotifyLeave is called for a member that has left or is dead; memberlist doesn't tell
// which.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	i, ok := parseInstance(n.Name)
	if !ok || !d.gossip.table.gone(i, time.Now()) {
		return
	}
	if r := d.gossip.table.current(i.id); i.id != d.gossip.self.id && r != nil && r.instance == i {
		d.gossip.log.Info("member is gone", "name", r.Name, "role", r.Role, "addr", r.Addr, "state", r.State)
	}
	d.gossip.wake()
}

// message is a broadcast of magnum's own.
type message struct {
	Kind     string `json:"k"`
	Instance string `json:"i,omitempty"` // the instance that leaves
	ID       string `json:"id,omitempty"`
}

// The kinds of messages.
const (
	messageLeave  = "leave"  // an instance leaves on purpose
	messageForget = "forget" // a gone process won't come back
)

// announce sends a message to all other processes.
func (g *Gossip) announce(w message) {
	b, err := json.Marshal(w)
	if err != nil {
		panic(err) // strings only
	}
	g.messages.QueueBroadcast(broadcast(b))
}

// receive takes over a message and reports whether it was news.
func (g *Gossip) receive(w message) bool {
	switch w.Kind {
	case messageLeave:
		i, ok := parseInstance(w.Instance)
		if !ok {
			return false
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.table.leaves(i, time.Now()) {
			return false
		}
		g.wake()
		return true
	case messageForget:
		return structs.IsID(w.ID) && g.forget(w.ID)
	}
	return false // the message is of a newer version
}

// NotifyMsg takes over a message of another process, and announces it again if it was news.
func (d delegate) NotifyMsg(b []byte) {
	var w message
	if err := json.Unmarshal(b, &w); err != nil {
		return
	}
	if d.gossip.receive(w) {
		d.gossip.announce(w)
	}
}

// GetBroadcasts returns the messages that fit into a packet.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.gossip.messages.GetBroadcasts(overhead, limit)
}

// maxLeft is the most instances that a full exchange lists as left.
const maxLeft = 64

// LocalState lists the instances that have left, for a process that may have missed the
// messages.
func (d delegate) LocalState(bool) []byte {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	var left []string
	for _, r := range d.gossip.table.all() {
		if r.State == StateLeft && len(left) < maxLeft {
			left = append(left, r.instance.String())
		}
	}
	if left == nil {
		return nil
	}
	b, err := json.Marshal(left)
	if err != nil {
		panic(err) // strings only
	}
	return b
}

// MergeRemoteState takes over the instances that have left.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	var left []string
	if len(b) == 0 || json.Unmarshal(b, &left) != nil {
		return
	}
	for _, name := range left[:min(len(left), maxLeft)] {
		d.gossip.receive(message{Kind: messageLeave, Instance: name})
	}
}

// broadcast is an encoded message in memberlist's queue.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}

// UniqueBroadcast says that no message replaces another.
func (b broadcast) UniqueBroadcast() {}
