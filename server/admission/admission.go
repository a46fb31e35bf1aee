// Package admission bounds the connections of the REST API. A connection counts
// against its client's address until a request on it has shown a valid credential,
// and against the holder of that credential from then on: a host, another server, or
// a token. So whoever has none can take neither memory nor descriptors from those
// who have one.
//
// package server wraps its listener with a Gate; server/rest says who was let in. A
// connection that is refused is closed, without an answer.
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

// Kind says whose a connection is.
type Kind string

// The kinds of holders.
const (
	Unproven Kind = "unproven" // nobody has shown a credential on it
	Token    Kind = "token"
	Host     Kind = "host"
	Peer     Kind = "peer" // another server of the cluster
)

// bounds are how many connections one holder may have. A host has its polls, its
// reports and up to 128 sessions; a server hands on requests and sessions of others.
var bounds = map[Kind]int{Token: 1024, Host: 512, Peer: 4096}

// Config is how many connections there may be.
type Config struct {
	MaxConns     int // in all; 0 means no bound. A part is kept for hosts and peers: see Reserve
	MaxPerClient int // of one client address, of those that are unproven; 0 means no bound

	// OpenLoopback leaves clients on loopback out of MaxPerClient: without
	// authentication nobody there has a credential to show.
	OpenLoopback bool
	Logger       hclog.Logger // nil logs nothing
}

// Reserve is how many of the connections only hosts and peers may hold.
func (c Config) Reserve() int { return c.MaxConns / 8 }

const (
	// grace is how long an unproven connection is left alone: in that time a client
	// that has a credential shows it.
	grace = 100 * time.Millisecond
	// freeBytes is what an unproven connection may send for one request before it
	// counts for maxBytes, which is what all of them together may: headers are held
	// in memory until they are whole.
	freeBytes = 16 << 10
	maxBytes  = 16 << 20
	// logEvery bounds how often refusals are logged.
	logEvery = 10 * time.Second
	// looksAt is how many connections are looked at for one to close.
	looksAt = 64
)

// Figures are what a Gate counts.
type Figures struct {
	Open    map[Kind]int
	Refused uint64 // that were not let in
	Closed  uint64 // unproven ones that made room for others
}

// Gate counts connections. Its methods may be called from everywhere.
type Gate struct {
	Config
	now func() time.Time

	mu       sync.Mutex
	open     map[Kind]int
	total    int
	clients  map[netip.Addr]*queue // unproven connections by address
	unproven queue                 // all of them
	holders  map[holder]int
	bytes    int // of unproven connections, beyond freeBytes each
	refused  uint64
	closed   uint64
	logged   time.Time // when refusals were last logged
	unlogged uint64    // since then
}

// holder is who has shown a credential. It is compared as a whole: no two have one
// spelling.
type holder struct {
	kind Kind
	id   string
}

// New returns a Gate.
func New(c Config) *Gate {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return &Gate{Config: c, now: time.Now, open: make(map[Kind]int), clients: make(map[netip.Addr]*queue), holders: make(map[holder]int)}
}

// Figures returns what is counted now.
func (g *Gate) Figures() Figures {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := Figures{Open: make(map[Kind]int), Refused: g.refused, Closed: g.closed}
	for _, kind := range []Kind{Unproven, Token, Host, Peer} {
		f.Open[kind] = g.open[kind]
	}
	return f
}

// Listener returns l less the connections that are refused.
func (g *Gate) Listener(l net.Listener) net.Listener { return &listener{l, g} }

type listener struct {
	net.Listener
	gate *Gate
}

// Accept returns the next connection that is let in.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.gate.admit(raw); c != nil {
			return c, nil
		}
		raw.Close() // an answer before there is a question would only confuse its client
	}
}

// admit counts a connection; nil if there is no room for it. Room is made by
// closing the unproven connection that has been open for longest.
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
	if g.MaxPerClient > 0 && c.bounded && clients.n >= g.MaxPerClient {
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
		if clients = g.clients[addr]; clients == nil { // drop may have taken it
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
		g.report(addr, limit)
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

// report logs that connections are refused or closed, now and then. The caller
// holds g.mu.
func (g *Gate) report(addr netip.Addr, limit string) {
	g.unlogged++
	if now := g.now(); now.Sub(g.logged) >= logEvery {
		g.Logger.Warn("too many connections: some that have shown no credential are refused or closed", "addr", addr, "limit", limit, "connections", g.unlogged)
		g.logged, g.unlogged = now, 0
	}
}

// oldest returns the connection to close: the one of the queue that has been open
// for longest, unless it serves somebody or is too young. nil if there is none.
// The caller holds g.mu.
func (g *Gate) oldest(q *queue, in int) *Conn {
	for range min(q.n, looksAt) {
		c := q.first
		if g.now().Sub(c.opened) < grace {
			return nil // and so are all behind it, or they serve somebody
		}
		if !c.busy.Load() {
			return c
		}
		q.remove(c, in)
		c.opened = g.now() // for the order of the queues
		q.push(c, in)
	}
	return nil
}

// drop forgets a connection. The caller holds g.mu.
func (g *Gate) drop(c *Conn) {
	if c.gone {
		return
	}
	c.gone = true
	g.total--
	g.leave(c)
}

// leave takes a connection off its holder. The caller holds g.mu.
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

// Prove notes that the request with this context has shown a valid credential of
// the kind, and of whom, "" for peers. From then on its connection counts for that
// holder. CodeRateLimited if the holder has too many, CodeUnavailable if all tokens
// have.
func (g *Gate) Prove(ctx context.Context, kind Kind, id string) error {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	if c == nil {
		return nil
	}
	if who := c.who.Load(); who != nil && who.kind == kind && (who.id == id || kind == Peer) {
		return nil // as with all requests but a connection's first
	}
	if kind == Peer {
		id = c.addr.String()
	}
	return g.prove(c, holder{kind, id})
}

func (g *Gate) prove(c *Conn, who holder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch most := bounds[who.kind]; {
	case c.gone:
		return nil // it is about to end
	case g.holders[who] >= most:
		return structs.Errorf(structs.CodeRateLimited, "this %s has %d connections, which is as many as it may have: close some", who.kind, most)
	case who.kind == Token && g.MaxConns > 0 && g.open[Token] >= g.MaxConns-g.Reserve():
		return structs.Errorf(structs.CodeUnavailable, "the server has as many connections of users as it takes (-http-max-conns): try again in a second")
	}
	g.leave(c)
	c.who.Store(&who)
	g.holders[who]++
	g.open[who.kind]++
	return nil
}

// Serve notes that the request with this context was let in without a credential,
// because everybody is: its connection isn't closed while the request is served.
func (g *Gate) Serve(ctx context.Context) {
	if c, _ := ctx.Value(contextKey{}).(*Conn); c != nil && c.who.Load() == nil {
		c.busy.Store(true)
		c.settle()
	}
}

func addressOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{} // all that have none are one client
}
