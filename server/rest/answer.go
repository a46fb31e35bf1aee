package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/stackforge/magnum/server/state"
)

// responseWriter adds the headers that every answer carries.
type responseWriter struct {
	http.ResponseWriter
	store     *state.Store
	requestID string
	index     uint64 // of the state that the answer is from; 0 means the newest when it is written
	status    int    // 0 until the answer has begun
	route     *route // nil until it is found
	parked    bool   // the request waits on purpose, or streams: what it takes says nothing about the server
}

// WriteHeader begins the answer.
func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		if w.index == 0 {
			w.index = w.store.Index()
		}
		h := w.Header()
		h.Set("X-Openstack-Request-Id", w.requestID)
		h.Set("X-Magnum-Index", strconv.FormatUint(w.index, 10))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes a piece of the body.
func (w *responseWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// encoder writes JSON into a buffer that is used again.
type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

// leastRoom is the room that is made for a body: most fit.
const leastRoom = 2 << 10

// maxKept is the largest buffer that is kept for the next answer.
const maxKept = 256 << 10

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
	return e
}}

func newEncoder() *encoder {
	e := encoders.Get().(*encoder)
	e.buf.Reset()
	return e
}

func (e *encoder) free() {
	if e.buf.Cap() <= maxKept {
		encoders.Put(e)
	}
}

// value appends the JSON of v.
func (e *encoder) value(v any) error {
	e.buf.Grow(leastRoom)
	if err := e.json.Encode(v); err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	e.buf.Truncate(e.buf.Len() - 1) // Encode ends with a newline
	return nil
}

// send writes what is in the buffer as the whole answer.
func (e *encoder) send(w *responseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(e.buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(e.buf.Bytes()) // a client that has left needs no answer
}

// json answers with v.
func (q *request) json(status int, v any) error {
	e := newEncoder()
	defer e.free()
	if err := e.value(v); err != nil {
		return err
	}
	e.send(q.w, status)
	return nil
}

// null answers with the JSON null, as 2015 answered actions.
func (q *request) null() error {
	if q.route.zun {
		q.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return q.json(http.StatusOK, nil)
}

// noContent answers 204.
func (q *request) noContent() error {
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}
