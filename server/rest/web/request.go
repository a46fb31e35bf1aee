package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Request is one HTTP request in a handler.
type Request struct {
	Service *service.Service
	Call    service.Call // the request as Service sees it
	W       *ResponseWriter
	R       *http.Request
	Query   wire.Query // arguments, with valid syntax
	server  *Server
	route   *Route
	params  httprouter.Params

	// Use is who makes the request, and the bytes that it holds. Handlers that hold many grow
	// it.
	Use      limits.Use
	charged  bool      // it was counted for its caller
	incoming *incoming // the body as a stream, nil if there is none
	raw      []byte    // the body after it was read as a whole
	audit    auditPart
}

// Caller returns who makes the request.
func (q *Request) Caller() structs.Caller { return q.Call.Caller }

// Context returns the request's context. It ends when the client leaves, or when the
// token that authorized the request ends.
func (q *Request) Context() context.Context { return q.R.Context() }

// transport is the request as the service sees it.
type transport Request

// Forward forwards the whole request to the leader. The leader authenticates it again, or
// believes this server in what Keystone has said of the caller, decides it and returns the
// decision. Waiting for a result and encoding the response are done here, where the client
// is.
func (t *transport) Forward(ctx context.Context, leader string, retryAfterUnknown bool, sinceIndex uint64) ([]byte, uint64, error) {
	ctx, cancel := peer.WhileLeads(ctx, t.server.config.Cluster, leader)
	defer cancel()
	raw, index, err := t.server.config.Peers.Forward(ctx, leader, peer.Forwarded{
		Request: t.R, Body: t.raw, Seed: t.Call.TakeSeed(), ID: t.W.RequestID, RetryAfterUnknown: retryAfterUnknown, SinceIndex: sinceIndex,
		Preparation: t.Call.Preparation, Caller: encodeCaller(t.Call.Caller),
	})
	if errors.Is(err, peer.ErrUnknown) {
		err = unknownOutcome{err}
	}
	return raw, index, err
}

// Authenticate authenticates the request again.
func (t *transport) Authenticate() error { return (*Request)(t).authenticate() }

// MarkStale sets the header X-Magnum-Stale.
func (t *transport) MarkStale() { t.W.Header().Set(headerStale, "true") }

// MarkWaiting notes that the request's duration says nothing about the server.
func (t *transport) MarkWaiting() { t.W.Parked = true }

// unknownOutcome makes an error of a forwarded write match conductor.ErrUnknown.
type unknownOutcome struct{ error }

func (e unknownOutcome) Unwrap() error        { return e.error }
func (e unknownOutcome) Is(target error) bool { return target == conductor.ErrUnknown }

// headerStale is set on a response that may lack writes which other servers had
// acknowledged before the request came.
const headerStale = "X-Magnum-Stale"

// headerIndex is the index of the state that a response is from. In a request it is the
// newest index that the client has seen.
const headerIndex = "X-Magnum-Index"

// freshness reads from the request how new the state of the response has to be.
func (q *Request) freshness() service.Freshness {
	f := service.Freshness{
		Stale: q.Query.Bool("stale", false), Consistent: q.Query.Bool("consistent", false), Blocking: q.Query.Has("index"),
	}
	if seen := q.R.Header.Get(headerIndex); seen != "" {
		n, err := strconv.ParseUint(seen, 10, 64)
		if err != nil {
			f.SeenErr = structs.Invalid(headerIndex, seen, "It is not a whole number.")
		}
		f.Seen = n
	}
	return f
}

// defaultBlock is how long a blocking read waits by default.
const defaultBlock = time.Minute

// change returns what a blocking read waits for, nil if the request isn't one.
func (q *Request) change() *service.Change {
	if !q.Query.Has("index") {
		return nil
	}
	return &service.Change{Since: uint64(q.Query.Int("index", 0)), Wait: q.Query.Duration("wait", defaultBlock)}
}

// Patience returns how long the request waits for its result. said is true if the
// request has the argument wait.
func (q *Request) Patience() (atMost time.Duration, said bool) {
	return q.Query.Duration("wait", q.Service.Patience()), q.Query.Has("wait")
}

// Write makes the handler of a write from two halves. decide has the service decide the
// write, and answer answers the client. For a forwarded request only decide runs: the
// decision is sent to the forwarding server, which answers its client.
func Write[T any](decide func(*Request) (T, error), answer func(*Request, T) error) func(*Request) error {
	return func(q *Request) error {
		decided, err := decide(q)
		if err == nil && q.audit.begun {
			noteTarget(q, decided)
		}
		switch {
		case err != nil:
			return err
		case q.Call.Forwarded:
			q.W.Index = 0 // use the present index instead of one from before the write
			return q.JSON(http.StatusOK, decided)
		}
		return answer(q, decided)
	}
}

// Decode decodes the body of a POST into target. It also returns what identifies the
// create for a retry, with the request's Idempotency-Key.
func (q *Request) Decode(s *wire.Shape, target any) (conductor.Once, error) {
	raw, err := q.Body()
	if err != nil {
		return conductor.Once{}, err
	}
	if err := s.Decode(raw, target); err != nil {
		return conductor.Once{}, err
	}
	return q.Service.Once(&q.Call, q.R.Header.Get("Idempotency-Key"), func() string {
		return q.R.Method + "\n" + cleanPath(q.R.URL.EscapedPath()) + "\n" + q.R.URL.RawQuery + "\n" + string(raw)
	})
}

// DecodePatch decodes the body of a PATCH.
func (q *Request) DecodePatch(rules *wire.PatchRules) (*wire.Patch, error) {
	raw, err := q.Body()
	if err != nil {
		return nil, err
	}
	return rules.Parse(raw)
}

// DecodeLenient decodes the body of a request of an agent or another server.
func (q *Request) DecodeLenient(target any) error {
	raw, err := q.Body()
	if err != nil {
		return err
	}
	return wire.DecodeLenient(raw, target)
}

// Body reads the request's body. Errors: CodeTooLarge, CodeInvalid.
func (q *Request) Body() ([]byte, error) {
	if q.raw != nil {
		return q.raw, nil
	}
	most := q.route.bodyLimit()
	if q.R.ContentLength > most {
		q.W.Header().Set("Connection", "close") // the body isn't read
		return nil, q.route.errTooLarge(most)
	}
	began := time.Now()
	b, err := q.readAll(most)
	if err == nil && time.Since(began) > time.Second {
		err = checkToken(q)
	}
	var known *structs.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, q.route.errTooLarge(most)
	case errors.As(err, &known):
		return nil, err
	case err != nil:
		return nil, structs.Errorf(structs.CodeInvalid, "The request's body could not be read to its end: %w", err)
	case !utf8.Valid(b):
		return nil, structs.Errorf(structs.CodeInvalid, "The request's body is not UTF-8 text.")
	}
	q.raw = b
	return b, nil
}

// readAll reads the whole body, into one buffer if its length is known.
func (q *Request) readAll(most int64) ([]byte, error) {
	if q.R.ContentLength < 0 {
		return io.ReadAll(&growing{http.MaxBytesReader(q.W, q.R.Body, most), q})
	}
	if err := q.Use.Grow(bodyWeight * int(q.R.ContentLength)); err != nil {
		return nil, err
	}
	b := make([]byte, q.R.ContentLength)
	_, err := io.ReadFull(q.R.Body, b)
	return b, err
}

// growing counts the bytes of a body of unknown length as they come.
type growing struct {
	body io.Reader
	q    *Request
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	if refused := g.q.Use.Grow(bodyWeight * n); refused != nil {
		return 0, refused
	}
	return n, err
}

// View is what a response is made from: one snapshot, the caller, and the URL by which
// the client reached this server.
type View struct {
	Snap   *state.Snapshot
	Caller structs.Caller
	Base   string // scheme and host of this server as the client wrote them
}

// View returns a view of snap, and sets the response's X-Magnum-Index to its index.
func (q *Request) View(snap *state.Snapshot) View {
	q.W.Index = snap.Index()
	return View{Snap: snap, Caller: q.Caller(), Base: q.BaseURL()}
}

// BaseURL returns scheme and host of this server as the client wrote them, to this server or to
// a trusted proxy.
func (q *Request) BaseURL() string {
	scheme, host := "http://", q.R.Host
	if q.W.scheme == "https" || q.W.scheme == "" && q.R.TLS != nil {
		scheme = "https://"
	}
	if host == "" {
		host = "127.0.0.1:9511"
	}
	return scheme + host
}

// Links returns an object's links.
func (v View) Links(noun, id string) []structs.Link {
	return []structs.Link{
		{Href: v.Base + "/v1/" + noun + "/" + id, Rel: "self"},
		{Href: v.Base + "/" + noun + "/" + id, Rel: "bookmark"},
	}
}
