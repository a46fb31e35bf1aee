package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// serveWith serves one request on a server that has one route with this handler, and
// returns the log.
func serveWith(t *testing.T, handle func(*Request) error) (*httptest.ResponseRecorder, string) {
	t.Helper()
	var logged strings.Builder
	s := New(Config{
		Store: state.New(), Logger: hclog.New(&hclog.LoggerOptions{Output: &logged, Level: hclog.Debug}), Authenticator: identity.None{},
		Observe: func(string, string) func(int, time.Duration) { return func(int, time.Duration) {} },
	}, []*Route{{Method: "GET", Path: "/x", Action: identity.Public, Handle: handle}}, nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/x", nil))
	return w, logged.String()
}

// TestEveryCodeHasAStatus checks the table from codes to statuses.
func TestEveryCodeHasAStatus(t *testing.T) {
	for code, want := range map[structs.Code]int{
		structs.CodeInvalid: 400, structs.CodeUnauthenticated: 401, structs.CodeForbidden: 403, structs.CodeQuota: 403,
		structs.CodeNotFound: 404, structs.CodeMethod: 405, structs.CodeConflict: 409, structs.CodeGone: 410,
		structs.CodeTooLarge: 413, structs.CodeMedia: 415, structs.CodeRateLimited: 429, structs.CodeInternal: 500,
		structs.CodeNoLeader:    503,
		structs.CodeUnavailable: 503, structs.CodeNoSpace: 507, structs.Code("of a newer version"): 500,
	} {
		w, logged := serveWith(t, func(*Request) error {
			return fmt.Errorf("doing it: %w", structs.Errorf(code, "it is so").About("bay").With(structs.HintChoose))
		})
		var body structs.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != want || body.Errors[0].Detail != "it is so" || body.Errors[0].Code != "bay."+string(code) ||
			body.Errors[0].Hint != structs.HintChoose {
			t.Errorf("%s: status %d, want %d: %s", code, w.Code, want, w.Body)
		}
		if retry := w.Header().Get("Retry-After"); (retry == "1") != (want == 429 || want == 503) {
			t.Errorf("%s: Retry-After %q", code, retry)
		}
		if strings.Contains(logged, "[ERROR]") != (want == 500) {
			t.Errorf("%s: log %q", code, logged)
		}
	}
	if len(statusOf) != 15 {
		t.Errorf("%d codes have a status, the test knows 15", len(statusOf))
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	w, _ := serveWith(t, func(*Request) error {
		err := structs.Errorf(structs.CodeRateLimited, "later")
		err.RetryAfter = 2100 * time.Millisecond
		return err
	})
	if got := w.Header().Get("Retry-After"); got != "3" {
		t.Errorf("Retry-After %q", got)
	}
}

// TestCausesStayInTheLog checks that only the log has the cause of an unexpected error,
// under the request ID that the client gets.
func TestCausesStayInTheLog(t *testing.T) {
	for name, handle := range map[string]func(*Request) error{
		"error": func(*Request) error { return errors.New("the secret cause") },
		"panic": func(*Request) error { panic("the secret cause") },
	} {
		w, logged := serveWith(t, handle)
		id := w.Header().Get("X-Openstack-Request-Id")
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") ||
			!strings.Contains(w.Body.String(), id) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if !strings.Contains(logged, "the secret cause") || !strings.Contains(logged, id) {
			t.Errorf("%s: log %q", name, logged)
		}
	}
}

// TestErrorCutsOffBegunResponse checks that a client notices an error that comes after the
// first bytes of the response.
func TestErrorCutsOffBegunResponse(t *testing.T) {
	for name, handle := range map[string]func(*Request) error{
		"error": func(q *Request) error { q.W.Write([]byte("half")); return errors.New("x") },
		"panic": func(q *Request) error { q.W.Write([]byte("half")); panic("x") },
	} {
		func() {
			defer func() {
				if cause := recover(); cause != http.ErrAbortHandler {
					t.Errorf("%s: panics with %v", name, cause)
				}
			}()
			serveWith(t, handle)
		}()
	}
}

func TestCleanPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/v1": "/v1", "/v1/": "/v1", "/v1/bays": "/bays", "/v1/bays/": "/bays", "/bays": "/bays", "/bays/": "/bays",
		"/v1/bays/x": "/bays/x", "/v1/v1": "/v1", "/v10/bays": "/v10/bays", "": "",
	} {
		if got := cleanPath(path); got != want {
			t.Errorf("%q becomes %q, want %q", path, got, want)
		}
	}
}
