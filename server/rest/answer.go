package rest

import (
	"net/http"
	"strconv"

	"github.com/stackforge/magnum/server/rest/wire"
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

// sendJSON writes what the encoder holds as the whole answer.
func sendJSON(w *responseWriter, status int, e *wire.Encoder) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(e.Buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(e.Buf.Bytes()) // a client that has left needs no answer
}

// json answers with v.
func (q *request) json(status int, v any) error {
	e := wire.NewEncoder()
	defer e.Free()
	if err := e.Value(v); err != nil {
		return err
	}
	sendJSON(q.w, status, e)
	return nil
}

// jsonOf answers with v, which is from the state, or fails with err. The state may
// be nil if there is an error.
func (q *request) jsonOf(snap *state.Snapshot, v any, err error) error {
	if snap != nil {
		q.w.index = snap.Index()
	}
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, v)
}

// null answers with the JSON null, as 2015 answered actions.
func (q *request) null() error {
	return q.json(http.StatusOK, nil)
}

// noContent answers 204.
func (q *request) noContent() error {
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}
