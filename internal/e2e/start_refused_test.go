//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// TestProcessesThatCannotStart: each ends with a message that names what is
// wrong, and with the exit code for that kind of error.
func TestProcessesThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	dir := t.TempDir()
	config := func(text string) string {
		path := filepath.Join(t.TempDir(), "magnum.hcl")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	used := filepath.Join(dir, "used")
	running := &process{t: t, name: "server", log: filepath.Join(dir, "log"),
		args: []string{"server", "-data-dir", used, "-http-port", freePort(t), "-raft-port", freePort(t), "-gossip-port", "-1"}}
	running.start()
	t.Cleanup(running.kill)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(used, "server", "join-token")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not start:\n%s", tail(running.log, 20))
		}
	}
	fresh := func() string { return filepath.Join(t.TempDir(), "data") }
	for _, tt := range []struct {
		args  []string
		code  int
		words []string
	}{
		{[]string{"server", "-data-dir", fresh(), "-http-port", port, "-raft-port", freePort(t), "-gossip-port", "-1"}, 1,
			[]string{"-http-port", port, "in use"}},
		{[]string{"server", "-data-dir", fresh(), "-http-port", freePort(t), "-raft-port", port, "-gossip-port", "-1"}, 1,
			[]string{port, "in use"}},
		{[]string{"server", "-data-dir", used, "-http-port", freePort(t), "-raft-port", freePort(t), "-gossip-port", "-1"}, 1,
			[]string{used, "in use by another magnum"}},
		{[]string{"server", "-data-dir", "/proc/none"}, 1, []string{"/proc/none"}},
		{[]string{"server", "-data-dir", fresh(), "-bind", "0.0.0.0"}, 2, []string{"-bind", "-insecure"}},
		{[]string{"server", "-data-dir", fresh(), "-bind", "0.0.0.0", "-auth", "token"}, 2,
			[]string{"-bind 0.0.0.0 without TLS lets anyone on the way read tokens", "magnum tls-init", "-insecure"}},
		{[]string{"server", "-data-dir", fresh(), "-auth", "keystones"}, 2, []string{"-auth", "keystones", "none, token and keystone"}},
		{[]string{"server", "-data-dir", fresh(), "-tls-ca", "ca.pem", "-tls-cert", "cert.pem"}, 2,
			[]string{"-tls-ca is given without -tls-key"}},
		{[]string{"server", "-data-dir", fresh(), "-tls-ca", config(""), "-tls-cert", "none.pem", "-tls-key", "none.pem"}, 2,
			[]string{"-tls-ca", "magnum.hcl holds no PEM certificate"}},
		{[]string{"agent", "-data-dir", fresh(), "-server", "127.0.0.1", "-join-token", "12345678", "-tls-cert", "cert.pem"}, 2,
			[]string{"-tls-cert is given without -tls-ca"}},
		{[]string{"server", "-data-dir", fresh(), "-bind", "nowhere"}, 2, []string{"nowhere"}},
		{[]string{"server", "-data-dir", fresh(), "-http-port", "99999"}, 2, []string{"99999"}},
		{[]string{"server", "-data-dir", fresh(), "-bootstrap-expect", "2"}, 2, []string{"bootstrap-expect"}},
		{[]string{"server", "-http-port", "many"}, 2, []string{"-http-port", `"many" is not a whole number`}},
		{[]string{"server", "-log-level", "loud", "-data-dir", fresh()}, 2, []string{"-log-level", `"loud"`}},
		{[]string{"server", "-http-prot", "1"}, 2, []string{"-http-prot", "did you mean -http-port?"}},
		{[]string{"server", "extra"}, 2, []string{`"extra" is one argument too many`}},
		{[]string{"server", "-config", config("http_prot = 1")}, 2, []string{"http_prot", "did you mean http_port?"}},
		{[]string{"server", "-config", config("http_port = ")}, 2, []string{"-config", "magnum.hcl"}},
		{[]string{"server", "-config", filepath.Join(dir, "none.hcl")}, 2, []string{"none.hcl"}},
		{[]string{"agent", "-dev", "-data-dir", fresh(), "-http-port", port}, 1, []string{"-http-port", port, "in use"}},
		{[]string{"agent", "-dev", "-server", "127.0.0.1"}, 2, []string{"-dev", "-server", "contradict"}},
		{[]string{"agent", "-data-dir", fresh(), "-server"}, 2, []string{"no join token", "-join-token-file"}},
		{[]string{"agent", "-data-dir", fresh(), "-server", "a b", "-join-token", "x"}, 2, []string{`"a b"`}},
		{[]string{"agent", "-data-dir", fresh(), "-join-token-file", filepath.Join(dir, "none")}, 2,
			[]string{"-join-token-file", "no such file"}},
		{[]string{"agent", "-data-dir", fresh(), "-image-gc-high", "100", "-join-token", "x"}, 2, []string{"-image-gc-high 100", "1..99"}},
		{[]string{"agent", "-data-dir", fresh(), "-image-gc-low", "90", "-join-token", "x"}, 2, []string{"-image-gc-low 90", "0..85"}},
		{[]string{"agent", "-data-dir", fresh(), "-label", "=x", "-join-token", "x"}, 2, []string{"-label", "no key"}},
	} {
		began := time.Now()
		r := magnum(t, nil, "", tt.args...)
		if r.code != tt.code || r.stdout != "" || !strings.Contains(r.stderr, "ERROR: ") || time.Since(began) > time.Minute {
			t.Errorf("magnum %s: exit code %d after %v, want %d; it printed %q, and on standard error %q", strings.Join(tt.args, " "),
				r.code, time.Since(began), tt.code, r.stdout, r.stderr)
		}
		for _, w := range tt.words {
			if !strings.Contains(r.stderr, w) {
				t.Errorf("magnum %s does not say %q but %q", strings.Join(tt.args, " "), w, r.stderr)
			}
		}
	}
}

// TestDevLeavesNothing: agent -dev without a data directory removes its
// containers and files at a clean stop. Its settings come from a file, the
// environment and a flag.
func TestDevLeavesNothing(t *testing.T) {
	t.Parallel()
	port, dir := freePort(t), t.TempDir()
	c := &cluster{TB: t, dir: dir, addr: "127.0.0.1:" + port, engine: newEngine(t)}
	config, files := filepath.Join(dir, "magnum.hcl"), filepath.Join(dir, "tmp")
	if err := os.WriteFile(config, []byte("name = \"from-file\"\nhttp_port = 1\nlabel = { zone = \"a\" }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	c.server = c.process("server", "agent", "-dev", "-config", config, "-http-port", port)
	c.server.env = []string{"TMPDIR=" + files, "MAGNUM_LOG_LEVEL=debug", "MAGNUM_HTTP_PORT=2"}
	c.server.start()
	t.Cleanup(func() {
		if c.server.alive() {
			c.server.kill()
		}
		if t.Failed() {
			t.Log(tail(c.server.log, 60))
		}
	})
	l := &commandLine{c}
	var id string
	l.eventually("a container runs", time.Minute, func() error {
		r := l.magnum("container-run", "-d", image, "sh", "-c", sleepScript)
		if r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		id = strings.TrimSpace(r.stdout)
		return nil
	})
	l.says([]string{"host-list", "-format", "{{.name}} {{.labels.zone}}"}, "from-file a\n")
	host := strings.TrimSpace(l.says([]string{"host-list", "-q"}))
	t.Cleanup(func() { c.engine.removeAll(host) })
	l.says([]string{"container-create", image})
	if err := c.engine.agrees(host, l.twoContainers(id)); err != nil {
		t.Error(err)
	}
	c.server.stop()
	if left, err := c.engine.list(host); err != nil || len(left) > 0 {
		t.Errorf("the engine still has %+v, %v", left, err)
	}
	if left, err := os.ReadDir(files); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// twoContainers expects two containers and returns them by UUID. The one with
// the UUID running runs; the other is stopped.
func (l *commandLine) twoContainers(running string) map[string]structs.ContainerBody {
	l.Helper()
	all := make(map[string]structs.ContainerBody)
	for _, id := range strings.Fields(l.says([]string{"container-list", "-q"})) {
		b := structs.ContainerBody{UUID: id, Name: id, Epoch: 1, Status: structs.ContainerStopped}
		if id == running {
			b.Status = structs.ContainerRunning
		}
		all[id] = b
	}
	if len(all) != 2 {
		l.Errorf("there are %d containers, want 2", len(all))
	}
	return all
}
