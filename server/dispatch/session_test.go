package dispatch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// dialBack makes a fake agent dial back for an offer.
func dialBack(t *testing.T, d *Dispatch, host, sid string) (agent *websocket.Conn, accepted chan error) {
	t.Helper()
	accepted = make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			accepted <- err
			return
		}
		err = d.sessions.accept(r.Context(), host, sid, conn)
		conn.CloseNow()
		accepted <- err
	}))
	t.Cleanup(srv.Close)
	agent, _, err := websocket.Dial(context.Background(), strings.Replace(srv.URL, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.CloseNow() })
	return agent, accepted
}

func TestSession(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	opened := make(chan *Session, 1)
	go func() {
		s, err := d.sessions.open(context.Background(), host, structs.SessionOffer{Kind: structs.SessionLogs, ContainerID: "c"})
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: 10 * time.Second})
	if len(work.Sessions) != 1 || work.Sessions[0].Kind != structs.SessionLogs {
		t.Fatalf("%+v", work)
	}
	sid := work.Sessions[0].SID
	if d.sessions.expects(host, sid) != nil || d.sessions.expects("other", sid) == nil {
		t.Error("a session is bound to its host")
	}
	if err := d.sessions.accept(context.Background(), "other", sid, nil); structs.CodeOf(err) != structs.CodeNotFound {
		t.Error(err)
	}
	d.sessions.repeat(host, work.Sessions[0]) // nobody waits for it any more
	agent, accepted := dialBack(t, d, host, sid)
	s := <-opened
	if n := d.sessions.joined(); n != 1 {
		t.Errorf("%d sessions are active, want 1", n)
	}
	ctx := context.Background()
	if err := agent.Write(ctx, websocket.MessageBinary, append([]byte{structs.ChannelStdout}, "hi"...)); err != nil {
		t.Fatal(err)
	}
	if channel, payload, err := s.Read(ctx); err != nil || channel != structs.ChannelStdout || string(payload) != "hi" {
		t.Errorf("%d %q %v", channel, payload, err)
	}
	if err := s.Write(ctx, structs.ChannelStdin, []byte("yo")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := agent.Read(ctx); err != nil || string(message) != "\x00yo" {
		t.Errorf("%q %v", message, err)
	}
	if err := d.sessions.accept(ctx, host, sid, nil); structs.CodeOf(err) != structs.CodeNotFound {
		t.Errorf("a session was used twice: %v", err)
	}
	s.Close()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if _, _, err := agent.Read(ctx); err == nil {
		t.Error("the session has ended, but the agent doesn't notice")
	}
	empty(t, d)
}

// empty fails the test unless nothing of a session is left.
func empty(t *testing.T, d *Dispatch) {
	t.Helper()
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	if len(d.sessions.waiting) != 0 || len(d.sessions.mailboxes) != 0 {
		t.Errorf("%d sessions and %d mailboxes are left", len(d.sessions.waiting), len(d.sessions.mailboxes))
	}
	if n := d.sessions.joined(); n != 0 {
		t.Errorf("%d sessions never end", n)
	}
}

func TestOfferWithoutADialTimesOut(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.sessions.open(ctx, host, structs.SessionOffer{}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Error(err)
	}
	empty(t, d)
}

// TestOfferIsRepeated: the answer with the offer may have been lost, so the offer is
// repeated here and at the other servers.
func TestOfferIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.host(t)
		var asked atomic.Int32
		d.config.ServerID, d.config.URL = "me", func() string { return "http://me" }
		d.config.Ask = func(_ string, o structs.SessionOffer) {
			if o.ServerID != "me" || o.Server != "http://me" {
				t.Errorf("offered elsewhere: %+v", o)
			}
			asked.Add(1)
		}
		opened := make(chan error, 1)
		go func() {
			_, err := d.sessions.open(t.Context(), host, structs.SessionOffer{Kind: structs.SessionLogs, ContainerID: "c"})
			opened <- err
		}()
		poll := func() []structs.SessionOffer {
			return d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: 10 * time.Second}).Sessions
		}
		began := time.Now()
		first := poll()
		second := poll()
		if len(first) != 1 || len(second) != 1 || first[0].SID != second[0].SID || time.Since(began) != offerAgain {
			t.Fatalf("%+v, and then %+v after %v", first, second, time.Since(began))
		}
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("the other servers were asked %d times", n)
		}
		time.Sleep(offerTimeout)
		if err := <-opened; structs.CodeOf(err) != structs.CodeUnavailable {
			t.Error(err)
		}
		empty(t, d)
	})
}

// TestOfferOfAnotherServerExpires: an offer of another server is removed by its timeout
// only.
func TestOfferOfAnotherServerExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.host(t)
		left := func(want int) {
			t.Helper()
			synctest.Wait()
			d.sessions.mu.Lock()
			defer d.sessions.mu.Unlock()
			got := 0
			if box := d.sessions.mailboxes[host]; box != nil {
				got = len(box.offers)
			}
			if got != want {
				t.Errorf("%d offers wait, want %d", got, want)
			}
		}
		post := func(sid string) {
			t.Helper()
			d.sessions.offerRemote(host, structs.SessionOffer{SID: sid, ServerID: "another"})
		}
		post("first")
		time.Sleep(offerTimeout / 2)
		post("second")
		left(2)
		time.Sleep(offerTimeout / 2)
		left(1)
		// The next poll takes the remaining offers, whose timeouts then remove nothing.
		if work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(),
			Wait: time.Minute}); len(work.Sessions) != 1 || work.Sessions[0].SID != "second" {
			t.Errorf("%+v", work.Sessions)
		}
		time.Sleep(offerTimeout)
		left(0)
		empty(t, d)
		for range maxOffers {
			post(structs.NewID())
		}
		post("one more")
		left(maxOffers)
		// Offers of other servers keep no user of this server from the host.
		if err := d.sessions.add(host, structs.SessionOffer{SID: "own"}, &Session{}); err != nil {
			t.Error(err)
		}
		work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: time.Minute})
		sids := make(map[string]bool)
		for _, o := range work.Sessions {
			sids[o.SID] = true
		}
		if len(sids) != maxOffers+1 || !sids["own"] || !sids["one more"] {
			t.Errorf("%d sessions are handed out, the user's %v, the newest of the others %v", len(sids), sids["own"], sids["one more"])
		}
		d.sessions.withdraw(host, "own")
		time.Sleep(offerTimeout)
		left(0)
		empty(t, d)
	})
}

// TestOfferSkipsAnEndedPoll: an agent that was killed may have left a poll behind, which is
// woken first and takes nothing.
func TestOfferSkipsAnEndedPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		r := registration(structs.NewID())
		var taken []string
		poll := func(registration uint64) {
			work, err := d.Work(t.Context(), Poll{HostID: r.HostID, Registration: registration, Index: d.config.Store.Index(),
				Wait: time.Minute})
			if (err == nil) != (registration == 2) {
				t.Errorf("the poll of registration %d: %v", registration, err)
			}
			for i := 0; err == nil && i < len(work.Sessions); i++ {
				taken = append(taken, work.Sessions[i].SID)
			}
		}
		for n := range uint64(2) {
			if _, err := d.Register(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			go poll(n + 1)
			synctest.Wait()
		}
		began := time.Now()
		d.sessions.offerRemote(r.HostID, structs.SessionOffer{SID: "sid", ServerID: "another"})
		synctest.Wait()
		if took := time.Since(began); len(taken) != 1 || taken[0] != "sid" || took != 0 {
			t.Errorf("after %v %v is taken", took, taken)
		}
		time.Sleep(time.Minute)
		empty(t, d)
	})
}

func TestTooManyOffers(t *testing.T) {
	d := newDispatch(t)
	for range maxOffers {
		if err := d.sessions.add("h", structs.SessionOffer{SID: structs.NewID()}, &Session{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.sessions.open(context.Background(), "h", structs.SessionOffer{}); structs.CodeOf(err) != structs.CodeRateLimited {
		t.Error(err)
	}
}

func TestAgentThatDisconnectsEndsTheSession(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	opened := make(chan *Session, 1)
	go func() {
		s, _ := d.sessions.open(context.Background(), host, structs.SessionOffer{})
		opened <- s
	}()
	work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: 10 * time.Second})
	agent, _ := dialBack(t, d, host, work.Sessions[0].SID)
	s := <-opened
	agent.CloseNow()
	if _, _, err := s.Read(context.Background()); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Error(err)
	}
	s.Close()
	s.Close()
}

// TestWriteWaitsWhileTheAgentSendsMessages: a process may read its input late, and the
// agent reads no more input until then.
func TestWriteWaitsWhileTheAgentSendsMessages(t *testing.T) {
	// If this machine stalls, the agent becomes silent. That says nothing about the server,
	// so the test tries again with a longer limit.
	for silent := 100 * time.Millisecond; !writeWaits(t, silent); silent *= 2 {
		if silent > 10*time.Second {
			t.Fatal("this machine stalls for longer than the test can wait")
		}
	}
}

// writeWaits reports whether the agent sent messages without a gap.
func writeWaits(t *testing.T, silent time.Duration) bool {
	t.Helper()
	d := newDispatch(t)
	host := d.host(t)
	opened := make(chan *Session, 1)
	go func() {
		s, _ := d.sessions.open(context.Background(), host, structs.SessionOffer{})
		opened <- s
	}()
	work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: 10 * time.Second})
	agent, _ := dialBack(t, d, host, work.Sessions[0].SID)
	s := <-opened
	defer s.Close()
	s.silenceLimit = silent
	written := make(chan error, 1)
	go func() {
		for chunk := make([]byte, 64<<10); ; {
			if err := s.Write(context.Background(), structs.ChannelStdin, chunk); err != nil {
				written <- err
				return
			}
		}
	}()
	tick := time.NewTicker(silent / 10)
	defer tick.Stop()
	longest, last := time.Duration(0), time.Now()
	noted := func() bool {
		longest, last = max(longest, time.Since(last)), time.Now()
		return longest < silent/2
	}
	for range 50 { // five times the limit for a silent agent
		<-tick.C
		if err := agent.Write(context.Background(), websocket.MessageBinary, []byte{structs.ChannelStdout}); err != nil {
			if !noted() {
				return false
			}
			t.Fatal(err)
		}
		if _, _, err := s.Read(context.Background()); err != nil {
			if !noted() {
				return false
			}
			t.Fatalf("the session has ended: %v", err)
		}
		noted()
	}
	select {
	case err := <-written:
		if !noted() {
			return false
		}
		t.Fatalf("the write was cancelled although the agent sent messages: %v", err)
	default:
	}
	select {
	case <-written:
	case <-time.After(silent + 10*time.Second):
		t.Fatal("a write to a silent agent never ends")
	}
	return true
}
