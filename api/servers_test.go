package api

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// multiClient is a client of several servers, with the number of requests of each.
type multiClient struct {
	*Client
	asked []*atomic.Int32
	urls  []string
}

// newMultiClient returns a client of one server for each handler; nil means a server
// that can't be reached.
func newMultiClient(t *testing.T, handlers ...http.HandlerFunc) *multiClient {
	t.Helper()
	s := new(multiClient)
	for _, h := range handlers {
		n := new(atomic.Int32)
		s.asked = append(s.asked, n)
		if h == nil {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s.urls = append(s.urls, "http://"+l.Addr().String())
			l.Close()
			continue
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			h(w, r)
		}))
		t.Cleanup(srv.Close)
		s.urls = append(s.urls, srv.URL)
	}
	var err error
	if s.Client, err = New(Config{Address: strings.Join(s.urls, ", "), Timeout: time.Minute,
		RetryFor: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantAsked checks the number of requests of each server, and resets it.
func (s *multiClient) wantAsked(t *testing.T, what string, asked ...int32) {
	t.Helper()
	for i, want := range asked {
		if got := s.asked[i].Swap(0); got != want {
			t.Errorf("%s: server %d was asked %d times, want %d", what, i+1, got, want)
		}
	}
}

func healthy(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "7", `{"uuid":"u"}`) }

// respond503 responds with status 503 and a code.
func respond503(code string, unknown bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if unknown {
			w.Header().Set(HeaderOutcome, "unknown")
		}
		answer(w, 503, "", `{"errors":[{"status":503,"code":"`+code+`","detail":"not now"}]}`)
	}
}

// breakConnection reads the request and closes the connection.
func breakConnection(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// A read fails over whatever is wrong with the first server, a write only if it was
// certainly not carried out.
func TestFailoverToNextServer(t *testing.T) {
	read := func(c *Client) error { _, _, err := c.Bays().Get(t.Context(), "b", QueryOptions{}); return err }
	write := func(c *Client) error {
		_, _, err := c.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
		return err
	}
	for name, tt := range map[string]struct {
		first       http.HandlerFunc
		do          func(*Client) error
		code        structs.Code // "" if the second server responds
		asked, then int32        // of the second server, by this call and by the next read
	}{
		"a read, the first is unreachable":                 {nil, read, "", 1, 1},
		"a read, the first breaks off":                     {breakConnection, read, "", 1, 1},
		"a read, the first has no leader":                  {respond503("no_leader", false), read, "", 1, 1},
		"a read, the first is behind":                      {respond503("unavailable", false), read, "", 1, 1},
		"a write, the first is unreachable":                {nil, write, "", 1, 1},
		"a write, the first has no leader":                 {respond503("no_leader", false), write, "", 1, 1},
		"a write that may have been done":                  {respond503("no_leader", true), write, structs.CodeNoLeader, 0, 1},
		"a write that breaks off":                          {breakConnection, write, structs.CodeUnavailable, 0, 1},
		"a write that is done, on a server that is behind": {respond503("unavailable", true), write, structs.CodeUnavailable, 0, 1},
		"a read that is not found": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "", "{}") }, read,
			structs.CodeNotFound, 0, 0},
		"a write that conflicts": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 409, "", "{}") }, write, structs.CodeConflict,
			0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMultiClient(t, tt.first, healthy)
			if err := tt.do(s.Client); structs.CodeOf(err) != tt.code {
				t.Errorf("%v", err)
			}
			if got := s.asked[1].Swap(0); got != tt.asked {
				t.Errorf("the second server was asked %d times, want %d", got, tt.asked)
			}
			s.asked[0].Store(0)
			_ = read(s.Client)
			if tt.then == 1 {
				s.wantAsked(t, "the next call", 0, 1) // the client has left the first server
			}
		})
	}
}

// A create is repeated at the next server with its Idempotency-Key.
func TestCreateFailsOverWithSameKey(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	noting := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			keys = append(keys, r.Header.Get(HeaderIdempotency))
			mu.Unlock()
			h(w, r)
		}
	}
	s := newMultiClient(t, noting(breakConnection), noting(healthy))
	s.conf.RetryFor = 30 * time.Second
	if _, _, err := s.Containers().Create(t.Context(), &structs.ContainerRequest{Image: "i"}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.wantAsked(t, "a create", 1, 1)
	mu.Lock()
	defer mu.Unlock()
	if len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Errorf("the tries carry %q", keys)
	}
}

func TestErrorNamesAllUnreachableServers(t *testing.T) {
	s := newMultiClient(t, nil, nil, nil)
	_, _, err := s.Bays().Get(t.Context(), "b", QueryOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable || !IsUnreachable(err) || !strings.Contains(err.Error(), strings.Join(s.urls, ", ")) {
		t.Errorf("%v does not name all servers", err)
	}
}

// The only server that responds knows why the write fails. Its error is returned,
// not that of an unreachable server that was tried later.
func TestResponseOutranksConnectionErrors(t *testing.T) {
	for name, several := range map[string][]http.HandlerFunc{
		"last": {nil, nil, respond503("no_leader", false)}, "first": {respond503("no_leader", false), nil, nil},
		"between": {nil, respond503("no_leader", false), nil},
	} {
		s := newMultiClient(t, several...)
		_, _, err := s.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
		if structs.CodeOf(err) != structs.CodeNoLeader || IsUnreachable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newMultiClient(t, respond503("no_leader", false), breakConnection, nil)
	_, _, err := s.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable { // the write may have been carried out
		t.Errorf("%v", err)
	}
}

// The reader of an upload can be read once only.
func TestUploadIsNotSentTwice(t *testing.T) {
	s := newMultiClient(t, respond503("no_leader", false), healthy)
	_, err := s.Containers().WriteArchive(t.Context(), "c", "/", strings.NewReader("tar"))
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("%v", err)
	}
	s.wantAsked(t, "an upload", 1, 0)
}

func TestSessionFailsOver(t *testing.T) {
	s := newMultiClient(t, nil, func(w http.ResponseWriter, _ *http.Request) { answer(w, 409, "", "{}") })
	if _, err := s.Containers().Attach(t.Context(), "c", AttachOptions{}); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("%v", err)
	}
	s.wantAsked(t, "a session", 0, 1)
	s = newMultiClient(t, breakConnection, healthy)
	if _, err := s.Containers().Attach(t.Context(), "c", AttachOptions{}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("%v", err)
	}
	s.wantAsked(t, "a session that may have started", 1, 0)
}

func TestSeveralServerAddresses(t *testing.T) {
	c, err := New(Config{Address: "a, https://b:1/v1,::1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"http://a:9511", "https://b:1", "http://[::1]:9511", "http://a:9511"} {
		if got := c.Address(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		c.current.Add(1)
	}
	for _, bad := range []string{"a,", ",a", "a,,b", "a b", "a,ftp://b"} {
		if _, err := New(Config{Address: bad}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
