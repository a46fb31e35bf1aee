package names

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// forward asks the upstreams one after another until one answers. An answer that is an
// error of the upstream itself counts only if no other upstream has a better one.
func (s *Server) forward(q *question) {
	ctx, cancel := context.WithTimeout(s.ctx, s.conf.ForwardTimeout)
	defer cancel()
	var poor *dns.Msg
	for _, to := range s.known.Load().upstreams {
		if s.isOwn(to) {
			continue
		}
		m, err := s.exchange(ctx, q.msg, to)
		if err != nil {
			s.conf.Log.Debug("upstream name server failed", "addr", to.String(), "project_id", q.projectID, "error", err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused || m.Rcode == dns.RcodeNotImplemented {
			poor = m
			continue
		}
		q.pass(m)
		return
	}
	if poor != nil {
		q.pass(poor)
		return
	}
	q.fail(dns.RcodeServerFailure)
}

// pass sends an upstream's answer to the client. One that is truncated stays marked so.
func (q *question) pass(m *dns.Msg) {
	m.Id = q.msg.Id
	m.Question = q.msg.Question
	m.RecursionAvailable = true
	if q.msg.IsEdns0() == nil { // RFC 6891, 6.1.1
		for i := len(m.Extra) - 1; i >= 0; i-- {
			if m.Extra[i].Header().Rrtype == dns.TypeOPT {
				m.Extra = append(m.Extra[:i], m.Extra[i+1:]...)
			}
		}
	}
	q.send(m)
}

// isOwn reports whether an address is that of a listener of the server.
func (s *Server) isOwn(a netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[a] > 0
}

// exchange asks one upstream, by TCP if its answer by UDP is truncated. The truncated
// answer is good enough if TCP fails.
func (s *Server) exchange(ctx context.Context, asked *dns.Msg, to netip.AddrPort) (*dns.Msg, error) {
	out := asked.Copy()
	out.Id = dns.Id()
	out.Compress = true
	packet, err := out.Pack()
	if err != nil {
		return nil, err
	}
	m, err := s.ask(ctx, "udp", out, packet, to)
	if err == nil && !m.Truncated {
		return m, nil
	}
	if err != nil && !errors.Is(err, errOversize) {
		return nil, err
	}
	whole, tcpErr := s.ask(ctx, "tcp", out, packet, to)
	if tcpErr == nil {
		return whole, nil
	}
	if err == nil && len(m.Answer) > 0 {
		return m, nil
	}
	return nil, fmt.Errorf("answer by udp is truncated, and tcp fails: %w", tcpErr)
}

// errOversize is returned for an answer by UDP that is cut off.
var errOversize = errors.New("answer is longer than a datagram may be")

// ask sends a packed question and waits for the answer to it. What else comes is ignored.
func (s *Server) ask(ctx context.Context, network string, out *dns.Msg, packet []byte, to netip.AddrPort) (*dns.Msg, error) {
	deadline := time.Now().Add(s.conf.UpstreamTimeout)
	if end, has := ctx.Deadline(); has && end.Before(deadline) {
		deadline = end
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		packet = append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packet)), uint16(len(packet))), packet...)
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDPAnswer)
	for {
		var n int
		if network == "tcp" {
			if buf, err = readFramed(conn); err != nil {
				return nil, err
			}
			n = len(buf)
		} else if n, err = conn.Read(buf); err != nil {
			return nil, err
		}
		m := new(dns.Msg)
		err := m.Unpack(buf[:n])
		switch {
		case n < 12 || binary.BigEndian.Uint16(buf) != out.Id || !m.Response || !sameQuestion(m, out):
			if network == "tcp" {
				return nil, errors.New("the answer is to another question")
			}
			continue // perhaps forged; the true answer may still come
		case err != nil && network == "udp" && (m.Truncated || n == len(buf)):
			return nil, errOversize
		case err != nil:
			return nil, err
		}
		return m, nil
	}
}

// sameQuestion reports whether an answer repeats a question. One that is only an error may
// have none.
func sameQuestion(m, out *dns.Msg) bool {
	if len(m.Question) == 0 && len(m.Answer) == 0 && m.Rcode != dns.RcodeSuccess {
		return true
	}
	if len(m.Question) != 1 {
		return false
	}
	a, b := m.Question[0], out.Question[0]
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// readFramed reads one message from a TCP connection.
func readFramed(conn net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, packet)
	return packet, err
}
