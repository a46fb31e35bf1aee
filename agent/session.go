package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/shares"
	"github.com/stackforge/magnum/structs"
)

// dialer opens the connection of a session. *api.Agent is one.
type dialer interface {
	DialSession(ctx context.Context, server string, offer structs.SessionOffer) (*websocket.Conn, error)
}

// sessions are the logs, commands, copies and requests about images and volumes that
// users have open on this host. Each is a WebSocket to the server that has offered it,
// and ends with it.
type sessions struct {
	features
	clusterID string // of the host; set before the first session opens
	dialer    dialer
	engineID  func(ctx context.Context, ref structs.Ref, previous bool) string
	again     func(context.Context, structs.Ref) bool // see backend.LogStreams
	// next waits for the attempt after that of the engine's ID; set before the first session
	// opens.
	next  func(ctx context.Context, ref structs.Ref, engineID string) string
	ports backend.Forwards // set before the first session opens
	// credentials are set before the first session opens; nil if the host is no cluster.
	credentials backend.Credentials
	log         hclog.Logger
	slots       chan struct{}
	forwards    chan struct{} // those of slots that are connections to pods: logs and execute must stay possible
	shares      shares.Shares // of slots
	running     sync.WaitGroup

	mu   sync.Mutex
	live map[string]bool // by SID: an offer may come twice
}

func newSessions(f features, d dialer, engineID func(context.Context, structs.Ref, bool) string,
	again func(context.Context, structs.Ref) bool, most int, log hclog.Logger) *sessions {
	return &sessions{features: f, dialer: d, engineID: engineID, again: again, log: log,
		slots: make(chan struct{}, most), forwards: make(chan struct{}, (most+1)/2), live: make(map[string]bool)}
}

// wait returns when all sessions have ended.
func (s *sessions) wait() { s.running.Wait() }

// open begins a session, unless it is open already.
func (s *sessions) open(ctx context.Context, server string, offer structs.SessionOffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[offer.SID] {
		return
	}
	s.live[offer.SID] = true
	s.running.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.live, offer.SID)
		}()
		s.serve(ctx, server, offer)
	})
}

// serve is one session from dialling to its end.
func (s *sessions) serve(ctx context.Context, server string, offer structs.SessionOffer) {
	conn, err := s.dialer.DialSession(ctx, server, offer)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("session not opened", "server", server, "kind", offer.Kind, "container_id", offer.Ref().ID, "error", err)
		}
		return
	}
	// The work ends when the user leaves, which the end of the connection shows. One
	// goroutine reads the connection. While too much input is unread, that goroutine waits,
	// and a second one probes whether the user is still there. The reading is never
	// cancelled, because that breaks the connection.
	work, leave := context.WithCancel(ctx)
	defer leave()
	in := newInput()
	c := &channel{conn: conn, ctx: ctx}
	var readers sync.WaitGroup
	readers.Go(func() {
		defer leave()
		in.read(ctx, conn)
	})
	readers.Go(func() {
		// Servers relay empty output, so that it reaches the user.
		if in.probe(work, func() error { return c.send(structs.ChannelStdout, nil) }) != nil {
			leave()
		}
	})
	defer func() {
		in.close()
		leave()
		_ = conn.CloseNow() // the other side may be gone
		readers.Wait()
	}()
	last, err := s.run(work, c, in, offer)
	if work.Err() != nil {
		return
	}
	if err != nil {
		last = structs.Control{Error: err.Error(), Code: structs.CodeOf(err)}
		if e := new(structs.Error); errors.As(err, &e) {
			last.Kind = e.Kind
		}
	}
	in.close()
	if c.control(last) == nil {
		_ = conn.Close(websocket.StatusNormalClosure, "") // the last message has said how it ended
	}
}

// run serves the session, and returns its last message.
func (s *sessions) run(ctx context.Context, c *channel, in *input, offer structs.SessionOffer) (structs.Control, error) {
	giveBack, err := s.shares.Take("", cap(s.slots), offer.Holder, "sessions of the host")
	if err != nil {
		return structs.Control{}, err
	}
	defer giveBack()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return structs.Control{}, structs.Errorf(structs.CodeUnavailable,
			"the host has %d sessions open, which is its limit; end some, or try again later", cap(s.slots))
	}
	if offer.Logs != nil && offer.Logs.Follow || offer.Stream {
		// A server holds back its answer to the user until it knows.
		if err := c.control(structs.Control{Accepted: true}); err != nil {
			return structs.Control{}, err
		}
	}
	ref := offer.Ref()
	if ref.ID == "" {
		return s.serveHost(ctx, c, in, offer)
	}
	previous := offer.Logs != nil && offer.Logs.Previous
	engineID := s.engineID(ctx, ref, previous)
	switch {
	case engineID == "" && previous:
		return structs.Control{}, structs.Errorf(structs.CodeNotFound,
			"the host keeps no container of %s %s from before its last restart; leave out previous to read the present one's log", ref.Kind,
			ref.ID)
	case engineID == "":
		return structs.Control{}, structs.Errorf(structs.CodeConflict, "%s %s is not on its host yet, or no longer; its status says more",
			ref.Kind, ref.ID)
	}
	return s.serveKind(ctx, c, in, engineID, offer)
}

// channel writes messages to a session's connection.
type channel struct {
	conn *websocket.Conn
	ctx  context.Context

	mu sync.Mutex
}

// maxChunk is the most output in one message, in bytes.
const maxChunk = 32 << 10

// send writes one message.
func (c *channel) send(channel byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Write(c.ctx, websocket.MessageBinary, append([]byte{channel}, body...))
}

func (c *channel) control(m structs.Control) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.send(structs.ChannelControl, b)
}

// writer returns a writer whose bytes go to the channel.
func (c *channel) writer(ch byte) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		for n := 0; n < len(p); n += maxChunk {
			if err := c.send(ch, p[n:min(len(p), n+maxChunk)]); err != nil {
				return n, err
			}
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
