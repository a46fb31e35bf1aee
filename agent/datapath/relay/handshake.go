package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// protocol is negotiated by TLS. What changes the bytes of hellos or streams gets another.
const protocol = "magnum-relay/1"

// hello is what each end says first on a connection.
type hello struct {
	generation generation
	host       string
}

// encode returns the hello's bytes: generation, length of the host ID, host ID.
func (h hello) encode() []byte {
	b := append([]byte(nil), h.generation[:]...)
	b = append(b, byte(len(h.host)))
	return append(b, h.host...)
}

// readHello reads what encode has made.
func readHello(r io.Reader) (hello, error) {
	var h hello
	var fixed [len(h.generation) + 1]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return h, err
	}
	copy(h.generation[:], fixed[:])
	host := make([]byte, fixed[len(h.generation)])
	_, err := io.ReadFull(r, host)
	h.host = string(host)
	return h, err
}

// tlsConfig returns a configuration whose peer proves to have a key that accept takes.
func (r *Relay) tlsConfig(accept func(pin string) bool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{r.conf.Certificate},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{protocol},
		ServerName:   "magnum-relay",
		ClientAuth:   tls.RequireAnyClientCert,
		// No authority has signed the certificate: the pin is what counts. TLS itself checks
		// that the peer has the private key.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !accept(pinOf(state.PeerCertificates[0])) {
				return errPin
			}
			if state.NegotiatedProtocol != protocol {
				return errors.New("the peer speaks another protocol")
			}
			return nil
		},
		SessionTicketsDisabled:      true, // a key is proved for each connection
		DynamicRecordSizingDisabled: true, // writes are batched already
	}
}

// errPin refuses a key that belongs to no peer, or to another one.
var errPin = errors.New("the key is not the one that the peer has registered")

// connect dials a peer and makes sure that it is the peer, and takes this host for one.
func (r *Relay) connect(ctx context.Context, p *peer, addr string) (*batchConn, hello, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, hello{}, err
	}
	end, _ := ctx.Deadline()
	_ = raw.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn := tls.Client(raw, r.tlsConfig(func(pin string) bool { return pin == p.key }))
	fail := func(err error) (*batchConn, hello, error) {
		stop()
		_ = raw.Close()
		return nil, hello{}, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return fail(err)
	}
	if _, err := conn.Write(hello{r.generation, r.conf.HostID}.encode()); err != nil {
		return fail(err)
	}
	// The peer has checked this host's key only when it answers.
	answer, err := readHello(conn)
	if err != nil {
		return fail(fmt.Errorf("the host does not accept this one: %w", err))
	}
	if answer.host != p.host {
		return fail(fmt.Errorf("it is the relay of host %q", answer.host))
	}
	if !stop() {
		return fail(ctx.Err())
	}
	_ = raw.SetDeadline(time.Time{})
	return newBatchConn(raw, conn), answer, nil
}

// Serve takes connections of peers until the listener is closed, or the relay is closed or
// drained: it returns nil then. It closes the listener.
func (r *Relay) Serve(ln net.Listener) error {
	defer ln.Close()
	r.mu.Lock()
	if r.closed || r.draining {
		r.mu.Unlock()
		return nil
	}
	r.listeners[ln] = true
	r.served++
	r.notify()
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, ln)
		r.served--
		r.notify()
	}()
	for failed := 0; ; {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if failed++; failed > 100 {
				return err
			}
			select { // out of descriptors, for example
			case <-time.After(10 * time.Millisecond):
			case <-r.ctx.Done():
			}
			continue
		}
		failed = 0
		r.receive(conn)
	}
}

// receive makes a session of a connection that was accepted, in a goroutine. A connection
// beyond the limits is closed: to let it wait would let others starve the peers.
func (r *Relay) receive(conn net.Conn) {
	from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) >= r.conf.MaxHandshakes || r.handshakes[from] >= max(1, r.conf.MaxHandshakes/4) || !r.goroutine(func() {
		p, batched, hello, err := r.welcome(conn)
		r.mu.Lock()
		delete(r.open, conn)
		if r.handshakes[from]--; r.handshakes[from] == 0 {
			delete(r.handshakes, from)
		}
		r.mu.Unlock()
		if err == nil {
			err = r.add(p, batched, hello.generation, false)
		}
		if err != nil {
			_ = conn.Close()
			r.conf.Log.Debug("relay refused a connection", "addr", from, "error", err)
		}
	}) {
		_ = conn.Close()
		return
	}
	r.open[conn] = true
	r.handshakes[from]++
}

// welcome finds out which peer has dialled.
func (r *Relay) welcome(raw net.Conn) (*peer, *batchConn, hello, error) {
	_ = raw.SetDeadline(time.Now().Add(r.conf.HandshakeTime))
	conn := tls.Server(raw, r.tlsConfig(func(pin string) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.peers {
			if p.key == pin {
				return true
			}
		}
		return false
	}))
	if err := conn.HandshakeContext(r.ctx); err != nil {
		return nil, nil, hello{}, err
	}
	from, err := readHello(conn)
	if err != nil {
		return nil, nil, from, err
	}
	pin := pinOf(conn.ConnectionState().PeerCertificates[0])
	r.mu.Lock()
	p := r.peers[from.host]
	if p != nil && p.key != pin || r.draining {
		p = nil
	}
	r.mu.Unlock()
	if p == nil {
		return nil, nil, from, errPin
	}
	if _, err := conn.Write(hello{r.generation, r.conf.HostID}.encode()); err != nil {
		return nil, nil, from, err
	}
	_ = raw.SetDeadline(time.Time{})
	return p, newBatchConn(raw, conn), from, nil
}
