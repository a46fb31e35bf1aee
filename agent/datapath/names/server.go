// Package names is the DNS server of the projects' networks on a host: it answers the
// names of a project's services to the project's own containers, and forwards all other
// names. The data path makes the listeners and says what the names are. The package never
// answers a name of another project, and forwards no name of the cluster.
package names

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/miekg/dns"
)

// Config sets a server up. The zero value of each number stands for its default.
type Config struct {
	Log             hclog.Logger  // nil logs nothing
	MaxForwards     int           // questions in flight at upstreams, for each project; default 64
	MaxForwardsAll  int           // of all projects; default 1024
	MaxConnections  int           // TCP connections of each project; more are closed at once; default 64
	IdleTimeout     time.Duration // of a TCP connection; default 10s
	UpstreamTimeout time.Duration // for the answer of one upstream; default 2s
	ForwardTimeout  time.Duration // for a question as a whole; default 5s
}

func (c Config) withDefaults() Config {
	def := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	defTime := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	def(&c.MaxForwards, 64)
	def(&c.MaxForwardsAll, 1024)
	def(&c.MaxConnections, 64)
	defTime(&c.IdleTimeout, 10*time.Second)
	defTime(&c.UpstreamTimeout, 2*time.Second)
	defTime(&c.ForwardTimeout, 5*time.Second)
	return c
}

// Server answers on the listeners of projects. New makes one.
type Server struct {
	conf   Config
	known  atomic.Pointer[known]
	all    chan struct{} // a slot for each question in flight
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	open     map[io.Closer]bool     // listeners, and TCP connections
	inflight map[string]*projectUse // by project ID
	own      map[netip.AddrPort]int // listeners by address, counted
}

// known is what Set hands over.
type known struct {
	zone      *Zone
	upstreams []netip.AddrPort
}

// projectUse counts what a project has in flight.
type projectUse struct{ forwards, connections int }

// New returns a server without names and upstreams.
func New(conf Config) *Server {
	s := &Server{conf: conf.withDefaults(), open: make(map[io.Closer]bool), inflight: make(map[string]*projectUse),
		own: make(map[netip.AddrPort]int)}
	s.all = make(chan struct{}, s.conf.MaxForwardsAll)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.known.Store(&known{})
	return s
}

// Set replaces names and upstreams, for questions that come from now on. An upstream is
// IP:port; others are logged and ignored. Without upstreams other names are refused.
func (s *Server) Set(zone *Zone, upstreams []string) {
	next := &known{zone: zone}
	for _, text := range upstreams {
		a, err := netip.ParseAddrPort(text)
		if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() {
			s.conf.Log.Warn("upstream name server ignored: not IP:port", "addr", text)
			continue
		}
		next.upstreams = append(next.upstreams, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	s.known.Store(next)
}

// Serve answers a project's containers on its listeners, either of which may be nil. It
// takes them over: it closes both when one is closed, and returns nil then; an error if one
// fails otherwise.
func (s *Server) Serve(udp net.PacketConn, tcp net.Listener, projectID string) error {
	var listeners []io.Closer
	var addrs []netip.AddrPort
	if udp != nil {
		listeners, addrs = append(listeners, udp), append(addrs, addrPort(udp.LocalAddr()))
	}
	if tcp != nil {
		listeners, addrs = append(listeners, tcp), append(addrs, addrPort(tcp.Addr()))
	}
	if !s.add(listeners, addrs) {
		return nil
	}
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	run := func(loop func() error) {
		wg.Go(func() {
			errs <- loop()
			s.drop(listeners, addrs)
		})
	}
	if udp != nil {
		run(func() error { return s.serveUDP(udp, projectID) })
	}
	if tcp != nil {
		run(func() error { return s.serveTCP(tcp, projectID) })
	}
	wg.Wait()
	close(errs)
	var failed error
	for err := range errs {
		if !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// Close closes all listeners and connections, and waits until the questions in flight have
// ended.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.cancel()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// add takes listeners or connections up. After Close it closes them and returns false.
func (s *Server) add(all []io.Closer, addrs []netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		for _, c := range all {
			_ = c.Close()
		}
		return false
	}
	for _, c := range all {
		s.open[c] = true
	}
	for _, a := range addrs {
		s.own[a]++
	}
	return true
}

// drop closes listeners or connections, if that has not been done.
func (s *Server) drop(all []io.Closer, addrs []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range all {
		if !s.open[c] {
			continue
		}
		delete(s.open, c)
		_ = c.Close()
		if i < len(addrs) {
			if s.own[addrs[i]]--; s.own[addrs[i]] == 0 {
				delete(s.own, addrs[i])
			}
		}
	}
}

// use changes what a project has in flight, unless that is above the limits.
func (s *Server) use(projectID string, forwards, connections int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && (forwards > 0 || connections > 0) {
		return false
	}
	u := s.inflight[projectID]
	if u == nil {
		u = new(projectUse)
		s.inflight[projectID] = u
	}
	next := projectUse{u.forwards + forwards, u.connections + connections}
	if forwards > 0 && next.forwards > s.conf.MaxForwards || connections > 0 && next.connections > s.conf.MaxConnections {
		return false
	}
	if *u = next; next == (projectUse{}) {
		delete(s.inflight, projectID)
	}
	if forwards > 0 || connections > 0 {
		s.wg.Add(1) // under the lock, so that Close doesn't wait before it
	}
	return true
}

// maxQuestion is the size of the largest packet that is read as a question.
const maxQuestion = 4096

func (s *Server) serveUDP(conn net.PacketConn, projectID string) error {
	local := addrPort(conn.LocalAddr())
	buf := make([]byte, maxQuestion)
	for failed := 0; ; {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			// An ICMP error of an earlier answer is reported by a read.
			if failed++; errors.Is(err, net.ErrClosed) || failed > 100 {
				return err
			}
			continue
		}
		failed = 0
		q := question{projectID: projectID, client: addrPort(from), local: local, udp: true,
			reply: func(packet []byte) { _, _ = conn.WriteTo(packet, from) }}
		if forward := s.answer(&q, buf[:n]); forward {
			s.start(&q, func() {})
		}
	}
}

// start forwards a question in a goroutine, if the project has a slot for it. done is
// called after the answer.
func (s *Server) start(q *question, done func()) {
	if !s.use(q.projectID, 1, 0) {
		q.fail(dns.RcodeServerFailure)
		done()
		return
	}
	go func() {
		defer s.wg.Done()
		defer s.use(q.projectID, -1, 0)
		defer done()
		select {
		case s.all <- struct{}{}:
			defer func() { <-s.all }()
			s.forward(q)
		default:
			q.fail(dns.RcodeServerFailure)
		}
	}()
}

func (s *Server) serveTCP(ln net.Listener, projectID string) error {
	for failed := 0; ; {
		conn, err := ln.Accept()
		if err != nil {
			if failed++; errors.Is(err, net.ErrClosed) || failed > 100 {
				return err
			}
			select { // out of descriptors, for example
			case <-time.After(10 * time.Millisecond):
			case <-s.ctx.Done():
			}
			continue
		}
		failed = 0
		if !s.use(projectID, 0, 1) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer s.wg.Done()
			defer s.use(projectID, 0, -1)
			if s.add([]io.Closer{conn}, nil) {
				defer s.drop([]io.Closer{conn}, nil)
				s.serveConn(conn, projectID)
			}
		}()
	}
}

// serveConn answers the questions of a TCP connection one after another.
func (s *Server) serveConn(conn net.Conn, projectID string) {
	var size [2]byte
	for {
		_ = conn.SetDeadline(time.Now().Add(s.conf.IdleTimeout))
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > maxQuestion {
			return
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		answered := false
		q := question{projectID: projectID, client: addrPort(conn.RemoteAddr()), local: addrPort(conn.LocalAddr()),
			reply: func(packet []byte) {
				_ = conn.SetDeadline(time.Now().Add(s.conf.IdleTimeout))
				framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packet)), uint16(len(packet)))
				_, err := conn.Write(append(framed, packet...))
				answered = err == nil
			}}
		if forward := s.answer(&q, packet); forward {
			done := make(chan struct{})
			s.start(&q, func() { close(done) })
			<-done
		}
		if !answered {
			return
		}
	}
}

// addrPort returns the address of a listener or peer; the zero AddrPort if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	var of netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		of = a.AddrPort()
	case *net.TCPAddr:
		of = a.AddrPort()
	}
	return netip.AddrPortFrom(of.Addr().Unmap(), of.Port())
}
