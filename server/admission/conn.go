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

// Conn is one connection.
type Conn struct {
	net.Conn
	gate    *Gate
	addr    netip.Addr
	bounded bool // counts for MaxPerClient while it is unproven

	who  atomic.Pointer[holder] // nil while it is unproven
	busy atomic.Bool            // serves a request that was let in without a credential
	read atomic.Int64           // bytes of this request, while it is unproven

	// Under the gate's lock.
	opened  time.Time // or when it last turned out to be busy
	gone    bool
	counted int      // of its bytes in Gate.bytes
	links   [2]links // in the queues of its address, and of all
}

// The queues that a connection is in while it is unproven.
const (
	inClient = iota
	inAll
)

type links struct{ before, behind *Conn }

// queue is connections in the order in which they were opened.
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

// errTooMuch ends a connection whose client sends more than is held for all that
// have shown no credential.
var errTooMuch = errors.New("too much was sent without a credential")

// Read reads on. What is read before there is a credential is bounded for all
// connections together.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.bounded && c.who.Load() == nil && !c.busy.Load() {
		if c.read.Add(int64(n)) > freeBytes && !c.gate.take(c, n) {
			return 0, errTooMuch
		}
	}
	return n, err
}

// take counts bytes of an unproven connection; false if they are too many.
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

// settle gives back what was counted for a request that has ended or was let in.
func (c *Conn) settle() {
	if c.read.Swap(0) <= freeBytes {
		return
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.bytes -= c.counted
	c.counted = 0
}

// Close closes the connection, and forgets it.
func (c *Conn) Close() error {
	c.gate.mu.Lock()
	c.gate.drop(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// ReadFrom has the kernel copy where it can.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite lets the client read the last answer to its end.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type contextKey struct{}

// Context is for http.Server.ConnContext: the requests of a connection carry it.
func Context(ctx context.Context, c net.Conn) context.Context {
	if c := connOf(c); c != nil {
		return context.WithValue(ctx, contextKey{}, c)
	}
	return ctx
}

// State is for http.Server.ConnState: it learns of the end of requests.
func State(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if c := connOf(c); c != nil && c.who.Load() == nil {
		c.busy.Store(false)
		c.settle()
	}
}

// connOf finds the connection, also below TLS.
func connOf(c net.Conn) *Conn {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*Conn)
	return own
}
