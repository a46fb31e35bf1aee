package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// dialTimeout is how long a pod may take to accept a connection.
const dialTimeout = 10 * time.Second

// dialTCP connects to an address. Tests replace it.
func dialTCP(ctx context.Context, to netip.AddrPort) (backend.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// podPorts connects to pods whose addresses this machine reaches.
type podPorts struct {
	runtime backend.Runtime
	dial    func(ctx context.Context, to netip.AddrPort) (backend.Conn, error)
}

// forward joins the user to a TCP connection to a port of a pod, until both directions have
// ended. engineID is that of the infra container, or what backend.Forwards takes.
func (s *sessions) forward(ctx context.Context, c *channel, in *input, engineID string, offer structs.SessionOffer) error {
	select {
	case s.forwards <- struct{}{}:
		defer func() { <-s.forwards }()
	default:
		return structs.Errorf(structs.CodeUnavailable,
			"the host forwards %d connections, which is its limit; close some, or try again later", cap(s.forwards))
	}
	conn, err := s.ports.Forward(ctx, engineID, offer.Port)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { // the user has left, maybe before the end of what was to be sent
		abort(conn)
		conn.Close()
	})()

	var failure error // the first
	var once sync.Once
	fail := func(err error) {
		once.Do(func() {
			failure = err
			conn.Close()
			in.close() // wakes the copying of the user's bytes
		})
	}
	var up sync.WaitGroup
	up.Go(func() {
		if _, err := io.Copy(conn, in); err != nil {
			fail(err)
		} else if in.endedByUser() {
			_ = conn.CloseWrite() // fails if the pod has closed the connection, which the other direction shows
		}
	})
	if _, err := io.Copy(c.writer(structs.ChannelStdout), conn); err != nil {
		fail(err)
	} else if err := c.control(structs.Control{EOF: true}); err != nil {
		fail(err)
	}
	up.Wait()
	var known *backend.Failure // such as one of backend.Forwards, which may come late
	switch {
	case errors.As(failure, &known):
		return failure
	case failure != nil:
		return structs.Errorf(structs.CodeUnavailable, "port %d of the pod: the connection broke: %s", offer.Port, reasonOf(failure))
	}
	return nil
}

// abort makes the close of a connection show that it has broken, so that the pod doesn't take
// what it has got for all.
func abort(conn backend.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0) // fails if the connection has ended
	}
}

// Forward connects to a port of a pod at the pod's own address and nowhere else. engineID is
// that of its infra container, which has the address.
func (p *podPorts) Forward(ctx context.Context, engineID string, port int) (backend.Conn, error) {
	infra, addr, err := p.address(ctx, engineID)
	if err != nil {
		return nil, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.dial(dialCtx, netip.AddrPortFrom(addr, uint16(port)))
	if err != nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "the pod takes no connection on port %d: %s", port, reasonOf(err))
	}
	// The engine may give the address of an infra container that has ended to another one. If
	// the same process has the address before and after, the connection leads to it.
	now, again, err := p.address(ctx, engineID)
	if err == nil && (again != addr || !now.StartedAt.Equal(infra.StartedAt)) {
		err = errRestarted
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

var errRestarted = structs.Errorf(structs.CodeConflict, "the pod's network was made again meanwhile; connect again")

// address returns the infra container and the pod's address.
func (p *podPorts) address(ctx context.Context, engineID string) (*backend.Container, netip.Addr, error) {
	infra, err := p.runtime.Inspect(ctx, engineID)
	switch {
	case errors.Is(err, backend.ErrNotFound):
		return nil, netip.Addr{}, errRestarted
	case err != nil:
		return nil, netip.Addr{}, err
	case infra.State != backend.StateRunning || len(infra.Addresses) == 0:
		return nil, netip.Addr{}, structs.Errorf(structs.CodeConflict,
			"the pod has no address: its network is not running; its status says more")
	}
	addr, err := netip.ParseAddr(infra.Addresses[0])
	if err != nil || !isPodAddress(addr) {
		return nil, netip.Addr{}, structs.Errorf(structs.CodeConflict,
			"the pod has the address %q, which is not one of a project's network", infra.Addresses[0])
	}
	return infra, addr, nil
}

// isPodAddress reports whether an address may be a pod's: none that leads to the host itself.
func isPodAddress(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.IsGlobalUnicast() { // neither loopback nor link-local
		return false
	}
	own, err := net.InterfaceAddrs()
	return err == nil && !slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(addr.AsSlice())
	})
}

// reasonOf returns why a connection failed, without addresses.
func reasonOf(err error) string {
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it did not answer within " + strconv.Itoa(int(dialTimeout.Seconds())) + " s"
	}
	return err.Error()
}
