package web

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
)

// ResponseWriter adds the headers that every response has.
type ResponseWriter struct {
	http.ResponseWriter
	store     *state.Store
	RequestID string
	Index     uint64   // index of the state that the response is from; 0 means this server's when the response begins
	Status    int      // 0 until the response has begun
	route     *Route   // nil until the route is found
	audited   *Request // leaves a line in the audit log before the response begins; nil if it is written, or there is no log
	Parked    bool     // the request waits on purpose, or streams: its duration says nothing about the server
}

// WriteHeader begins the response.
func (w *ResponseWriter) WriteHeader(status int) {
	if w.Status == 0 {
		w.Status = status
		w.endAudit()
		if w.Index == 0 {
			w.Index = w.store.Index()
		}
		h := w.Header()
		h.Set("X-Openstack-Request-Id", w.RequestID)
		h.Set("X-Magnum-Index", strconv.FormatUint(w.Index, 10))
	}
	w.ResponseWriter.WriteHeader(status)
}

// endAudit has the request leave its line in the audit log, if it has not yet.
func (w *ResponseWriter) endAudit() {
	if w.audited != nil {
		w.audited.leaveLine(cmp.Or(w.Status, http.StatusOK))
	}
}

// Write writes a piece of the body.
func (w *ResponseWriter) Write(b []byte) (int, error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *ResponseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SendJSON writes the content of the encoder as the whole response.
func SendJSON(w *ResponseWriter, status int, e *wire.Encoder) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(e.Buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(e.Buf.Bytes()) // a client that has left needs no answer
}

// JSON answers with v.
func (q *Request) JSON(status int, v any) error {
	e := wire.NewEncoder()
	defer e.Free()
	if err := e.Value(v); err != nil {
		return err
	}
	SendJSON(q.W, status, e)
	return nil
}

// JSONOf answers with v, which is from the state snap, or fails with err. snap may be
// nil if there is an error.
func (q *Request) JSONOf(snap *state.Snapshot, v any, err error) error {
	if snap != nil {
		q.W.Index = snap.Index()
	}
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, v)
}

// Null answers with the JSON null, as 2015 answered actions.
func (q *Request) Null() error {
	return q.JSON(http.StatusOK, nil)
}

// NoContent answers 204.
func (q *Request) NoContent() error {
	q.W.WriteHeader(http.StatusNoContent)
	return nil
}
