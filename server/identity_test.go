package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity/keystone"
	"github.com/stackforge/magnum/server/identity/keystone/keystonefake"
	"github.com/stackforge/magnum/structs"
)

// withKeystone is an option for servers that use a fake Keystone. Alice is in it.
func withKeystone(t testing.TB) (*keystonefake.Keystone, func(*Config)) {
	fake := keystonefake.New(t)
	fake.Add("alice", keystonefake.Caller("alpha", "alice", "member", "reader"))
	fake.Add("root", keystonefake.Caller("admin", "root", "admin", "member", "reader"))
	return fake, func(c *Config) {
		c.Keystone = keystone.Config{
			AuthURL: fake.URL, Username: keystonefake.Username, Password: keystonefake.Password, CacheTTL: 5 * time.Minute,
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ask makes a request, and returns the status and the body of its answer.
func ask(t testing.TB, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// TestKeystoneTurnsAuthenticationOn: with it nobody is let in without a token, and -auth
// token lets in local tokens, too.
func TestKeystoneTurnsAuthenticationOn(t *testing.T) {
	_, option := withKeystone(t)
	refused := Config{DataDir: filepath.Join(t.TempDir(), "server"), Auth: "none"}
	option(&refused)
	if _, err := New(refused); structs.CodeOf(err) != structs.CodeInvalid ||
		!strings.Contains(err.Error(), "-auth none and the -keystone") {
		t.Errorf("-auth none: %v", err)
	}
	for says, change := range map[string]func(*Config){
		"-policy-file":      func(c *Config) { c.PolicyFile = "/nowhere/policy.yaml" },
		"-keystone-cacert":  func(c *Config) { c.Keystone.AuthURL, c.Keystone.CACert = "https://k", "/nowhere/ca.pem" },
		"-keystone-timeout": func(c *Config) { c.Keystone.Timeout = time.Hour },
	} {
		c := refused
		c.Auth = ""
		change(&c)
		if _, err := New(c); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		if _, err := os.Stat(c.DataDir); !os.IsNotExist(err) {
			t.Errorf("%s: the data directory was made before the refusal: %v", says, err)
		}
	}
	for auth, local := range map[string]int{"": 401, "keystone": 401, "token": 200} {
		c := newMember("s1", t.TempDir(), nil, 1)
		option(&c.config)
		c.config.Auth, c.config.RateAddresses = auth, -1 // it asks without a token until the cluster is there
		c.start(t)
		defer c.stop()
		url := c.running().URL()
		deadline := time.Now().Add(patience)
		for {
			status, text := ask(t, "GET", url+"/v1/bays?consistent=true", "alice", "")
			if status == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("-auth %q: %d %s", auth, status, text)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for token, want := range map[string]int{"": 401, "garbage": 401, "alice": 200, "root": 200} {
			if status, text := ask(t, "GET", url+"/v1/bays", token, ""); status != want {
				t.Errorf("-auth %q as %q: %d %s", auth, token, status, text)
			}
		}
		status, text := 503, ""
		for status == 503 && time.Now().Before(deadline) { // the cluster may not be initialized yet
			time.Sleep(10 * time.Millisecond)
			status, text = ask(t, "POST", url+"/v1/operator/bootstrap", "", "")
		}
		first := "mgt_x"
		if local == 200 {
			if _, rest, found := strings.Cut(text, `"token":"`); found && status == 201 {
				first, _, _ = strings.Cut(rest, `"`)
			}
		} else if status != 409 {
			t.Errorf("-auth %q gives out a first token: %d %s", auth, status, text)
		}
		if status, text := ask(t, "GET", url+"/v1/bays", first, ""); status != local {
			t.Errorf("-auth %q with a local token: %d %s", auth, status, text)
		}
	}
}

// TestFollowersVouchForCallers: a write that a follower forwards needs no second validation,
// so that it doesn't fail when Keystone is away.
func TestFollowersVouchForCallers(t *testing.T) {
	fake, option := withKeystone(t)
	c := newThreeServers(t, option, oneLeader)
	leader := c.leader()
	var follower *oneOfThree
	for _, m := range c.members {
		if m != leader {
			follower = m
		}
	}
	url := follower.running().URL()
	c.eventually("the follower serves", func() bool {
		status, _ := ask(t, "GET", url+"/v1/bays?consistent=true", "alice", "")
		return status == 200
	})
	fake.SetStatus(503)
	text := ""
	c.eventually("a write by the follower", func() bool {
		var status int
		status, text = ask(t, "POST", url+"/v1/baymodels", "alice", `{"coe":"docker"}`)
		return status == 201
	})
	for m := range leader.running().store.Snapshot().List(structs.TableBayModels, "id-alpha", 0) {
		if m.Base().UserID != "id-alice" {
			t.Errorf("a baymodel of user %q", m.Base().UserID)
		}
		if !strings.Contains(text, m.Base().ID) {
			t.Errorf("%s: %s", m.Base().ID, text)
		}
	}
	if n := fake.Validations("alice"); n != 1 {
		t.Errorf("%d validations of one token by the servers", n)
	}
	// Who is not let in by the follower isn't let in by the leader.
	if status, text := ask(t, "POST", url+"/v1/baymodels", "garbage", `{"coe":"docker"}`); status != 503 {
		t.Errorf("garbage: %d %s", status, text)
	}
}

// TestPolicyIsReloaded: a bad file on SIGHUP changes nothing.
func TestPolicyIsReloaded(t *testing.T) {
	_, option := withKeystone(t)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedBuffer
	write("baymodel:create: role:admin\n")
	m := newMember("s1", t.TempDir(), nil, 1)
	option(&m.config)
	m.config.PolicyFile, m.config.Logger = path, hclog.New(&hclog.LoggerOptions{Output: &log})
	m.start(t)
	defer m.stop()
	url := m.running().URL() + "/v1/baymodels"
	create := func(token string, want int) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			status, text := ask(t, "POST", url, token, `{"coe":"docker"}`)
			if status == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d %s, want %d", token, status, text, want)
			}
		}
	}
	create("root", 201)
	create("alice", 403)
	write("baymodel:craete: role:member\n")
	m.running().Reload()
	create("alice", 403)
	if text := log.String(); !strings.Contains(text, "[ERROR]") || !strings.Contains(text, "baymodel:craete") {
		t.Errorf("log: %s", text)
	}
	write("baymodel:create: role:member\n")
	m.running().Reload()
	create("alice", 201)
	if text := log.String(); strings.Contains(text, keystonefake.Password) || strings.Contains(text, fmt.Sprintf("%q", "alice")) {
		t.Errorf("log: %s", text)
	}
}
