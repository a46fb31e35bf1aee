package proxy

import (
	"io"
	"net"
	"sync"
	"syscall"

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
	err := p.copy(dst, src)
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

// copy copies until the source ends. While a connection is idle it has no buffer.
func (p *Proxy) copy(dst, src net.Conn) error {
	tcp, fromTCP := src.(*net.TCPConn)
	_, direct := dst.(*net.TCPConn)
	if !fromTCP || !direct {
		// A connection of the relay has buffers of its own.
		if from, ok := src.(io.WriterTo); ok && !fromTCP {
			_, err := from.WriteTo(dst)
			return err
		}
		if to, ok := dst.(io.ReaderFrom); ok && !direct {
			_, err := to.ReadFrom(src)
			return err
		}
		buf := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(buf)
		_, err := io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, buf[:])
		return err
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var buf *[bufferSize]byte
	var n int
	var readErr error
	read := func(fd uintptr) bool {
		buf = buffers.Get().(*[bufferSize]byte)
		for {
			n, readErr = unix.Read(int(fd), buf[:])
			switch readErr {
			case syscall.EINTR:
			case syscall.EAGAIN:
				buffers.Put(buf)
				return false
			default:
				return true
			}
		}
	}
	for total := 0; ; {
		if err := raw.Read(read); err != nil {
			return err
		}
		if readErr == nil && n > 0 {
			_, readErr = dst.Write(buf[:n])
		}
		buffers.Put(buf)
		if readErr != nil || n == 0 {
			return readErr
		}
		if total += n; total >= bulkAfter {
			total = 0
			if p.pipes.tryAcquire() {
				defer p.pipes.release()
				_, err := io.Copy(dst, src) // splice, between TCP connections
				return err
			}
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
