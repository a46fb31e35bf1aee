package rest

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
	"github.com/stackforge/magnum/structs"
)

// Limits of terminals that are prepared and not opened yet.
const (
	terminalWait = time.Minute
	maxTerminals = 1000
)

// terminals are the raw streams that clients of Zun have asked for. Such a
// client gets a URL for its answer, opens it without a token, and sends sizes by
// requests of their own. They are this server's own and nobody else's.
type terminals struct {
	mu   sync.Mutex
	open map[string]*terminal // by secret
}

// terminal is one of them.
type terminal struct {
	caller  structs.Caller // who asked for it
	hostID  string
	offer   structs.SessionOffer
	until   time.Time         // by then it has to be opened
	opened  bool              // a URL is good for once
	session *dispatch.Session // nil until it is open
}

// add keeps a terminal and returns its secret. CodeRateLimited.
func (ts *terminals) add(t *terminal) (string, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for id, old := range ts.open {
		if !old.opened && now.After(old.until) {
			delete(ts.open, id)
		}
	}
	if len(ts.open) >= maxTerminals {
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

// claim takes the terminal whose URL is opened, and what its host is to be
// offered; nil if there is none, or if it was opened before.
func (ts *terminals) claim(id string) (*terminal, structs.SessionOffer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[id]
	if t == nil || t.opened || time.Now().After(t.until) {
		return nil, structs.SessionOffer{}
	}
	t.opened = true
	return t, t.offer
}

// join notes the session of a terminal, which can be told of sizes from now on.
func (ts *terminals) join(t *terminal, session *dispatch.Session) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.session = session
}

func (ts *terminals) remove(id string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, id)
}

// resize sets the size of the terminals that fit, and returns the sessions that
// have to be told.
func (ts *terminals) resize(width, height uint, fits func(id string, t *terminal) bool) (told []*dispatch.Session, found bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for id, t := range ts.open {
		if !fits(id, t) {
			continue
		}
		found = true
		if t.session != nil {
			told = append(told, t.session)
			continue
		}
		r := *t.offer.Exec
		r.Width, r.Height = width, height
		t.offer.Exec = &r
	}
	return told, found
}

// terminalURL returns where a terminal is opened.
func (q *request) terminalURL(id string) string {
	return "ws" + strings.TrimPrefix(q.baseURL(), "http") + "/v1/terminals/" + id
}

// prepareExec answers with the URL of an interactive execute.
func (q *request) prepareExec() error {
	r, err := q.execRequest()
	if err != nil {
		return err
	}
	r.TTY, r.Stdin = true, true
	c, err := q.execTarget()
	if err != nil {
		return err
	}
	id, err := q.terminals.add(&terminal{caller: q.caller(), hostID: c.HostID, offer: structs.SessionOffer{
		Kind: structs.SessionExec, ContainerID: c.ID, Epoch: c.Epoch, Exec: r,
	}})
	if err != nil {
		return err
	}
	url := q.terminalURL(id)
	return q.json(http.StatusOK, zunOutput{ExecID: &id, ProxyURL: &url})
}

// attachZun answers with the URL of a container's own process.
func attachZun(q *request) error {
	c, err := q.attachTarget()
	if err != nil {
		return err
	}
	id, err := q.terminals.add(&terminal{caller: q.caller(), hostID: c.HostID, offer: structs.SessionOffer{
		Kind: structs.SessionAttach, ContainerID: c.ID, Epoch: c.Epoch, Exec: &structs.ExecRequest{TTY: c.Spec.TTY, Stdin: c.Spec.Stdin},
	}})
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, q.terminalURL(id))
}

func resizeExecZun(q *request) error {
	wanted := q.query.Text("exec_id")
	c, err := q.target()
	if err != nil {
		return err
	}
	return q.resizeTerminals(func(id string, t *terminal) bool { return id == wanted && t.offer.ContainerID == c.ID })
}

func resizeZun(q *request) error {
	c, err := q.target()
	if err != nil {
		return err
	}
	return q.resizeTerminals(func(_ string, t *terminal) bool {
		return t.offer.Kind == structs.SessionAttach && t.offer.ContainerID == c.ID
	})
}

func (q *request) resizeTerminals(fits func(id string, t *terminal) bool) error {
	width, height, err := q.terminalSize()
	if err != nil {
		return err
	}
	told, found := q.terminals.resize(width, height, fits)
	if !found {
		return structs.Errorf(structs.CodeNotFound, "There is no such terminal: it has ended, or was opened on another server.")
	}
	message, err := json.Marshal(structs.Control{Resize: &structs.Resize{Width: width, Height: height}})
	if err != nil {
		return err
	}
	for _, session := range told {
		_ = session.Write(q.r.Context(), structs.ChannelControl, message) // one that ends needs no size
	}
	return q.null()
}

// openTerminal joins a client to what it has prepared. Its messages are the
// bytes of the streams and nothing else.
func openTerminal(q *request) error {
	if err := q.checkUpgrade(); err != nil {
		return err
	}
	id := q.param("sid")
	t, offer := q.terminals.claim(id)
	if t == nil {
		return structs.Errorf(structs.CodeNotFound, "There is no such terminal: it was opened already, or has waited for more than %v.", terminalWait)
	}
	defer q.terminals.remove(id)
	if err := q.proveCaller(t.caller); err != nil {
		return err
	}
	defer q.guardOf(t.caller)()
	session, err := q.Dispatch.Open(q.r.Context(), t.hostID, offer)
	if err != nil {
		return err
	}
	defer session.Close()
	q.terminals.join(t, session)
	conn, err := websocket.Accept(q.w, q.r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		q.Logger.Debug("websocket refused", "request_id", q.w.requestID, "error", err)
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1) // they are bytes, and passed on in pieces
	bridgeRaw(q.r.Context(), conn, session)
	return nil
}

// bridgeRaw passes bytes on between a client and an agent until one of them
// ends.
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
			if err != io.EOF { // of the message
				return
			}
		}
	}()
	var probes sync.WaitGroup
	defer probes.Wait()
	defer func() { <-done }()
	defer user.CloseNow() // wakes it
	defer agent.Close()   // likewise: it may wait for an agent that takes no more
	for {
		channel, payload, err := agent.Read(ctx)
		if err != nil {
			return
		}
		if channel != structs.ChannelControl && len(payload) == 0 {
			// The agent asks whether the client is still there. Some clients take
			// an empty message for the end.
			probes.Go(func() { probe(ctx, user, agent) })
			continue
		}
		switch channel {
		case structs.ChannelStdout, structs.ChannelStderr:
			if user.Write(ctx, websocket.MessageBinary, payload) != nil {
				return
			}
		case structs.ChannelControl:
			m, err := control(payload)
			if err != nil {
				_ = user.Write(ctx, websocket.MessageBinary, []byte(err.Error()+"\r\n")) // it may have left
			}
			if err != nil || m.Done || m.ExitCode != nil {
				user.Close(websocket.StatusNormalClosure, "")
				return
			}
		}
	}
}

// probeWait is how long a probe waits for its answer, which may stand behind
// input that isn't read.
const probeWait = 3 * time.Second

// probe pings a client. The failed write of a ping ends both sides: the client
// has left.
func probe(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) {
	wait, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	if err := user.Ping(wait); err != nil && wait.Err() == nil {
		user.CloseNow()
		agent.Close()
	}
}
