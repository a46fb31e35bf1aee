// Package admission bounds the connections of the REST API. A connection counts against
// its client's address until a request on it has shown a valid credential, and from then
// on against the holder of that credential: a host, another server, or a token. So clients
// without a credential can't take memory or descriptors away from those with one.
//
// Package server wraps its listener with a Gate; server/rest tells it about credentials. A
// refused connection is closed without an answer.
package admission

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// Kind is the kind of a connection's holder.
type Kind string

// The kinds of holders.
const (
	Unproven Kind = "unproven" // no request has shown a credential yet
	Token    Kind = "token"
	Host     Kind = "host"
	Peer     Kind = "peer" // another server of the cluster
)

// maxPerHolder bounds the connections of one holder. A host has polls, reports and up to
// 128 sessions; a server forwards requests and relays sessions of others.
var maxPerHolder = map[Kind]int{Token: 1024, Host: 512, Peer: 4096}

// Config bounds the connections.
type Config struct {
	MaxConns     int // all connections; 0 means no bound. Some are reserved for hosts and peers: see Reserve
	MaxPerClient int // unproven connections of one client address; 0 means no bound

	// OpenLoopback exempts clients on loopback from MaxPerClient: without authentication
	// they have no credential to show.
	OpenLoopback bool
	// Trusted reports whether an address is that of a proxy, which has connections of many
	// clients and is exempt from MaxPerClient; nil means that there is none.
	Trusted func(netip.Addr) bool
	Logger  hclog.Logger // nil logs nothing
}

// Reserve returns how many of MaxConns are reserved for hosts and peers.
func (c Config) Reserve() int { return c.MaxConns / 8 }

const (
	// grace is how long a new unproven connection is never closed for others: a client
	// with a credential shows it in that time.
	grace = 100 * time.Millisecond
	// freeBytes is how much an unproven connection may send for one request before its
	// bytes count for maxBytes, which bounds those of all unproven connections together:
	// headers are held in memory until they are complete.
	freeBytes = 16 << 10
	maxBytes  = 16 << 20
	// logEvery is the minimum time between two log lines about refusals.
	logEvery = 10 * time.Second
	// maxExamined bounds how many connections are examined to find one to close.
	maxExamined = 64
)

// Figures are the counts of a Gate.
type Figures struct {
	Open    map[Kind]int
	Refused uint64 // connections that were not admitted
	Closed  uint64 // unproven connections closed to make room for others
}

// Gate admits and counts connections. It is safe for concurrent use.
type Gate struct {
	Config
	now func() time.Time

	mu       sync.Mutex
	open     map[Kind]int
	total    int
	clients  map[netip.Addr]*queue // unproven connections by address
	unproven queue                 // all unproven connections
	holders  map[holder]int        // number of connections
	bytes    int                   // sent on unproven connections, beyond freeBytes each
	refused  uint64
	closed   uint64
	logged   time.Time // when refusals were last logged
	unlogged uint64    // refusals and closes since then
}

// holder is the holder of a credential. Two holders are equal if both fields are.
type holder struct {
	kind Kind
	id   string
}

// New returns a Gate.
func New(c Config) *Gate {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Trusted == nil {
		c.Trusted = func(netip.Addr) bool { return false }
	}
	return &Gate{
		Config: c, now: time.Now,
		open: make(map[Kind]int), clients: make(map[netip.Addr]*queue), holders: make(map[holder]int),
	}
}

// Figures returns the current counts.
func (g *Gate) Figures() Figures {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := Figures{Open: make(map[Kind]int), Refused: g.refused, Closed: g.closed}
	for _, kind := range []Kind{Unproven, Token, Host, Peer} {
		f.Open[kind] = g.open[kind]
	}
	return f
}

// Listener returns a listener that accepts the connections of l which the Gate admits.
func (g *Gate) Listener(l net.Listener) net.Listener { return &listener{l, g} }

type listener struct {
	net.Listener
	gate *Gate
}

// Accept returns the next admitted connection.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.gate.admit(raw); c != nil {
			return c, nil
		}
		raw.Close() // without an answer: a client does not expect one before its request
	}
}

// admit admits and counts a connection; nil if there is no room for it. It makes room by
// closing the unproven connection that has been open the longest.
func (g *Gate) admit(raw net.Conn) *Conn {
	addr := addressOf(raw)
	c := &Conn{Conn: raw, gate: g, addr: addr, bounded: !(g.OpenLoopback && addr.IsLoopback())}
	g.mu.Lock()
	var out []*Conn
	limit, full := "", false
	clients := g.clients[addr]
	if clients == nil {
		clients = new(queue)
	}
	c.opened = g.now()
	if g.MaxPerClient > 0 && c.bounded && !g.Trusted(addr) && clients.n >= g.MaxPerClient {
		limit = "-http-max-conns-per-client"
		if old := g.oldest(clients, inClient); old != nil {
			g.drop(old)
			out = append(out, old)
		} else {
			full = true
		}
	}
	if !full && g.MaxConns > 0 && g.total >= g.MaxConns {
		limit = "-http-max-conns"
		if old := g.oldest(&g.unproven, inAll); old != nil {
			g.drop(old)
			out = append(out, old)
		} else {
			full = true
		}
	}
	if !full {
		if clients = g.clients[addr]; clients == nil { // drop may have deleted it
			clients = new(queue)
			g.clients[addr] = clients
		}
		clients.push(c, inClient)
		g.unproven.push(c, inAll)
		g.open[Unproven]++
		g.total++
	} else {
		g.refused++
	}
	g.closed += uint64(len(out))
	if limit != "" {
		g.logLimit(addr, limit)
	}
	g.mu.Unlock()
	for _, old := range out {
		old.Conn.Close()
	}
	if full {
		return nil
	}
	return c
}

// logLimit logs at most every logEvery that connections are refused or closed. The caller
// holds g.mu.
func (g *Gate) logLimit(addr netip.Addr, limit string) {
	g.unlogged++
	if now := g.now(); now.Sub(g.logged) >= logEvery {
		g.Logger.Warn("too many connections: some without a credential are refused or closed",
			"addr", addr, "limit", limit, "connections", g.unlogged)
		g.logged, g.unlogged = now, 0
	}
}

// oldest returns the connection to close: the one in the queue that has been open the
// longest, except busy ones and those within grace. nil if there is none. The caller holds
// g.mu.
func (g *Gate) oldest(q *queue, in int) *Conn {
	for range min(q.n, maxExamined) {
		c := q.first
		if g.now().Sub(c.opened) < grace {
			return nil // all connections behind it are within grace as well, or busy
		}
		if !c.busy.Load() {
			return c
		}
		q.remove(c, in)
		c.opened = g.now() // keeps the queues in order
		q.push(c, in)
	}
	return nil
}

// drop removes a connection from all counts. The caller holds g.mu.
func (g *Gate) drop(c *Conn) {
	if c.gone {
		return
	}
	c.gone = true
	g.total--
	g.leave(c)
}

// leave removes a connection from the counts of its holder. The caller holds g.mu.
func (g *Gate) leave(c *Conn) {
	g.bytes -= c.counted
	c.counted = 0
	who := c.who.Load()
	if who == nil {
		g.open[Unproven]--
		g.unproven.remove(c, inAll)
		if clients := g.clients[c.addr]; clients != nil {
			if clients.remove(c, inClient); clients.n == 0 {
				delete(g.clients, c.addr)
			}
		}
		return
	}
	g.open[who.kind]--
	if g.holders[*who]--; g.holders[*who] == 0 {
		delete(g.holders, *who)
	}
}

// Prove records that the request with this context has shown a valid credential. kind and
// id are those of its holder; id is "" for peers. From then on the connection counts for
// that holder. CodeRateLimited if the holder has too many connections, CodeUnavailable if
// all tokens together have.
func (g *Gate) Prove(ctx context.Context, kind Kind, id string) error {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	if c == nil {
		return nil
	}
	if who := c.who.Load(); who != nil && who.kind == kind && (who.id == id || kind == Peer) {
		return nil // true of all requests but the first on a connection
	}
	if kind == Peer {
		id = c.addr.String()
	}
	return g.prove(c, holder{kind, id})
}

func (g *Gate) prove(c *Conn, who holder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch limit := maxPerHolder[who.kind]; {
	case c.gone:
		return nil // the connection is about to end
	case g.holders[who] >= limit:
		return structs.Errorf(structs.CodeRateLimited, "this %s has %d connections, the maximum: close some", who.kind, limit)
	case who.kind == Token && g.MaxConns > 0 && g.open[Token] >= g.MaxConns-g.Reserve():
		return structs.Errorf(structs.CodeUnavailable,
			"the server has the maximum of connections from users (-http-max-conns): try again in a second")
	}
	g.leave(c)
	c.who.Store(&who)
	g.holders[who]++
	g.open[who.kind]++
	return nil
}

// Serve records that the request with this context is served without a credential, on a
// server without authentication. Its connection isn't closed for others during the request.
func (g *Gate) Serve(ctx context.Context) {
	if c, _ := ctx.Value(contextKey{}).(*Conn); c != nil && c.who.Load() == nil {
		c.busy.Store(true)
		c.release()
	}
}

func addressOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{} // all connections without an IP address count as one client's
}
