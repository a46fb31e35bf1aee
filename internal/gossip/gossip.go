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

// Gossip is this process among the others. Its methods may be called from
// everywhere, also before Run and after it.
type Gossip struct {
	Config
	timing
	log     hclog.Logger
	said    once
	self    instance
	addr    string // advertised
	kept    string // what the file of known servers said at the start
	list    *memberlist.Memberlist
	words   *memberlist.TransmitLimitedQueue // of ours, see word
	stopTCP context.CancelFunc

	updating sync.Mutex // held over Update: the last change is told last

	// The lock is taken by memberlist's callbacks, which hold memberlist's own:
	// no method of it may be called with mu held.
	mu      sync.Mutex
	node    Node
	meta    []byte // node as it is told
	table   *table
	servers []Member          // see Servers; nil after a change
	known   map[string]string // gossip address of each server ever met and not forgotten, by Node.ID, or by itself if it is not known whose it is
	changed chan struct{}     // closed at the next change

	closing sync.Mutex // guards closed; memberlist may not leave once it is shut down
	closed  bool
}

// New opens the port and answers others. Run must follow, or Close. Errors are
// CodeInvalid for the configuration and CodeConflict for a port that is taken.
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
		g.words = &memberlist.TransmitLimitedQueue{NumNodes: g.size, RetransmitMult: g.timing.list.RetransmitMult}
		list := g.timing.list
		list.Name = g.self.String()
		list.Transport = t
		list.BindAddr, list.BindPort = c.Bind, t.port()
		list.AdvertiseAddr, list.AdvertisePort = ip, port
		list.Label = c.Cluster
		list.SecretKey = c.Key
		list.Logger = logger
		list.DeadNodeReclaimTime = time.Nanosecond // an address that is dead is nobody's
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

// Run finds the others and stays with them until ctx ends. Then it tells them
// that it leaves, and closes the port. While it is alone it tries for ever.
func (g *Gossip) Run(ctx context.Context) error {
	defer g.Close()
	defer context.AfterFunc(ctx, g.stopTCP)() // a join in flight ends
	var all errgroup.Group
	all.Go(func() error { g.stay(ctx); return nil })
	all.Go(func() error { g.keepKnown(ctx); return nil })
	g.log.Info("gossip is up", "addr", g.addr, "cluster", g.Cluster, "encrypted", g.Key != nil)
	if g.Key == nil && !net.ParseIP(g.Bind).IsLoopback() {
		g.log.Warn("GOSSIP HAS NO KEY: whoever reaches this port can pass for a server or an agent; give all of them the same -encrypt, which \"magnum keygen\" makes", "addr", g.addr)
	}
	err := all.Wait()
	g.leave()
	return err
}

// leave tells the others, for a short while. Both messages ride in the same
// packets.
func (g *Gossip) leave() {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed {
		return
	}
	g.say(word{Kind: wordLeave, Instance: g.self.String()})
	if err := g.list.Leave(g.timing.leave); err != nil {
		g.log.Debug("left without a word", "error", err)
	}
}

// Close closes the port without a word to the others. It is for when Run won't
// be called, and does no harm otherwise.
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

// Addr returns the address that the others are told, host:port.
func (g *Gossip) Addr() string { return g.addr }

// Members returns all processes that this one knows, itself included, sorted
// by name, then ID. Of those that are gone, servers stay until Forget, agents
// for a day. Members of other clusters are not in it.
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

// Servers returns the servers among Members. The slice is shared: never write to
// it. It is made once for each change, because a server asks for it with each
// poll that it answers and each request that it hands on, beside 2,000 agents.
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

// Instances returns all that pass for a process and seem alive, or else the one
// that did last; the one in Members is the first. There are several while one that
// was killed and is back elsewhere is not yet taken for dead, and if somebody
// pretends to be it: gossip proves nothing, so who calls has to find out.
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

// Changed returns a channel that is closed when Members next differs. Take it
// before looking, then no change is missed:
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

// wake tells who waits for a change. The lock must be held.
func (g *Gossip) wake() {
	g.servers = nil
	close(g.changed)
	g.changed = make(chan struct{})
}

// Update changes what the others are told of this process; its ID and role
// stay. change is called with the lock held: it must not call Gossip. The
// error is CodeInvalid, and nothing changes, if it doesn't fit.
func (g *Gossip) Update(change func(*Node)) error {
	g.updating.Lock()
	defer g.updating.Unlock()
	if err := g.update(change); err != nil {
		return err
	}
	// memberlist waits for the message to be sent; there is nothing to wait for.
	if err := g.list.UpdateNode(time.Nanosecond); err != nil {
		g.log.Trace("update is on its way")
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
		g.table.foreign(n.ClusterID)
		g.wake()
	}
	g.node, g.meta = n, encoded
	return nil
}

// Forget removes a process that is gone, here and on all others. One that is
// alive stays, for it would be back at once.
func (g *Gossip) Forget(id string) {
	if g.forget(id) {
		g.say(word{Kind: wordForget, ID: id})
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

// alone reports whether nobody else is alive.
func (g *Gossip) alone() bool { return g.size() < 2 }

// size returns how many processes are alive, this one included.
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

// address writes where a node gossips.
func address(n *memberlist.Node) string { return joinPort(n.Addr.String(), int(n.Port)) }

// errForeign is why a member of another cluster is refused.
var errForeign = errors.New("a member of another cluster")

// sameAddr reports whether two host:port are the same, also if one is an IPv4
// address written as IPv6.
func sameAddr(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	return portA == portB && (hostA == hostB || ipA != nil && ipA.Equal(ipB))
}
