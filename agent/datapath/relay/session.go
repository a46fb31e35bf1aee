package relay

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/yamux"
)

// session is a connection with a peer, and its streams.
type session struct {
	peer       *peer
	conn       *batchConn
	mux        *yamux.Session
	generation generation // of the peer's process
	dialled    bool       // by this host
	pings      atomic.Int32
	ctx        context.Context // ends with the session
	end        context.CancelCauseFunc
	once       sync.Once // cut

	// Guarded by relay.mu.
	retired bool // it takes no new streams, and is closed when the last one has ended
	streams int  // of both directions, being opened or open
}

// stallTime bounds how long one frame may wait to be sent. A peer that is dead is found
// earlier.
const stallTime = 10 * time.Second

// newSession starts the goroutines of yamux, which end with cut.
func newSession(p *peer, conn *batchConn, from generation, dialled bool) (*session, error) {
	s := &session{peer: p, conn: conn, generation: from, dialled: dialled}
	conf := yamux.DefaultConfig()
	conf.AcceptBacklog = 1024
	conf.EnableKeepAlive = false // see watch
	conf.ConnectionWriteTimeout = stallTime
	conf.StreamOpenTimeout = 0 // it takes a goroutine for each stream; Dial has a time limit
	conf.StreamCloseTimeout = p.relay.conf.CloseTime
	conf.LogOutput = nil
	conf.Logger = log.New(p.relay.conf.Log.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), "", 0)
	if !p.relay.conf.Log.IsDebug() {
		conf.Logger = log.New(io.Discard, "", 0)
	}
	var err error
	if dialled {
		s.mux, err = yamux.Client(conn, conf)
	} else {
		s.mux, err = yamux.Server(conn, conf)
	}
	if err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	return s, nil
}

// start runs what the session needs. relay.mu is held.
func (s *session) start() {
	r := s.peer.relay
	r.goroutine(s.accept)
	r.goroutine(s.watch)
	r.conf.Log.Debug("relay session began", "host_id", s.peer.host, "dialled", s.dialled)
}

// cut ends the session and all its streams at once. err is why.
func (s *session) cut(err error) {
	s.once.Do(func() {
		s.end(err)
		if errors.Is(err, errIdle) {
			_ = s.conn.Close()
		} else {
			s.conn.cut()
		}
		_ = s.mux.Close()
		r := s.peer.relay
		r.mu.Lock()
		defer r.mu.Unlock()
		s.peer.sessions = slices.DeleteFunc(s.peer.sessions, func(o *session) bool { return o == s })
		r.notify()
		r.conf.Log.Debug("relay session ended", "host_id", s.peer.host, "dialled", s.dialled, "error", err)
	})
}

// errIdle ends a retired session whose last stream has ended.
var errIdle = errors.New("another connection has taken the place of this one")

// watch finds out that the peer is dead: it answers pings as long as it lives, however
// long the queues are.
func (s *session) watch() {
	conf := s.peer.relay.conf
	tick := time.NewTicker(conf.PingInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.mux.CloseChan():
			s.cut(errDead)
			return
		case <-tick.C:
		}
		if s.conn.silence() > conf.SilenceTime {
			s.cut(errDead)
			return
		}
		s.ping()
	}
}

// ping sends a ping and returns a channel that is closed when it is answered.
func (s *session) ping() <-chan struct{} {
	answered := make(chan struct{})
	if s.pings.Add(1) > 8 { // each ends after stallTime
		s.pings.Add(-1)
		return answered
	}
	go func() {
		defer s.pings.Add(-1)
		if _, err := s.mux.Ping(); err == nil {
			close(answered)
		}
	}()
	return answered
}

// alive reports whether the peer answers a ping in time.
func (s *session) alive(within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-s.ping():
		return true
	case <-s.ctx.Done():
	case <-t.C:
	}
	return false
}

// retire lets the session end with its streams, and tells the peer. relay.mu is held.
func (s *session) retire() {
	r := s.peer.relay
	if s.retired {
		return
	}
	s.retired = true
	r.notify()
	r.goroutine(func() {
		s.sayRetired()
		for {
			r.mu.Lock()
			left, changed := s.streams, r.changed
			r.mu.Unlock()
			if left == 0 {
				break
			}
			select {
			case <-changed:
			case <-s.ctx.Done():
				return
			}
		}
		// The answer comes after all that was sent before the ping has arrived.
		if !s.alive(r.conf.SilenceTime) {
			s.cut(errDead)
			return
		}
		s.conn.flush()
		s.cut(errIdle)
	})
}

// sayRetired tells the peer not to open streams. It is only a favour: those that it opens
// are refused.
func (s *session) sayRetired() {
	st, err := s.mux.OpenStream()
	if err != nil {
		return
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(s.peer.relay.conf.HeaderTime))
	if _, err := st.Write(request{kind: kindRetire}.encode()); err == nil {
		_, _ = readAnswer(st)
	}
}

// accept takes the peer's streams until the session ends.
func (s *session) accept() {
	r := s.peer.relay
	for {
		st, err := s.mux.AcceptStream()
		if err != nil {
			s.cut(errDead)
			return
		}
		r.mu.Lock()
		taken := s.peer.in < r.conf.MaxStreams && r.in < r.conf.MaxStreamsAll && r.goroutine(func() {
			s.handle(st)
			r.mu.Lock()
			s.count(0, -1)
			r.mu.Unlock()
		})
		if taken {
			s.count(0, 1)
		}
		r.mu.Unlock()
		if !taken {
			_, _ = st.Write(answer{code: codeBusy, text: "the host has too many streams"}.encode())
			_ = st.Close()
		}
	}
}

// count changes the number of streams that this host or the peer has opened. relay.mu is
// held.
func (s *session) count(out, in int) {
	r := s.peer.relay
	s.streams += out + in
	s.peer.out += out
	s.peer.in += in
	r.out += out
	r.in += in
	if s.retired && s.streams == 0 {
		r.notify()
	}
}

// handle serves a stream that the peer has opened.
func (s *session) handle(st *yamux.Stream) {
	r := s.peer.relay
	_ = st.SetReadDeadline(time.Now().Add(r.conf.HeaderTime))
	req, err := readRequest(st)
	if err != nil {
		_ = st.Close()
		return
	}
	_ = st.SetReadDeadline(time.Time{})
	refuse := func(code code, text string) {
		_, _ = st.Write(answer{code, text}.encode())
		_ = st.Close()
	}
	if req.kind == kindRetire {
		r.mu.Lock()
		s.retire()
		r.mu.Unlock()
		refuse(codeOK, "")
		return
	}
	r.mu.Lock()
	retired := s.retired
	r.mu.Unlock()
	if retired {
		refuse(codeRetired, "the connection takes no new streams")
		return
	}
	addr, err := r.conf.Accept(req.target)
	if err != nil {
		refuse(codeRefused, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, r.conf.PodTime)
	pod, err := new(net.Dialer).DialContext(ctx, req.target.Protocol, addr)
	cancel()
	if err != nil {
		refuse(codeUnreachable, err.Error())
		return
	}
	if _, err := st.Write(answer{code: codeOK}.encode()); err != nil {
		_ = pod.Close()
		_ = st.Close()
		return
	}
	if req.target.Protocol == "udp" {
		serveFlow(newFlow(st, r.conf.FlowQueue, func() {}), pod.(*net.UDPConn), r.conf.FlowIdle)
	} else {
		pipe(newConn(st, func() {}), pod.(*net.TCPConn))
	}
}
