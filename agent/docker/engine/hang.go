package engine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/docker/docker/client"

	"github.com/stackforge/magnum/agent/backend"
)

// An engine that hangs accepts connections and answers nothing: each call would wait
// for its deadline, and streams for ever. So the engine is pinged while its events are
// followed. If an answer fails to come, all connections to the engine are cut, and none
// is made until a ping is answered. A ping takes no lock in the engine, so a busy
// engine answers it in time.
const (
	pingEvery = 5 * time.Second
	hangAfter = 10 * time.Second
)

// errHangs is the error of calls to an engine that hangs.
var errHangs = errors.New("it takes connections, but does not answer")

// connTracker tracks the connections to the engine.
type connTracker struct {
	mu   sync.Mutex // guards the fields below
	open map[*trackedConn]struct{}
	cut  bool // the engine hangs
}

// trackedConn is one connection to the engine.
type trackedConn struct {
	net.Conn
	of *connTracker
}

// Close closes the connection.
func (l *trackedConn) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l)
	l.of.mu.Unlock()
	return l.Conn.Close()
}

// CloseWrite closes the writing side, as the end of a user's input does.
func (l *trackedConn) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// follow is an option of the client that tracks all connections. It comes after the options
// that set the engine's address.
func (l *connTracker) follow(c *client.Client) error {
	transport, ok := c.HTTPClient().Transport.(*http.Transport)
	if !ok || transport.DialContext == nil {
		return nil
	}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		made := &trackedConn{conn, l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.cut {
			conn.Close()
			return nil, &net.OpError{Op: "dial", Net: network, Err: errHangs}
		}
		l.open[made] = struct{}{}
		return made, nil
	}
	return nil
}

// set cuts the connections if the engine hangs, and allows new ones if it doesn't.
func (l *connTracker) set(hangs bool) {
	l.mu.Lock()
	open := l.open
	l.cut = hangs
	if hangs {
		l.open = make(map[*trackedConn]struct{})
	}
	l.mu.Unlock()
	if !hangs {
		return
	}
	for made := range open {
		made.Conn.Close()
	}
}

// Ping pings the engine. If the engine hangs, Ping cuts its connections.
func (e *Engine) Ping(ctx context.Context) error {
	pingCtx, cancel := context.WithTimeout(ctx, e.HangAfter)
	defer cancel()
	_, err := e.probe.Ping(pingCtx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		e.conns.set(false)
		return nil
	case pingCtx.Err() != nil:
		e.conns.set(true)
		return &backend.Failure{Reason: backend.ErrAway,
			Msg: "the Docker engine hangs: " + errHangs.Error() + "; look at its log, or restart it", Err: err}
	}
	return Failure(err)
}

// Monitor pings the engine until a ping fails or ctx ends, and returns the error.
func (e *Engine) Monitor(ctx context.Context) error {
	tick := time.NewTicker(e.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := e.Ping(ctx); err != nil {
			return err
		}
	}
}
