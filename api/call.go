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

// maxAnswer bounds the bytes of a response that are read into memory.
const maxAnswer = 64 << 20

// Meta holds what a response carries besides the decoded body.
type Meta struct {
	Status    int               // HTTP status: 202 means that the wait ended before the work
	Index     uint64            // FSM index of the response's state; the next QueryOptions.Index of a blocking read
	RequestID string            // identifies the request in the server's log
	Location  string            // URL of a created object
	Raw       json.RawMessage   // the body as the server sent it; nil if it was empty
	Items     []json.RawMessage // of a list: the objects as the server sent them
}

// Done reports whether the work was finished when the server responded. The
// server responds with 202 when the wait ended first.
func (m Meta) Done() bool { return m.Status != http.StatusAccepted }

// call describes one HTTP request.
type call struct {
	method string
	path   string // starts with /v1; its segments are escaped
	query  url.Values
	header http.Header   // added to those of every call
	body   any           // sent as JSON; nil sends none
	raw    []byte        // of a stream: the encoded JSON body
	upload io.Reader     // body sent unchanged if body is nil; can be sent once only; header has its type
	wait   time.Duration // how long the server may delay the response
	stale  bool          // accept any state
	retry  bool          // retry when the outcome is unknown; requires an Idempotency-Key

	websocket   bool // the GET opens a WebSocket: it is not a read that can be repeated
	serverState bool // the response depends on the servers only, not on a host
}

// newRequest builds the HTTP request of a call.
func (c *Client) newRequest(ctx context.Context, root *url.URL, token string, r call, body []byte) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	} else if r.upload != nil {
		reader = r.upload
	}
	req, err := http.NewRequestWithContext(ctx, r.method, urlOf(root, r.path, r.query), reader)
	if err != nil {
		return nil, fmt.Errorf("building %s %s: %w", r.method, r.path, err)
	}
	c.setHeaders(req.Header, token, r.stale)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return req, nil
}

// setHeaders sets the headers of every call.
func (c *Client) setHeaders(h http.Header, token string, stale bool) {
	h.Set("Accept", "application/json")
	h.Set("User-Agent", c.conf.UserAgent)
	if token != "" {
		h.Set(HeaderToken, token)
	}
	if seen := c.maxIndex.Load(); seen > 0 && !stale {
		h.Set(HeaderIndex, strconv.FormatUint(seen, 10))
	}
}

// do makes a call and decodes the response into out; a nil out drops the body. A
// status other than 2xx is an *Error; no response is CodeUnavailable.
func (c *Client) do(ctx context.Context, r call, out any) (Meta, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return Meta{}, structs.Errorf(structs.CodeInvalid, "encoding the request as JSON: %w", err)
		}
	}
	if !r.retry {
		return c.once(ctx, r, body, out)
	}
	until := time.Now().Add(c.conf.RetryFor)
	sent := false
	var unanswered error // first error of an attempt that may have reached a server
	for attempt := 0; ; attempt++ {
		meta, err := c.once(ctx, r, body, out)
		var unreachable *Unreachable
		switch {
		case !errors.As(err, &unreachable):
		case unreachable.Sent && unanswered == nil:
			unanswered = err
		case !unreachable.Sent && unanswered != nil:
			err = unanswered // a refused connection now doesn't tell the outcome of that attempt
		}
		pause := max(backoff(attempt), retryPause(err))
		if err == nil || !retryable(err, &sent) || ctx.Err() != nil || time.Now().Add(pause).After(until) {
			return meta, err
		}
		if sleep(ctx, pause) != nil {
			return meta, err // more useful than the end of ctx
		}
	}
}

// retryable reports whether to send the same request again. A refused connection
// is not retried while no attempt has reached a server: most likely none runs
// there. Once an attempt may have reached one (*sent), the outcome is unknown and
// retrying finds it out.
func retryable(err error, sent *bool) bool {
	var unreachable *Unreachable
	if errors.As(err, &unreachable) {
		*sent = *sent || unreachable.Sent
		return *sent
	}
	switch structs.CodeOf(err) {
	case structs.CodeUnavailable, structs.CodeNoLeader, structs.CodeRateLimited:
		*sent = true
		return true
	}
	return false
}

// retryPause returns the Retry-After of a response, 0 if it has none.
func retryPause(err error) time.Duration {
	var e *structs.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// once makes one attempt of a call, at the first server that can be reached.
func (c *Client) once(ctx context.Context, r call, body []byte, out any) (Meta, error) {
	r.serverState = true
	return tryServers(ctx, c, r, func(root *url.URL, token string) (Meta, error) { return c.onceAt(ctx, root, token, r, body, out) })
}

func (c *Client) onceAt(ctx context.Context, root *url.URL, token string, r call, body []byte, out any) (Meta, error) {
	callCtx, cancel := context.WithTimeout(ctx, c.conf.Timeout+max(r.wait, 0))
	defer cancel()
	req, err := c.newRequest(callCtx, root, token, r, body)
	if err != nil {
		return Meta{}, err
	}
	req, written := traceWritten(req)
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
		return meta, structs.Errorf(structs.CodeTooLarge,
			"the response to %s %s is larger than %d bytes: ask for fewer objects with a limit", r.method, r.path, maxAnswer)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return meta, nil
	}
	meta.Raw = raw
	if out == nil {
		return meta, nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return meta, structs.Errorf(structs.CodeInternal,
			"the response of %s to %s %s is not from a magnum server: check the address: %w", root, r.method, r.path, err)
	}
	return meta, nil
}

// traceWritten returns the request with a flag that is set once its headers were
// written to a connection. net/http itself repeats a request that has an
// Idempotency-Key when a reused connection breaks. The error of the last attempt
// therefore doesn't tell whether an earlier one reached the server.
func traceWritten(req *http.Request) (*http.Request, *atomic.Bool) {
	written := new(atomic.Bool)
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), trace)), written
}

// stream makes a call and returns the response for the caller to read and close.
// The deadline covers the response's headers only; the body ends with ctx.
func (c *Client) stream(ctx context.Context, r call) (*http.Response, error) {
	return tryServers(ctx, c, r, func(root *url.URL, token string) (*http.Response, error) { return c.streamAt(ctx, root, token, r) })
}

func (c *Client) streamAt(ctx context.Context, root *url.URL, token string, r call) (*http.Response, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	head := time.AfterFunc(c.conf.Timeout+max(r.wait, 0), cancel)
	req, err := c.newRequest(streamCtx, root, token, r, r.raw)
	if err != nil {
		cancel()
		return nil, err
	}
	req, written := traceWritten(req)
	resp, err := c.http.Do(req)
	if !head.Stop() && err == nil {
		// The headers came as the deadline passed: the body is cut off already.
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
	resp.Body = &cancelBody{ReadCloser: resp.Body, ctx: streamCtx, cancel: cancel, begun: begun{c, root, token}}
	return resp, nil
}

// cancelBody is a response body that cancels its request's context on Close.
type cancelBody struct {
	io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelFunc
	begun  begun
}

// Read reads the stream. The error of a stream that broke off matches ErrTokenEnded if that is
// the cause.
func (b *cancelBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() == nil {
		err = b.begun.cause(b.ctx, err)
	}
	return n, err
}

// Close ends the stream.
func (b *cancelBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// maxMessage is the size limit of a received WebSocket message, in bytes.
const maxMessage = 1 << 20

// dial opens a WebSocket. The deadline covers the handshake only. The caller
// closes the connection.
func (c *Client) dial(ctx context.Context, path string, query url.Values, header http.Header) (*session, error) {
	return tryServers(ctx, c, call{method: http.MethodGet, websocket: true}, func(root *url.URL, token string) (*session, error) {
		conn, err := c.dialAt(ctx, urlOf(root, path, query), root, token, header)
		return &session{conn, begun{c, root, token}}, err
	})
}

// session is an open WebSocket.
type session struct {
	*websocket.Conn
	begun begun
}

func (c *Client) dialAt(
	ctx context.Context, target string, root *url.URL, token string, header http.Header,
) (*websocket.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	h := http.Header{}
	c.setHeaders(h, token, false)
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

// meta reads a response's headers and raises the highest index.
func (c *Client) meta(resp *http.Response) Meta {
	m := Meta{Status: resp.StatusCode, RequestID: resp.Header.Get(HeaderRequestID), Location: resp.Header.Get("Location")}
	if n, err := strconv.ParseUint(resp.Header.Get(HeaderIndex), 10, 64); err == nil {
		m.Index = n
		c.raiseIndex(n)
	}
	return m
}

// success reports whether the status is 2xx.
func success(resp *http.Response) bool { return resp.StatusCode >= 200 && resp.StatusCode < 300 }
