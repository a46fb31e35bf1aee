package zun

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// The limits of terminals that were prepared and not opened yet.
const (
	terminalWait = time.Minute
	maxTerminals = 1000
)

// terminals are the raw streams that clients of Zun have asked for. Such a client gets a
// URL, opens it without a token, and sends the terminal's size in other requests. Each
// server has its own terminals, which other servers don't know.
type terminals struct {
	mu   sync.Mutex
	open map[string]*terminal // by secret
}

// terminal is one raw stream.
type terminal struct {
	caller  structs.Caller // who asked for it
	end     func()         // gives back its share of the terminals
	offer   service.Offer
	until   time.Time         // deadline for opening it
	opened  bool              // its URL was used; each URL can be used once
	session *dispatch.Session // nil until the session is open
}

// add stores a terminal of the request's caller and returns its secret. CodeRateLimited.
func (ts *terminals) add(q *web.Request, offer service.Offer) (string, error) {
	t := &terminal{caller: q.Caller(), offer: offer}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for id, old := range ts.open {
		if !old.opened && now.After(old.until) {
			old.end()
			delete(ts.open, id)
		}
	}
	end, err := web.TakeTerminal(q, maxTerminals)
	if err != nil {
		return "", err
	}
	if t.end = end; len(ts.open) >= maxTerminals {
		end()
		return "", structs.Errorf(structs.CodeRateLimited, "%d terminals are open already: try again later", maxTerminals)
	}
	if ts.open == nil {
		ts.open = make(map[string]*terminal)
	}
	t.until = now.Add(terminalWait)
	id := structs.NewSecret()
	ts.open[id] = t
	return id, nil
}

// claim returns the terminal with a secret, and the offer for its host. It returns nil if
// there is no such terminal, or if its URL was used before.
func (ts *terminals) claim(id string) (*terminal, service.Offer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[id]
	if t == nil || t.opened || time.Now().After(t.until) {
		return nil, service.Offer{}
	}
	t.opened = true
	return t, t.offer
}

// joined notes the session of a terminal, to which resize sends sizes from now on.
func (ts *terminals) joined(t *terminal, session *dispatch.Session) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.session = session
}

func (ts *terminals) remove(id string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.open[id]; t != nil {
		t.end()
		delete(ts.open, id)
	}
}

// setSize sets the size of the terminals for which fits is true. The caller sends the size
// to the sessions that setSize returns. found is false if no terminal fits.
func (ts *terminals) setSize(width, height uint, fits func(id string, t *terminal) bool) (sessions []*dispatch.Session, found bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for id, t := range ts.open {
		if !fits(id, t) {
			continue
		}
		found = true
		if t.session != nil {
			sessions = append(sessions, t.session)
			continue
		}
		r := *t.offer.Session.Exec
		r.Width, r.Height = width, height
		t.offer.Session.Exec = &r
	}
	return sessions, found
}

// terminalURL returns the URL at which a terminal is opened.
func terminalURL(q *web.Request, id string) string {
	return "ws" + strings.TrimPrefix(q.BaseURL(), "http") + "/v1/terminals/" + id
}

// prepare answers with the URL of an interactive execute.
func (ts *terminals) prepare(q *web.Request, r *structs.ExecRequest) error {
	r.TTY, r.Stdin = true, true
	offer, err := q.Service.Sessions().ExecOffer(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	id, err := ts.add(q, offer)
	if err != nil {
		return err
	}
	url := terminalURL(q, id)
	return q.JSON(http.StatusOK, execOutput{ExecID: &id, ProxyURL: &url})
}

// attach answers with the URL of a container's main process.
func (ts *terminals) attach(q *web.Request) error {
	offer, err := q.Service.Sessions().AttachOffer(q.Context(), &q.Call, q.Ident(), service.Attach{})
	if err != nil {
		return err
	}
	id, err := ts.add(q, offer)
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, terminalURL(q, id))
}

// resizeExec sets the size of an interactive execute.
func (ts *terminals) resizeExec(q *web.Request) error {
	wanted := q.Query.Text("exec_id")
	return ts.resizeOf(q, func(id string, o *structs.SessionOffer) bool { return id == wanted })
}

// resizeAttached sets the size of the terminals of a container's main process.
func (ts *terminals) resizeAttached(q *web.Request) error {
	return ts.resizeOf(q, func(_ string, o *structs.SessionOffer) bool { return o.Kind == structs.SessionAttach })
}

// resizeOf sets the size of the container's terminals for which fits is true.
func (ts *terminals) resizeOf(q *web.Request, fits func(id string, o *structs.SessionOffer) bool) error {
	c, err := q.Service.Sessions().Target(q.Context(), &q.Call, q.Ident())
	if err != nil {
		return err
	}
	width, height, err := wire.TerminalSize(q.Query)
	if err != nil {
		return err
	}
	sessions, found := ts.setSize(width, height, func(id string, t *terminal) bool {
		return t.offer.Session.ContainerID == c.Ref.ID && fits(id, &t.offer.Session)
	})
	if !found {
		return structs.Errorf(structs.CodeNotFound, "There is no such terminal: it has ended, or was opened on another server.")
	}
	message, err := json.Marshal(structs.Control{Resize: &structs.Resize{Width: width, Height: height}})
	if err != nil {
		return err
	}
	for _, session := range sessions {
		_ = session.Write(q.Context(), structs.ChannelControl, message) // fails only if the session has ended
	}
	return accepted(q)
}

// join connects a client to the terminal that it has asked for. The messages are the bytes
// of the streams and nothing else.
func (ts *terminals) join(q *web.Request) error {
	if err := q.CheckUpgrade(); err != nil {
		return err
	}
	id := q.Param("sid")
	t, offer := ts.claim(id)
	if t == nil {
		return structs.Errorf(structs.CodeNotFound, "There is no such terminal: it was opened already, or has waited for more than %v.",
			terminalWait)
	}
	defer ts.remove(id)
	web.AuditSession(q, t.caller, offer.Session.ContainerID)
	if err := q.ProveCaller(t.caller); err != nil {
		return err
	}
	if err := web.Charge(q, t.caller); err != nil {
		return err
	}
	defer q.WatchTokenOf(t.caller)()
	session, err := q.Service.Sessions().Open(q.Context(), offer)
	if err != nil {
		return err
	}
	defer session.Close()
	ts.joined(t, session)
	conn := q.Upgrade(&websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if conn == nil {
		return nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1) // messages are passed on in pieces, so that long ones take no memory
	bridgeRaw(q.Context(), conn, session)
	return nil
}

// bridgeRaw passes bytes on between a client and an agent until one of them ends.
func bridgeRaw(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer agent.Close() // wakes the other direction
		for piece := make([]byte, 32<<10); ; {
			_, r, err := user.Reader(ctx)
			for err == nil {
				var n int
				n, err = r.Read(piece)
				if n > 0 && agent.Write(ctx, structs.ChannelStdin, piece[:n]) != nil {
					return
				}
			}
			if err != io.EOF { // EOF is the end of one message
				return
			}
		}
	}()
	var probes sync.WaitGroup
	defer probes.Wait()
	defer func() { <-done }()
	defer user.CloseNow() // wakes the other direction, which may read from the client
	defer agent.Close()   // wakes it if it writes to an agent that reads no more
	for {
		channel, payload, err := agent.Read(ctx)
		if err != nil {
			return
		}
		if channel != structs.ChannelControl && len(payload) == 0 {
			// The agent asks whether the client is still there. The question isn't passed
			// on, because some clients take an empty message for the end.
			probes.Go(func() { pingUser(ctx, user, agent) })
			continue
		}
		switch channel {
		case structs.ChannelStdout, structs.ChannelStderr:
			if user.Write(ctx, websocket.MessageBinary, payload) != nil {
				return
			}
		case structs.ChannelControl:
			m, err := service.Control(payload)
			if err != nil {
				_ = user.Write(ctx, websocket.MessageBinary, []byte(err.Error()+"\r\n")) // the client may have left
			}
			if err != nil || m.Done || m.ExitCode != nil {
				user.Close(websocket.StatusNormalClosure, "")
				return
			}
		}
	}
}

// probeWait is how long a probe waits for its answer. The answer may be behind input that
// nobody reads.
const probeWait = 3 * time.Second

// pingUser pings a client. If the ping can't be written, the client has left, and pingUser
// ends both sides.
func pingUser(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) {
	wait, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	if err := user.Ping(wait); err != nil && wait.Err() == nil {
		user.CloseNow()
		agent.Close()
	}
}
