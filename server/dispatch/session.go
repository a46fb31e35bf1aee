package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/internal/shares"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/structs"
)

// Limits of sessions.
const (
	offerTimeout = 5 * time.Second  // an offer waits this long for the agent to dial back
	offerAgain   = time.Second      // the offer is repeated after this time: a poll's answer may have been lost
	maxOffers    = 256              // offers in one mailbox: this many of this server's users, and as many of other servers
	maxMessage   = 1 << 20          // bytes of one message of a session
	maxSilence   = 30 * time.Second // a write waits this long for an agent that sends nothing
)

// sessions joins users to the connections with which agents dial back. Offers of
// sessions reach an agent with the answer to its poll.
type sessions struct {
	config *Config
	active atomic.Int64 // sessions whose agent has dialed back and that have not ended

	mu        sync.Mutex          // guards what follows, and the mailboxes
	mailboxes map[string]*mailbox // by host
	waiting   map[string]*Session // by SID, until the agent has dialed back

	// shares are of the sessions of each host that this server's users hold, including those
	// that wait for the agent. The agent counts those of all servers. A project's share is
	// less than three quarters of maxOffers.
	shares shares.Shares
}

func newSessions(c *Config) *sessions {
	return &sessions{config: c, mailboxes: make(map[string]*mailbox), waiting: make(map[string]*Session)}
}

// mailbox holds the offers that wait for a host's next poll. It exists while it contains
// offers or a poll waits at it.
type mailbox struct {
	of     *sessions
	polls  int
	offers []structs.SessionOffer
	wake   chan struct{} // capacity 1: there are offers
}

// parked returns how many polls wait for work.
func (ss *sessions) parked() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	n := 0
	for _, box := range ss.mailboxes {
		n += box.polls
	}
	return n
}

// joined returns the number of active sessions.
func (ss *sessions) joined() int { return int(ss.active.Load()) }

// enter registers a waiting poll at the host's mailbox.
func (ss *sessions) enter(hostID string) *mailbox {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	box := ss.boxOf(hostID)
	box.polls++
	return box
}

// leave unregisters a poll. Offers that arrived too late for it wake the next poll.
func (ss *sessions) leave(hostID string, box *mailbox) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	box.polls--
	switch {
	case len(box.offers) > 0:
		select {
		case box.wake <- struct{}{}:
		default:
		}
	case box.polls == 0:
		delete(ss.mailboxes, hostID)
	}
}

// boxOf returns the host's mailbox. The caller holds mu.
func (ss *sessions) boxOf(hostID string) *mailbox {
	box := ss.mailboxes[hostID]
	if box == nil {
		box = &mailbox{wake: make(chan struct{}, 1), of: ss}
		ss.mailboxes[hostID] = box
	}
	return box
}

// take empties the mailbox.
func (b *mailbox) take() []structs.SessionOffer {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	offers := b.offers
	b.offers = nil
	return offers
}

// Session is the user's end of the connection that an agent has dialed back.
type Session struct {
	hostID       string
	conn         *websocket.Conn
	dialed       chan struct{} // closed once conn is set
	once         sync.Once
	closed       chan struct{} // closed by Close
	lastMessage  atomic.Int64  // when the agent's last message came: nanoseconds since processStart
	giveBack     func()        // its share of the host's sessions
	silenceLimit time.Duration // how long a write waits for an agent that sends nothing
}

// processStart is the origin of Session.lastMessage, on the monotonic clock.
var processStart = time.Now()

// open asks the host's agent for a session and returns once it has dialed
// back. The caller closes the session. Errors: CodeUnavailable if the agent
// does not come within five seconds, CodeRateLimited if too many wait for the
// host, or if the holder in ctx has its share of the host's sessions.
func (ss *sessions) open(ctx context.Context, hostID string, offer structs.SessionOffer) (*Session, error) {
	use := limits.FromContext(ctx)
	offer.Holder = limits.HolderOf(ctx)
	giveBack, err := ss.shares.Take(hostID, structs.MaxSessions, offer.Holder, "sessions of the host")
	if err != nil {
		use.CountRefusal(limits.Sessions)
		return nil, err
	}
	s := &Session{hostID: hostID, dialed: make(chan struct{}), closed: make(chan struct{}), silenceLimit: maxSilence, giveBack: giveBack}
	offer.SID = structs.NewSecret()
	if err := ss.add(hostID, offer, s); err != nil {
		giveBack()
		return nil, err
	}
	timeout := time.NewTimer(offerTimeout)
	defer timeout.Stop()
	again := time.NewTicker(offerAgain)
	defer again.Stop()
	for err == nil {
		if ss.config.Ask != nil {
			away := offer
			away.ServerID, away.Server = ss.config.ServerID, ss.config.URL()
			ss.config.Ask(hostID, away)
		}
		select {
		case <-s.dialed:
			return s, nil
		case <-ctx.Done():
			err = structs.Errorf(structs.CodeUnavailable, "the client left before the host answered: %w", ctx.Err())
		case <-timeout.C:
			err = structs.Errorf(structs.CodeUnavailable, "the host's agent did not answer within %v: see host-list whether it is ready",
				offerTimeout)
		case <-again.C:
			ss.repeat(hostID, offer)
		}
	}
	if !ss.withdraw(hostID, offer.SID) {
		// The agent has just dialed back: close its connection.
		<-s.dialed
		s.Close()
	}
	giveBack()
	return nil, err
}

// add leaves the offer for the host's poll.
func (ss *sessions) add(hostID string, offer structs.SessionOffer, s *Session) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := ss.post(hostID, offer); err != nil {
		return err
	}
	ss.waiting[offer.SID] = s
	return nil
}

// repeat makes the offer again unless the agent has dialed back. An agent that is about to
// dial ignores the repetition.
func (ss *sessions) repeat(hostID string, offer structs.SessionOffer) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.waiting[offer.SID] != nil {
		_ = ss.post(hostID, offer) // if the mailbox is full, the next repetition or the timeout follows
	}
}

// post puts the offer into the host's mailbox unless it is already there. It returns
// CodeRateLimited if too many of this server's users wait. The caller holds mu.
func (ss *sessions) post(hostID string, offer structs.SessionOffer) error {
	box := ss.boxOf(hostID)
	if slices.ContainsFunc(box.offers, func(o structs.SessionOffer) bool { return o.SID == offer.SID }) {
		return nil
	}
	alike := func(o structs.SessionOffer) bool { return (o.ServerID == "") == (offer.ServerID == "") }
	waiting := 0
	for _, o := range box.offers {
		if alike(o) {
			waiting++
		}
	}
	switch {
	case waiting < maxOffers:
	case offer.ServerID == "":
		return structs.Errorf(structs.CodeRateLimited, "%d sessions wait for the host already: try again in a second", maxOffers)
	default:
		// The oldest offer has probably been answered: servers that the host doesn't poll
		// are not informed. If it hasn't, its server repeats it.
		oldest := slices.IndexFunc(box.offers, alike)
		box.offers = slices.Delete(box.offers, oldest, oldest+1)
	}
	box.offers = append(box.offers, offer)
	select {
	case box.wake <- struct{}{}:
	default:
	}
	return nil
}

// offerRemote leaves an offer of another server for the host's poll, for as long as that
// server waits. Such offers never displace those of this server's own users. offer.ServerID
// is set.
func (ss *sessions) offerRemote(hostID string, offer structs.SessionOffer) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_ = ss.post(hostID, offer) // an offer of another server is never refused
	time.AfterFunc(offerTimeout, func() { ss.withdraw(hostID, offer.SID) })
}

// withdraw takes the offer back. It returns false if the agent has dialed back already.
func (ss *sessions) withdraw(hostID, sid string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.drop(hostID, sid)
	_, waiting := ss.waiting[sid]
	delete(ss.waiting, sid)
	return waiting
}

// drop removes the offer from the host's mailbox if it is there. The caller holds mu.
func (ss *sessions) drop(hostID, sid string) {
	box := ss.mailboxes[hostID]
	if box == nil {
		return
	}
	box.offers = slices.DeleteFunc(box.offers, func(o structs.SessionOffer) bool { return o.SID == sid })
	if box.polls == 0 && len(box.offers) == 0 {
		delete(ss.mailboxes, hostID)
	}
}

// expects returns CodeNotFound unless the host may dial back for the session. rest asks
// before it accepts the WebSocket.
func (ss *sessions) expects(hostID, sid string) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s := ss.waiting[sid]; s == nil || s.hostID != hostID {
		return structs.Errorf(structs.CodeNotFound, "there is no such session: it has been opened already, or nobody waits for it any more")
	}
	return nil
}

// accept joins the connection with which an agent has dialed back to the user who waits for
// it, and blocks until the session ends. A session is used once, and only by its host;
// otherwise accept returns CodeNotFound.
func (ss *sessions) accept(ctx context.Context, hostID, sid string, conn *websocket.Conn) error {
	ss.mu.Lock()
	s := ss.waiting[sid]
	if s != nil && s.hostID == hostID {
		delete(ss.waiting, sid)
		ss.drop(hostID, sid)
	} else {
		s = nil
	}
	ss.mu.Unlock()
	if s == nil {
		return structs.Errorf(structs.CodeNotFound, "there is no such session: it has been opened already, or nobody waits for it any more")
	}
	conn.SetReadLimit(maxMessage)
	s.conn = conn
	ss.active.Add(1)
	defer ss.active.Add(-1)
	close(s.dialed)
	select {
	case <-s.closed:
	case <-ctx.Done():
		conn.CloseNow()
		<-s.closed
	}
	return nil
}

// Read returns the next message from the agent. The payload is valid until the
// next Read.
func (s *Session) Read(ctx context.Context) (channel byte, payload []byte, err error) {
	kind, message, err := s.conn.Read(ctx)
	if err != nil {
		return 0, nil, structs.Errorf(structs.CodeUnavailable, "the host's agent ended the session: %w", err)
	}
	s.lastMessage.Store(int64(time.Since(processStart)))
	if kind != websocket.MessageBinary || len(message) == 0 {
		return 0, nil, fmt.Errorf("the agent sent a message without a channel")
	}
	return message[0], message[1:], nil
}

// Write sends a message to the agent. It blocks while the agent reads nothing, because the
// process that gets the message may read its input late. The session ends if the agent
// neither reads nor sends anything for 30 seconds.
func (s *Session) Write(ctx context.Context, channel byte, payload []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := s.cancelWhenSilent(cancel)
	defer end()
	w, err := s.conn.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte{channel}); err != nil {
		return err
	}
	if _, err := w.Write(payload); err != nil {
		return err
	}
	return w.Close()
}

// cancelWhenSilent calls cancel once the agent has sent nothing for silenceLimit, unless
// end is called first.
func (s *Session) cancelWhenSilent(cancel func()) (end func()) {
	began := time.Since(processStart)
	var mu sync.Mutex // guards timer
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(s.silenceLimit, func() {
		last := max(began, time.Duration(s.lastMessage.Load()))
		left := s.silenceLimit - (time.Since(processStart) - last)
		if left <= 0 {
			cancel()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		timer.Reset(left)
	})
	return func() { timer.Stop() }
}

// Close ends the session. The agent notices that, and stops its work for the session.
func (s *Session) Close() {
	s.once.Do(func() {
		s.conn.CloseNow()
		close(s.closed)
		s.giveBack()
	})
}
