package rest

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

// request is one HTTP request on its way through a handler.
type request struct {
	service *service.Service
	server  *webServer
	route   *route
	call    service.Call
	w       *responseWriter
	r       *http.Request
	params  httprouter.Params
	query   wire.Query

	incoming *incoming // the body on its way in, nil if there is none
	raw      []byte    // the body, once it is read
}

// caller returns on whose behalf the request is made.
func (q *request) caller() structs.Caller { return q.call.Caller }

// ctx returns the request's context: it ends when the client leaves, and when what
// has let it in is no longer good.
func (q *request) ctx() context.Context { return q.r.Context() }

// transport is the request as the service sees it.
type transport request

// Forward hands the whole request to the leader, which serves it as its own up to
// the write, and answers with what was decided. So the leader validates the token
// again, and everything after it (waiting for a result, the answer's shape) is done
// where the client is.
func (t *transport) Forward(ctx context.Context, leader string, unsure bool, known uint64) ([]byte, uint64, error) {
	ctx, cancel := peer.WhileLeads(ctx, t.server.config.Cluster, leader)
	defer cancel()
	raw, index, err := t.server.config.Peers.Forward(ctx, leader, peer.Forwarded{
		Request: t.r, Body: t.raw, Seed: t.call.TakeSeed(), ID: t.w.requestID, Unsure: unsure, Known: known,
	})
	if errors.Is(err, peer.ErrUnknown) {
		err = unknownOutcome{err}
	}
	return raw, index, err
}

// Authenticate is authenticate.
func (t *transport) Authenticate() error { return (*request)(t).authenticate() }

// Stale says so in the answer.
func (t *transport) Stale() { t.w.Header().Set(headerStale, "true") }

// Waits notes that what the request takes says nothing about the server.
func (t *transport) Waits() { t.w.parked = true }

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
func (q *request) freshness() service.Freshness {
	f := service.Freshness{
		Stale: q.query.Bool("stale", false), Consistent: q.query.Bool("consistent", false), Blocking: q.query.Has("index"),
	}
	if seen := q.r.Header.Get(headerIndex); seen != "" {
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
func (q *request) change() *service.Change {
	if !q.query.Has("index") {
		return nil
	}
	return &service.Change{Since: uint64(q.query.Int("index", 0)), Wait: q.query.Duration("wait", defaultBlock)}
}

// patience returns how long the request wants to wait for its result, and
// whether it said so itself.
func (q *request) patience() (atMost time.Duration, said bool) {
	return q.query.Duration("wait", q.service.Patience()), q.query.Has("wait")
}

// write makes the handler of a write in two halves: decide has it decided by the
// service, and answer tells the client. Where another server has forwarded the
// request, that server has the client: it is sent what was decided, and answers
// itself.
func write[T any](decide func(*request) (T, error), answer func(*request, T) error) func(*request) error {
	return func(q *request) error {
		decided, err := decide(q)
		switch {
		case err != nil:
			return err
		case q.call.Forwarded:
			q.w.index = 0 // not of a state before the write
			return q.json(http.StatusOK, decided)
		}
		return answer(q, decided)
	}
}

// decode reads the body of a POST into target, and its Idempotency-Key.
func (q *request) decode(s *wire.Shape, target any) (conductor.Once, error) {
	raw, err := q.body()
	if err != nil {
		return conductor.Once{}, err
	}
	if err := s.Decode(raw, target); err != nil {
		return conductor.Once{}, err
	}
	return q.service.Once(&q.call, q.r.Header.Get("Idempotency-Key"), func() string {
		return q.r.Method + "\n" + cleanPath(q.r.URL.EscapedPath()) + "\n" + q.r.URL.RawQuery + "\n" + string(raw)
	})
}

// decodePatch reads the body of a PATCH.
func (q *request) decodePatch(rules *wire.PatchRules) (*wire.Patch, error) {
	raw, err := q.body()
	if err != nil {
		return nil, err
	}
	return rules.Parse(raw)
}

// decodeLenient reads the body of an agent's or another server's call.
func (q *request) decodeLenient(target any) error {
	raw, err := q.body()
	if err != nil {
		return err
	}
	return wire.DecodeLenient(raw, target)
}

// body reads the request's body. Errors: CodeTooLarge, CodeInvalid.
func (q *request) body() ([]byte, error) {
	if q.raw != nil {
		return q.raw, nil
	}
	most := q.route.mostBody()
	if q.r.ContentLength > most {
		q.w.Header().Set("Connection", "close") // what follows is not read
		return nil, errTooLarge(most)
	}
	began := time.Now()
	b, err := q.readAll(most)
	if err == nil && time.Since(began) > time.Second {
		err = q.service.CheckToken(q.caller().TokenID)
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
func (q *request) readAll(most int64) ([]byte, error) {
	if q.r.ContentLength < 0 {
		return io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, most))
	}
	b := make([]byte, q.r.ContentLength)
	_, err := io.ReadFull(q.r.Body, b)
	return b, err
}

// view is what answers are made from: the state of one instant, and how the
// client reached us.
type view struct {
	snap   *state.Snapshot
	caller structs.Caller
	base   string // http://host of this server as the client calls it
}

// view returns a view of the state as it is now; the answer's X-Magnum-Index is
// that of this state.
func (q *request) view(snap *state.Snapshot) view {
	q.w.index = snap.Index()
	return view{snap: snap, caller: q.caller(), base: q.baseURL()}
}

// baseURL returns scheme and host of this server as the client wrote them.
func (q *request) baseURL() string {
	scheme, host := "http://", q.r.Host
	if q.r.TLS != nil {
		scheme = "https://"
	}
	if host == "" {
		host = "127.0.0.1:9511"
	}
	return scheme + host
}

// links returns an object's links.
func (v view) links(noun, id string) []structs.Link {
	return []structs.Link{
		{Href: v.base + "/v1/" + noun + "/" + id, Rel: "self"},
		{Href: v.base + "/" + noun + "/" + id, Rel: "bookmark"},
	}
}
