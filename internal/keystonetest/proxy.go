package keystonetest

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes connections on to a Keystone, perhaps late.
type Proxy struct {
	URL   string // in place of the Keystone's
	to    string
	delay atomic.Int64 // nanoseconds
	count atomic.Int64
	done  chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// NewProxy starts a proxy, which ends with the test.
func NewProxy(t testing.TB, k *Keystone) *Proxy {
	t.Helper()
	target, err := url.Parse(k.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{to: target.Host, done: make(chan struct{}), conns: make(map[net.Conn]bool)}
	target.Host = l.Addr().String()
	p.URL = target.String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed below
			}
			p.count.Add(1)
			running.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		close(p.done)
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

// SetDelay makes each later connection wait before it is passed on.
func (p *Proxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Connections returns the number of connections so far. Keystone closes each after one answer.
func (p *Proxy) Connections() int64 { return p.count.Load() }

// keep registers a connection to be closed with the proxy; it reports whether that still runs.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		c.Close()
		return false
	default:
		p.conns[c] = true
		return true
	}
}

func (p *Proxy) serve(from net.Conn) {
	defer from.Close()
	if !p.keep(from) {
		return
	}
	select {
	case <-time.After(time.Duration(p.delay.Load())):
	case <-p.done:
		return
	}
	var d net.Dialer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to, err := d.DialContext(ctx, "tcp", p.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !p.keep(to) {
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(to, from) // ends with the answer below
		_ = to.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(from, to)
	from.Close()
	up.Wait()
}
