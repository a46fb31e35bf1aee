package gossip

import (
	"context"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

// transport is memberlist's, with connections that end when ctx does: a stop
// must not wait for a peer that doesn't answer.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

// autoPortTries is how often a port is looked for that is free for TCP and UDP.
const autoPortTries = 10

// listen opens the gossip port for TCP and UDP, or a free one. The error is
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
			return nil, structs.Errorf(structs.CodeConflict, "-gossip-port: %s can't be listened on (is another magnum running?): %w", joinPort(c.Bind, c.Port), fixedErr)
		}
		c.Logger.Info("gossip port is taken, taking a free one", "addr", joinPort(c.Bind, c.Port), "error", fixedErr)
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

// DialTimeout is DialAddressTimeout.
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

// boundConn is closed by the end of a context.
type boundConn struct {
	net.Conn
	release func() bool
}

// Close closes the connection and forgets the context.
func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
