package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// chunk bounds the data between two marks, and so the memory that a busy direction holds.
const chunk = 32 << 10

// buffers holds buffers for one chunk with its mark. A direction that waits holds none.
var buffers = sync.Pool{New: func() any { return new([2 + chunk]byte) }}

// ErrReset is what a Read returns if the other end did not end the stream but broke it off,
// or the connection between the hosts is gone. Without it, data that is cut short would look
// whole.
var ErrReset = errors.New("the stream was broken off")

// Conn is a TCP stream to a pod of a peer. Each end sends chunks: two bytes with the
// length, then the data; length 0 ends the direction.
type Conn struct {
	st      *yamux.Stream
	release func()
	once    sync.Once // release

	// Of the one goroutine that reads.
	left  int  // bytes of the chunk that is being read
	ended bool // the mark of the end has been read

	mu       sync.Mutex // held while writing
	endsSent bool
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
)

// newConn takes over a stream whose target has been accepted. release is called once, by
// the first Close or Abort.
func newConn(st *yamux.Stream, release func()) *Conn { return &Conn{st: st, release: release} }

// next waits for the next chunk. io.EOF if there is none.
func (c *Conn) next() error {
	for c.left == 0 {
		if c.ended {
			return io.EOF
		}
		var mark [2]byte
		if _, err := io.ReadFull(c.st, mark[:]); err != nil {
			return broken(err)
		}
		c.left = int(binary.BigEndian.Uint16(mark[:]))
		c.ended = c.left == 0
	}
	return nil
}

// broken returns the error of a read that found no mark of the end.
func broken(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return ErrReset
}

// Read reads what the pod has sent: io.EOF after its end, ErrReset if it was broken off.
// Only one goroutine may read at a time. A read deadline that has passed in the middle of
// a chunk's mark breaks the stream.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.next(); err != nil {
		return 0, err
	}
	n, err := c.st.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		err = broken(err)
	}
	return n, err
}

// WriteTo copies what the pod sends until its end. It holds a buffer only while there is
// data.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := c.next(); err != nil {
			if err == io.EOF {
				return total, nil
			}
			return total, err
		}
		buf := buffers.Get().(*[2 + chunk]byte)
		n := min(c.left, chunk)
		read, err := io.ReadFull(c.st, buf[:n])
		if err != nil {
			err = broken(err)
		}
		c.left -= read
		written := 0
		if read > 0 {
			var werr error
			if written, werr = w.Write(buf[:read]); err == nil {
				err = werr
			}
		}
		buffers.Put(buf)
		total += int64(written)
		if err != nil {
			return total, err
		}
	}
}

// Write sends data to the pod. It waits while the pod takes none.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := buffers.Get().(*[2 + chunk]byte)
	defer buffers.Put(buf)
	total := 0
	for total < len(p) {
		n := copy(buf[2:], p[total:])
		if err := c.send(buf, n); err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// send sends n bytes that stand behind the place of the mark. c.mu is held.
func (c *Conn) send(buf *[2 + chunk]byte, n int) error {
	if c.endsSent {
		return net.ErrClosed
	}
	binary.BigEndian.PutUint16(buf[:], uint16(n))
	_, err := c.st.Write(buf[:2+n])
	return err
}

// ReadFrom copies from r to the pod until r's end. It holds a buffer only while there is
// data, if r is a TCP connection.
func (c *Conn) ReadFrom(r io.Reader) (total int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read := waitingReader(r)
	for {
		buf, n, err := read()
		if n > 0 {
			if serr := c.send(buf, n); serr == nil {
				total += int64(n)
			} else if err == nil || err == io.EOF {
				err = serr
			}
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// waitingReader returns a function that waits for data, and then reads it behind the place
// of the mark into a buffer that the caller puts back.
func waitingReader(r io.Reader) func() (*[2 + chunk]byte, int, error) {
	if sc, is := r.(syscall.Conn); is {
		if raw, err := sc.SyscallConn(); err == nil {
			return func() (buf *[2 + chunk]byte, n int, err error) {
				rerr := raw.Read(func(fd uintptr) bool {
					buf = buffers.Get().(*[2 + chunk]byte)
					for {
						if n, err = syscall.Read(int(fd), buf[2:]); err != syscall.EINTR {
							break
						}
					}
					if err == syscall.EAGAIN {
						buffers.Put(buf)
						buf, n, err = nil, 0, nil
						return false
					}
					return true
				})
				switch {
				case rerr != nil:
					return buf, 0, rerr
				case err != nil:
					return buf, 0, err
				case n <= 0:
					return buf, 0, io.EOF
				}
				return buf, n, nil
			}
		}
	}
	return func() (*[2 + chunk]byte, int, error) {
		buf := buffers.Get().(*[2 + chunk]byte)
		n, err := r.Read(buf[2:])
		return buf, n, err
	}
}

// CloseWrite tells the pod that no more comes. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendEnd()
}

// sendEnd sends the mark of the end, once. c.mu is held.
func (c *Conn) sendEnd() error {
	if c.endsSent {
		return nil
	}
	c.endsSent = true
	_, err := c.st.Write([]byte{0, 0})
	return err
}

// closeWait bounds how long Close waits to send the mark of the end.
const closeWait = time.Second

// Close ends both directions. The pod gets all that was written, and then the end; if a
// write is under way, the stream is broken off.
func (c *Conn) Close() error {
	if c.mu.TryLock() {
		if !c.endsSent {
			_ = c.st.SetWriteDeadline(time.Now().Add(closeWait))
			_ = c.sendEnd()
		}
		c.mu.Unlock()
	}
	return c.Abort()
}

// Abort breaks the stream off: the other end's Read returns ErrReset, unless CloseWrite was
// called before. It ends reads and writes that are under way.
func (c *Conn) Abort() error {
	err := c.st.Close()
	_ = c.st.SetReadDeadline(past)
	c.once.Do(c.release)
	return err
}

// LocalAddr and RemoteAddr return the ends of the connection between the hosts.
func (c *Conn) LocalAddr() net.Addr { return c.st.LocalAddr() }

// RemoteAddr is described at LocalAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.st.RemoteAddr() }

// SetDeadline sets both deadlines. A write deadline that has passed breaks the stream.
func (c *Conn) SetDeadline(t time.Time) error { return c.st.SetDeadline(t) }

// SetReadDeadline is described at Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.st.SetReadDeadline(t) }

// SetWriteDeadline is described at SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.st.SetWriteDeadline(t) }

// pipe carries bytes between a peer's stream and a pod until both directions have ended, or
// one is broken off, and closes both.
func pipe(c *Conn, pod *net.TCPConn) {
	abort := func() {
		_ = pod.SetLinger(0)
		_ = pod.Close()
		_ = c.Abort()
	}
	var answered atomic.Bool // the pod's direction has ended
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.WriteTo(pod); err != nil || pod.CloseWrite() != nil {
			if !answered.Load() || err != nil {
				abort()
			}
			return
		}
		// Nothing comes any more but the end of the stream. A peer that ends it while the
		// pod still sends doesn't want the rest.
		_, _ = c.st.Read(make([]byte, 1))
		if !answered.Load() {
			abort()
		}
	})
	_, err := c.ReadFrom(pod)
	if err == nil {
		answered.Store(true)
		err = c.CloseWrite()
	}
	if err != nil {
		abort()
	}
	wg.Wait()
	_ = c.Close()
	_ = pod.Close()
}
