package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Error is a refusal or failure that a server answered. It wraps a
// *structs.Error, so structs.CodeOf tells its code.
type Error struct {
	Status    int            // HTTP status
	RequestID string         // of the server's log; "" if the answer had none
	Unknown   bool           // the write may have been carried out
	Err       *structs.Error // never nil
}

// Error returns the server's message.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the *structs.Error.
func (e *Error) Unwrap() error { return e.Err }

// StatusOf returns the HTTP status that err came with, 0 if no server answered.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Unreachable is in the chain of an error that says that no server took the
// connection or that it broke before the answer. The *structs.Error around it
// has CodeUnavailable.
type Unreachable struct {
	Address string // the server's root URL
	Sent    bool   // the request may have reached the server: its outcome is unknown
	Err     error  // what the network said
}

// Error says what the network said, in short, and what to do.
func (e *Unreachable) Error() string {
	if e.TLS() {
		return e.Reason()
	}
	return e.Reason() + "; check that a server runs there and that the address is right"
}

// Reason says what the network said, in short.
func (e *Unreachable) Reason() string { return reason(e.Err) }

// Unwrap returns what the network said.
func (e *Unreachable) Unwrap() error { return e.Err }

// TLS reports whether a server is there, but the two sides could not agree on
// TLS: another try is no use.
func (e *Unreachable) TLS() bool { return tlsReason(e.Err) != "" }

// IsUnreachable reports whether err says that no server could be reached.
func IsUnreachable(err error) bool {
	var e *Unreachable
	return errors.As(err, &e)
}

// reason is a network error without the addresses that wrap it.
func reason(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	if text := tlsReason(err); text != "" {
		return text
	}
	switch {
	case errors.As(err, &dns):
		return "the name " + dns.Name + " can't be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer"
	}
	return err.Error()
}

// tlsReason says why the two sides could not agree on TLS, "" if that is not
// what is wrong. Then nothing has been sent.
func tlsReason(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "its certificate is not signed by a CA that this side trusts; -tls-ca names the CA of the servers"
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is not for %s but for %s", name.Host, strings.Join(namesOf(name.Certificate), ", "))
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error()
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS; write http:// for a server without it"
	}
	return ""
}

// namesOf are the names that a certificate is for.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// transportError makes the error of a call of the server at root that got no
// answer. written says that a server may have read it. The caller's own
// cancellation stays what it is.
func (c *Client) transportError(ctx context.Context, root *url.URL, err error, written bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	dialing := !written && (errors.As(err, &op) && op.Op == "dial" || tlsReason(err) != "")
	msg := "no server reachable at "
	at := root.String()
	if dialing && len(c.servers) > 1 { // it is the last of them that failed
		var all []string
		for _, s := range c.servers {
			all = append(all, s.String())
		}
		at = strings.Join(all, ", ")
	}
	if !dialing {
		msg = "no answer from the server at "
	}
	return &structs.Error{
		Code: structs.CodeUnavailable,
		Msg:  msg + at,
		Err:  &Unreachable{Address: root.String(), Sent: !dialing, Err: err},
	}
}

// codeOfStatus is the code of an answer that carries none of ours.
var codeOfStatus = map[int]structs.Code{
	http.StatusBadRequest:            structs.CodeInvalid,
	http.StatusUnauthorized:          structs.CodeUnauthenticated,
	http.StatusForbidden:             structs.CodeForbidden,
	http.StatusNotFound:              structs.CodeNotFound,
	http.StatusMethodNotAllowed:      structs.CodeMethod,
	http.StatusConflict:              structs.CodeConflict,
	http.StatusGone:                  structs.CodeGone,
	http.StatusRequestEntityTooLarge: structs.CodeTooLarge,
	http.StatusUnsupportedMediaType:  structs.CodeMedia,
	http.StatusTooManyRequests:       structs.CodeRateLimited,
	http.StatusBadGateway:            structs.CodeUnavailable,
	http.StatusServiceUnavailable:    structs.CodeUnavailable,
	http.StatusGatewayTimeout:        structs.CodeUnavailable,
	http.StatusInsufficientStorage:   structs.CodeNoSpace,
}

// knownCodes are the codes that an answer may name.
var knownCodes = map[structs.Code]bool{
	structs.CodeInvalid: true, structs.CodeUnauthenticated: true, structs.CodeForbidden: true,
	structs.CodeNotFound: true, structs.CodeMethod: true, structs.CodeConflict: true, structs.CodeGone: true,
	structs.CodeTooLarge: true, structs.CodeMedia: true, structs.CodeQuota: true, structs.CodeRateLimited: true, structs.CodeInternal: true,
	structs.CodeNoLeader: true, structs.CodeUnavailable: true, structs.CodeNoSpace: true,
}

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 64 << 10

// decodeError reads an answer that is no success. It closes nothing.
func decodeError(resp *http.Response) *Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // a cut body still has its status
	e := &Error{
		Status:    resp.StatusCode,
		RequestID: resp.Header.Get(HeaderRequestID),
		Unknown:   resp.Header.Get(HeaderOutcome) == "unknown",
		Err:       &structs.Error{Code: codeOfStatus[resp.StatusCode], RetryAfter: retryAfter(resp)},
	}
	var decoded struct {
		ErrorMessage json.RawMessage     `json:"error_message"`
		Errors       []structs.ErrorItem `json:"errors"`
	}
	_ = json.Unmarshal(body, &decoded) // an answer that isn't ours has its text and status
	if len(decoded.Errors) > 0 {
		item := decoded.Errors[0]
		kind, code := "", item.Code
		if i := strings.LastIndexByte(code, '.'); i >= 0 {
			kind, code = code[:i], code[i+1:]
		}
		if knownCodes[structs.Code(code)] {
			e.Err.Code, e.Err.Kind = structs.Code(code), kind
		}
		if e.RequestID == "" {
			e.RequestID = item.RequestID
		}
		e.Err.Hint = item.Hint
		e.Err.Msg = item.Detail
		if e.Err.Msg == "" {
			e.Err.Msg = item.Title
		}
	}
	if e.Err.Msg == "" {
		e.Err.Msg = faultText(decoded.ErrorMessage)
	}
	if e.Err.Code == "" {
		e.Err.Code = structs.CodeInternal
	}
	if e.Err.Msg == "" && strings.Contains(string(body), "HTTP request to an HTTPS server") {
		e.Err.Msg = "the server speaks TLS, and was not asked with it: write https://, and name its CA with -tls-ca"
	}
	if e.Err.Msg == "" {
		e.Err.Msg = strings.ToLower(http.StatusText(resp.StatusCode))
		if text := strings.TrimSpace(string(body)); text != "" && decoded.ErrorMessage == nil && len(text) <= 300 {
			e.Err.Msg += ": " + text
		}
		if resp.StatusCode/100 == 3 {
			e.Err.Msg = "the server redirects to " + strconv.Quote(resp.Header.Get("Location")) + ", which a magnum server never does: check the address"
		}
	}
	return e
}

// faultText returns the message of 2015's error_message: a JSON text inside a
// JSON string, an object, or plain text.
func faultText(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	text := string(raw)
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		text = inner
	}
	var fault structs.Fault
	if json.Unmarshal([]byte(text), &fault) == nil && fault.FaultString != "" {
		return fault.FaultString
	}
	return inner
}

// retryAfter reads the seconds of a Retry-After header; 0 if there are none.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
