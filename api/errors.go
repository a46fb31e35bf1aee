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

// Error is an error response of a server. It wraps a *structs.Error, so
// structs.CodeOf returns its code.
type Error struct {
	Status    int            // HTTP status
	RequestID string         // identifies the request in the server's log; "" if the response had none
	Unknown   bool           // the write may have been carried out
	Err       *structs.Error // never nil
}

// Error returns the server's message.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the *structs.Error.
func (e *Error) Unwrap() error { return e.Err }

// StatusOf returns the HTTP status of err, 0 if no server responded.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Unreachable is in the chain of an error when no server took the connection, or
// when the connection broke before the response. The *structs.Error around it has
// CodeUnavailable.
type Unreachable struct {
	Address string // the server's root URL
	Sent    bool   // the request may have reached the server: its outcome is unknown
	Err     error  // the network error
}

// Error returns the reason and what to do.
func (e *Unreachable) Error() string {
	if e.TLS() {
		return e.Reason()
	}
	return e.Reason() + "; check that a server runs there and that the address is right"
}

// Reason returns a short text of the network error.
func (e *Unreachable) Reason() string { return reason(e.Err) }

// Unwrap returns the network error.
func (e *Unreachable) Unwrap() error { return e.Err }

// TLS reports whether the server was reached but the TLS handshake failed. A retry
// doesn't help then.
func (e *Unreachable) TLS() bool { return tlsReason(e.Err) != "" }

// IsUnreachable reports whether err has an Unreachable in its chain.
func IsUnreachable(err error) bool {
	var e *Unreachable
	return errors.As(err, &e)
}

// reason returns the text of a network error without addresses.
func reason(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	if text := tlsReason(err); text != "" {
		return text
	}
	switch {
	case errors.As(err, &dns):
		return "the host name " + dns.Name + " can't be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer"
	}
	return err.Error()
}

// tlsReason returns why the TLS handshake failed, "" if err has another cause.
// When a handshake fails, no request was sent.
func tlsReason(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "its certificate is not signed by a CA that this side trusts; give the servers' CA with -tls-ca"
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is not for %s but for %s", name.Host, strings.Join(namesOf(name.Certificate), ", "))
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error()
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS; write http:// for a server without TLS"
	}
	return ""
}

// namesOf returns the DNS names and IP addresses of a certificate.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// transportError returns the error of a call without a response: the cause of
// ctx's end, or CodeUnavailable. written says that the server at root may have
// received the request.
func (c *Client) transportError(ctx context.Context, root *url.URL, err error, written bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	dialing := !written && (errors.As(err, &op) && op.Op == "dial" || tlsReason(err) != "")
	msg := "no server reachable at "
	at := root.String()
	if servers := *c.servers.Load(); dialing && len(servers) > 1 { // all others failed before
		var all []string
		for _, s := range servers {
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

// codeOfStatus maps the status of a response without a known code.
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

// knownCodes are the codes that a response may carry.
var knownCodes = map[structs.Code]bool{
	structs.CodeInvalid: true, structs.CodeUnauthenticated: true, structs.CodeForbidden: true,
	structs.CodeNotFound: true, structs.CodeMethod: true, structs.CodeConflict: true, structs.CodeGone: true,
	structs.CodeTooLarge: true, structs.CodeMedia: true, structs.CodeQuota: true, structs.CodeRateLimited: true,
	structs.CodeInternal: true, structs.CodeNoLeader: true, structs.CodeUnavailable: true, structs.CodeNoSpace: true,
}

// maxErrorBody bounds the bytes of an error's body that are read.
const maxErrorBody = 64 << 10

// decodeError returns the error of a response without success. It doesn't close
// the body.
func decodeError(resp *http.Response) *Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // the status is enough if reading fails
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
	_ = json.Unmarshal(body, &decoded) // a body of another server has its text and status
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
		e.Err.Msg = "the server speaks TLS: write https://, and give its CA with -tls-ca"
	}
	if e.Err.Msg == "" {
		e.Err.Msg = strings.ToLower(http.StatusText(resp.StatusCode))
		if text := strings.TrimSpace(string(body)); text != "" && decoded.ErrorMessage == nil && len(text) <= 300 {
			e.Err.Msg += ": " + text
		}
		if resp.StatusCode/100 == 3 {
			e.Err.Msg = "the server redirects to " + strconv.Quote(resp.Header.Get("Location")) +
				", which a magnum server never does: check the address"
		}
	}
	return e
}

// faultText returns the message of the 2015 API's error_message: JSON text inside
// a JSON string, an object, or plain text.
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

// retryAfter returns the Retry-After header, at most an hour; 0 if it is missing
// or not a number of seconds.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
