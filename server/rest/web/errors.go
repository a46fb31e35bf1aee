package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// statusOf maps error codes to HTTP statuses. It is the only such table.
var statusOf = map[structs.Code]int{
	structs.CodeInvalid:         http.StatusBadRequest,
	structs.CodeUnauthenticated: http.StatusUnauthorized,
	structs.CodeForbidden:       http.StatusForbidden,
	structs.CodeQuota:           http.StatusForbidden,
	structs.CodeNotFound:        http.StatusNotFound,
	structs.CodeMethod:          http.StatusMethodNotAllowed,
	structs.CodeConflict:        http.StatusConflict,
	structs.CodeGone:            http.StatusGone,
	structs.CodeTooLarge:        http.StatusRequestEntityTooLarge,
	structs.CodeMedia:           http.StatusUnsupportedMediaType,
	structs.CodeRateLimited:     http.StatusTooManyRequests,
	structs.CodeInternal:        http.StatusInternalServerError,
	structs.CodeNoLeader:        http.StatusServiceUnavailable,
	structs.CodeUnavailable:     http.StatusServiceUnavailable,
	structs.CodeNoSpace:         http.StatusInsufficientStorage,
}

// fail answers with the error. It also logs an error that isn't the client's.
func (q *Request) fail(err error) {
	err = q.Call.QualifyError(err)
	var known *structs.Error
	if !errors.As(err, &known) {
		known = service.ErrUnexpected
	}
	if statusOf[known.Code] == http.StatusInternalServerError || statusOf[known.Code] == 0 {
		q.server.config.Logger.Error("request failed", "request_id", q.W.RequestID, "method", q.R.Method, "path", q.R.URL.Path,
			"error", err)
	}
	if q.W.Status != 0 {
		// The response has begun: cut it off, so that no client takes it for complete.
		panic(http.ErrAbortHandler)
	}
	q.audit.code, q.audit.unknown = known.Code, service.IsUnknown(err) || errors.Is(err, peer.ErrUnknown)
	if known.Code == structs.CodeUnauthenticated {
		q.W.Header().Set("WWW-Authenticate", q.challenge())
	}
	q.discardBody()
	if q.audit.unknown {
		q.W.Header().Set(peer.HeaderOutcome, peer.OutcomeUnknown)
	}
	writeError(q.W, known)
}

// challenge returns the WWW-Authenticate header: it asks for a host secret, or for a
// token, and names who gives tokens out.
func (q *Request) challenge() string {
	if q.route.Action == identity.AgentCall || q.route.Action == identity.AgentRegister {
		return `Bearer realm="magnum"`
	}
	return `Keystone uri="` + q.server.config.AuthURI + `"`
}

// writeError answers with an error in two forms. In that of 2015 error_message is a JSON
// text in a JSON string, which is the only form from which that client reads the
// message. The other form is the list errors.
func writeError(w *ResponseWriter, e *structs.Error) {
	status, body := ErrorBody(w, e)
	enc := wire.NewEncoder()
	defer enc.Free()
	if err := enc.Value(body); err != nil {
		panic(err) // strings always encode
	}
	SendJSON(w, status, enc)
}

// ErrorBody returns the status and body that writeError writes, and sets the headers
// that belong to them.
func ErrorBody(w *ResponseWriter, e *structs.Error) (int, structs.ErrorBody) {
	status, ok := statusOf[e.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	msg := e.Msg
	if e == service.ErrUnexpected {
		msg = fmt.Sprintf("%s %s.", msg, w.RequestID)
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(e.RetryAfter))
	}
	code := string(e.Code)
	if e.Kind != "" {
		code = e.Kind + "." + code
	}
	fault := structs.Fault{FaultCode: "Client", FaultString: msg}
	if status >= http.StatusInternalServerError {
		fault.FaultCode = "Server"
	}
	text, err := json.Marshal(fault)
	if err != nil {
		panic(err) // strings always encode
	}
	return status, structs.ErrorBody{
		ErrorMessage: string(text),
		Errors: []structs.ErrorItem{{
			Status: status, Code: code, Hint: e.Hint, Title: http.StatusText(status), Detail: msg, RequestID: w.RequestID,
		}},
	}
}

// retryAfter formats a pause in whole seconds, at least 1.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}
