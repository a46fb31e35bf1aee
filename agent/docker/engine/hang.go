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

// An engine that hangs takes connections and answers nothing: each call would
// wait for its own deadline, and streams for ever. So the engine is asked for a
// sign of life all the time while its events are followed; without one, all
// connections to it are cut and none is made until there is one again. A ping
// takes no lock in the engine: also a very busy one answers it in time.
const (
	pingEvery = 5 * time.Second
	hangAfter = 10 * time.Second
)

// errHangs is what calls of an engine that hangs end with.
var errHangs = errors.New("it takes connections, but does not answer")

// lines are the connections to the engine.
type lines struct {
	mu   sync.Mutex // guards what follows
	open map[*line]struct{}
	cut  bool // the engine hangs
}

// line is one connection to the engine.
type line struct {
	net.Conn
	of *lines
}

// Close closes the connection.
func (l *line) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l)
	l.of.mu.Unlock()
	return l.Conn.Close()
}

// CloseWrite ends what is sent, as a user's end of input does.
func (l *line) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// follow is an option of the client: it keeps an eye on all connections. It
// comes after those that say where the engine is.
func (l *lines) follow(c *client.Client) error {
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
		made := &line{conn, l}
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

// set says whether the engine hangs.
func (l *lines) set(hangs bool) {
	l.mu.Lock()
	open := l.open
	l.cut = hangs
	if hangs {
		l.open = make(map[*line]struct{})
	}
	l.mu.Unlock()
	if !hangs {
		return
	}
	for made := range open {
		made.Conn.Close()
	}
}

// Alive asks the engine for a sign of life. An engine that hangs has its
// connections cut.
func (e *Engine) Alive(ctx context.Context) error {
	pingCtx, cancel := context.WithTimeout(ctx, e.HangAfter)
	defer cancel()
	_, err := e.probe.Ping(pingCtx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		e.lines.set(false)
		return nil
	case pingCtx.Err() != nil:
		e.lines.set(true)
		return &backend.Failure{Reason: backend.ErrAway, Msg: "the Docker engine hangs: " + errHangs.Error() + "; look at its log, or restart it", Err: err}
	}
	return Failure(err)
}

// Watch returns once the engine gives no sign of life, or ctx ends.
func (e *Engine) Watch(ctx context.Context) error {
	tick := time.NewTicker(e.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := e.Alive(ctx); err != nil {
			return err
		}
	}
}
