package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/structs"
)

func TestAccessOffLoopback(t *testing.T) {
	files := func(c *Config) { c.TLSCA, c.TLSCert, c.TLSKey = "ca", "cert", "key" }
	for _, tt := range []struct {
		what   string
		change func(*Config)
		want   string // in the error, "" if allowed
	}{
		{"loopback with nothing", func(c *Config) { c.Bind = "127.0.0.2" }, ""},
		{"IPv6 loopback with nothing", func(c *Config) { c.Bind = "::1" }, ""},
		{"loopback with tokens", func(c *Config) { c.Auth = "token" }, ""},
		{"off it with nothing", func(c *Config) { c.Bind = "0.0.0.0" }, "-bind 0.0.0.0 with -auth none lets anyone"},
		{"off it with TLS", func(c *Config) { c.Bind = "10.0.0.1"; files(c) }, "-bind 10.0.0.1 with -auth none lets anyone"},
		{"off it with tokens", func(c *Config) { c.Bind = "10.0.0.1"; c.Auth = "token" },
			"-bind 10.0.0.1 without TLS lets anyone on the way read"},
		{"off it with both", func(c *Config) { c.Bind = "10.0.0.1"; c.Auth = "token"; files(c) }, ""},
		{"off it, insecure", func(c *Config) { c.Bind = "10.0.0.1"; c.Insecure = true }, ""},
		{"two files of three", func(c *Config) { files(c); c.TLSKey = "" }, "-tls-ca is given without -tls-key"},
		{"two files of three, insecure", func(c *Config) { files(c); c.TLSCA = ""; c.Insecure = true },
			"-tls-cert is given without -tls-ca"},
		{"another kind of auth", func(c *Config) { c.Auth = "magic" }, `-auth "magic" is not one of none, token and keystone`},
	} {
		c := Config{}
		tt.change(&c)
		err := c.withDefaults().validate()
		if (err == nil) != (tt.want == "") || err != nil && (structs.CodeOf(err) != structs.CodeInvalid || !strings.HasPrefix(err.Error(),
			tt.want)) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
}

// serve runs a server until the test ends. Raft opens no port unless the configuration
// sets one.
func serve(t testing.TB, c Config) *Server {
	t.Helper()
	c.DataDir, c.HTTPPort, c.Solo = t.TempDir(), -1, c.RaftPort == 0
	srv, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return srv
}

func TestHTTPSWithReload(t *testing.T) {
	authority, err := tlsconf.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	place := func(name string) {
		t.Helper()
		issued, err := authority.IssueServer([]string{name}, 30)
		if err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{issued.Cert: cert, issued.Key: key} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	place("one")
	srv := serve(t, Config{TLSCA: authority.CAFile(), TLSCert: cert, TLSKey: key})
	if !strings.HasPrefix(srv.URL(), "https://127.0.0.1:") {
		t.Errorf("URL %s", srv.URL())
	}
	ca, err := tlsconf.Load(tlsconf.Files{CA: authority.CAFile()})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	ca.HTTPClient(transport)
	serial := func() string {
		t.Helper()
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(srv.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || !strings.Contains(string(body), `"href":"https://`) || resp.TLS.Version != tls.VersionTLS13 {
			t.Errorf("status %d, TLS %x: %s", resp.StatusCode, resp.TLS.Version, body)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	plain, err := http.Get(strings.Replace(srv.URL(), "https", "http", 1))
	if err != nil {
		t.Fatal(err)
	}
	plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: status %d", plain.StatusCode)
	}
	place("two")
	if got := serial(); got != first {
		t.Error("the certificate changed by itself")
	}
	srv.Reload()
	second := serial()
	if second == first {
		t.Error("the certificate did not change with the reload")
	}
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Reload()
	if got := serial(); got != second {
		t.Error("a broken file replaced the certificate")
	}
	if _, err := New(Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true, TLSCA: authority.CAFile(), TLSCert: cert,
		TLSKey: key}); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), cert) {
		t.Errorf("a start with a broken file: %v", err)
	}
}

func TestRaftPortAcceptsOnlyServers(t *testing.T) {
	files := func(a *tlsconf.Authority, name string) tlsconf.Files {
		t.Helper()
		issued, err := a.IssueServer([]string{name}, 30)
		if err != nil {
			t.Fatal(err)
		}
		return tlsconf.Files{CA: a.CAFile(), Cert: issued.Cert, Key: issued.Key}
	}
	load := func(f tlsconf.Files) *tlsconf.Credentials {
		t.Helper()
		c, err := tlsconf.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	open := func() *tlsconf.Authority {
		t.Helper()
		a, err := tlsconf.OpenAuthority(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	authority, foreign := open(), open()
	port := freeport.Take(t)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	f := files(authority, "one")
	srv := serve(t, Config{RaftPort: port, GossipPort: -1, TLSCA: f.CA, TLSCert: f.Cert, TLSKey: f.Key})
	for what, c := range map[string]struct {
		config *tls.Config // nil: plain TCP
		letIn  bool
	}{
		"another server":            {load(files(authority, "two")).ClientTLS(addr), true},
		"plain TCP":                 {nil, false},
		"TLS without a certificate": {load(tlsconf.Files{CA: authority.CAFile()}).ClientTLS(addr), false},
		"a server of another CA": {&tls.Config{InsecureSkipVerify: true,
			Certificates: load(files(foreign, "two")).ClientTLS(addr).Certificates}, false},
		"a server that is not asked": {load(files(foreign, "three")).ClientTLS(addr), false},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		if c.config != nil {
			conn = tls.Client(conn, c.config)
		}
		// The caller sends its preamble and waits: a server that accepts the connection
		// doesn't answer, one that refuses closes it.
		_, err = io.WriteString(conn, "magnum-raft-2 "+strings.Repeat("-", 36)+string([]byte{byte(len(srv.id))})+srv.id)
		if err == nil {
			if c.letIn {
				conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			}
			_, err = conn.Read(make([]byte, 1))
		}
		waits, ok := err.(net.Error)
		if letIn := ok && waits.Timeout(); letIn != c.letIn {
			t.Errorf("%s: let in %v, want %v: %v", what, letIn, c.letIn, err)
		}
		conn.Close()
	}
}
