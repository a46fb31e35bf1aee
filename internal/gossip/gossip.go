package gossip

import (
	"context"
	"errors"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/structs"
)

// Gossip is this process's member of the gossip cluster. Its methods are safe for
// concurrent use, also before Run and after it.
type Gossip struct {
	Config
	timing
	log       hclog.Logger
	said      once
	self      instance
	addr      string // the address announced to the others, host:port
	knownRead string // content of KnownFile at the start
	list      *memberlist.Memberlist
	messages  *memberlist.TransmitLimitedQueue // messages of our own to broadcast, see message
	stopTCP   context.CancelFunc

	updating sync.Mutex // held during Update, so that the last change is announced last

	// memberlist's callbacks take mu while they hold memberlist's own lock, so no method
	// of memberlist may be called with mu held.
	mu      sync.Mutex
	node    Node
	meta    []byte // encoded form of node
	table   *table
	servers []Member // cache of Servers; nil after a change
	// known has the gossip address of each server ever seen and not forgotten, by Node.ID,
	// or by the address itself if the server's ID is unknown.
	known   map[string]string
	changed chan struct{} // closed at the next change

	closing sync.Mutex // guards closed: memberlist must not leave after its shutdown
	closed  bool
}

// New opens the port and begins to answer others. The caller must call Run or Close.
// Errors are CodeInvalid for the configuration and CodeConflict for a port that is
// taken.
func New(c Config) (*Gossip, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	g := &Gossip{
		Config: c, timing: defaultTiming(), log: c.Logger.Named("gossip"),
		self: instance{id: c.Node.ID, start: time.Now().UnixMicro()},
		node: c.Node, changed: make(chan struct{}), known: map[string]string{},
	}
	g.Logger = g.log
	if c.tune != nil {
		c.tune(&g.timing)
	}
	g.table = newTable(g.self)
	g.meta, _ = encodeMeta(c.Node) // validated
	g.readKnown()

	logger := log.New(&logWriter{logger: g.log, once: &g.said}, "", 0)
	ctx, stopTCP := context.WithCancel(context.Background())
	g.stopTCP = stopTCP
	t, err := listen(ctx, g.Config, logger)
	if err != nil {
		stopTCP()
		return nil, err
	}
	ip, port, err := c.advertised(t.port())
	if err == nil {
		g.addr = joinPort(ip, port)
		g.messages = &memberlist.TransmitLimitedQueue{NumNodes: g.size, RetransmitMult: g.timing.list.RetransmitMult}
		list := g.timing.list
		list.Name = g.self.String()
		list.Transport = t
		list.BindAddr, list.BindPort = c.Bind, t.port()
		list.AdvertiseAddr, list.AdvertisePort = ip, port
		list.Label = c.Cluster
		list.SecretKey = c.Key
		list.Logger = logger
		list.DeadNodeReclaimTime = time.Nanosecond // another member may take a dead member's address at once
		list.Delegate, list.Events, list.Alive, list.Merge = g.delegates()
		g.list, err = memberlist.Create(list)
		if err != nil {
			err = structs.Errorf(structs.CodeInvalid, "gossip: %w", err)
		}
	}
	if err != nil {
		stopTCP()
		t.Shutdown()
		return nil, err
	}
	return g, nil
}

// Run joins the others and keeps in touch with them until ctx ends. While the process is
// alone Run keeps trying. When ctx ends it announces that the process leaves, and closes
// the port.
func (g *Gossip) Run(ctx context.Context) error {
	defer g.Close()
	defer context.AfterFunc(ctx, g.stopTCP)() // ends a join in flight
	var all errgroup.Group
	all.Go(func() error { g.keepConnected(ctx); return nil })
	all.Go(func() error { g.writeKnown(ctx); return nil })
	g.log.Info("gossip is up", "addr", g.addr, "cluster", g.Cluster, "encrypted", g.Key != nil)
	if g.Key == nil && !net.ParseIP(g.Bind).IsLoopback() {
		g.log.Warn("GOSSIP HAS NO KEY: anyone who reaches this port can pretend to be a server or an agent; "+
			"give all of them the same -encrypt, which \"magnum keygen\" makes", "addr", g.addr)
	}
	err := all.Wait()
	g.leave()
	return err
}

// leave announces that this process leaves, for at most timing.leave. memberlist's
// message and the announcement are sent in the same packets.
func (g *Gossip) leave() {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed {
		return
	}
	g.announce(message{Kind: messageLeave, Instance: g.self.String()})
	if err := g.list.Leave(g.timing.leave); err != nil {
		g.log.Debug("leave not announced", "error", err)
	}
}

// Close closes the port without announcing it to the others. It is for callers that
// don't call Run; after Run it does nothing.
func (g *Gossip) Close() {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	g.stopTCP()
	if err := g.list.Shutdown(); err != nil {
		g.log.Warn("gossip port can't be closed", "error", err)
	}
}

// Addr returns the address announced to the others, host:port.
func (g *Gossip) Addr() string { return g.addr }

// Members returns all processes that this one knows, itself included, sorted by name,
// then ID. A server that is dead or has left stays until Forget, an agent for a day.
// Members of other clusters are left out.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	records := g.table.all()
	members := make([]Member, len(records))
	for i, r := range records {
		members[i] = r.Member
	}
	return members
}

// Servers returns the servers among Members. The slice is shared: callers must not
// modify it. It is made once for each change, because a server needs it for each poll
// and each forwarded request, with up to 2,000 agents among the members.
func (g *Gossip) Servers() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.servers == nil {
		g.servers = []Member{}
		for _, r := range g.table.all() {
			if r.Role == RoleServer {
				g.servers = append(g.servers, r.Member)
			}
		}
	}
	return g.servers
}

// Instances returns all instances of a process that seem alive, or else the last one
// that did; the first is the one in Members. There are several after a process was
// killed and restarted at another address, until the old instance is declared dead, and
// if somebody else claims its ID. Gossip proves nothing: the caller must verify which
// one is genuine.
func (g *Gossip) Instances(id string) []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	records := g.table.instances(id)
	members := make([]Member, len(records))
	for i, r := range records {
		members[i] = r.Member
	}
	return members
}

// Changed returns a channel that is closed when Members next changes. Call Changed
// before Members, so that no change is missed:
//
//	for {
//		changed := g.Changed()
//		look(g.Members())
//		<-changed
//	}
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// wake closes the channel of Changed. mu must be held.
func (g *Gossip) wake() {
	g.servers = nil
	close(g.changed)
	g.changed = make(chan struct{})
}

// Update changes what this process announces. Changes to ID and Role are ignored. change
// is called with mu held: it must not call methods of Gossip. If the new Node is invalid
// or too long, the error is CodeInvalid and nothing changes.
func (g *Gossip) Update(change func(*Node)) error {
	g.updating.Lock()
	defer g.updating.Unlock()
	if err := g.update(change); err != nil {
		return err
	}
	// UpdateNode would wait until the message is sent, which Update doesn't promise.
	if err := g.list.UpdateNode(time.Nanosecond); err != nil {
		g.log.Trace("update not sent yet")
	}
	return nil
}

func (g *Gossip) update(change func(*Node)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.node
	change(&n)
	n.ID, n.Role = g.node.ID, g.node.Role
	encoded, err := encodeMeta(n)
	if err != nil {
		return err
	}
	if n.ClusterID != g.node.ClusterID {
		g.table.dropForeign(n.ClusterID)
		g.wake()
	}
	g.node, g.meta = n, encoded
	return nil
}

// Forget removes a process that is dead or has left, here and in all other processes.
// A process that is alive is not removed, because it would be back at once.
func (g *Gossip) Forget(id string) {
	if g.forget(id) {
		g.announce(message{Kind: messageForget, ID: id})
	}
}

func (g *Gossip) forget(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.table.forget(id) {
		return false
	}
	delete(g.known, id)
	g.wake()
	return true
}

// alone reports whether no other process is alive.
func (g *Gossip) alone() bool { return g.size() < 2 }

// size returns the number of processes that are alive, including this one.
func (g *Gossip) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for id := range g.table.records {
		if g.table.current(id).State == StateAlive {
			n++
		}
	}
	return n
}

// address returns a node's gossip address, host:port.
func address(n *memberlist.Node) string { return joinPort(n.Addr.String(), int(n.Port)) }

// errForeign is the reason for refusing a member of another cluster.
var errForeign = errors.New("member of another cluster")

// sameAddr reports whether two host:port are the same. An IPv4 address equals its
// IPv4-mapped IPv6 form.
func sameAddr(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	return portA == portB && (hostA == hostB || ipA != nil && ipA.Equal(ipB))
}
