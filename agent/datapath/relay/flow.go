package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// maxDatagram is the length of the longest datagram.
const maxDatagram = 65535

// datagrams holds buffers for one datagram.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// Flow carries datagrams to a pod of a peer and back: each has its length in two bytes
// before it. What can't be sent soon is dropped, as a network does.
type Flow struct {
	st      *yamux.Stream
	release func()
	once    sync.Once
	queue   chan []byte // framed
	bytes   atomic.Int64
	dropped atomic.Int64
	gone    chan struct{} // closed by Close
	ended   chan struct{} // closed when the writing goroutine has ended
	used    atomic.Int64  // when a datagram last passed, Unix nanoseconds
}

var _ net.Conn = (*Flow)(nil)

// maxQueued bounds the bytes that wait in one flow.
const maxQueued = 256 << 10

// newFlow takes over a stream whose target has been accepted, and starts a goroutine that
// Close ends. release is called once, by the first Close.
func newFlow(st *yamux.Stream, queue int, release func()) *Flow {
	f := &Flow{st: st, release: release, queue: make(chan []byte, queue), gone: make(chan struct{}), ended: make(chan struct{})}
	f.used.Store(time.Now().UnixNano())
	go f.write()
	return f
}

// write sends what is queued until Close, or an error.
func (f *Flow) write() {
	defer close(f.ended)
	for {
		select {
		case framed := <-f.queue:
			f.bytes.Add(-int64(len(framed)))
			if _, err := f.st.Write(framed); err != nil {
				_ = f.st.Close()
				return
			}
		case <-f.gone:
			return
		}
	}
}

// Write sends one datagram, or drops it if too many wait. It never waits, and may be called
// by several goroutines. An error if the datagram is too long or the flow has ended.
func (f *Flow) Write(p []byte) (int, error) {
	if len(p) > maxDatagram {
		return 0, errors.New("datagram is too long")
	}
	select {
	case <-f.ended:
		return 0, net.ErrClosed
	case <-f.gone:
		return 0, net.ErrClosed
	default:
	}
	f.used.Store(time.Now().UnixNano())
	size := int64(2 + len(p))
	if f.bytes.Add(size) > maxQueued {
		f.bytes.Add(-size)
		f.dropped.Add(1)
		return len(p), nil
	}
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(len(p))), p...)
	select {
	case f.queue <- framed:
	default:
		f.bytes.Add(-size)
		f.dropped.Add(1)
	}
	return len(p), nil
}

// Dropped returns how many datagrams Write has dropped.
func (f *Flow) Dropped() int64 { return f.dropped.Load() }

// Read reads one datagram. What doesn't fit into p is lost. Only one goroutine may read at
// a time. An error ends the flow.
func (f *Flow) Read(p []byte) (int, error) {
	size, err := f.next()
	if err != nil {
		return 0, err
	}
	return f.read(p, size)
}

// next waits for a datagram and returns its length.
func (f *Flow) next() (int, error) {
	var head [2]byte
	_, err := io.ReadFull(f.st, head[:])
	return int(binary.BigEndian.Uint16(head[:])), err
}

// read reads a datagram whose length next has returned.
func (f *Flow) read(p []byte, size int) (int, error) {
	n := min(size, len(p))
	if _, err := io.ReadFull(f.st, p[:n]); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(io.Discard, f.st, int64(size-n)); err != nil {
		return 0, err
	}
	f.used.Store(time.Now().UnixNano())
	return n, nil
}

// Used returns when a datagram last passed, in either direction.
func (f *Flow) Used() time.Time { return time.Unix(0, f.used.Load()) }

// Close ends the flow. Datagrams that wait are dropped.
func (f *Flow) Close() error {
	f.once.Do(func() {
		close(f.gone)
		_ = f.st.Close()
		_ = f.st.SetReadDeadline(past)
		<-f.ended
		f.release()
	})
	return nil
}

// LocalAddr and RemoteAddr return the ends of the connection between the hosts.
func (f *Flow) LocalAddr() net.Addr { return f.st.LocalAddr() }

// RemoteAddr is described at LocalAddr.
func (f *Flow) RemoteAddr() net.Addr { return f.st.RemoteAddr() }

// SetDeadline is SetReadDeadline: writes don't wait.
func (f *Flow) SetDeadline(t time.Time) error { return f.st.SetReadDeadline(t) }

// SetReadDeadline bounds reads. A flow whose deadline passes within a datagram is broken.
func (f *Flow) SetReadDeadline(t time.Time) error { return f.st.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes don't wait.
func (f *Flow) SetWriteDeadline(time.Time) error { return nil }

// serveFlow carries datagrams between a peer's flow and a pod until the peer ends the flow,
// or none has passed for the idle time, and closes both.
func serveFlow(f *Flow, pod *net.UDPConn, idle time.Duration) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer pod.Close()
		for {
			size, err := f.next()
			if err != nil {
				return
			}
			buf := datagrams.Get().(*[maxDatagram]byte)
			n, err := f.read(buf[:], size)
			if err == nil {
				_, _ = pod.Write(buf[:n]) // an ICMP error of an earlier datagram, at most
			}
			datagrams.Put(buf)
			if err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	defer f.Close()
	raw, err := pod.SyscallConn()
	if err != nil {
		return
	}
	for failed := 0; failed < 1000; {
		_ = pod.SetReadDeadline(f.Used().Add(idle))
		var got error
		waited := raw.Read(func(fd uintptr) bool { // a flow that waits holds no buffer
			buf := datagrams.Get().(*[maxDatagram]byte)
			defer datagrams.Put(buf)
			var n int
			if n, got = syscall.Read(int(fd), buf[:]); got == nil {
				_, _ = f.Write(buf[:n])
			}
			return got != syscall.EAGAIN
		})
		switch {
		case waited == nil && got == nil:
			failed = 0
		case errors.Is(waited, net.ErrClosed):
			return
		case !errors.Is(waited, os.ErrDeadlineExceeded): // nobody listens yet
			failed++
		case time.Since(f.Used()) >= idle:
			return
		}
	}
}
