package web

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
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

	scheme    string        // that the client of a trusted proxy used; "" means that of the connection
	writeTime time.Duration // how long a piece of the response may take; 0 means no bound
	unread    func()        // called if a piece takes longer

	mu       sync.Mutex // guards what follows
	extended time.Time  // when the write deadline was last set; at first when the request began
	cut      bool       // nothing may reach the client any more
}

// piece is how many bytes of a response have a write deadline of their own, so that a client
// which reads slowly is served.
const piece = 64 << 10

// extend sets the deadline for the next n bytes of the response. The deadline is that of the
// http.Server until a second after the request began: most responses need no other.
func (w *ResponseWriter) extend(n int) {
	if w.writeTime == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); !w.cut && (n > piece/2 || now.Sub(w.extended) > time.Second) {
		w.extended = now
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.writeTime)) // the writer of a test has no deadlines
	}
}

// cutOff lets nothing reach the client from now on.
func (w *ResponseWriter) cutOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
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
	w.extend(0)
	w.ResponseWriter.WriteHeader(status)
}

// endAudit has the request leave its line in the audit log, if it has not yet.
func (w *ResponseWriter) endAudit() {
	if w.audited != nil {
		leaveLine(w.audited, cmp.Or(w.Status, http.StatusOK))
	}
}

// Write writes a part of the body. It fails if the client reads nothing for the server's write
// time.
func (w *ResponseWriter) Write(b []byte) (int, error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	written := 0
	for {
		part := b[:min(len(b), piece)]
		w.extend(len(part))
		n, err := w.ResponseWriter.Write(part)
		written += n
		if errors.Is(err, os.ErrDeadlineExceeded) && w.unread != nil {
			w.unread()
			w.unread = nil
		}
		if b = b[len(part):]; err != nil || len(b) == 0 {
			return written, err
		}
	}
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
	// A host must get its work, however large its containers' specs are.
	if q.route == nil || q.route.Action != identity.AgentCall {
		if err := q.Use.Grow(e.Buf.Len()); err != nil {
			return err
		}
	}
	SendJSON(q.W, status, e)
	return nil
}

// jsonStream is a response in JSON whose parts are sent while the next ones are encoded. A short
// response is sent as a whole, with its length.
type jsonStream struct {
	q    *Request
	e    *wire.Encoder // the caller writes to it, and frees it
	held int           // bytes that the request has grown by
	sent int           // bytes, 0 while the response has not begun
}

func newJSONStream(q *Request) *jsonStream { return &jsonStream{q: q, e: wire.NewEncoder()} }

// flush sends what was encoded, if that is enough for a part. Errors are those of Grow, and
// of a client that has left.
func (s *jsonStream) flush() error {
	n := s.e.Buf.Len()
	if n < piece/2 {
		return nil
	}
	if n > s.held {
		if err := s.q.Use.Grow(n - s.held); err != nil {
			return err
		}
		s.held = n
	}
	if s.sent == 0 {
		s.q.W.Header().Set("Content-Type", "application/json")
	}
	s.sent += n
	_, err := s.q.W.Write(s.e.Buf.Bytes())
	s.e.Buf.Reset()
	if err != nil {
		panic(http.ErrAbortHandler) // the client has left
	}
	return nil
}

// end sends the rest.
func (s *jsonStream) end() error {
	if s.sent > 0 {
		_, _ = s.q.W.Write(s.e.Buf.Bytes()) // a client that has left needs no answer
		return nil
	}
	if err := s.q.Use.Grow(s.e.Buf.Len()); err != nil {
		return err
	}
	SendJSON(s.q.W, http.StatusOK, s.e)
	return nil
}

// outputPart is about how many bytes of an output are encoded at a time.
const outputPart = 16 << 10

// Output answers with a body whose output is text.
func Output(q *Request, text []byte, body structs.OutputBody) error {
	const begin = `{"output":"`
	e := wire.NewEncoder()
	defer e.Free()
	if err := e.Value(body); err != nil {
		return err
	}
	end, ok := bytes.CutPrefix(e.Buf.Bytes(), []byte(begin))
	if !ok {
		return fmt.Errorf("an output begins with %.20q", e.Buf.Bytes())
	}
	sendText(q, begin, text, string(end))
	return nil
}

// Text answers with text as a JSON string.
func Text(q *Request, text []byte) { sendText(q, `"`, text, `"`) }

// sendText answers with text as a part of a JSON document, between begin and end, which have
// its quotes. A long text is encoded in parts: as a whole, its JSON may be six times as long.
func sendText(q *Request, begin string, text []byte, end string) {
	h := q.W.Header()
	h.Set("Content-Type", "application/json")
	out := append(make([]byte, 0, 2*outputPart), begin...)
	for {
		n := min(len(text), outputPart)
		for cut := n; n < len(text) && n < cut+utf8.UTFMax && !utf8.RuneStart(text[n]); {
			n++ // a character isn't cut in two
		}
		quoted := len(out)
		out = wire.AppendText(out, string(text[:n]))
		out = slices.Delete(out, quoted, quoted+1) // the quotes
		out = out[:len(out)-1]
		if text = text[n:]; len(text) == 0 {
			break
		}
		if _, err := q.W.Write(out); err != nil {
			return // the client has left
		}
		out = out[:0]
	}
	if out = append(out, end...); q.W.Status == 0 {
		h.Set("Content-Length", strconv.Itoa(len(out)))
	}
	_, _ = q.W.Write(out) // a client that has left needs no answer
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
