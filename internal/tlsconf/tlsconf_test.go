package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func authority(t testing.TB) *Authority {
	t.Helper()
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// server returns the files of a server whose certificate has the names.
func (a *Authority) server(t testing.TB, names ...string) Files {
	t.Helper()
	issued, err := a.IssueServer(names, 30)
	if err != nil {
		t.Fatal(err)
	}
	return Files{CA: a.CAFile(), Cert: issued.Cert, Key: issued.Key}
}

// other returns the files of a process that is not a server: a host, or a user. A zero
// notAfter means a valid certificate.
func (a *Authority) other(t testing.TB, name string, notAfter time.Time) Files {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := Files{CA: a.CAFile(), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := a.sign(template, key.Public(), 30)
	if err != nil {
		t.Fatal(err)
	}
	if !notAfter.IsZero() {
		template.NotBefore, template.NotAfter = notAfter.Add(-time.Hour), notAfter
		if der, err = x509.CreateCertificate(nil, template, a.cert, key.Public(), a.key); err != nil {
			t.Fatal(err)
		}
	}
	if err := writePair(f.Cert, der, f.Key, key); err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t testing.TB, f Files) *Credentials {
	t.Helper()
	c, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake runs a handshake over a pipe, then sends one byte to the client. It returns
// the connection state at the server and the error of each side.
func handshake(t testing.TB, server, client *tls.Config) (seen tls.ConnectionState, atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(time.Minute)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	done := make(chan error, 1)
	in := tls.Server(a, server)
	go func() {
		defer a.Close()
		_, err := in.Write([]byte{1})
		done <- err
	}()
	out := tls.Client(b, client)
	_, atClient = io.ReadFull(out, make([]byte, 1))
	b.Close()
	atServer = <-done
	return in.ConnectionState(), atServer, atClient
}

func TestServersOfOneCARecognizeEachOther(t *testing.T) {
	a := authority(t)
	one, two := load(t, a.server(t, "a.example")), load(t, a.server(t, "10.0.0.2"))
	seen, atServer, atClient := handshake(t, one.ServerTLS(), two.ClientTLS(""))
	if atServer != nil || atClient != nil || seen.Version != tls.VersionTLS13 || !IsServer(&seen) {
		t.Fatalf("two servers of one CA: %v, %v, version %x, server %v", atServer, atClient, seen.Version, IsServer(&seen))
	}
	if _, atServer, atClient := handshake(t, one.ServerTLS(), two.ClientTLS("10.9.9.9")); atServer != nil || atClient != nil {
		t.Errorf("a server at an address that its certificate does not carry: %v, %v", atServer, atClient)
	}
}

func TestOnlyServerCertificatesPassBetweenServers(t *testing.T) {
	a, foreign := authority(t), authority(t)
	server := load(t, a.server(t, "a.example"))
	host := load(t, a.other(t, "host.example", time.Time{}))
	wild := load(t, a.other(t, "*.magnum", time.Time{}))
	alien := load(t, foreign.server(t, "a.example"))
	bare := load(t, Files{CA: a.CAFile()})
	old := server.ClientTLS("")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for what, c := range map[string]struct{ server, client *tls.Config }{
		"a host calls a server":                 {server.ServerTLS(), host.ClientTLS("")},
		"a wildcard calls a server":             {server.ServerTLS(), wild.ClientTLS("")},
		"a server of another CA calls":          {server.ServerTLS(), alien.ClientTLS("")},
		"a client without certificate calls":    {server.ServerTLS(), bare.ClientTLS("")},
		"a server calls a host":                 {host.ServerTLS(), server.ClientTLS("")},
		"a server calls a host by its own name": {host.ServerTLS(), server.ClientTLS("host.example")},
		"a server calls a wildcard":             {wild.ServerTLS(), server.ClientTLS("")},
		"a server calls one of another CA":      {alien.ServerTLS(), server.ClientTLS("")},
		"a server calls with TLS 1.2":           {server.ServerTLS(), old},
	} {
		if _, atServer, atClient := handshake(t, c.server, c.client); atServer == nil || atClient == nil {
			t.Errorf("%s and is admitted: %v, %v", what, atServer, atClient)
		}
	}
}

func TestHTTPAdmitsClientsWithoutCertificate(t *testing.T) {
	a, foreign := authority(t), authority(t)
	server := load(t, a.server(t, "a.example"))
	client := func(c *Credentials) *tls.Config {
		config := c.httpClient()
		config.ServerName = "a.example"
		return config
	}
	for what, c := range map[string]struct {
		client         *tls.Config
		letIn, isPeer  bool
		maximumVersion uint16
	}{
		"a user":                    {client: client(load(t, Files{CA: a.CAFile()})), letIn: true},
		"a user with TLS 1.2":       {client: client(load(t, Files{CA: a.CAFile()})), letIn: true, maximumVersion: tls.VersionTLS12},
		"a user with TLS 1.1":       {client: client(load(t, Files{CA: a.CAFile()})), maximumVersion: tls.VersionTLS11},
		"a host with a certificate": {client: client(load(t, a.other(t, "host", time.Time{}))), letIn: true},
		"another server":            {client: client(load(t, a.server(t, "b.example"))), letIn: true, isPeer: true},
		"a user with another CA":    {client: client(load(t, Files{CA: foreign.CAFile()}))},
		"a user without our CA":     {client: client(load(t, Files{}))},
		"an expired certificate":    {client: expired(t, a)},
		"a certificate of another CA": {client: func() *tls.Config {
			config := client(load(t, foreign.server(t, "a.example")))
			config.RootCAs = load(t, Files{CA: a.CAFile()}).now.Load().roots
			// The client sends it although the server asks for one of another CA.
			cert := config.Certificates[0]
			config.Certificates = nil
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			return config
		}()},
	} {
		if c.maximumVersion != 0 {
			c.client.MinVersion, c.client.MaxVersion = tls.VersionTLS10, c.maximumVersion
		}
		seen, atServer, atClient := handshake(t, server.HTTPServer(), c.client)
		if (atServer == nil && atClient == nil) != c.letIn {
			t.Errorf("%s: %v, %v", what, atServer, atClient)
		}
		if IsServer(&seen) != c.isPeer {
			t.Errorf("%s: taken for a server: %v", what, IsServer(&seen))
		}
	}
	if IsServer(nil) {
		t.Error("a connection without TLS counts as a server's")
	}
}

// expired returns the configuration of a client whose certificate has expired.
func expired(t testing.TB, a *Authority) *tls.Config {
	t.Helper()
	f := a.other(t, "late", time.Now().Add(-time.Minute))
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := load(t, Files{CA: a.CAFile()}).now.Load().roots
	return &tls.Config{RootCAs: roots, ServerName: "a.example", Certificates: []tls.Certificate{pair}}
}

func TestNewConnectionsUseReloadedFiles(t *testing.T) {
	a, b := authority(t), authority(t)
	dir := t.TempDir()
	here := Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	install := func(f Files) {
		t.Helper()
		for from, to := range map[string]string{f.CA: here.CA, f.Cert: here.Cert, f.Key: here.Key} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	install(a.server(t, "127.0.0.1"))
	server := load(t, here)
	http1, raft := server.HTTPServer(), server.ServerTLS()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{
		Handler:           http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
	}
	go web.Serve(tls.NewListener(listener, http1))
	t.Cleanup(func() { web.Close() })
	get := func(c *http.Client) (*tls.ConnectionState, error) {
		resp, err := c.Get("https://" + listener.Addr().String())
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		return resp.TLS, nil
	}
	transport := func(c *Credentials) *http.Transport {
		tr := &http.Transport{DisableKeepAlives: true}
		c.HTTPClient(tr)
		return tr
	}
	own := &http.Client{Transport: transport(server)} // uses the reloaded credentials
	fixed := &http.Client{Transport: transport(load(t, Files{CA: a.CAFile()}))}
	before, err := get(own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(fixed); err != nil {
		t.Fatal(err)
	}
	install(b.server(t, "127.0.0.1"))
	if err := server.Reload(); err != nil {
		t.Fatal(err)
	}
	after, err := get(own)
	if err != nil {
		t.Fatalf("a client with the reloaded CA: %v", err)
	}
	if before.PeerCertificates[0].SerialNumber.Cmp(after.PeerCertificates[0].SerialNumber) == 0 {
		t.Error("the server still shows its old certificate")
	}
	if _, err := get(fixed); err == nil {
		t.Error("a client that trusts only the old CA accepts the new certificate")
	}
	if _, atServer, atClient := handshake(t, raft, load(t, b.server(t, "other")).ClientTLS("")); atServer != nil || atClient != nil {
		t.Errorf("a server of the new CA: %v, %v", atServer, atClient)
	}
	if _, atServer, _ := handshake(t, raft, load(t, a.server(t, "other")).ClientTLS("")); atServer == nil {
		t.Error("a server of the old CA is admitted")
	}

	for file, path := range map[string]string{"-tls-ca": here.CA, "-tls-cert": here.Cert, "-tls-key": here.Key} {
		was, _ := os.ReadFile(path)
		for _, text := range []string{"", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := server.Reload()
			if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), path) {
				t.Errorf("a broken file of %s: %v", file, err)
			}
			if _, err := get(own); err != nil {
				t.Errorf("after a failed reload of %s the old credentials do not work: %v", file, err)
			}
		}
		os.Remove(path)
		if err := server.Reload(); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), path) {
			t.Errorf("without the file of %s: %v", file, err)
		}
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadRefusesFilesThatDoNotFit(t *testing.T) {
	a, b := authority(t), authority(t)
	one, two := a.server(t, "one"), a.server(t, "two")
	foreign := b.server(t, "one")
	late := a.other(t, "late", time.Now().Add(-time.Minute))
	for _, c := range []struct {
		files Files
		words []string
	}{
		{Files{CA: one.CA, Cert: one.Cert, Key: two.Key}, []string{"-tls-key", two.Key, "is not the key", one.Cert}},
		{
			Files{CA: a.CAFile(), Cert: foreign.Cert, Key: foreign.Key},
			[]string{"-tls-cert", foreign.Cert, "not signed by a CA in", a.CAFile()},
		},
		{Files{CA: one.Cert}, []string{"-tls-ca", one.Cert, "not a CA certificate"}},
		{Files{CA: one.Key}, []string{"-tls-ca", one.Key, "no PEM certificate"}},
		{Files{CA: "/nowhere/ca.pem"}, []string{"-tls-ca", "/nowhere/ca.pem", "no such file"}},
		{late, []string{"-tls-cert", late.Cert, "expired"}},
	} {
		_, err := Load(c.files)
		if structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%+v: %v", c.files, err)
			continue
		}
		for _, word := range c.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%+v: %v does not say %q", c.files, err, word)
			}
		}
	}
}

// TestServersOfBothCAsConnectDuringReplacement: while a CA is replaced, every CA file
// holds the old and the new one.
func TestServersOfBothCAsConnectDuringReplacement(t *testing.T) {
	a, b := authority(t), authority(t)
	both := filepath.Join(t.TempDir(), "ca.pem")
	var text []byte
	for _, path := range []string{a.CAFile(), b.CAFile()} {
		one, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, one...)
	}
	if err := os.WriteFile(both, text, 0o600); err != nil {
		t.Fatal(err)
	}
	before, after := a.server(t, "one"), b.server(t, "two")
	before.CA, after.CA = both, both
	for _, pair := range [][2]Files{{before, after}, {after, before}} {
		_, atServer, atClient := handshake(t, load(t, pair[0]).ServerTLS(), load(t, pair[1]).ClientTLS(""))
		if atServer != nil || atClient != nil {
			t.Errorf("%v, %v", atServer, atClient)
		}
	}
}

func TestCheckNamesTheMissingFile(t *testing.T) {
	for _, c := range []struct {
		files  Files
		server bool
		want   string // beginning of the error; "" means no error
	}{
		{Files{}, true, ""},
		{Files{}, false, ""},
		{Files{CA: "a", Cert: "c", Key: "k"}, true, ""},
		{Files{CA: "a", Cert: "c", Key: "k"}, false, ""},
		{Files{CA: "a"}, false, ""},
		{Files{CA: "a"}, true, "-tls-ca is given without -tls-cert"},
		{Files{CA: "a", Cert: "c"}, true, "-tls-ca is given without -tls-key"},
		{Files{Cert: "c", Key: "k"}, true, "-tls-cert is given without -tls-ca"},
		{Files{Cert: "c", Key: "k"}, false, "-tls-cert is given without -tls-ca"},
		{Files{CA: "a", Cert: "c"}, false, "-tls-cert is given without -tls-key"},
		{Files{CA: "a", Key: "k"}, false, "-tls-key is given without -tls-cert"},
	} {
		err := c.files.Check(c.server)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v, server %v: %v, want %q", c.files, c.server, err, c.want)
		}
	}
}

func TestAuthorityNeverOverwritesFiles(t *testing.T) {
	dir := t.TempDir()
	files := func() map[string]string {
		all := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			info, _ := e.Info()
			all[e.Name()] = string(text)
			if secret := strings.HasSuffix(e.Name(), "-key.pem"); secret && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", e.Name(), info.Mode())
			}
		}
		return all
	}
	a, err := OpenAuthority(dir)
	if err != nil || !a.Made {
		t.Fatalf("%v, made %v", err, a.Made)
	}
	issued, err := a.IssueServer([]string{"a.example", "10.0.0.1"}, 10)
	if err != nil || !issued.Made {
		t.Fatalf("%+v, %v", issued, err)
	}
	if left := time.Until(issued.NotAfter); left < 9*24*time.Hour || left > 11*24*time.Hour {
		t.Errorf("valid for %v", left)
	}
	was := files()
	again, err := OpenAuthority(dir)
	if err != nil || again.Made {
		t.Fatalf("opened again: %v, made %v", err, again.Made)
	}
	kept, err := again.IssueServer([]string{"a.example", "10.0.0.1"}, 10)
	if err != nil || kept.Made || !kept.NotAfter.Equal(issued.NotAfter) {
		t.Fatalf("issued again: %+v, %v", kept, err)
	}
	_, err = again.IssueServer([]string{"a.example", "10.0.0.9"}, 10)
	if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), issued.Cert+" is for ") {
		t.Errorf("other names: %v", err)
	}
	if now := files(); len(now) != len(was) {
		t.Errorf("files %v", now)
	}
	for name, text := range files() {
		if was[name] != text {
			t.Errorf("%s was overwritten", name)
		}
	}
	if _, err := again.IssueServer([]string{"b.example"}, 10); err != nil {
		t.Errorf("another server: %v", err)
	}
	c, err := Load(Files{CA: again.CAFile(), Cert: issued.Cert, Key: issued.Key})
	if err != nil || !c.ExpiresAt().Equal(issued.NotAfter) {
		t.Errorf("the issued files can't be loaded: %v", err)
	}

	foreign := authority(t)
	for _, c := range []struct {
		what  string
		spoil func() error
		word  string
	}{
		{"a server's key is gone", func() error { return os.Remove(issued.Key) }, issued.Key + " does not"},
		{"a server's certificate is another CA's", func() error {
			f := foreign.server(t, "a.example", "10.0.0.1")
			text, err := os.ReadFile(f.Cert)
			if err != nil {
				return err
			}
			return os.WriteFile(issued.Cert, text, 0o600)
		}, "is not signed by the CA in " + again.CAFile()},
		{"a server's key is another's", func() error {
			return os.WriteFile(issued.Key, []byte(was["ca-key.pem"]), 0o600)
		}, issued.Key + " is not the key"},
		{"the CA's key is another's", func() error {
			return os.WriteFile(filepath.Join(dir, fileCAKey), []byte(was["server-a.example-key.pem"]), 0o600)
		}, "ca-key.pem is not the key"},
		{"the CA's key is empty", func() error {
			return os.WriteFile(filepath.Join(dir, fileCAKey), nil, 0o600)
		}, "ca-key.pem holds no PEM key"},
		{"the CA's key is gone", func() error { return os.Remove(filepath.Join(dir, fileCAKey)) }, "ca-key.pem does not"},
		{"the CA's certificate is gone", func() error { return os.Remove(again.CAFile()) }, "ca.pem does not"},
	} {
		for name, text := range was {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		a, err := OpenAuthority(dir)
		if err == nil {
			_, err = a.IssueServer([]string{"a.example", "10.0.0.1"}, 10)
		}
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v, want %q", c.what, err, c.word)
		}
	}
}

func TestIssueServerChecksNamesAndDays(t *testing.T) {
	a := authority(t)
	for _, names := range [][]string{
		{""}, {"a b"}, {"-a"}, {"a..b"}, {"ok", "x_y"}, {"ok", "../../etc"}, {"ok", "0.0.0.0"}, {"::"}, {"*"},
		{strings.Repeat("a", 64)}, {"ok", "b,c"}, {},
	} {
		if _, err := a.IssueServer(names, 10); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-server") {
			t.Errorf("%q: %v", names, err)
		}
	}
	for _, days := range []int{0, -1, MaxDays + 1} {
		_, err := a.IssueServer([]string{"ok"}, days)
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-days") {
			t.Errorf("%d days: %v", days, err)
		}
	}
	if entries, _ := os.ReadDir(a.Dir); len(entries) != 2 {
		t.Errorf("refused calls left files: %v", entries)
	}
	issued, err := a.IssueServer([]string{"A.Example", "fd00::1", "*.example"}, MaxDays)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := readCertificates("-server", issued.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.example", "x.example", "fd00::1", "localhost", "127.0.0.1", "::1", ServerName} {
		if err := certs[0].VerifyHostname(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if certs[0].NotAfter.After(a.cert.NotAfter) {
		t.Errorf("valid until %v, its CA until %v", certs[0].NotAfter, a.cert.NotAfter)
	}
	if _, err := OpenAuthority("/proc/none"); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "/proc/none") {
		t.Errorf("a directory that can't be made: %v", err)
	}
}
