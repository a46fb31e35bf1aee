package proxy

import (
	"io"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 32 << 10
	// bulkAfter is how much goes one way before the kernel moves the rest by itself. That
	// takes a pipe, two descriptors, for as long as the connection lasts, and is worth it
	// only for many bytes.
	bulkAfter = 1 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// closeWriter is a connection of which one direction can be closed.
type closeWriter interface {
	net.Conn
	CloseWrite() error
}

// join carries bytes both ways until both have ended. Each end's closing is passed on to
// the other. It closes both.
func (p *Proxy) join(a, b closeWriter) {
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.pump(a, b)
	}()
	p.pump(b, a)
	<-done
}

// pump carries bytes one way. After the end, it closes that way of the destination. After
// an error, it resets both, because neither can know what has arrived.
func (p *Proxy) pump(dst, src closeWriter) {
	err := forwardAll(dst, src, p.pipes)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
}

// reset closes a connection so that its peer sees an error, not an end.
func reset(c net.Conn) {
	if relayed, ok := c.(interface{ Abort() error }); ok {
		_ = relayed.Abort()
		return
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// forwardAll copies until the source ends. While a connection is idle it has no buffer.
func forwardAll(dst, src net.Conn, pipes slots) error {
	from, fromTCP := src.(*net.TCPConn)
	to, toTCP := dst.(*net.TCPConn)
	if fromTCP && toTCP {
		return forwardTCP(to, from, pipes)
	}
	// A connection of the relay has buffers of its own.
	if from, ok := src.(io.WriterTo); ok && !fromTCP {
		_, err := from.WriteTo(dst)
		return err
	}
	if to, ok := dst.(io.ReaderFrom); ok && !toTCP {
		_, err := to.ReadFrom(src)
		return err
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, buf[:])
	return err
}

// forwardTCP is forwardAll between TCP connections.
func forwardTCP(dst, src *net.TCPConn, pipes slots) error {
	from, err := src.SyscallConn()
	if err != nil {
		return err
	}
	to, err := dst.SyscallConn()
	if err != nil {
		return err
	}
	f := forwarder{to: to}
	f.send = f.sendNow
	forward := f.forward
	for {
		if err := from.Read(forward); err != nil {
			return err
		}
		if len(f.rest) > 0 {
			_, f.err = dst.Write(f.rest) // waits until there is room
		}
		f.free()
		if f.err != nil || f.ended {
			return f.err
		}
		if f.total >= bulkAfter {
			f.total = 0
			if pipes.tryAcquire() {
				defer pipes.release()
				_, err := io.Copy(dst, src) // splice, between TCP connections
				return err
			}
		}
	}
}

// forwarder forwards what one TCP connection receives to another, as long as neither makes
// it wait.
//
// Its calls of the kernel don't wait, so the scheduler of Go isn't told of them
// (RawSyscall). Otherwise each costs its bookkeeping, and while calls go on all the time,
// the runtime's monitor wakes every 20 µs to look whether one of them takes long.
type forwarder struct {
	to    syscall.RawConn
	send  func(fd uintptr) bool // sendNow, allocated once
	buf   *[bufferSize]byte     // nil while there is nothing to forward
	rest  []byte                // of buf: what isn't sent yet
	total int                   // bytes received
	ended bool                  // the source has ended
	err   error
}

// forward is called when fd may have something to read. It returns false when there is
// nothing left, and true when rest must be sent first, at the end, after an error, and after
// bulkAfter bytes. It always reads until there is nothing left: the event by which the
// runtime learns of data may be the one of an end or a reset, too, which doesn't come again.
func (f *forwarder) forward(fd uintptr) bool {
	if f.buf == nil {
		f.buf = buffers.Get().(*[bufferSize]byte)
	}
	for {
		n, err := transfer(unix.SYS_RECVFROM, fd, f.buf[:])
		switch {
		case err == unix.EAGAIN:
			f.free()
			return false
		case err != nil || n == 0:
			f.err, f.ended = err, true
			return true
		}
		f.total += n
		f.rest = f.buf[:n]
		f.err = f.to.Write(f.send)
		if f.err != nil || len(f.rest) > 0 || f.total >= bulkAfter {
			return true
		}
	}
}

// sendNow sends as much of rest as the destination takes at once. An error is left to who
// sends what is left.
func (f *forwarder) sendNow(fd uintptr) bool {
	if n, err := transfer(unix.SYS_SENDTO, fd, f.rest); err == nil {
		f.rest = f.rest[n:]
	}
	return true
}

// free gives the buffer back.
func (f *forwarder) free() {
	if f.buf != nil {
		buffers.Put(f.buf)
		f.buf, f.rest = nil, nil
	}
}

// transfer receives into b (SYS_RECVFROM), or sends from it (SYS_SENDTO), without waiting.
func transfer(call, fd uintptr, b []byte) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}

// onlyWriter and onlyReader hide the methods by which package io would bypass the buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// slots bounds what is in use at a time.
type slots chan struct{}

func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) release() { <-s }
