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

// several is a client of a few servers, and how often each was asked.
type several struct {
	*Client
	asked []*atomic.Int32
	urls  []string
}

// newSeveral makes a client of servers with the handlers; nil is one that is not
// there.
func newSeveral(t *testing.T, handlers ...http.HandlerFunc) *several {
	t.Helper()
	s := new(several)
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
	if s.Client, err = New(Config{Address: strings.Join(s.urls, ", "), Timeout: 5 * time.Second, RetryFor: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *several) is(t *testing.T, what string, asked ...int32) {
	t.Helper()
	for i, want := range asked {
		if got := s.asked[i].Swap(0); got != want {
			t.Errorf("%s: server %d was asked %d times, want %d", what, i+1, got, want)
		}
	}
}

func well(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "7", `{"uuid":"u"}`) }

// refuses answers 503 with a code.
func refuses(code string, unknown bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if unknown {
			w.Header().Set(HeaderOutcome, "unknown")
		}
		answer(w, 503, "", `{"errors":[{"status":503,"code":"`+code+`","detail":"not now"}]}`)
	}
}

// breaks takes the request and closes the connection.
func breaks(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// TestNextServerIsAsked: a read goes to the next server whatever is wrong with
// the first; a write only if it was certainly not carried out.
func TestNextServerIsAsked(t *testing.T) {
	read := func(c *Client) error { _, _, err := c.Bays().Get(t.Context(), "b", QueryOptions{}); return err }
	write := func(c *Client) error {
		_, _, err := c.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
		return err
	}
	for name, tt := range map[string]struct {
		first       http.HandlerFunc
		do          func(*Client) error
		code        structs.Code // "" if the second one answers
		asked, then int32        // of the second server, by this call and by the next read
	}{
		"a read, the first is not there":      {nil, read, "", 1, 1},
		"a read, the first breaks off":        {breaks, read, "", 1, 1},
		"a read, the first has no leader":     {refuses("no_leader", false), read, "", 1, 1},
		"a read, the first is behind":         {refuses("unavailable", false), read, "", 1, 1},
		"a write, the first is not there":     {nil, write, "", 1, 1},
		"a write, the first has no leader":    {refuses("no_leader", false), write, "", 1, 1},
		"a write that may have been done":     {refuses("no_leader", true), write, structs.CodeNoLeader, 0, 1},
		"a write that breaks off":             {breaks, write, structs.CodeUnavailable, 0, 1},
		"a write that is done and not shown":  {refuses("unavailable", true), write, structs.CodeUnavailable, 0, 1},
		"a refusal that every server gives":   {func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "", "{}") }, read, structs.CodeNotFound, 0, 0},
		"a write that is refused for its own": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 409, "", "{}") }, write, structs.CodeConflict, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeveral(t, tt.first, well)
			if err := tt.do(s.Client); structs.CodeOf(err) != tt.code {
				t.Errorf("%v", err)
			}
			if got := s.asked[1].Swap(0); got != tt.asked {
				t.Errorf("the second server was asked %d times, want %d", got, tt.asked)
			}
			s.asked[0].Store(0)
			_ = read(s.Client)
			if tt.then == 1 {
				s.is(t, "the next call", 0, 1) // what has failed is left
			}
		})
	}
}

// TestCreateIsRepeatedElsewhere: with its key, at the next server.
func TestCreateIsRepeatedElsewhere(t *testing.T) {
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
	s := newSeveral(t, noting(breaks), noting(well))
	s.conf.RetryFor = 5 * time.Second
	if _, _, err := s.Containers().Create(t.Context(), &structs.ContainerRequest{Image: "i"}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.is(t, "a create", 1, 1)
	mu.Lock()
	defer mu.Unlock()
	if len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Errorf("the tries carry %q", keys)
	}
}

func TestAllServersAreGone(t *testing.T) {
	s := newSeveral(t, nil, nil, nil)
	_, _, err := s.Bays().Get(t.Context(), "b", QueryOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable || !IsUnreachable(err) || !strings.Contains(err.Error(), strings.Join(s.urls, ", ")) {
		t.Errorf("%v does not name them all", err)
	}
}

// TestAnswerCountsMoreThanSilence: the one server that is left says why nothing
// can be done, and others are asked after it in vain.
func TestAnswerCountsMoreThanSilence(t *testing.T) {
	for name, several := range map[string][]http.HandlerFunc{
		"last": {nil, nil, refuses("no_leader", false)}, "first": {refuses("no_leader", false), nil, nil}, "between": {nil, refuses("no_leader", false), nil},
	} {
		s := newSeveral(t, several...)
		_, _, err := s.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
		if structs.CodeOf(err) != structs.CodeNoLeader || IsUnreachable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newSeveral(t, refuses("no_leader", false), breaks, nil)
	_, _, err := s.Bays().Update(t.Context(), "b", []structs.PatchOp{{Op: "replace", Path: "/name", Value: "x"}}, WriteOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable { // it may have been done
		t.Errorf("%v", err)
	}
}

// TestUploadIsNotSentTwice: its reader is read once.
func TestUploadIsNotSentTwice(t *testing.T) {
	s := newSeveral(t, refuses("no_leader", false), well)
	_, err := s.Containers().WriteArchive(t.Context(), "c", "/", strings.NewReader("tar"))
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("%v", err)
	}
	s.is(t, "an upload", 1, 0)
}

func TestSessionGoesToAServerThatIsThere(t *testing.T) {
	s := newSeveral(t, nil, func(w http.ResponseWriter, _ *http.Request) { answer(w, 409, "", "{}") })
	if _, err := s.Containers().Attach(t.Context(), "c", AttachOptions{}); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("%v", err)
	}
	s.is(t, "a session", 0, 1)
	s = newSeveral(t, breaks, well)
	if _, err := s.Containers().Attach(t.Context(), "c", AttachOptions{}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("%v", err)
	}
	s.is(t, "a session that may have begun", 1, 0)
}

func TestAddressesOfServers(t *testing.T) {
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
