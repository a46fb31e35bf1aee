package agent

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/internal/tlsconf/tlsconftest"
	"github.com/stackforge/magnum/structs"
)

// TestServersFoundByGossipNeedACertificate: an agent gives its join token to an address
// from gossip only if the certificate there is a server's. The operator's own address
// may be a proxy's.
func TestServersFoundByGossipNeedACertificate(t *testing.T) {
	ca := tlsconftest.Authority(t)
	var asked atomic.Int32
	listen := func(f tlsconf.Files) string {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			_, _ = w.Write([]byte("{}"))
		}))
		web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		web.StartTLS()
		t.Cleanup(web.Close)
		return web.URL
	}
	host, server := listen(tlsconftest.Other(t, ca, "host")), listen(tlsconftest.Server(t, ca, "server"))
	gone := "127.0.0.1:1"
	for name, tt := range map[string]struct {
		given, found string
		want         int32
	}{
		"a host's certificate, found":                    {gone, host, 0},
		"a server's certificate, found":                  {gone, server, 1},
		"a host's certificate at the operator's address": {host, host, 1},
		"the same without a scheme":                      {strings.TrimPrefix(host, "https://"), "", 1},
	} {
		a, err := New(Config{
			Servers: []string{tt.given}, DataDir: t.TempDir(), Name: "h", JoinToken: "join",
			Backend: backendtest.NewFake(), TLS: tlsconf.Files{CA: ca.CAFile()},
		})
		if err != nil {
			t.Fatal(err)
		}
		a.api.SetFound([]string{tt.found})
		if tt.given == gone {
			a.api.Leave("https://" + gone)
		}
		asked.Store(0)
		_, err = a.api.Register(t.Context(), structs.HostRegister{JoinToken: "join"})
		if got := asked.Load(); got != tt.want || (err == nil) != (tt.want == 1) {
			t.Errorf("%s: %d requests, want %d; %v", name, got, tt.want, err)
		}
	}
}

// TestAgentLeavesGossip: an agent that is told that there are too many hosts leaves
// gossip, and goes on with its work, however often it is told.
func TestAgentLeavesGossip(t *testing.T) {
	g, err := gossip.New(gossip.Config{
		Node: gossip.Node{ID: structs.NewID(), Name: "s",
			Role: gossip.RoleServer}, Bind: "127.0.0.1", Port: -1, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	s := newFakeServer(t)
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), func(c *Config) {
		c.Gossip = &gossip.Config{Bind: "127.0.0.1", Port: -1, Join: []string{g.Addr()}}
	}, s)
	gossips := func() bool {
		for _, m := range g.Members() {
			if m.Role == gossip.RoleAgent && m.State == gossip.StateAlive {
				return true
			}
		}
		return false
	}
	s.eventually("the agent gossips", gossips)
	again := func() {
		t.Helper()
		s.change(func() { s.registration, s.noGossip = s.registration+1, true }) // the agent has to register again
	}
	s.mu.Lock()
	before := len(s.registers)
	s.mu.Unlock()
	again()
	s.eventually("the agent has left", func() bool { return !gossips() })
	again()
	s.eventually("it has registered twice more", func() bool { return len(s.registers) >= before+2 })
	s.assign(want("a", 1, structs.DesiredRunning))
	s.is("a", structs.ContainerRunning)
	r.stop()
}
