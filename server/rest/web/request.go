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
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Request is one HTTP request on its way through a handler.
type Request struct {
	Service *service.Service
	Call    service.Call // what Service is told of the request
	W       *ResponseWriter
	R       *http.Request
	Query   wire.Query // its arguments, checked for form
	server  *Server
	route   *Route
	params  httprouter.Params

	incoming *incoming // the body on its way in, nil if there is none
	raw      []byte    // the body, once it is read
}

// Caller returns on whose behalf the request is made.
func (q *Request) Caller() structs.Caller { return q.Call.Caller }

// Context returns the request's context: it ends when the client leaves, and when what
// has let it in is no longer good.
func (q *Request) Context() context.Context { return q.R.Context() }

// transport is the request as the service sees it.
type transport Request

// Forward hands the whole request to the leader, which serves it as its own up to
// the write, and answers with what was decided. So the leader validates the token
// again, and everything after it (waiting for a result, the answer's shape) is done
// where the client is.
func (t *transport) Forward(ctx context.Context, leader string, unsure bool, known uint64) ([]byte, uint64, error) {
	ctx, cancel := peer.WhileLeads(ctx, t.server.config.Cluster, leader)
	defer cancel()
	raw, index, err := t.server.config.Peers.Forward(ctx, leader, peer.Forwarded{
		Request: t.R, Body: t.raw, Seed: t.Call.TakeSeed(), ID: t.W.RequestID, RetryAfterUnknown: unsure, SinceIndex: known,
	})
	if errors.Is(err, peer.ErrUnknown) {
		err = unknownOutcome{err}
	}
	return raw, index, err
}

// Authenticate is authenticate.
func (t *transport) Authenticate() error { return (*Request)(t).authenticate() }

// Stale says so in the answer.
func (t *transport) MarkStale() { t.W.Header().Set(headerStale, "true") }

// Waits notes that what the request takes says nothing about the server.
func (t *transport) MarkWaiting() { t.W.Parked = true }

// unknownOutcome is an error after which a forwarded write may have been carried
// out, as the service knows it.
type unknownOutcome struct{ error }

func (e unknownOutcome) Unwrap() error        { return e.error }
func (e unknownOutcome) Is(target error) bool { return target == conductor.ErrUnknown }

// headerStale is in an answer that may lack what other servers have acknowledged
// before the request came.
const headerStale = "X-Magnum-Stale"

// headerIndex is the index of the state that an answer is from, and in a request
// the newest that the client has seen.
const headerIndex = "X-Magnum-Index"

// freshness reads how new the state has to be that the request is answered from.
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

// defaultBlock is how long a blocking read parks if it doesn't say.
const defaultBlock = time.Minute

// change returns what a blocking read waits for; nil if the request is none.
func (q *Request) change() *service.Change {
	if !q.Query.Has("index") {
		return nil
	}
	return &service.Change{Since: uint64(q.Query.Int("index", 0)), Wait: q.Query.Duration("wait", defaultBlock)}
}

// Patience returns how long the request wants to wait for its result, and
// whether it said so itself.
func (q *Request) Patience() (atMost time.Duration, said bool) {
	return q.Query.Duration("wait", q.Service.Patience()), q.Query.Has("wait")
}

// Write makes the handler of a write in two halves: decide has it decided by the
// service, and answer tells the client. Where another server has forwarded the
// request, that server has the client: it is sent what was decided, and answers
// itself.
func Write[T any](decide func(*Request) (T, error), answer func(*Request, T) error) func(*Request) error {
	return func(q *Request) error {
		decided, err := decide(q)
		switch {
		case err != nil:
			return err
		case q.Call.Forwarded:
			q.W.Index = 0 // not of a state before the write
			return q.JSON(http.StatusOK, decided)
		}
		return answer(q, decided)
	}
}

// Decode reads the body of a POST into target, and its Idempotency-Key.
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

// DecodePatch reads the body of a PATCH.
func (q *Request) DecodePatch(rules *wire.PatchRules) (*wire.Patch, error) {
	raw, err := q.Body()
	if err != nil {
		return nil, err
	}
	return rules.Parse(raw)
}

// DecodeLenient reads the body of an agent's or another server's call.
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
		q.W.Header().Set("Connection", "close") // what follows is not read
		return nil, errTooLarge(most)
	}
	began := time.Now()
	b, err := q.readAll(most)
	if err == nil && time.Since(began) > time.Second {
		err = q.Service.CheckToken(q.Caller().TokenID)
	}
	var known *structs.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge(most)
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

// readAll reads the body to its end, at once if its length is known.
func (q *Request) readAll(most int64) ([]byte, error) {
	if q.R.ContentLength < 0 {
		return io.ReadAll(http.MaxBytesReader(q.W, q.R.Body, most))
	}
	b := make([]byte, q.R.ContentLength)
	_, err := io.ReadFull(q.R.Body, b)
	return b, err
}

// View is what answers are made from: the state of one instant, and how the
// client reached us.
type View struct {
	Snap   *state.Snapshot
	Caller structs.Caller
	Base   string // http://host of this server as the client calls it
}

// View returns a view of the state as it is now; the answer's X-Magnum-Index is
// that of this state.
func (q *Request) View(snap *state.Snapshot) View {
	q.W.Index = snap.Index()
	return View{Snap: snap, Caller: q.Caller(), Base: q.BaseURL()}
}

// BaseURL returns scheme and host of this server as the client wrote them.
func (q *Request) BaseURL() string {
	scheme, host := "http://", q.R.Host
	if q.R.TLS != nil {
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
