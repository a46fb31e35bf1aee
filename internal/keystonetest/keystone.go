// Package keystonetest connects tests to a real Keystone, which scripts/peers/keystone-up
// starts. Tests with the build tag openstack call it; production code never does. It speaks
// plain HTTP, and so shows what Keystone itself says, whatever client the code under test uses.
package keystonetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds waits for what must happen but has no promised speed: the machine may be
// busy.
const patience = 2 * time.Minute

// Keystone is a running Keystone, as its administrator sees it. It is safe for concurrent use.
type Keystone struct {
	Dir string // the state directory: clouds.yaml, openrc files, pid, logs
	URL string // http://127.0.0.1:PORT/v3, an OS_AUTH_URL

	mu    sync.Mutex
	token string            // of the user admin; "" before the first use
	roles map[string]string // IDs by name
}

// Open connects to the Keystone whose state directory MAGNUM_KEYSTONE names. The test fails
// without one. Other tests use the same one: make projects and users of your own, and Start
// one to kill it.
func Open(t testing.TB) *Keystone {
	t.Helper()
	k, err := load(os.Getenv("MAGNUM_KEYSTONE"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Do(http.MethodGet, "", nil, nil); err != nil {
		t.Fatalf("no Keystone answers at %s, start it again with scripts/peers/keystone-up %s: %v", k.URL, k.Dir, err)
	}
	return k
}

// load reads a state directory.
func load(dir string) (*Keystone, error) {
	const help = "run `make test-openstack`, or `scripts/peers/keystone-up DIR` and set MAGNUM_KEYSTONE=DIR (an absolute path)"
	if dir == "" {
		return nil, errors.New("MAGNUM_KEYSTONE does not name the directory of the Keystone to test with: " + help)
	}
	url, err := os.ReadFile(filepath.Join(dir, "url"))
	if err != nil {
		return nil, fmt.Errorf("MAGNUM_KEYSTONE=%s is not the directory of a Keystone: %w: %s", dir, err, help)
	}
	return &Keystone{Dir: dir, URL: strings.TrimSpace(string(url)), roles: make(map[string]string)}, nil
}

// Options are the options of Start.
type Options struct {
	TokenTTL time.Duration // whole seconds; 0 means an hour
}

// Start starts a Keystone of the test's own, which begins as a copy of the one of Open. It is
// stopped after the test.
func Start(t testing.TB, o Options) *Keystone {
	t.Helper()
	dir := t.TempDir()
	up(t, dir, "KEYSTONE_FROM="+Open(t).Dir, "KEYSTONE_TOKEN_TTL="+strconv.Itoa(int(o.TokenTTL.Seconds())))
	k, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid, err := k.pid(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	})
	return k
}

// up runs scripts/peers/keystone-up.
func up(t testing.TB, dir string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("go env GOMOD: %v", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "scripts/peers/keystone-up"), dir)
	cmd.Env = os.Environ()
	for _, e := range env {
		if !strings.HasSuffix(e, "=0") { // the script's default
			cmd.Env = append(cmd.Env, e)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/peers/keystone-up %s: %v\n%s", dir, err, out)
	}
}

func (k *Keystone) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(k.Dir, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Kill ends a Keystone of Start as a power cut would, and returns when it has ended.
func (k *Keystone) Kill(t testing.TB) {
	t.Helper()
	pid, err := k.pid()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("kill Keystone: %v", err)
	}
	k.awaitDown(t)
}

// Freeze stops a Keystone of Start with SIGSTOP: it takes connections and answers nothing.
// thaw undoes it.
func (k *Keystone) Freeze(t testing.TB) (thaw func()) {
	t.Helper()
	pid, err := k.pid()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatalf("stop Keystone: %v", err)
	}
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // it may have ended
}

// awaitDown waits until connections are refused.
func (k *Keystone) awaitDown(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, err := k.Do(http.MethodGet, "", nil, nil)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Keystone still answers after %v: %v", patience, err)
		}
	}
}

// Restart starts a Keystone of Start again after Kill, on the same port and with the same
// data, and returns when it answers.
func (k *Keystone) Restart(t testing.TB, o Options) {
	t.Helper()
	up(t, k.Dir, "KEYSTONE_TOKEN_TTL="+strconv.Itoa(int(o.TokenTTL.Seconds())))
}

// Answer is what Keystone answers.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request with headers and a JSON body, without one if in is nil. path is below URL.
func (k *Keystone) Do(method, path string, header map[string]string, in any) (*Answer, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, k.URL+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, b}, err
}

// Admin sends a request as the administrator, and decodes the answer into out unless that is
// nil. The test fails at a status other than 2xx.
func (k *Keystone) Admin(t testing.TB, method, path string, in, out any) {
	t.Helper()
	for again := false; ; again = true {
		a, err := k.Do(method, path, map[string]string{"X-Auth-Token": k.adminToken(t, again)}, in)
		switch {
		case err != nil:
			t.Fatalf("Keystone: %v", err)
		case a.Status == http.StatusUnauthorized && !again: // expired
			continue
		case a.Status >= 300:
			t.Fatalf("Keystone: %s %s: status %d: %s", method, path, a.Status, a.Body)
		}
		if out != nil {
			if err := json.Unmarshal(a.Body, out); err != nil {
				t.Fatalf("Keystone: %s %s: %v: %s", method, path, err, a.Body)
			}
		}
		return
	}
}

func (k *Keystone) adminToken(t testing.TB, another bool) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token == "" || another {
		k.token = k.Token(t, k.AdminUser(), k.AdminProject())
	}
	return k.token
}
