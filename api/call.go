package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// maxAnswer is how much of an answer is read into memory.
const maxAnswer = 64 << 20

// Meta is what an answer says beside its body.
type Meta struct {
	Status    int               // HTTP status: 202 means that the wait was over before the work
	Index     uint64            // FSM index of the state that the answer is from; for a blocking read's Index
	RequestID string            // for the server's operator
	Location  string            // URL of a created object
	Raw       json.RawMessage   // the body as it was sent; nil if it was empty
	Items     []json.RawMessage // of a list: its objects as they were sent
}

// Done reports whether the work was finished when the server answered: it
// answers 202 when a wait was over before.
func (m Meta) Done() bool { return m.Status != http.StatusAccepted }

// call is one HTTP request of the client.
type call struct {
	method   string
	path     string // with its segments escaped, from /v1 on
	query    url.Values
	header   http.Header   // added to the client's own
	body     any           // sent as JSON; nil sends none
	raw      []byte        // of a stream: the body's JSON
	upload   io.Reader     // sent as it is, once, if there is no body; the header names its type
	wait     time.Duration // how long the server may hold the answer back
	stale    bool          // an answer from any state will do
	upgrades bool          // it becomes a WebSocket, and is no read although it is a GET
	state    bool          // what is asked is the servers' own state, not a host
	retry    bool          // try again when the outcome is unknown; needs an Idempotency-Key
}

// newRequest builds the HTTP request of a call.
func (c *Client) newRequest(ctx context.Context, root *url.URL, r call, body []byte) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	} else if r.upload != nil {
		reader = r.upload
	}
	req, err := http.NewRequestWithContext(ctx, r.method, below(root, r.path, r.query), reader)
	if err != nil {
		return nil, fmt.Errorf("building %s %s: %w", r.method, r.path, err)
	}
	c.setHeaders(req.Header, r.stale)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return req, nil
}

// setHeaders adds what every call carries.
func (c *Client) setHeaders(h http.Header, stale bool) {
	h.Set("Accept", "application/json")
	h.Set("User-Agent", c.conf.UserAgent)
	if c.conf.Token != "" {
		h.Set(HeaderToken, c.conf.Token)
	}
	if seen := c.seen.Load(); seen > 0 && !stale {
		h.Set(HeaderIndex, strconv.FormatUint(seen, 10))
	}
}

// do makes a call and decodes its answer into out; a nil out drops the body.
// An answer of 400 or more, or of 3xx, is an *Error; no answer is
// CodeUnavailable.
func (c *Client) do(ctx context.Context, r call, out any) (Meta, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return Meta{}, structs.Errorf(structs.CodeInvalid, "the request can't be written as JSON: %w", err)
		}
	}
	if !r.retry {
		return c.once(ctx, r, body, out)
	}
	until := time.Now().Add(c.conf.RetryFor)
	sent := false
	var unanswered error // the first that says that a server may have heard
	for attempt := 0; ; attempt++ {
		meta, err := c.once(ctx, r, body, out)
		var gone *Unreachable
		switch {
		case !errors.As(err, &gone):
		case gone.Sent && unanswered == nil:
			unanswered = err
		case !gone.Sent && unanswered != nil:
			err = unanswered // that nobody is there now says nothing of the earlier try
		}
		pause := max(backoff(attempt), retryPause(err))
		if err == nil || !worthRetry(err, &sent) || ctx.Err() != nil || time.Now().Add(pause).After(until) {
			return meta, err
		}
		if sleep(ctx, pause) != nil {
			return meta, err // the answer that there was says more than the end of the wait
		}
	}
}

// worthRetry reports whether the same request may succeed in a moment. A
// server that never took the connection is given up at once: most likely it
// isn't there. Once the request may have reached one (*sent), the outcome is
// unknown and is worth finding out.
func worthRetry(err error, sent *bool) bool {
	var gone *Unreachable
	if errors.As(err, &gone) {
		*sent = *sent || gone.Sent
		return *sent
	}
	switch structs.CodeOf(err) {
	case structs.CodeUnavailable, structs.CodeNoLeader, structs.CodeRateLimited:
		*sent = true
		return true
	}
	return false
}

// retryPause is how long the server asked to be left alone.
func retryPause(err error) time.Duration {
	var e *structs.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// once makes one attempt of a call, at a server that is there.
func (c *Client) once(ctx context.Context, r call, body []byte, out any) (Meta, error) {
	r.state = true
	return anyServer(ctx, c, r, func(root *url.URL) (Meta, error) { return c.onceAt(ctx, root, r, body, out) })
}

func (c *Client) onceAt(ctx context.Context, root *url.URL, r call, body []byte, out any) (Meta, error) {
	callCtx, cancel := context.WithTimeout(ctx, c.conf.Timeout+max(r.wait, 0))
	defer cancel()
	req, err := c.newRequest(callCtx, root, r, body)
	if err != nil {
		return Meta{}, err
	}
	req, written := noteWritten(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return Meta{}, c.transportError(ctx, root, err, written.Load())
	}
	defer resp.Body.Close()
	meta := c.meta(resp)
	if !success(resp) {
		return meta, decodeError(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return meta, c.transportError(ctx, root, err, true)
	}
	if len(raw) > maxAnswer {
		return meta, structs.Errorf(structs.CodeTooLarge, "the answer to %s %s is longer than %d bytes: ask for fewer objects with a limit", r.method, r.path, maxAnswer)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return meta, nil
	}
	meta.Raw = raw
	if out == nil {
		return meta, nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return meta, structs.Errorf(structs.CodeInternal, "the answer of %s to %s %s is not magnum's: check the address: %w", root, r.method, r.path, err)
	}
	return meta, nil
}

// noteWritten has it noted when the request has been written to a server. The
// library sends one that is safe to repeat again by itself if its connection
// breaks, and an Idempotency-Key makes it so: that no server takes the last try
// says nothing of the first.
func noteWritten(req *http.Request) (*http.Request, *atomic.Bool) {
	written := new(atomic.Bool)
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), trace)), written
}

// stream makes a call whose answer's body the caller reads, and closes. Only
// the head of the answer has a deadline; the body ends with ctx.
func (c *Client) stream(ctx context.Context, r call) (*http.Response, error) {
	return anyServer(ctx, c, r, func(root *url.URL) (*http.Response, error) { return c.streamAt(ctx, root, r) })
}

func (c *Client) streamAt(ctx context.Context, root *url.URL, r call) (*http.Response, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	head := time.AfterFunc(c.conf.Timeout+max(r.wait, 0), cancel)
	req, err := c.newRequest(streamCtx, root, r, r.raw)
	if err != nil {
		cancel()
		return nil, err
	}
	req, written := noteWritten(req)
	resp, err := c.http.Do(req)
	if !head.Stop() && err == nil {
		// The head came as its time ended: the body is cut off already.
		resp.Body.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, c.transportError(ctx, root, err, written.Load())
	}
	c.meta(resp)
	if !success(resp) {
		defer cancel()
		defer resp.Body.Close()
		return nil, decodeError(resp)
	}
	resp.Body = &cancelBody{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

// cancelBody releases a stream's context when its body is closed.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close ends the stream.
func (b *cancelBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// maxMessage is the longest WebSocket message that is read.
const maxMessage = 1 << 20

// dial opens a WebSocket on a path. Only the handshake has a deadline; the
// connection ends when the caller closes it.
func (c *Client) dial(ctx context.Context, path string, query url.Values, header http.Header) (*websocket.Conn, error) {
	return anyServer(ctx, c, call{method: http.MethodGet, upgrades: true}, func(root *url.URL) (*websocket.Conn, error) {
		return c.dialAt(ctx, below(root, path, query), root, header)
	})
}

func (c *Client) dialAt(ctx context.Context, target string, root *url.URL, header http.Header) (*websocket.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	h := http.Header{}
	c.setHeaders(h, false)
	for k, v := range header {
		h[k] = v
	}
	conn, resp, err := websocket.Dial(dialCtx, target, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, decodeError(resp)
		}
		return nil, c.transportError(ctx, root, err, false)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// meta reads an answer's headers.
func (c *Client) meta(resp *http.Response) Meta {
	m := Meta{Status: resp.StatusCode, RequestID: resp.Header.Get(HeaderRequestID), Location: resp.Header.Get("Location")}
	if n, err := strconv.ParseUint(resp.Header.Get(HeaderIndex), 10, 64); err == nil {
		m.Index = n
		c.noteIndex(n)
	}
	return m
}

// success reports whether the server did what was asked, or has begun to.
func success(resp *http.Response) bool { return resp.StatusCode >= 200 && resp.StatusCode < 300 }
