package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/structs"
)

func TestConnectionSettings(t *testing.T) {
	for _, tt := range []struct {
		all, client int
		want        string
	}{
		{0, 0, ""}, {-1, -1, ""}, {16, 1, ""}, {1 << 20, 1 << 20, ""},
		{15, 0, "-http-max-conns 15 not in 16..1048576"}, {-2, 0, "-http-max-conns -2 not in"}, {1<<20 + 1, 0,
			"-http-max-conns 1048577 not in"},
		{0, -2, "-http-max-conns-per-client -2 not in 1..1048576"}, {0, 1<<20 + 1, "-http-max-conns-per-client 1048577 not in"},
	} {
		err := Config{HTTPMaxConns: tt.all, HTTPMaxConnsPerClient: tt.client}.withDefaults().validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%d, %d: %v, want %q", tt.all, tt.client, err, tt.want)
		}
	}
	for _, bad := range []string{"", "a/b", "a:1", "http://a", "a b", "a\n"} {
		if err := (Config{HTTPHosts: []string{bad}}).withDefaults().validate(); structs.CodeOf(err) != structs.CodeInvalid ||
			!strings.Contains(err.Error(), "-http-host") {
			t.Errorf("-http-host %q: %v", bad, err)
		}
	}
	for files, want := range map[uint64]int{0: 16, 64: 32, 1024: 512, 4096: 3584, 65536: 16384, 1 << 40: 16384} {
		if got := connsFor(files); got != want {
			t.Errorf("%d open files leave room for %d connections, want %d", files, got, want)
		}
	}
}

// TestSilentClientsDontBlockOthers: hundreds of half-sent requests without a credential
// hold a bounded number of connections. Users with tokens and hosts get through from
// the same address.
func TestSilentClientsDontBlockOthers(t *testing.T) {
	const most = 40
	srv := serve(t, Config{Auth: authToken, HTTPMaxConnsPerClient: most})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	ask := func(method, path, body string, headers ...string) (int, []byte, error) {
		r, err := http.NewRequest(method, srv.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, b, err
	}
	// succeed repeats a request until it gets the wanted answer: a request that comes
	// when all connections are new is refused for a moment.
	succeed := func(what string, want int, method, path, body string, headers ...string) []byte {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			status, b, err := ask(method, path, body, headers...)
			if status == want {
				return b
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d %s %v", what, status, b, err)
			}
		}
	}
	var token struct{ Token string }
	if err := json.Unmarshal(succeed("bootstrap", 201, "POST", "/v1/operator/bootstrap", ""), &token); err != nil {
		t.Fatal(err)
	}
	join, err := os.ReadFile(filepath.Join(srv.config.DataDir, "join-token"))
	if err != nil {
		t.Fatal(err)
	}
	host := structs.HostRegister{HostID: structs.NewID(), Secret: structs.NewSecret(), Name: "h1",
		JoinToken: string(bytes.TrimSpace(join)), Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 1,
			Memory: 1 << 30}}
	register, err := json.Marshal(host)
	if err != nil {
		t.Fatal(err)
	}

	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	flood := func() {
		for i := range 3 * most {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			// The server may have closed the connection already.
			_, _ = fmt.Fprint(conn, []string{
				"", "G", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", "POST /v1/agent/hosts HTTP/1.1\r\nHost: " +
					"127.0.0.1\r\nContent-Length: 16000\r\n\r\n{",
				"POST /v1/containers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n{", "GET / HTTP/1.1\r\nHost: " +
					"127.0.0.1\r\n\r\n",
			}[i%6])
		}
	}
	flood()
	if n := srv.gate.Figures().Open[admission.Unproven]; n > most {
		t.Errorf("%d connections without a credential, more than %d", n, most)
	}
	succeed("a host registers", 200, "POST", "/v1/agent/hosts", string(register), "Content-Type", "application/json")
	for range 3 {
		flood()
		succeed("a user lists", 200, "GET", "/v1/containers", "", "X-Auth-Token", token.Token)
		succeed("a host polls", 200, "GET", "/v1/agent/hosts/"+host.HostID+"/work?index=0&registration=1", "", "Authorization",
			"Bearer "+host.Secret)
		if n := srv.gate.Figures().Open[admission.Unproven]; n > most {
			t.Errorf("%d connections without a credential, more than %d", n, most)
		}
	}
	if f := srv.gate.Figures(); f.Closed == 0 {
		t.Errorf("none was closed: %+v", f)
	}
	// This request's connection is the token's only one, once the server has noticed
	// the end of earlier ones.
	for deadline := time.Now().Add(time.Minute); ; {
		text := succeed("metrics", 200, "GET", "/v1/metrics", "", "X-Auth-Token", token.Token)
		var missing []string
		for _, want := range []string{`magnum_http_connections{holder="unproven"} `, `magnum_http_connections{holder="token"} 1` + "\n",
			`magnum_http_connections_refused_total{how="closed"} `} {
			if !bytes.Contains(text, []byte(want)) {
				missing = append(missing, want)
			}
		}
		if missing == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the metrics lack %q", missing)
		}
	}
}

// TestHostNamesWithoutAuthentication: rest gets the server's names.
func TestHostNamesWithoutAuthentication(t *testing.T) {
	srv := serve(t, Config{Name: "s-1", HTTPHosts: []string{"magnum.example.org"}})
	for host, want := range map[string]int{"s-1": 200, "S-1:80": 200, "magnum.example.org": 200, "localhost:9511": 200,
		"evil.example": 403, "s-2": 403} {
		r, err := http.NewRequest("GET", srv.URL()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, resp.Status, want)
		}
	}
}

// TestConnectionLimitsWithTLS: handshakes count as connections, and credentials are
// recognized through TLS.
func TestConnectionLimitsWithTLS(t *testing.T) {
	authority, err := tlsconf.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.IssueServer([]string{"one"}, 30)
	if err != nil {
		t.Fatal(err)
	}
	srv := serve(t, Config{Auth: authToken, TLSCA: authority.CAFile(), TLSCert: issued.Cert, TLSKey: issued.Key, HTTPMaxConnsPerClient: 5})
	ca, err := tlsconf.Load(tlsconf.Files{CA: authority.CAFile()})
	if err != nil {
		t.Fatal(err)
	}
	as := func(token string) *api.Client {
		transport := api.NewTransport()
		ca.HTTPClient(transport)
		client, err := api.New(api.Config{Address: srv.URL(), Token: token, HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	client := as("")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, _, err := client.Tokens().Bootstrap(ctx)
	for structs.CodeOf(err) == structs.CodeUnavailable { // the cluster's row is not there yet
		first, _, err = client.Tokens().Bootstrap(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL(), "https://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	user := as(first.Token)
	_, _, err = user.Bays().List(ctx, api.QueryOptions{})
	for api.IsUnreachable(err) && ctx.Err() == nil { // while all other connections are new
		_, _, err = user.Bays().List(ctx, api.QueryOptions{})
	}
	f := srv.gate.Figures()
	for ; f.Open[admission.Token] > 1 && ctx.Err() == nil; f = srv.gate.Figures() { // connections of earlier tries
		time.Sleep(time.Millisecond)
	}
	if err != nil || f.Open[admission.Unproven] > 5 || f.Open[admission.Token] != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}
