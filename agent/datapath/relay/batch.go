package relay

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch bounds the bytes that wait to be written to a connection.
const maxBatch = 64 << 10

// batchConn is a TLS connection whose writes are batched: while one write is under way,
// what others write gathers and goes out in one TLS record and one system call. yamux
// writes the header and the body of each frame by itself.
type batchConn struct {
	net.Conn          // TLS
	raw      net.Conn // below it
	lastRead atomic.Int64
	done     chan struct{} // closed when the writing goroutine has ended

	mu     sync.Mutex
	cond   sync.Cond // of mu: something below has changed
	buf    []byte    // to be written
	busy   bool      // a write is under way
	err    error     // of a write
	closed bool
}

// newBatchConn starts a goroutine, which Close and cut end.
func newBatchConn(raw, conn net.Conn) *batchConn {
	b := &batchConn{Conn: conn, raw: raw, done: make(chan struct{})}
	b.cond.L = &b.mu
	b.lastRead.Store(time.Now().UnixNano())
	go b.write()
	return b
}

// Read notes when the peer was last heard.
func (b *batchConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if n > 0 {
		b.lastRead.Store(time.Now().UnixNano())
	}
	return n, err
}

// silence returns how long the peer has sent nothing.
func (b *batchConn) silence() time.Duration {
	return time.Duration(time.Now().UnixNano() - b.lastRead.Load())
}

// Write takes the bytes over. It waits while too many others are to be written.
func (b *batchConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.buf) > 0 && len(b.buf)+len(p) > maxBatch && b.err == nil && !b.closed {
		b.cond.Wait()
	}
	if b.closed {
		return 0, net.ErrClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	first := len(b.buf) == 0
	b.buf = append(b.buf, p...)
	if first && !b.busy {
		b.cond.Broadcast()
	}
	return len(p), nil
}

// write writes what gathers until the connection is closed or fails.
func (b *batchConn) write() {
	defer close(b.done)
	var out []byte
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for len(b.buf) == 0 && !b.closed {
			b.cond.Wait()
		}
		if b.closed || b.err != nil {
			return
		}
		out, b.buf = b.buf, out[:0]
		b.busy = true
		b.mu.Unlock()
		_, err := b.Conn.Write(out)
		b.mu.Lock()
		b.busy, b.err = false, err
		b.cond.Broadcast()
	}
}

// flush waits until all is written, or the connection is closed or fails.
func (b *batchConn) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for (len(b.buf) > 0 || b.busy) && b.err == nil && !b.closed {
		b.cond.Wait()
	}
}

// Close closes the connection without TLS's farewell: the ends of streams are marked.
func (b *batchConn) Close() error {
	b.mu.Lock()
	b.closed = true
	b.cond.Broadcast()
	b.mu.Unlock()
	err := b.raw.Close()
	<-b.done
	return err
}

// cut closes the connection at once: what has not been sent is discarded.
func (b *batchConn) cut() {
	if tcp, is := b.raw.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	_ = b.Close()
}
