package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// fake is a registry with one image it:1, in a list, for user me with password pw.
type fake struct {
	*httptest.Server
	blobs         map[string][]byte
	list, one, id string
	bearer        bool
}

func newFake(t *testing.T, bearer bool) *fake {
	f := &fake{blobs: make(map[string][]byte), bearer: bearer}
	put := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		f.blobs[digestOf(b)] = b
		return digestOf(b)
	}
	f.id = put(map[string]any{"os": "linux", "rootfs": "x"})
	f.one = put(map[string]any{"config": map[string]any{"digest": f.id}})
	f.list = put(map[string]any{"manifests": []any{map[string]any{"digest": f.one,
		"platform": map[string]any{"os": "linux", "architecture": "amd64"}}}})
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	user, pass, _ := r.BasicAuth()
	known := user == "me" && pass == "pw"
	if r.URL.Path == "/token" {
		if !known || r.URL.Query().Get("scope") != "repository:it:pull" || r.URL.Query().Get("service") != "reg" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"token":"t1"}`)
		return
	}
	if f.bearer && r.Header.Get("Authorization") != "Bearer t1" {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="reg",scope="repository:it:pull"`, f.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !f.bearer && !known {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if name == "1" {
		name = f.list
	}
	b, ok := f.blobs[name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

func TestResolve(t *testing.T) {
	me, wrong := &structs.Registry{Username: "me", Password: "pw"}, &structs.Registry{Username: "me", Password: "no"}
	for _, bearer := range []bool{false, true} {
		f := newFake(t, bearer)
		host := strings.TrimPrefix(f.URL, "http://")
		c := &Client{Rules: Rules{Allow: []string{host}}}
		for _, ref := range []string{"/it:1", "/it@" + f.list, "/it@" + f.one} {
			img, err := c.Resolve(t.Context(), host+ref, me)
			if err != nil || !img.Is(f.id) || img.Is("sha256:x") || img.Is("") {
				t.Errorf("%s: %+v, %v", ref, img, err)
			}
			for _, creds := range []*structs.Registry{nil, wrong} {
				if _, err := c.Resolve(t.Context(), host+ref, creds); !errors.Is(err, ErrRefused) {
					t.Errorf("%s with %+v gives %v", ref, creds, err)
				}
			}
		}
		if _, err := c.Resolve(t.Context(), host+"/it:2", me); !errors.Is(err, ErrNone) {
			t.Errorf("a missing tag gives %v", err)
		}
		if _, err := (&Client{}).Resolve(t.Context(), host+"/it:1", me); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("a registry on loopback gives %v", err)
		}
		f.Close()
		if _, err := c.Resolve(t.Context(), host+"/it:1", me); !errors.Is(err, ErrSilent) {
			t.Errorf("a registry that is away gives %v", err)
		}
	}
}

// TestResolveProvesPossession: a registry that names somebody else's image without having it
// proves nothing.
func TestResolveProvesPossession(t *testing.T) {
	f := newFake(t, false)
	host, me := strings.TrimPrefix(f.URL, "http://"), &structs.Registry{Username: "me", Password: "pw"}
	c := &Client{Rules: Rules{Open: true}}
	own := f.blobs[f.id]
	delete(f.blobs, f.id)
	if _, err := c.Resolve(t.Context(), host+"/it:1", me); !errors.Is(err, ErrNone) {
		t.Errorf("without the configuration: %v", err)
	}
	f.blobs[f.id] = append([]byte(" "), own...)
	if _, err := c.Resolve(t.Context(), host+"/it:1", me); !errors.Is(err, ErrSilent) {
		t.Errorf("with another configuration: %v", err)
	}
	f.blobs[f.id] = own
	f.blobs[f.one] = append([]byte(" "), f.blobs[f.one]...)
	if _, err := c.Resolve(t.Context(), host+"/it@"+f.one, me); !errors.Is(err, ErrSilent) {
		t.Errorf("with another manifest: %v", err)
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		allow []string
		host  string
		want  error
	}{
		{nil, "127.0.0.1:5000", ErrNotAllowed}, {nil, "localhost:5000", ErrNotAllowed}, {nil, "10.1.2.3", ErrNotAllowed},
		{nil, "169.254.169.254", ErrNotAllowed}, {nil, "[::1]:5000", ErrNotAllowed}, {nil, "[fe80::1]:80", ErrNotAllowed},
		{nil, "[::ffff:127.0.0.1]:5000", ErrNotAllowed}, {nil, "0.0.0.0:5000", ErrNotAllowed}, {nil, "100.64.1.1", ErrNotAllowed},
		{nil, "[64:ff9b::7f00:1]", ErrNotAllowed}, {nil, "192.168.0.1:443", ErrNotAllowed}, {nil, "8.8.8.8:5000", nil},
		{[]string{"*"}, "10.1.2.3", ErrNotAllowed}, {[]string{"*"}, "8.8.8.8", nil},
		{[]string{"10.1.2.3:5000"}, "10.1.2.3:5000", nil}, {[]string{"10.1.2.3:5000"}, "10.1.2.3:5001", ErrNotAllowed},
		{[]string{"10.1.2.3:5000"}, "8.8.8.8", ErrNotAllowed}, {[]string{"10.1.2.3:5000", "*"}, "8.8.8.8", nil},
		{[]string{"Registry-1.docker.io"}, "docker.io", nil}, {[]string{"127.0.0.1:5000"}, "127.0.0.1:5000", nil},
	} {
		r, err := ParseRules(c.allow)
		if err != nil {
			t.Errorf("%v is refused: %v", c.allow, err)
			continue
		}
		if err := r.Check(t.Context(), c.host); !errors.Is(err, c.want) {
			t.Errorf("%s under %v gives %v, want %v", c.host, c.allow, err, c.want)
		}
	}
	for _, bad := range []string{"", "x/y", "http://x.y", "x y", "name", "x.y:port"} {
		if _, err := ParseRules([]string{bad}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%q gives %v", bad, err)
		}
	}
	if err := (Rules{Open: true, Allow: []string{"x.y"}}).Check(t.Context(), "127.0.0.1"); err != nil {
		t.Errorf("open rules refuse: %v", err)
	}
}

// TestDialerRefuses: also what a name leads to once it is dialed.
func TestDialerRefuses(t *testing.T) {
	f := newFake(t, false)
	if conn, err := (Rules{}).dialer("example.com").DialContext(t.Context(), "tcp", strings.TrimPrefix(f.URL, "http://")); !errors.Is(err,
		ErrNotAllowed) {
		t.Errorf("%v, %v", conn, err)
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/t",service="b",scope="c"`, `Basic realm=x`, ``, `bearer`, `Bearer realm="`,
		"=,=,\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		scheme, params := parseChallenge(s)
		if scheme != strings.ToLower(scheme) || strings.Contains(scheme, " ") {
			t.Errorf("scheme %q", scheme)
		}
		for k := range params {
			if k == "" || k != strings.ToLower(k) {
				t.Errorf("parameter %q of %q", k, s)
			}
		}
	})
}

func FuzzParseRules(f *testing.F) {
	for _, s := range []string{"docker.io", "*", "a.b:5000", "[::1]:5000", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRules([]string{s})
		if err == nil && s != Any && r.Check(t.Context(), s) != nil {
			t.Errorf("%q is listed and refused", s)
		}
	})
}

func TestIsPublic(t *testing.T) {
	for text, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "::1": false, "fd00::1": false,
		"224.0.0.1": false, "255.255.255.255": false, "::ffff:10.0.0.1": false} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %v", text, got)
		}
	}
}

// TestOddRegistries: whatever answers at an address, the error is one of the few, and there
// is no image.
func TestOddRegistries(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	asks := func(challenge string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  error
	}{
		"401 without a challenge":    {status(401), ErrRefused},
		"401 always":                 {asks(`Basic realm="x"`), ErrRefused},
		"403":                        {status(403), ErrRefused},
		"404":                        {status(404), ErrNone},
		"500":                        {status(500), ErrSilent},
		"204":                        {status(204), ErrSilent},
		"garbage":                    {text("<html>an intranet</html>"), ErrSilent},
		"a manifest of other things": {text(`{"config":{"digest":"../../../etc/passwd"}}`), ErrSilent},
		"a list of other things": {text(`{"manifests":[{"digest":"x/../y","platform":{"os":"linux","architecture":"amd64"}}]}`),
			ErrSilent},
		"a huge manifest":        {text(strings.Repeat(" ", maxManifest+1)), ErrSilent},
		"a realm that isn't TLS": {asks(`Bearer realm="ftp://10.0.0.1/"`), ErrSilent},
		"a realm without a host": {asks(`Bearer realm="http://"`), ErrSilent},
		"redirects without an end": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, ErrSilent},
		"a cut answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		}, ErrSilent},
		"a closed connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrSilent},
	} {
		server := httptest.NewServer(c.serve)
		host := strings.TrimPrefix(server.URL, "http://")
		img, err := (&Client{Rules: Rules{Allow: []string{host}}}).Resolve(t.Context(), host+"/it:1",
			&structs.Registry{Username: "me", Password: "pw"})
		server.Close()
		if img != nil || !errors.Is(err, c.want) {
			t.Errorf("%s gives %+v, %v, want %v", name, img, err, c.want)
		}
	}
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	host := strings.TrimPrefix(slow.URL, "http://")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if img, err := (&Client{Rules: Rules{Open: true}}).Resolve(ctx, host+"/it:1", nil); img != nil || !errors.Is(err, ErrSilent) {
		t.Errorf("a registry that says nothing gives %+v, %v", img, err)
	}
}

// TestRedirectInside: a public registry can't lead the agent to a private address.
func TestRedirectInside(t *testing.T) {
	var inside atomic.Int32
	private := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	defer private.Close()
	public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/manifests/realm") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+private.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, private.URL, http.StatusTemporaryRedirect)
	}))
	defer public.Close()
	host := strings.TrimPrefix(public.URL, "http://")
	s := &session{path: "it", base: public.URL}
	rules := Rules{}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == host { // stands for a public address
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		return rules.dialer("example.com").DialContext(ctx, network, address)
	}
	s.client = &http.Client{Transport: transport, CheckRedirect: limitRedirects}
	for _, version := range []string{"redirect", "realm"} {
		if img, err := s.resolve(t.Context(), version); img != nil || !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s gives %+v, %v", version, img, err)
		}
	}
	if n := inside.Load(); n > 0 {
		t.Errorf("%d requests have come inside", n)
	}
}
