package structs

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code is the kind of failure of an Error. The origin of the error chooses it,
// server/rest maps it to an HTTP status, and package api maps it back.
type Code string

// The codes, with their HTTP statuses.
const (
	CodeInvalid         Code = "invalid"            // 400
	CodeUnauthenticated Code = "unauthenticated"    // 401
	CodeForbidden       Code = "forbidden"          // 403
	CodeNotFound        Code = "not_found"          // 404
	CodeMethod          Code = "method_not_allowed" // 405
	CodeConflict        Code = "conflict"           // 409
	CodeGone            Code = "gone"               // 410
	CodeTooLarge        Code = "too_large"          // 413
	CodeMedia           Code = "media_type"         // 415
	CodeQuota           Code = "quota"              // 403
	CodeRateLimited     Code = "rate_limited"       // 429
	CodeInternal        Code = "internal"           // 500
	CodeNoLeader        Code = "no_leader"          // 503
	CodeUnavailable     Code = "unavailable"        // 503
	CodeNoSpace         Code = "no_space"           // 507
)

// Hint refines a Code where a client can suggest what to do. "" means no hint.
type Hint string

// The hints.
const (
	HintUnknown   Hint = "unknown_name" // the request names an object of the error's Kind that doesn't exist
	HintAmbiguous Hint = "ambiguous"    // the request uses a name that several objects have
	HintChoose    Hint = "choose"       // the request has to name one of several objects
	HintRecreate  Hint = "recreate"     // the change needs the object to be deleted and created again
	HintDeleted   Hint = "deleted"      // the host of the agent was deleted: another try gets the same answer
)

// Error is a failure that a user may see.
type Error struct {
	Code       Code
	Kind       string        // the noun that the error is about ("container", "bay"); "" if none
	Hint       Hint          // for clients; "" means no hint
	Msg        string        // for the user: names the field, the refused value and the way out
	Err        error         // the cause, for the log only; may be nil
	RetryAfter time.Duration // when to try again; 0 means the code's default
}

// Error returns the user's message, followed by the cause if there is one.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	cause := e.Err.Error()
	if strings.Contains(e.Msg, cause) { // Errorf wrote the cause into Msg
		return e.Msg
	}
	return e.Msg + ": " + cause
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of the given code with a message for the user. The
// errors among args that the format wraps with %w become the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Msg: err.Error(), Err: errors.Unwrap(err)}
	if _, several := err.(interface{ Unwrap() []error }); several {
		e.Err = err // errors.Unwrap doesn't return several causes
	}
	return e
}

// About sets the noun that the error is about and returns the error.
func (e *Error) About(kind string) *Error {
	e.Kind = kind
	return e
}

// With sets the hint of the error and returns the error.
func (e *Error) With(hint Hint) *Error {
	e.Hint = hint
	return e
}

// CodeOf returns the code of the first Error in err's chain, CodeInternal if
// there is none, and "" for a nil error.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// KindOf returns the noun that the first Error in err's chain is about, "" if none.
func KindOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// ErrorOf converts an item of an answer back into an Error.
func ErrorOf(item ErrorItem) *Error {
	e := &Error{Code: Code(item.Code), Hint: item.Hint, Msg: item.Detail}
	if i := strings.LastIndexByte(item.Code, '.'); i >= 0 {
		e.Kind, e.Code = item.Code[:i], Code(item.Code[i+1:])
	}
	return e
}

// NotFound is the contract's error for an object that does not exist, or that belongs
// to another project: "Bay X could not be found."
func NotFound(kind, ident string) *Error {
	return Errorf(CodeNotFound, "%s %s could not be found.", Title(kind), ident).About(kind).With(HintUnknown)
}

// Ambiguous is the contract's error for a name that several objects have.
func Ambiguous(kind string) *Error {
	err := Errorf(CodeConflict, "Multiple %ss exist with same name. Please use the %s uuid instead.", kind, kind)
	return err.About(kind).With(HintAmbiguous)
}

// Title returns the noun as it is written at the start of a sentence: "bay" becomes
// "Bay", "baymodel" becomes "BayModel".
func Title(kind string) string {
	switch kind {
	case "":
		return ""
	case KindBayModel:
		return "BayModel"
	}
	return string(kind[0]-'a'+'A') + kind[1:]
}

// ErrorBody is the body of every error. It has the form of 2015, whose ErrorMessage
// is itself a JSON text (Fault), and magnum's own.
//
//api:doc A refusal or failure: error_message as in 2015, itself a JSON text (Fault), and errors.
type ErrorBody struct {
	ErrorMessage string      `json:"error_message"`
	Errors       []ErrorItem `json:"errors"`
}

// Fault is what ErrorBody.ErrorMessage holds as JSON text.
//
//api:doc What error_message holds as JSON text.
type Fault struct {
	DebugInfo   *string `json:"debuginfo"`
	FaultCode   string  `json:"faultcode"` // Client or Server
	FaultString string  `json:"faultstring"`
}

// ErrorItem is one error.
type ErrorItem struct {
	//api:doc HTTP status.
	Status int    `json:"status"`
	Code   string `json:"code"` // "container.not_found", or the Code alone
	//api:doc What a client may suggest: unknown_name, ambiguous or choose. Absent if there is nothing to suggest.
	Hint   Hint   `json:"hint,omitempty"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	//api:doc ID of the request, which the server's log has too.
	RequestID string `json:"request_id"`
}
