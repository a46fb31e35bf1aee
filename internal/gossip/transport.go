package gossip

import (
	"context"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

// transport is memberlist's NetTransport, with connections that are closed when ctx
// ends: a stop must not wait for a peer that doesn't answer.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

// autoPortTries bounds the attempts to find a port that is free for both TCP and UDP.
const autoPortTries = 10

// listen opens the gossip port for TCP and UDP, or a free port. The error is
// CodeConflict.
func listen(ctx context.Context, c Config, logger *log.Logger) (*transport, error) {
	open := func(port int) (*transport, error) {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{c.Bind}, BindPort: port, Logger: logger})
		if err != nil {
			return nil, err
		}
		return &transport{NetTransport: t, ctx: ctx}, nil
	}
	var err error
	if c.Port > 0 {
		t, fixedErr := open(c.Port)
		if fixedErr == nil {
			return t, nil
		}
		if !c.Fallback {
			return nil, structs.Errorf(structs.CodeConflict, "-gossip-port: can't listen on %s (is another magnum running?): %w",
				joinPort(c.Bind, c.Port), fixedErr)
		}
		c.Logger.Info("gossip port is taken, using a free one", "addr", joinPort(c.Bind, c.Port), "error", fixedErr)
	}
	for range autoPortTries {
		var t *transport
		if t, err = open(0); err == nil {
			return t, nil
		}
	}
	return nil, structs.Errorf(structs.CodeConflict, "-bind %s: no free port for gossip: %w", c.Bind, err)
}

// port returns the port that was opened.
func (t *transport) port() int { return t.GetAutoBindPort() }

// DialTimeout connects to an address like DialAddressTimeout.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects to a member.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &boundConn{Conn: conn, release: context.AfterFunc(t.ctx, func() { conn.Close() })}, nil
}

// boundConn is a connection that is closed when a context ends.
type boundConn struct {
	net.Conn
	release func() bool
}

// Close closes the connection and unregisters it from the context.
func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
