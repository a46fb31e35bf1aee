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

// TestOnlyServersAreCalled: addresses come from gossip. With TLS nothing that is
// sent, least of all a token or the peer secret, reaches who has no certificate of
// a server of this CA; and who does not, holds nobody up.
func TestOnlyServersAreCalled(t *testing.T) {
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
	agent, right, foreign := tlsconftest.Other(t, ca, "agent"), tlsconftest.Server(t, ca, "right"), tlsconftest.Server(t, tlsconftest.Authority(t), "foreign")
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
		"forward":  func() error { _, _, err := c.Forward(t.Context(), "leader", asked()); return err },
	}
	for what, call := range calls {
		for _, other := range others {
			urls = []string{other}
			if err := call(); structs.CodeOf(err) != structs.CodeNoLeader || errors.Is(err, ErrUnknown) || c.Proven("leader") != "" {
				t.Errorf("%s of %s: %v", what, other, err)
			}
		}
	}
	for _, other := range others[:3] {
		urls = []string{other}
		if err := c.Relay(httptest.NewRecorder(), session, "leader"); structs.CodeOf(err) != structs.CodeUnavailable || errors.Is(err, ErrUnknown) {
			t.Errorf("relay to %s: %v", other, err)
		}
	}
	if stolen.Load() != 0 || is.Load() != 0 {
		t.Fatalf("%d requests went to who is no server, %d to another", stolen.Load(), is.Load())
	}
	urls = append(others, there)
	for what, call := range calls {
		if err := call(); err != nil || c.Proven("leader") != there {
			t.Errorf("%s: %v, proven %q", what, err, c.Proven("leader"))
		}
	}
	urls = append(others[:3:3], there)
	w := httptest.NewRecorder()
	if err := c.Relay(w, session, "leader"); err != nil || w.Body.String() != "{}" {
		t.Errorf("relay: %v, %q", err, w.Body)
	}
	if stolen.Load() != 0 {
		t.Errorf("%d requests went to who is no server", stolen.Load())
	}
	urls = others[:1]
	if _, err := c.Progress(t.Context(), "leader"); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("the error does not say why: %v", err)
	}
}
