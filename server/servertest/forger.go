package servertest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/structs"
)

// Forger is an attacker that gossips as a server and answers the requests of servers.
type Forger struct {
	*httptest.Server
	Dialled  atomic.Int32 // connections
	Asked    atomic.Int32 // requests
	Identity atomic.Int32 // requests for its identity
	Leaked   atomic.Bool  // a request carried a secret or a token

	is atomic.Pointer[structs.PeerIdentity] // the identity that it claims
}

// Forge gossips as the node until the test ends. The forger replaces the node's role, HTTP
// address and schema by its own. files has its certificate, with which its address is
// https; nil means none. with configures its gossip: whom it joins, and its key.
func Forge(t testing.TB, n gossip.Node, with gossip.Config, files *tlsconf.Files) *Forger {
	t.Helper()
	f := &Forger{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Asked.Add(1)
		if r.Header.Get("X-Magnum-Peer") != "" || r.Header.Get("X-Auth-Token") != "" || r.Header.Get("X-Magnum-Proof") != "" {
			f.Leaked.Store(true)
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/progress"):
			_ = json.NewEncoder(w).Encode(structs.PeerProgress{LastIndex: 1 << 40, LastTerm: 1 << 20})
		case strings.HasSuffix(r.URL.Path, "/identity"):
			f.Identity.Add(1)
			_ = json.NewEncoder(w).Encode(f.is.Load())
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	f.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.Dialled.Add(1)
		}
	}
	f.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	if files == nil {
		f.Start()
	} else {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		f.StartTLS()
	}
	t.Cleanup(f.Close)
	n.Role, n.HTTPAddr, n.Schema = gossip.RoleServer, f.URL, structs.SchemaVersion
	f.Claim(structs.PeerIdentity{ID: n.ID, RaftAddr: n.RaftAddr, HTTPAddr: f.URL})
	with.Node, with.Bind, with.Port = n, "127.0.0.1", -1
	g, err := gossip.New(with)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

// Claim makes the forger claim an identity, without a valid proof.
func (f *Forger) Claim(is structs.PeerIdentity) {
	is.Proof = "made up"
	f.is.Store(&is)
}
