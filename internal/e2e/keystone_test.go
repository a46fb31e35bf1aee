//go:build openstack

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/keystonetest"
	"github.com/stackforge/magnum/structs"
)

// keystoneCluster is a server that authenticates by a Keystone, in whose catalogue it is.
type keystoneCluster struct {
	*cluster
	*keystonetest.Cast
	keystone *keystonetest.Keystone
	region   string
}

// newKeystoneCluster starts a server, which calls Keystone at authURL, "" for the Keystone's
// own.
func newKeystoneCluster(t testing.TB, k *keystonetest.Keystone, authURL string, args ...string) *keystoneCluster {
	t.Helper()
	if authURL == "" {
		authURL = k.URL
	}
	c := &keystoneCluster{cluster: &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), engine: newEngine(t)}, keystone: k}
	c.Cast = k.Cast(t)
	c.region = k.Endpoint(t, "http://"+c.addr+"/v1")
	_, port, _ := net.SplitHostPort(c.addr)
	data := filepath.Join(c.dir, "data")
	c.server = c.process("server", append([]string{"server", "-data-dir", data, "-http-port", port, "-raft-port", freePort(t),
		"-gossip-port", "-1", "-log-level", "debug"}, args...)...)
	service := k.ServiceUser()
	c.server.env = []string{"MAGNUM_KEYSTONE_AUTH_URL=" + authURL, "MAGNUM_KEYSTONE_USERNAME=" + service.Name,
		"MAGNUM_KEYSTONE_PASSWORD=" + service.Password, "MAGNUM_KEYSTONE_PROJECT_NAME=" + k.ServiceProject().Name}
	c.server.start()
	t.Cleanup(c.cleanup)
	c.client = c.as(k.Token(t, k.AdminUser(), k.AdminProject()))
	c.eventually("the server answers an administrator", patience, func() error {
		_, _, err := c.client.OperatorState(c.ctx())
		return err
	})
	return c
}

// startAgent starts an agent, whose host no bay has.
func (c *keystoneCluster) startAgent() {
	c.Helper()
	c.agent = c.process("agent", "agent", "-server", c.addr, "-gossip=false", "-data-dir", filepath.Join(c.dir, "data"),
		"-name", "host-1", "-log-level", "debug", "-image-gc-high", "0")
	c.agent.start()
	c.eventually("the host is ready", patience, func() error {
		h, _, err := c.client.Hosts().Get(c.ctx(), "host-1", api.QueryOptions{})
		if err == nil && h.State != structs.HostReady {
			err = fmt.Errorf("it is %s", h.State)
		}
		return err
	})
}

// makeBay makes a bay with the host, as the client's user.
func (c *keystoneCluster) makeBay(client *api.Client) {
	c.Helper()
	_, port, _ := net.SplitHostPort(c.addr)
	count, name := 1, "bay-"+port
	var err error
	if c.bay, _, err = client.Bays().Create(c.ctx(), &structs.BayRequest{Name: &name, NodeCount: &count}, api.WriteOptions{}); err != nil {
		c.Fatal(err)
	}
	c.eventually("the bay has its host", patience, func() error {
		b, _, err := client.Bays().Get(c.ctx(), c.bay.UUID, api.QueryOptions{})
		if err == nil && b.Status != structs.BayCreated {
			err = fmt.Errorf("the bay is %s: %s", b.Status, deref(b.StatusReason))
		}
		return err
	})
}

// as returns a client with a token.
func (c *keystoneCluster) as(token string) *api.Client {
	c.Helper()
	client, err := api.New(api.Config{Address: c.addr, Token: token, RetryFor: time.Millisecond})
	if err != nil {
		c.Fatal(err)
	}
	return client
}

// lists returns the code of listing bays with a token, "" for success.
func (c *keystoneCluster) lists(token string) structs.Code {
	_, _, err := c.as(token).Bays().List(c.ctx(), api.QueryOptions{})
	return structs.CodeOf(err)
}

// becomes waits until listing bays with a token has the code.
func (c *keystoneCluster) becomes(what, token string, want structs.Code) {
	c.Helper()
	c.eventually(what, patience, func() error {
		if got := c.lists(token); got != want {
			return fmt.Errorf("the code is %q, want %q", got, want)
		}
		return nil
	})
}

// creates returns the error of creating a bay with a token.
func (c *keystoneCluster) creates(token, name string) error {
	_, _, err := c.as(token).Bays().Create(c.ctx(), &structs.BayRequest{Name: &name}, api.WriteOptions{Wait: -1})
	return err
}

// signedIn runs the CLI as a user, who finds the server in the catalogue.
func (c *keystoneCluster) signedIn(u keystonetest.User, p keystonetest.Project, args ...string) result {
	c.Helper()
	return magnum(c.TB, c.keystone.Env(u, p, c.region), "", args...)
}

// get sends a plain GET of /v1/bays.
func (c *keystoneCluster) get(header map[string]string) (*http.Response, string) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.ctx(), http.MethodGet, "http://"+c.addr+"/v1/bays", nil)
	if err != nil {
		c.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp, string(body)
}

// TestKeystoneUsers: alice, bob and carol do what their roles and projects allow, by the CLI
// and the catalogue; and tokens lose what Keystone takes from them.
func TestKeystoneUsers(t *testing.T) {
	t.Parallel()
	k := keystonetest.Open(t)
	c := newKeystoneCluster(t, k, "", "-keystone-cache-ttl", "1s")

	c.signedIn(c.Alice, c.Alpha, "bay-create", "-name", "web", "-detach").must(t)
	sees := func(who string, r result, want bool) {
		t.Helper()
		if out := r.must(t); strings.Contains(out, "web") != want {
			t.Errorf("%s lists:\n%s", who, out)
		}
	}
	sees("alice", c.signedIn(c.Alice, c.Alpha, "bay-list"), true)
	sees("carol", c.signedIn(c.Carol, c.Alpha, "bay-list"), true)
	sees("bob", c.signedIn(c.Bob, c.Beta, "bay-list"), false)
	sees("admin", c.signedIn(k.AdminUser(), k.AdminProject(), "bay-list"), false)
	sees("admin of all", c.signedIn(k.AdminUser(), k.AdminProject(), "bay-list", "-all-projects"), true)
	fails := func(who string, r result, want string) {
		t.Helper()
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: code %d, %s, want %q", who, r.code, r.stderr, want)
		}
	}
	fails("bob shows alice's", c.signedIn(c.Bob, c.Beta, "bay-show", "web"), "(HTTP 404)")
	fails("bob lists all", c.signedIn(c.Bob, c.Beta, "bay-list", "-all-projects"), "(HTTP 403)")
	fails("bob deletes alice's", c.signedIn(c.Bob, c.Beta, "bay-delete", "web"), "(HTTP 404)")
	fails("carol creates", c.signedIn(c.Carol, c.Alpha, "bay-create", "-name", "x"), "(HTTP 403)")
	fails("alice operates", c.signedIn(c.Alice, c.Alpha, "host-list"), "(HTTP 403)")

	t.Run("answers", func(t *testing.T) { c.refusesTokens(t) })
	t.Run("logins", func(t *testing.T) { c.takesLogins(t) })
	t.Run("losses", func(t *testing.T) { c.losesRights(t) })
}

// refusesTokens checks the answers to what is no token of a project.
func (c *keystoneCluster) refusesTokens(t *testing.T) {
	k := c.keystone
	dora := k.NewUser(t, "dora")
	k.GrantDomain(t, dora, "admin")
	alice := k.Token(t, c.Alice, c.Alpha)
	for _, tt := range []struct {
		name   string
		header map[string]string
		status int
		text   string
	}{
		{"none", nil, 401, "Authentication required"},
		{"garbage", map[string]string{"X-Auth-Token": "gAAAAABgarbage"}, 401, "not valid"},
		{"unscoped", map[string]string{"X-Auth-Token": k.UnscopedToken(t, c.Alice)}, 403, "OS_PROJECT_NAME"},
		{"domain", map[string]string{"X-Auth-Token": k.DomainToken(t, dora)}, 403, "scoped to a domain"},
		{"system", map[string]string{"X-Auth-Token": k.SystemToken(t)}, 403, "scoped to the system"},
		{"another project", map[string]string{"X-Auth-Token": alice, "X-Auth-Project-Id": c.Beta.ID}, 403, "X-Auth-Project-Id"},
		{"its project", map[string]string{"X-Auth-Token": alice, "X-Auth-Project-Id": c.Alpha.ID}, 200, ""},
		{"forged identity", map[string]string{"X-User-Id": "admin", "X-Project-Id": c.Alpha.ID, "X-Roles": "admin",
			"X-Identity-Status": "Confirmed"}, 401, ""},
	} {
		resp, body := c.get(tt.header)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.text) {
			t.Errorf("%s: status %d, %s, want %d and %q", tt.name, resp.StatusCode, body, tt.status, tt.text)
		}
		if challenge := resp.Header.Get("WWW-Authenticate"); (resp.StatusCode == 401) != strings.HasPrefix(challenge, "Keystone uri=") {
			t.Errorf("%s: status %d with WWW-Authenticate %q", tt.name, resp.StatusCode, challenge)
		}
	}
	if r := magnum(t, append(k.Env(dora, keystonetest.Project{}, c.region), "OS_PROJECT_NAME=", "OS_DOMAIN_ID=default",
		"MAGNUM_ADDR="+c.addr), "", "bay-list"); r.code != 1 || !strings.Contains(r.stderr, "(HTTP 403)") {
		t.Errorf("the CLI with a domain: code %d, %s", r.code, r.stderr)
	}
}

// takesLogins signs in by application credential, token and clouds.yaml.
func (c *keystoneCluster) takesLogins(t *testing.T) {
	k := c.keystone
	member, reader := k.NewCredential(t, c.Alice, c.Alpha, "member"), k.NewCredential(t, c.Alice, c.Alpha, "reader")
	login := func(credential keystonetest.Credential) []string {
		return []string{"OS_AUTH_URL=" + k.URL, "OS_REGION_NAME=" + c.region, "OS_AUTH_TYPE=v3applicationcredential",
			"OS_APPLICATION_CREDENTIAL_ID=" + credential.ID, "OS_APPLICATION_CREDENTIAL_SECRET=" + credential.Secret}
	}
	magnum(t, login(member), "", "bay-create", "-name", "by-credential", "-detach").must(t)
	if r := magnum(t, login(reader), "", "bay-create", "-name", "x"); r.code != 1 || !strings.Contains(r.stderr, "(HTTP 403)") {
		t.Errorf("a credential of a reader creates: code %d, %s", r.code, r.stderr)
	}
	if out := magnum(t, login(reader), "", "bay-list").must(t); !strings.Contains(out, "by-credential") {
		t.Errorf("a credential of a reader lists:\n%s", out)
	}

	token := k.Token(t, c.Alice, c.Alpha)
	for _, env := range [][]string{
		{"OS_TOKEN=" + token, "OS_AUTH_URL=" + k.URL, "OS_REGION_NAME=" + c.region},
		{"OS_TOKEN=" + token, "MAGNUM_ADDR=" + c.addr},
		{"OS_AUTH_TYPE=v3token", "OS_TOKEN=" + k.UnscopedToken(t, c.Alice), "OS_AUTH_URL=" + k.URL, "OS_REGION_NAME=" + c.region,
			"OS_PROJECT_ID=" + c.Alpha.ID},
	} {
		if out := magnum(t, env, "", "bay-list").must(t); !strings.Contains(out, "web") {
			t.Errorf("%s: lists\n%s", strings.ReplaceAll(strings.Join(env, " "), token, "..."), out)
		}
	}

	clouds := c.clouds(t)
	for _, args := range []string{"-os-cloud alice bay-list", "bay-list -os-cloud alice"} {
		out := magnum(t, []string{"OS_CLIENT_CONFIG_FILE=" + clouds, "OS_USERNAME=nobody"}, "", strings.Fields(args)...).must(t)
		if !strings.Contains(out, "web") {
			t.Errorf("%s lists\n%s", args, out)
		}
	}
	if out := magnum(t, []string{"OS_CLIENT_CONFIG_FILE=" + clouds, "OS_CLOUD=bob"}, "", "bay-list").must(t); strings.Contains(out, "web") {
		t.Errorf("the cloud bob lists\n%s", out)
	}
	for _, tt := range []struct {
		env  string
		want string
	}{
		{"OS_PASSWORD=wrong", "check OS_PASSWORD"},
		{"OS_PROJECT_NAME=" + c.Beta.Name, "has a role in the project"},
		{"OS_REGION_NAME=none", "choose with OS_REGION_NAME"},
		{"OS_AUTH_URL=" + strings.TrimSuffix(k.URL, "/v3") + "/nothing", "there is no Keystone v3 at"},
	} {
		r := magnum(t, append(k.Env(c.Alice, c.Alpha, c.region), tt.env), "", "bay-list")
		if r.code != 1 || !strings.Contains(r.stderr, tt.want) {
			t.Errorf("%s: code %d, %s, want %q", tt.env, r.code, r.stderr, tt.want)
		}
	}
}

// clouds returns a clouds.yaml with the clouds alice and bob.
func (c *keystoneCluster) clouds(t *testing.T) string {
	t.Helper()
	cloud := func(u keystonetest.User, p keystonetest.Project) map[string]any {
		return map[string]any{"region_name": c.region, "identity_api_version": "3", "auth": map[string]string{
			"auth_url": c.keystone.URL, "username": u.Name, "password": u.Password, "project_name": p.Name,
			"user_domain_id": "default", "project_domain_id": "default"}}
	}
	text, err := json.Marshal(map[string]any{"clouds": map[string]any{"alice": cloud(c.Alice, c.Alpha), "bob": cloud(c.Bob, c.Beta)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// losesRights takes tokens, roles, users and projects away. All are used before, so that
// answers are cached.
func (c *keystoneCluster) losesRights(t *testing.T) {
	k := c.keystone
	gamma, eve := k.NewProject(t, "gamma"), k.NewUser(t, "eve")
	k.Grant(t, eve, gamma, "member")
	first, second := k.Token(t, eve, gamma), k.Token(t, eve, gamma)
	for _, token := range []string{first, second} {
		c.becomes("eve lists", token, "")
	}
	k.RevokeToken(t, first)
	c.becomes("the revoked token is refused", first, structs.CodeUnauthenticated)
	if got := c.lists(second); got != "" {
		t.Errorf("the other token has %q", got)
	}

	if err := c.creates(second, "of-gamma"); err != nil {
		t.Errorf("a member creates: %v", err)
	}
	k.Grant(t, eve, gamma, "reader")
	k.Withdraw(t, eve, gamma, "member")
	c.eventually("eve only reads", patience, func() error {
		if err := c.creates(second, "x"); structs.CodeOf(err) != structs.CodeForbidden {
			return fmt.Errorf("creating has %w", errors.Join(err, errors.New("want forbidden")))
		}
		return nil
	})
	c.becomes("a reader lists", second, "")
	k.Withdraw(t, eve, gamma, "reader")
	c.becomes("without a role the token is refused", second, structs.CodeUnauthenticated)
	k.Grant(t, eve, gamma, "member")
	third := k.Token(t, eve, gamma)
	c.becomes("eve lists again", third, "")
	k.EnableProject(t, gamma, false)
	c.becomes("the project is disabled", third, structs.CodeUnauthenticated)

	credential := k.NewCredential(t, c.Bob, c.Beta, "member")
	token := k.CredentialToken(t, credential)
	c.becomes("a credential lists", token, "")
	k.EnableUser(t, c.Bob, false)
	c.becomes("its user is disabled", token, structs.CodeUnauthenticated)
}

// TestKeystoneAway: a Keystone that is slow, then killed under load, and back, disturbs nobody
// whose token is cached, and no agent. Others get 503, and get in when it is back.
func TestKeystoneAway(t *testing.T) {
	t.Parallel()
	k := keystonetest.Start(t, keystonetest.Options{})
	proxy := keystonetest.NewProxy(t, k)
	c := newKeystoneCluster(t, k, proxy.URL, "-keystone-cache-ttl", "5m", "-keystone-timeout", "3s")
	c.startAgent()
	alice, bob, carol := k.Token(t, c.Alice, c.Alpha), k.Token(t, c.Bob, c.Beta), k.Token(t, c.Carol, c.Alpha)
	late := k.Token(t, c.Alice, c.Alpha)
	c.makeBay(c.as(alice))

	// Everything that alice does while the load runs must succeed.
	ctx, stop := context.WithCancel(c.ctx())
	done := make(chan error, 1)
	count := 0
	go func() {
		client := c.as(alice)
		pace := time.NewTicker(10 * time.Millisecond) // far below the rate of a project
		defer pace.Stop()
		for ; ctx.Err() == nil; <-pace.C {
			if _, _, err := client.Bays().List(context.WithoutCancel(ctx), api.QueryOptions{}); err != nil {
				done <- fmt.Errorf("request %d: %w", count, err)
				return
			}
			count++
		}
		done <- nil
	}()
	works := func(when string) {
		t.Helper()
		name := "during-" + strings.ReplaceAll(when, " ", "-")
		r := c.request(name, sleepScript)
		if _, _, err := c.as(alice).Containers().Create(c.ctx(), r, api.CreateOptions{Run: true}); err != nil {
			t.Fatalf("%s: alice creates: %v", when, err)
		}
		// The agent polls, reports, and has no token of Keystone.
		c.eventually(when+": the container runs", patience, func() error {
			b, _, err := c.as(alice).Containers().Get(c.ctx(), name, api.QueryOptions{})
			if err == nil && b.Status != structs.ContainerRunning {
				err = fmt.Errorf("it is %s (%s)", b.Status, deref(b.StatusReason))
			}
			return err
		})
	}

	proxy.SetDelay(5 * time.Second)
	if code := c.lists(bob); code != structs.CodeUnavailable {
		t.Errorf("with a slow Keystone an uncached token has %q", code)
	}
	works("Keystone is slow")
	proxy.SetDelay(0)
	c.becomes("bob lists once Keystone is fast again", bob, "")

	k.Kill(t)
	c.becomes("an uncached token while Keystone is away", carol, structs.CodeUnavailable)
	resp, body := c.get(map[string]string{"X-Auth-Token": late})
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	if code := c.lists(bob); code != "" {
		t.Errorf("a cached token has %q", code)
	}
	works("Keystone is away")
	k.Restart(t, keystonetest.Options{})
	c.becomes("carol lists once Keystone is back", carol, "")
	c.becomes("so does the other", late, "")
	stop()
	if err := <-done; err != nil {
		t.Errorf("alice's requests: %v", err)
	}
	t.Logf("%d requests of alice succeeded", count)

	for _, when := range []string{"during-Keystone-is-slow", "during-Keystone-is-away"} {
		if _, err := c.as(alice).Containers().Delete(c.ctx(), when, api.DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// TestKeystoneSetUp registers magnum in a Keystone that knows nothing of it, with a server
// whose user that makes; and lets tokens expire soon.
func TestKeystoneSetUp(t *testing.T) {
	t.Parallel()
	k := keystonetest.Start(t, keystonetest.Options{TokenTTL: 20 * time.Second})
	var services struct{ Services []struct{ ID string } }
	k.Admin(t, http.MethodGet, "/services?type=container", nil, &services)
	for _, s := range services.Services { // of the Keystone that it is a copy of
		k.Admin(t, http.MethodDelete, "/services/"+s.ID, nil, nil)
	}
	cast := k.Cast(t)
	admin := k.Env(k.AdminUser(), k.AdminProject(), "RegionOne")
	alice := k.Env(cast.Alice, cast.Alpha, "RegionOne")
	if r := magnum(t, alice, "", "bay-list"); r.code != 1 || !strings.Contains(r.stderr, "magnum keystone-setup") {
		t.Errorf("before it is registered: code %d, %s", r.code, r.stderr)
	}

	addr := "127.0.0.1:" + freePort(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("of the service\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	setUp := func(args ...string) (results string) {
		t.Helper()
		out := magnum(t, admin, "", append([]string{"keystone-setup", "-json", "-url", "http://" + addr}, args...)...).must(t)
		var steps []struct{ Kind, Name, Result, Password string }
		if err := json.Unmarshal([]byte(out), &steps); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, s := range steps {
			results += s.Kind + " " + s.Result + ", "
		}
		return results
	}
	user := []string{"-service-user", "kim", "-service-password-file", password}
	const endpoints = "endpoint created, endpoint created, endpoint created, "
	if got := setUp(); got != "service created, "+endpoints {
		t.Errorf("first run: %s", got)
	}
	if got := setUp(user...); got != "service found, "+strings.ReplaceAll(endpoints, "created", "found")+
		"project found, role found, user created, assignment created, " {
		t.Errorf("with a user: %s", got)
	}
	again := setUp(user...)
	if strings.Contains(again, "created") || strings.Contains(again, "changed") || strings.Count(again, "found") != 8 {
		t.Errorf("another run: %s", again)
	}
	if got := setUp("-internal-url", "http://localhost:1"); strings.Count(got, "changed") != 1 || strings.Count(got, "found") != 3 {
		t.Errorf("another internal endpoint: %s", got)
	}
	if got := setUp(); strings.Count(got, "changed") != 1 {
		t.Errorf("back: %s", got)
	}
	if r := magnum(t, alice, "", "keystone-setup", "-url", "http://x"); r.code != 1 || !strings.Contains(r.stderr, "as an administrator") {
		t.Errorf("as alice: code %d, %s", r.code, r.stderr)
	}
	if r := magnum(t, admin, "", "keystone-setup", "-url", "http://x", "-name", "other"); r.code != 1 ||
		!strings.Contains(r.stderr, "another service of type container") {
		t.Errorf("another name: code %d, %s", r.code, r.stderr)
	}
	if r := magnum(t, admin, "", "keystone-setup", "-url", "http://x", "-region", "nowhere"); r.code != 1 ||
		!strings.Contains(r.stderr, "no region nowhere, but ") {
		t.Errorf("another region: code %d, %s", r.code, r.stderr)
	}

	c := &keystoneCluster{cluster: &cluster{TB: t, dir: t.TempDir(), addr: addr, engine: newEngine(t)},
		Cast: cast, keystone: k, region: "RegionOne"}
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(c.dir, "server.hcl")
	text := fmt.Sprintf("keystone {\n  auth_url = %q\n  username = \"kim\"\n  password_file = %q\n"+
		"  region = \"RegionOne\"\n  endpoint = \"http://elsewhere.example.org:9511/v1\"\n}\n", k.URL, password)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.server = c.process("server", "server", "-config", conf, "-data-dir", filepath.Join(c.dir, "data"), "-http-port", port,
		"-raft-port", freePort(t), "-gossip-port", "-1", "-log-level", "debug")
	c.server.start()
	t.Cleanup(c.cleanup)
	c.eventually("the server warns of the catalogue", patience, func() error {
		if log, err := os.ReadFile(c.server.log); err != nil || !strings.Contains(string(log), "another public endpoint") {
			return fmt.Errorf("its log has no warning: %v", err)
		}
		return nil
	})
	c.eventually("alice lists by the catalogue", patience, func() error {
		if r := magnum(t, alice, "", "bay-list"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	c.outlives(t)
}

// outlives uses tokens that expire: with that of a service an expired one is good, and a CLI
// that goes on signs in again.
func (c *keystoneCluster) outlives(t *testing.T) {
	k := c.keystone
	bays := c.watching(t, "bay-list", "-watch")
	c.signedIn(c.Alice, c.Alpha, "bay-create", "-name", "seen-early", "-detach").must(t)
	events := c.watching(t, "events", "-index", "1", "-type", "bay")
	token := k.Token(t, c.Alice, c.Alpha)
	nova := k.NewUser(t, "nova")
	k.Grant(t, nova, c.Beta, "service")
	if code := c.lists(token); code != "" {
		t.Errorf("the token has %q", code)
	}
	c.becomes("the token has expired", token, structs.CodeUnauthenticated)
	if status, _ := k.Validate(t, token); status != http.StatusNotFound {
		t.Errorf("Keystone validates the token with %d", status)
	}
	for _, tt := range []struct {
		name    string
		service string
		status  int
	}{
		{"a service", k.Token(t, nova, c.Beta), 200},
		{"the servers' user", k.Token(t, keystonetest.User{Name: "kim", Password: "of the service"}, k.ServiceProject()), 200},
		{"a user", k.Token(t, c.Bob, c.Beta), 401},
		{"garbage", "gAAAAgarbage", 401},
	} {
		resp, body := c.get(map[string]string{"X-Auth-Token": token, "X-Service-Token": tt.service})
		if resp.StatusCode != tt.status {
			t.Errorf("an expired token with that of %s: status %d, %s", tt.name, resp.StatusCode, body)
		}
	}
	// The watches began before all these tokens.
	c.signedIn(c.Alice, c.Alpha, "bay-create", "-name", "seen-late", "-detach").must(t)
	late := time.After(patience)
	for name, lines := range map[string]<-chan string{"list": bays, "events": events} {
		for seen := false; !seen; {
			select {
			case line, ok := <-lines:
				if seen = strings.Contains(line, "seen-late"); !ok {
					t.Fatalf("the watch of %s has ended", name)
				}
			case <-late:
				t.Fatalf("the watch of %s does not show the bay", name)
			}
		}
	}
}

// watching runs a command that watches as alice, and returns its lines.
func (c *keystoneCluster) watching(t *testing.T, args ...string) <-chan string {
	t.Helper()
	f := &following{t: t, cmd: exec.Command(program(t), args...), lines: make(chan string, 1000)}
	f.cmd.Env = append(os.Environ(), c.keystone.Env(c.Alice, c.Alpha, c.region)...)
	f.run()
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill() // it may have ended
		_ = f.cmd.Wait()
	})
	f.awaitLines(1)
	return f.lines
}
