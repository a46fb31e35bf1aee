package peer

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// forwarding returns a client that knows every server by this one root URL, "" for none.
func forwarding(root string) *Client {
	return New(Config{URLs: func(string) []string { return roots(root) }, Secret: func() string { return "peer-secret" }})
}

func roots(root string) []string {
	if root == "" {
		return nil
	}
	return []string{root}
}

// forgedHeaders returns a user's request with the headers of a forwarded request, which a
// user must not set.
func forgedHeaders() Forwarded {
	r := httptest.NewRequest(http.MethodPost, "http://front/v1/nodes?wait=1s", nil)
	r.Header.Set("Connection", "keep-alive")
	r.Header.Set("X-Auth-Token", "token")
	r.Header.Set(HeaderPeer, "guessed")
	r.Header.Set(HeaderSeed, "chosen")
	r.Header.Set(HeaderAsked, "chosen")
	r.Header.Set(HeaderRetryAfterUnknown, "true")
	r.Header.Set(HeaderCaller, "forged")
	return Forwarded{Request: r, Body: []byte(`{"type":"a"}`), Seed: "seed", ID: "req-1"}
}

func TestForwardKeepsRequestAndReplacesPeerHeaders(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for header, want := range map[string]string{
			"X-Auth-Token": "token", HeaderPeer: "peer-secret", HeaderSeed: "seed", HeaderAsked: "req-1",
			HeaderRetryAfterUnknown: "", HeaderCaller: "", "Connection": "",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s is %q, want %q", header, got, want)
			}
		}
		if r.Method != http.MethodPost || r.URL.String() != "/v1/nodes?wait=1s" || r.Host != "front" || string(body) != `{"type":"a"}` {
			t.Errorf("%s %s of %s: %s", r.Method, r.URL, r.Host, body)
		}
		w.Header().Set(HeaderIndex, "7")
		_, _ = io.WriteString(w, "result") // the client's result shows an error
	}))
	defer web.Close()
	c := forwarding(web.URL)
	defer c.Close()
	if result, index, err := c.Forward(t.Context(), "leader", forgedHeaders()); string(result) != "result" || index != 7 || err != nil {
		t.Errorf("%q at %d: %v", result, index, err)
	}
}

func TestForwardErrorsTellUnknownOutcome(t *testing.T) {
	answer := func(f http.HandlerFunc) string {
		web := httptest.NewServer(f)
		t.Cleanup(web.Close)
		return web.URL
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, tc := range map[string]struct {
		root    string
		code    structs.Code
		unknown bool
	}{
		"unknown":   {"", structs.CodeNoLeader, false},
		"closed":    {"http://" + closed.Addr().String(), structs.CodeNoLeader, false},
		"hangs up":  {answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), structs.CodeNoLeader, true},
		"no index":  {answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }), structs.CodeNoLeader, true},
		"no magnum": {answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }), structs.CodeUnavailable, false},
		"says unknown": {answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(HeaderOutcome, OutcomeUnknown)
			w.WriteHeader(503)
		}), structs.CodeNoLeader, true},
	} {
		c := forwarding(tc.root)
		_, _, err := c.Forward(t.Context(), "leader", forgedHeaders())
		if structs.CodeOf(err) != tc.code || errors.Is(err, ErrUnknown) != tc.unknown {
			t.Errorf("%s: unknown %v, %v", name, errors.Is(err, ErrUnknown), err)
		}
		c.Close()
	}
	if _, _, err := forwarding("").Forward(t.Context(), "s7", forgedHeaders()); err == nil || !strings.Contains(err.Error(), "s7") {
		t.Errorf("the error does not name the server: %v", err)
	}
}

// TestForwardOutcomeIsUnknownAfterWrite: net/http repeats a request with an
// Idempotency-Key and no body if a reused connection breaks. If the leader accepts no
// other connection, the first attempt may still have been carried out.
func TestForwardOutcomeIsUnknownAfterWrite(t *testing.T) {
	var web *httptest.Server
	web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			web.Listener.Close()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set(HeaderIndex, "7")
	}))
	defer web.Close()
	c := forwarding(web.URL)
	defer c.Close()
	if _, _, err := c.Forward(t.Context(), "leader", forgedHeaders()); err != nil {
		t.Fatal(err)
	}
	f := forgedHeaders()
	f.Request.Method, f.Body = http.MethodDelete, nil
	f.Request.Header.Set("Idempotency-Key", "k")
	if _, _, err := c.Forward(t.Context(), "leader", f); structs.CodeOf(err) != structs.CodeNoLeader || !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown %v, %v", errors.Is(err, ErrUnknown), err)
	}
}

// TestForwardWaitsForPreparation: a leader that needs longer for a request gets that time.
func TestForwardWaitsForPreparation(t *testing.T) {
	asked := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-asked: // the first request has ended
			w.Header().Set(HeaderIndex, "7")
		case <-r.Context().Done():
		}
	}))
	defer web.Close()
	c := New(Config{URLs: func(string) []string { return roots(web.URL) }, Secret: func() string { return "s" },
		Patience: time.Millisecond})
	defer c.Close()
	if _, _, err := c.Forward(t.Context(), "leader", forgedHeaders()); !errors.Is(err, ErrUnknown) {
		t.Errorf("without the time: %v", err)
	}
	close(asked)
	f := forgedHeaders()
	f.Preparation = time.Minute
	if _, index, err := c.Forward(t.Context(), "leader", f); err != nil || index != 7 {
		t.Errorf("with the time: index %d, %v", index, err)
	}
}

// TestForwardEndsAfterPatience: packets of the leader's REST API may be lost on open
// connections while its Raft traffic arrives.
func TestForwardEndsAfterPatience(t *testing.T) {
	hold := make(chan struct{})
	var headers atomic.Bool
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(HeaderAsked) == "first" {
			w.Header().Set(HeaderIndex, "7")
			return
		}
		if headers.Load() {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // the client's result shows an error
		}
		<-hold
	}))
	defer silent.Close()
	defer close(hold)
	c := New(Config{
		URLs: func(string) []string { return roots(silent.URL) }, Secret: func() string { return "s" },
		Patience: 200 * time.Millisecond,
	})
	defer c.Close()
	f := forgedHeaders()
	f.ID = "first"               // its answer leaves the connection open
	for began := time.Now(); ; { // a busy machine may take longer than the patience
		_, _, err := c.Forward(t.Context(), "leader", f)
		if err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal(err)
		}
	}
	for _, sent := range []bool{true, false} {
		headers.Store(sent)
		began := time.Now()
		_, _, err := c.Forward(t.Context(), "leader", forgedHeaders())
		if structs.CodeOf(err) != structs.CodeNoLeader || !errors.Is(err, ErrUnknown) || time.Since(began) < 200*time.Millisecond {
			t.Errorf("headers %v: unknown %v after %v, %v", sent, errors.Is(err, ErrUnknown), time.Since(began), err)
		}
	}
}

// TestFailedRelayWritesNothing: the server that received the request answers it itself,
// with an error of the API.
func TestFailedRelayWritesNothing(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	hangsUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer hangsUp.Close()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }))
	defer answers.Close()
	for name, tc := range map[string]struct {
		root    string
		code    structs.Code
		unknown bool
	}{
		"unknown":  {"", structs.CodeNotFound, false},
		"closed":   {"http://" + closed.Addr().String(), structs.CodeUnavailable, false},
		"hangs up": {hangsUp.URL, structs.CodeUnavailable, true},
		"answers":  {answers.URL, "", false},
	} {
		c := forwarding(tc.root)
		w := httptest.NewRecorder()
		err := c.Relay(w, httptest.NewRequest(http.MethodPut, "http://front/v1/operator/snapshot", strings.NewReader("abc")), "s7")
		if structs.CodeOf(err) != tc.code || errors.Is(err, ErrUnknown) != tc.unknown ||
			err != nil && !strings.Contains(err.Error(), "s7") {
			t.Errorf("%s: unknown %v, %v", name, errors.Is(err, ErrUnknown), err)
		}
		if err == nil && w.Code != 418 || err != nil && w.Body.Len() > 0 {
			t.Errorf("%s: answered %d, %q", name, w.Code, w.Body)
		}
		c.Close()
	}
}
