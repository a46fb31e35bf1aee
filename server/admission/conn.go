package admission

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Conn is an admitted connection.
type Conn struct {
	net.Conn
	gate    *Gate
	addr    netip.Addr
	bounded bool // counts for MaxPerClient while it is unproven

	who  atomic.Pointer[holder] // nil while it is unproven
	busy atomic.Bool            // serves a request without a credential; see Gate.Serve
	read atomic.Int64           // bytes of the current request, while it is unproven

	// The gate's lock guards what follows.
	opened  time.Time // or when oldest last found it busy
	gone    bool      // drop has removed it
	counted int       // its bytes that are part of Gate.bytes
	links   [2]links  // in the queue of its address, and in that of all
}

// The queues that a connection is in while it is unproven.
const (
	inClient = iota
	inAll
)

type links struct{ before, behind *Conn }

// queue is a list of connections in the order of Conn.opened.
type queue struct {
	first, last *Conn
	n           int
}

func (q *queue) push(c *Conn, in int) {
	c.links[in] = links{before: q.last}
	if q.last != nil {
		q.last.links[in].behind = c
	} else {
		q.first = c
	}
	q.last = c
	q.n++
}

func (q *queue) remove(c *Conn, in int) {
	l := c.links[in]
	if l.before != nil {
		l.before.links[in].behind = l.behind
	} else {
		q.first = l.behind
	}
	if l.behind != nil {
		l.behind.links[in].before = l.before
	} else {
		q.last = l.before
	}
	c.links[in] = links{}
	q.n--
}

// errTooMuch ends an unproven connection when all of them together would exceed maxBytes.
var errTooMuch = errors.New("too many bytes were sent without a credential")

// Read reads from the connection. The bytes of requests on all unproven connections
// together are bounded.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.bounded && c.who.Load() == nil && !c.busy.Load() {
		if c.read.Add(int64(n)) > freeBytes && !c.gate.take(c, n) {
			return 0, errTooMuch
		}
	}
	return n, err
}

// take counts bytes of an unproven connection. It returns false if there are too many.
func (g *Gate) take(c *Conn, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.gone || g.bytes+n > maxBytes {
		return false
	}
	g.bytes += n
	c.counted += n
	return true
}

// release subtracts the bytes counted for a request that has ended or is being served.
func (c *Conn) release() {
	if c.read.Swap(0) <= freeBytes {
		return
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.bytes -= c.counted
	c.counted = 0
}

// Close closes the connection and removes it from the gate's counts.
func (c *Conn) Close() error {
	c.gate.mu.Lock()
	c.gate.drop(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// ReadFrom copies from r, in the kernel where possible.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite closes the sending side, so that the client can read the last answer to its
// end.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type contextKey struct{}

// Context is for http.Server.ConnContext: it adds the connection to the context of its
// requests.
func Context(ctx context.Context, c net.Conn) context.Context {
	if c := connOf(c); c != nil {
		return context.WithValue(ctx, contextKey{}, c)
	}
	return ctx
}

// State is for http.Server.ConnState, which tells it when a request ends.
func State(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if c := connOf(c); c != nil && c.who.Load() == nil {
		c.busy.Store(false)
		c.release()
	}
}

// connOf returns the Conn of a connection, also below TLS; nil if it has none.
func connOf(c net.Conn) *Conn {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*Conn)
	return own
}
