package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	dialTimeout  = 3 * time.Second  // of one attempt
	dialAllow    = 10 * time.Second // of all attempts for a connection
	dialAttempts = 8
	acceptPause  = 50 * time.Millisecond // after an error, such as too many open files
)

// errNoEndpoint is why a connection to a service without ready pods is refused.
var errNoEndpoint = errors.New("no ready pod")

// listener takes TCP connections: those that the host redirects for a project, or those
// to a node port.
type listener struct {
	*net.TCPListener
	key string
	// lookup says which port of a service a connection is for; nil if it is for none.
	lookup func(*net.TCPConn) *port
	done   chan struct{} // closed after the last accept
}

// projectPorts are the ports of a project's services by address. Apply replaces them.
type projectPorts = atomic.Pointer[map[netip.AddrPort]*port]

// listen opens a listener and accepts from it until it is closed.
func (p *Proxy) listen(key string, addr netip.AddrPort, lookup func(*net.TCPConn) *port) (*listener, error) {
	tcp, err := p.opts.Sockets.Listen(key, addr)
	if err != nil {
		return nil, err
	}
	l := &listener{TCPListener: tcp, key: key, lookup: lookup, done: make(chan struct{})}
	go p.accept(l)
	return l, nil
}

// close closes the listener. Its connections go on.
func (p *Proxy) close(l *listener) {
	p.opts.Sockets.Release(l.key)
	<-l.done
}

func (l *listener) port() int { return l.Addr().(*net.TCPAddr).Port }

// accept takes connections until the listener is closed.
func (p *Proxy) accept(l *listener) {
	defer close(l.done)
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.log.Warn("connections can't be accepted", "addr", l.Addr().String(), "error", err)
			if !p.pause(acceptPause) {
				return
			}
			continue
		}
		to := l.lookup(c)
		if to == nil || !p.conns.acquire(to.project, to.service) {
			reset(c)
			continue
		}
		if !p.track(c) { // ended meanwhile
			p.conns.release(to.project, to.service)
			return
		}
		go func() {
			defer p.conns.release(to.project, to.service)
			defer p.untrack(c)
			p.carry(c, to)
		}()
	}
}

// carry leads a connection to a pod.
func (p *Proxy) carry(c *net.TCPConn, to *port) {
	var client netip.Addr
	if to.timeout.Load() > 0 {
		client = c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	}
	up, err := p.dial(to, client)
	if err != nil {
		p.log.Debug("a connection was refused", "service_id", to.service, "port", to.number, "error", err)
		reset(c)
		return
	}
	if !p.trackPod(c, up) {
		reset(up)
		return
	}
	p.join(c, up)
}

// dial connects to one of the endpoints of a port. If one refuses, it tries others.
func (p *Proxy) dial(to *port, client netip.Addr) (closeWriter, error) {
	ctx, cancel := context.WithTimeout(p.ctx, dialAllow)
	defer cancel()
	var tried []*endpoint
	err := errNoEndpoint
	for len(tried) < dialAttempts && ctx.Err() == nil {
		e := to.pick(client, tried, time.Now())
		if e == nil {
			break
		}
		if !e.begin() {
			continue // it has just become unready
		}
		var c closeWriter
		if c, err = p.dialEndpoint(ctx, to, e); err == nil {
			e.end()
			return c, nil
		}
		e.end()
		e.failed(time.Now())
		tried = append(tried, e)
	}
	return nil, err
}

// dialEndpoint connects to one endpoint.
func (p *Proxy) dialEndpoint(ctx context.Context, to *port, e *endpoint) (closeWriter, error) {
	if e.host == "" {
		c, err := p.dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, e.addr)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	if p.opts.Dial == nil {
		return nil, fmt.Errorf("pod %s is on host %s, and there is no relay", e.pod, e.host)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := p.opts.Dial(ctx, e.host, Target{ServiceID: to.service, PodID: e.pod, Port: to.number, Protocol: "tcp"})
	if err != nil {
		return nil, err
	}
	cw, ok := c.(closeWriter)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("a connection of the relay can't be closed one way: %T", c)
	}
	return cw, nil
}
