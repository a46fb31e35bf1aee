package peer

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/internal/tlsconf/tlsconftest"
	"github.com/stackforge/magnum/structs"
)

// TestTLSCallsReachOnlyServers: addresses come from gossip. With TLS no request, and so no
// token or peer secret, reaches a process without a server certificate of this CA. Such a
// process does not keep the call from reaching the server at another address.
func TestTLSCallsReachOnlyServers(t *testing.T) {
	ca := tlsconftest.Authority(t)
	own := tlsconftest.Load(t, tlsconftest.Server(t, ca, "own"))
	listen := func(f *tlsconf.Files, answer http.HandlerFunc) string {
		web := httptest.NewUnstartedServer(answer)
		t.Cleanup(web.Close)
		if f == nil {
			web.Start()
			return web.URL
		}
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		web.StartTLS()
		return web.URL
	}
	var stolen, is atomic.Int32
	steals := func(w http.ResponseWriter, r *http.Request) { stolen.Add(1) }
	agent, right := tlsconftest.Other(t, ca, "agent"), tlsconftest.Server(t, ca, "right")
	foreign := tlsconftest.Server(t, tlsconftest.Authority(t), "foreign")
	serves := func(id string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(HeaderServer, id)
			if meant := r.Header.Get(HeaderServer); meant != "" && meant != id {
				w.WriteHeader(503)
				return
			}
			is.Add(1)
			w.Header().Set(HeaderIndex, "7")
			w.Write([]byte("{}"))
		}
	}
	others := []string{listen(nil, steals), listen(&agent, steals), listen(&foreign, steals), listen(&right, serves("another"))}
	there := listen(&right, serves("leader"))
	var urls []string
	c := New(Config{
		URLs: func(string) []string { return urls }, Secret: func() string { return "peer-secret" },
		TLS: func() *tls.Config { return own.ClientTLS("") },
	})
	defer c.Close()
	session := httptest.NewRequest(http.MethodGet, "/v1/agent/hosts/h/sessions/s", nil)
	calls := map[string]func() error{
		"progress": func() error { _, err := c.Progress(t.Context(), "leader"); return err },
		"grant":    func() error { return c.Grant(t.Context(), "leader", "proof", structs.PeerGrant{}) },
		"forward":  func() error { _, _, err := c.Forward(t.Context(), "leader", forgedHeaders()); return err },
	}
	for what, call := range calls {
		for _, other := range others {
			urls = []string{other}
			if err := call(); structs.CodeOf(err) != structs.CodeNoLeader || errors.Is(err, ErrUnknown) || c.VerifiedURL("leader") != "" {
				t.Errorf("%s of %s: %v", what, other, err)
			}
		}
	}
	for _, other := range others[:3] {
		urls = []string{other}
		err := c.Relay(httptest.NewRecorder(), session, "leader")
		if structs.CodeOf(err) != structs.CodeUnavailable || errors.Is(err, ErrUnknown) {
			t.Errorf("relay to %s: %v", other, err)
		}
	}
	if stolen.Load() != 0 || is.Load() != 0 {
		t.Fatalf("%d requests reached a process that is not a server, %d reached another server", stolen.Load(), is.Load())
	}
	urls = append(others, there)
	for what, call := range calls {
		if err := call(); err != nil || c.VerifiedURL("leader") != there {
			t.Errorf("%s: %v, verified URL %q", what, err, c.VerifiedURL("leader"))
		}
	}
	urls = append(others[:3:3], there)
	w := httptest.NewRecorder()
	if err := c.Relay(w, session, "leader"); err != nil || w.Body.String() != "{}" {
		t.Errorf("relay: %v, %q", err, w.Body)
	}
	if stolen.Load() != 0 {
		t.Errorf("%d requests reached a process that is not a server", stolen.Load())
	}
	urls = others[:1]
	if _, err := c.Progress(t.Context(), "leader"); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("the error does not say why: %v", err)
	}
}
