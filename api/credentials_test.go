package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// fakeCredentials has tokens t1, t2, ... of which the next is given out when one is refused.
type fakeCredentials struct {
	n       atomic.Int32
	last    int32 // token after which there is no other; 0 means there always is one
	err     error // of Token after a refusal
	address string
	asked   atomic.Int32 // for the address
}

func (f *fakeCredentials) Token(_ context.Context, refused string) (string, error) {
	now := f.n.Load() + 1
	if refused == fmt.Sprint("t", now) {
		if f.err != nil {
			return "", f.err
		}
		if now != f.last {
			now = f.n.Add(1) + 1
		}
	}
	return fmt.Sprint("t", now), nil
}

func (f *fakeCredentials) Address(context.Context) (string, error) {
	f.asked.Add(1)
	if f.address == "" {
		return "", errors.New("no endpoint")
	}
	return f.address, nil
}

// accepting serves an empty list of bays to those who have a token, and counts the requests.
func accepting(t *testing.T, tokens string) (url string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if !strings.Contains(tokens, r.Header.Get(HeaderToken)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"bays": []}`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

// TestCredentials: the address is asked for once, and a refused token is replaced once in a
// call.
func TestCredentials(t *testing.T) {
	url, requests := accepting(t, "t2 t3")
	f := &fakeCredentials{address: url + "/v1"}
	c, err := New(Config{Credentials: f})
	if err != nil {
		t.Fatal(err)
	}
	if c.Address() != "" {
		t.Errorf("before the first call the address is %q", c.Address())
	}
	for range 2 {
		if _, _, err := c.Bays().List(t.Context(), QueryOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if requests.Load() != 3 || f.asked.Load() != 1 || c.Address() != url {
		t.Errorf("%d requests, asked for the address %d times, which is %q", requests.Load(), f.asked.Load(), c.Address())
	}
	resp, err := c.stream(t.Context(), call{method: http.MethodGet, path: "/v1/bays"})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestCredentialsRefused: a call ends if the other token is refused as well, if there is no
// other, if the login fails, and if its body can't be sent again.
func TestCredentialsRefused(t *testing.T) {
	url, requests := accepting(t, "none")
	failed := errors.New("the user is disabled")
	upload := call{method: http.MethodPut, path: "/v1/containers/x/archive", upload: strings.NewReader("tar")}
	get := call{method: http.MethodGet, path: "/v1/bays"}
	for _, tt := range []struct {
		name     string
		f        *fakeCredentials
		call     call
		requests int32
		err      error
	}{
		{"another", &fakeCredentials{}, get, 2, nil},
		{"no other", &fakeCredentials{last: 1}, get, 1, nil},
		{"login fails", &fakeCredentials{err: failed}, get, 1, failed},
		{"upload", &fakeCredentials{}, upload, 1, nil},
	} {
		requests.Store(0)
		c, err := New(Config{Address: url, Credentials: tt.f})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.do(t.Context(), tt.call, nil)
		if requests.Load() != tt.requests || tt.f.asked.Load() != 0 {
			t.Errorf("%s: %d requests, want %d", tt.name, requests.Load(), tt.requests)
		}
		if tt.err != nil && !errors.Is(err, tt.err) || tt.err == nil && structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	c, err := New(Config{Credentials: &fakeCredentials{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.do(t.Context(), get, nil); err == nil || err.Error() != "no endpoint" {
		t.Errorf("without an address: %v", err)
	}
}
