package rest

import (
	"errors"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// request is one HTTP request on its way through a handler.
type request struct {
	*Server
	route  *route
	who    structs.Caller // the zero Caller, who may do nothing, where nobody is asked for
	w      *responseWriter
	r      *http.Request
	params httprouter.Params
	query  wire.Query

	incoming  *incoming // the body on its way in, nil if there is none
	raw       []byte    // the body, once it is read
	forwarded bool      // another server has handed it on
	asOf      uint64    // index of a state that the first server had when the request came; of writes
	seeded    string    // see seed
	caughtUp  bool      // the leader was asked how far this server has to be
	stale     bool      // and this server could not come so far
}

// caller returns on whose behalf the request is made.
func (q *request) caller() structs.Caller { return q.who }

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
		err = q.checkStillAllowed()
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

// once reads the Idempotency-Key of a POST with the given body. One that has none
// gets one where there are several servers: they try again if leadership is lost,
// and what somebody has deleted in between must not come back. A server that is
// alone loses it to its disk only, and each create would write a second row.
func (q *request) once(body []byte) (conductor.Once, error) {
	key, minted := q.r.Header.Get("Idempotency-Key"), false
	if key == "" && (q.Peers == nil || !q.forwarded && q.Cluster.Alone()) {
		return conductor.Once{}, nil
	}
	if key == "" {
		key, minted = "request/"+structs.DeriveID(q.seed()), true
	}
	if utf8.RuneCountInString(key) > structs.MaxIdempotency {
		return conductor.Once{}, structs.Errorf(structs.CodeInvalid, "Idempotency-Key: %d characters are more than %d.", utf8.RuneCountInString(key), structs.MaxIdempotency)
	}
	if err := structs.CheckLine("Idempotency-Key", key, 4*structs.MaxIdempotency); err != nil {
		return conductor.Once{}, err
	}
	said := q.r.Method + "\n" + cleanPath(q.r.URL.EscapedPath()) + "\n" + q.r.URL.RawQuery + "\n" + string(body)
	return conductor.Once{Key: key, Minted: minted, BodyHash: structs.HashSecret(said)}, nil
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
