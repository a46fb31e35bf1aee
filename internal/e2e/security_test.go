//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTLSAndTokens sets up a server for a network, with its own CA and tokens,
// and an agent that joins by a token. It also tries what must be refused.
func TestTLSAndTokens(t *testing.T) {
	t.Parallel()
	c := &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), engine: newEngine(t)}
	t.Cleanup(c.cleanup)
	file := func(name string) string { return filepath.Join(c.dir, name) }
	place := func(server string) { // makes the server's certificate that of -tls-cert
		t.Helper()
		for _, end := range []string{".pem", "-key.pem"} {
			text, err := os.ReadFile(file("tls/server-" + server + end))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file("live"+end), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	says := magnum(t, nil, "", "tls-init", "-dir", file("tls"), "-server", "s1,10.1.2.3", "-server", "s2").must(t)
	if !strings.Contains(says, "magnum server -bind 10.1.2.3 -encrypt KEY -auth token -tls-ca "+file("tls/ca.pem")) {
		t.Errorf("tls-init prints %q", says)
	}
	magnum(t, nil, "", "tls-init", "-dir", file("other")).must(t)
	place("s1")

	_, port, _ := net.SplitHostPort(c.addr)
	c.server = c.process("server", "server", "-data-dir", file("data"), "-http-port", port, "-raft-port", freePort(t), "-gossip-port",
		"-1", "-log-level", "debug",
		"-auth", "token", "-tls-ca", file("tls/ca.pem"), "-tls-cert", file("live.pem"), "-tls-key", file("live-key.pem"))
	c.server.start()
	as := func(token string, args ...string) result {
		t.Helper()
		return magnum(t, []string{"MAGNUM_ADDR=" + c.addr, "MAGNUM_TLS_CA=" + file("tls/ca.pem"), "OS_TOKEN=" + token}, "", args...)
	}
	refused := func(r result, words ...string) {
		t.Helper()
		for _, w := range words {
			if r.code != 1 || !strings.Contains(r.stderr, w) {
				t.Errorf("exit code %d, %q, want 1 and %q", r.code, r.stderr, w)
			}
		}
	}
	var admin string
	c.eventually("there is a first token", time.Minute, func() error {
		r := as("", "operator", "bootstrap", "-q")
		if admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	refused(as("", "operator", "bootstrap"), "already")
	refused(as("", "host-list"), "Authentication required", "OS_TOKEN")
	refused(as(admin+"0", "host-list"), "not valid")
	join := strings.TrimSpace(as(admin, "token-create", "-join", "-expires", "1h", "-name", "rack", "-q").must(t))
	dev := strings.TrimSpace(as(admin, "token-create", "-name", "dev", "-project", "web", "-q").must(t))
	reader := strings.TrimSpace(as(admin, "token-create", "-name", "audit", "-project", "web", "-role", "reader", "-q").must(t))
	refused(as(join, "bay-list"), "join token")
	refused(as(dev, "token-list"), "Policy doesn't allow")

	if err := os.WriteFile(file("join-token"), []byte(join+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.agent = c.process("agent", "agent", "-server", c.addr, "-gossip=false", "-data-dir", file("data"), "-name", "host-1", "-log-level",
		"debug",
		"-tls-ca", file("tls/ca.pem"), "-join-token-file", file("join-token"))
	c.agent.start()
	as(dev, "bay-create", "-name", "b", "-wait", "1m").must(t)
	id := strings.TrimSpace(as(dev, "container-run", "-d", "-name", "c", image, "sh", "-c", "echo up; "+sleepScript).must(t))
	if got := as(dev, "container-execute", "c", "echo", "through TLS").must(t); got != "through TLS\n" {
		t.Errorf("execute: %q", got)
	}
	c.eventually("the container's log is there", time.Minute, func() error {
		if got := as(dev, "container-logs", "c").must(t); got != "up\n" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	refused(as(reader, "container-stop", "c"), "Policy doesn't allow")
	as(reader, "container-show", "c").must(t)
	if list := as(admin, "token-list", "-json").must(t); strings.Contains(list, strings.SplitN(dev, "_", 3)[2]) ||
		!strings.Contains(list, `"dev"`) {
		t.Errorf("token-list: %s", list)
	}

	// A client without TLS, or with another CA, is refused.
	refused(magnum(t, []string{"MAGNUM_ADDR=http://" + c.addr, "OS_TOKEN=" + dev}, "", "bay-list"), "the server speaks TLS", "-tls-ca")
	refused(magnum(t, []string{"MAGNUM_ADDR=https://" + c.addr, "OS_TOKEN=" + dev}, "", "bay-list"),
		"not signed by a CA that this side trusts", "-tls-ca")
	refused(magnum(t, []string{"MAGNUM_ADDR=" + c.addr, "OS_TOKEN=" + dev}, "", "container-create", image, "-tls-ca",
		file("other/ca.pem")), "not signed by a CA that this side trusts")
	if left := as(dev, "container-list", "-q").must(t); left != id+"\n" {
		t.Errorf("containers %q, want %s", left, id)
	}
	stranger := func(name string, args ...string) *process {
		p := c.process(name, append([]string{"agent", "-server", c.addr, "-gossip=false", "-data-dir", file(name), "-name", name},
			args...)...)
		p.start()
		t.Cleanup(p.kill)
		return p
	}
	complains := func(p *process, words string) {
		t.Helper()
		c.eventually("the log of "+p.name+" has "+words, time.Minute, func() error {
			if log := tail(p.log, 20); !strings.Contains(log, words) {
				return fmt.Errorf("%s", log)
			}
			return nil
		})
	}
	complains(stranger("trusts-another", "-tls-ca", file("other/ca.pem"), "-join-token", join), "not signed by a CA that this side trusts")
	complains(stranger("has-a-users-token", "-tls-ca", file("tls/ca.pem"), "-join-token", admin), "the join token is not this cluster's")
	snapshot := file("tokens.snap")
	as(admin, "operator", "snapshot", "save", snapshot).must(t)
	as(admin, "token-revoke", "rack", "audit").must(t)
	complains(stranger("comes-late", "-tls-ca", file("tls/ca.pem"), "-join-token", join), "is revoked")
	refused(as(reader, "bay-list"), "revoked")
	if hosts := as(admin, "host-list", "-format", "{{.name}}").must(t); hosts != "host-1\n" {
		t.Errorf("hosts %q", hosts)
	}

	// SIGHUP replaces only the certificate.
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(file("tls/ca.pem")); err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	serial := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", c.addr, &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	place("s2")
	c.server.signal(syscall.SIGHUP)
	c.agent.signal(syscall.SIGHUP)
	c.eventually("the server has the other certificate", time.Minute, func() error {
		if serial() == first {
			return fmt.Errorf("it is %s", first)
		}
		return nil
	})
	second := serial()
	complains(c.agent, "certificates reloaded")
	if err := os.WriteFile(file("live.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.server.signal(syscall.SIGHUP)
	complains(c.server, "certificates can't be reloaded, the old ones stay in use")
	complains(c.server, file("live.pem"))
	if serial() != second {
		t.Error("a broken file replaced the certificate")
	}
	as(dev, "container-delete", "-force", "c").must(t)

	// A restore brings back the tokens of the snapshot: later tokens are gone, and
	// tokens revoked since are valid again until they are revoked again.
	late := strings.TrimSpace(as(admin, "token-create", "-name", "late", "-project", "web", "-q").must(t))
	as(late, "bay-list").must(t)
	refused(as(dev, "operator", "snapshot", "restore", snapshot), "Policy doesn't allow")
	as(admin, "operator", "snapshot", "restore", snapshot).must(t)
	refused(as(late, "bay-list"), "not valid")
	for _, token := range []string{admin, dev, reader} {
		as(token, "bay-list").must(t)
	}
	as(admin, "token-revoke", "audit").must(t)
	refused(as(reader, "bay-list"), "revoked")

	place("s1")
	c.agent.stop()
	c.server.stop()
	for _, name := range []string{"server", "agent", "has-a-users-token", "comes-late"} {
		log, err := os.ReadFile(file(name + ".log"))
		if err != nil || len(log) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		for what, token := range map[string]string{"admin's": admin, "dev's": dev, "join": join} { // I12
			if strings.Contains(string(log), strings.SplitN(token, "_", 3)[2]) {
				t.Errorf("the log of %s has the %s token", name, what)
			}
		}
	}
}
