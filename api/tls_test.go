package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// tlsServer returns a TLS server that responds to every request with {}.
func tlsServer(t testing.TB) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// httpClientTrusting returns an HTTP client that trusts the roots and expects the server name.
func httpClientTrusting(roots *x509.CertPool, name string) *http.Client {
	tr := NewTransport()
	tr.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: name}
	return &http.Client{Transport: tr}
}

func TestSecureAddressesAreHTTPS(t *testing.T) {
	for in, want := range map[string]string{"h": "https://h:9511", "::1": "https://[::1]:9511", "h:1": "https://h:1",
		"http://h:1": "http://h:1"} {
		c, err := New(Config{Address: in, Secure: true})
		if err != nil || c.Address() != want {
			t.Errorf("%s: %v, %v, want %s", in, c.Address(), err, want)
		}
		a, err := NewAgent(AgentConfig{Servers: []string{in}, Secure: true})
		if err != nil || a.Server() != want {
			t.Errorf("agent, %s: %v, %v, want %s", in, a.Server(), err, want)
		}
	}
}

// A create isn't retried after a failed TLS handshake: nothing was sent.
func TestTLSFailuresAreExplainedAndNotRetried(t *testing.T) {
	srv := tlsServer(t)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for _, c := range []struct {
		addr string
		http *http.Client
		want string
	}{
		{srv.URL, httpClientTrusting(roots, ""), ""},
		{srv.URL, httpClientTrusting(x509.NewCertPool(), ""),
			"its certificate is not signed by a CA that this side trusts; give the servers' CA with -tls-ca"},
		{srv.URL, httpClientTrusting(roots, "elsewhere"),
			"its certificate is not for elsewhere but for example.com, *.example.com, 127.0.0.1, ::1"},
		{strings.Replace(plain.URL, "http", "https", 1), httpClientTrusting(roots, ""), "it does not speak TLS; write http://"},
		{strings.Replace(srv.URL, "https", "http", 1), httpClientTrusting(nil, ""), "the server speaks TLS: write https://"},
	} {
		client, err := New(Config{Address: c.addr, HTTPClient: c.http, RetryFor: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, _, err = client.Bays().Create(ctx, &structs.BayRequest{}, WriteOptions{})
		cancel()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.addr, err)
			}
			continue
		}
		var unreachable *Unreachable
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &unreachable) &&
			(unreachable.Sent || !unreachable.TLS()) {
			t.Errorf("%s: %v, want %q", c.addr, err, c.want)
		}
	}
}
