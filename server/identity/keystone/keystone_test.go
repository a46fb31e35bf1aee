package keystone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/identity/keystone/keystonefake"
	"github.com/stackforge/magnum/structs"
)

// patience is how long tests wait for what happens soon.
const patience = time.Minute

// tester is an Authenticator in front of a fake Keystone.
type tester struct {
	*Authenticator
	t       testing.TB
	fake    *keystonefake.Keystone
	ahead   atomic.Int64 // nanoseconds by which the clock of the cache is ahead
	log     *lockedBuffer
	mu      sync.Mutex
	results []string
}

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

func newTester(t testing.TB, change ...func(*Config)) *tester {
	t.Helper()
	x := &tester{t: t, fake: keystonefake.New(t), log: &lockedBuffer{}}
	c := Config{AuthURL: x.fake.URL, Username: keystonefake.Username, Password: keystonefake.Password}
	for _, f := range change {
		f(&c)
	}
	logger := hclog.New(&hclog.LoggerOptions{Output: x.log, Level: hclog.Trace})
	var err error
	x.Authenticator, err = New(c, logger, func(result string, _ time.Duration) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.results = append(x.results, result)
	})
	if err != nil {
		t.Fatal(err)
	}
	x.now = func() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) }
	x.fake.Add("alice", keystonefake.Caller("alpha", "alice", "reader", "member"))
	return x
}

// pass lets time pass for the cache.
func (x *tester) pass(d time.Duration) { x.ahead.Add(int64(d)) }

func (x *tester) auth(token string) (structs.Caller, error) {
	return x.Authenticate(context.Background(), identity.Credentials{Token: token})
}

func (x *tester) is(token string, want structs.Code) structs.Caller {
	x.t.Helper()
	caller, err := x.auth(token)
	if structs.CodeOf(err) != want {
		x.t.Fatalf("%.40s: %v, want code %q", token, err, want)
	}
	if err != nil && (caller.ProjectID != "" || caller.Roles != nil) {
		x.t.Fatalf("%.40s: a caller with the error %v", token, err)
	}
	return caller
}

func (x *tester) eventually(what string, f func() bool) {
	x.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func TestCallerOfToken(t *testing.T) {
	x := newTester(t)
	x.fake.Add("mixed", keystonefake.Caller("alpha", "carol", "Member", "AUDITOR", "member"))
	x.fake.Add("appcred", keystonefake.Token{User: "alice", Project: "alpha", Roles: []string{"member"}, Credential: true})
	x.fake.Add("root", keystonefake.Caller("admin", "root", "admin", "member", "reader"))
	c := x.is("alice", "")
	if c.Kind != structs.CallerKeystone || c.ProjectID != "id-alpha" || c.UserID != "id-alice" || c.UserName != "alice" ||
		c.ProjectName != "alpha" ||
		c.UserDomainID != "default" || c.ProjectDomainID != "default" || c.TokenID != "" || c.Service != nil || c.Credential == nil {
		t.Errorf("%+v", c)
	}
	for token, want := range map[string][]structs.Role{
		"alice": {"reader", "member"}, "mixed": {"member", "auditor"}, "appcred": {"member"}, "root": {"member", "reader", "admin"},
	} {
		if got := x.is(token, "").Roles; !slices.Equal(got, want) {
			t.Errorf("%s has roles %v, want %v", token, got, want)
		}
	}
	for named, want := range map[string]structs.Code{
		"": "", "id-alpha": "", "alpha": "", "beta": structs.CodeForbidden, "id-beta": structs.CodeForbidden,
	} {
		if err := identity.CheckProject(c, named); structs.CodeOf(err) != want {
			t.Errorf("X-Auth-Project-Id %q: %v", named, err)
		}
	}
}

func TestAdminRolesAreTheOperators(t *testing.T) {
	x := newTester(t, func(c *Config) { c.AdminRoles = []string{"Cloud-Admin"} })
	x.fake.Add("cloud", keystonefake.Caller("alpha", "c", "cloud-admin"))
	x.fake.Add("project", keystonefake.Caller("alpha", "p", "admin", "member"))
	if c := x.is("cloud", ""); !c.Is(structs.RoleAdmin) {
		t.Errorf("cloud-admin has %v", c.Roles)
	}
	if c := x.is("project", ""); c.Is(structs.RoleAdmin) || !c.Is(structs.RoleMember) {
		t.Errorf("admin has %v", c.Roles)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	x := newTester(t)
	over := keystonefake.Caller("alpha", "alice", "member")
	over.Expires = time.Now().Add(-time.Minute)
	x.fake.Add("expired", over)
	for _, scope := range []string{"domain", "system", "unscoped", "project-domain"} {
		x.fake.Add(scope, keystonefake.Token{User: "alice", Project: "alpha", Roles: []string{"member"}, Scope: scope})
	}
	x.fake.Add("rules", keystonefake.Token{User: "alice", Project: "alpha", Roles: []string{"member"},
		AccessRules: `[{"service":"container","method":"GET","path":"/v1/bays"}]`})
	x.fake.Add("no-rules", keystonefake.Token{User: "alice", Project: "alpha", Roles: []string{"member"}, AccessRules: `[]`})
	x.fake.Add("forged", keystonefake.Caller("al\npha", "alice", "admin"))
	x.fake.Add("any", keystonefake.Token{User: "alice", Project: "any", ProjectID: "*", Roles: []string{"member"}})
	x.fake.Add("long", keystonefake.Caller("alpha", strings.Repeat("x", 300), "admin"))
	for token, says := range map[string]string{
		"garbage": "401 Keystone does not know it", "expired": "401 Keystone does not know it",
		"domain": "403 scoped to a domain: use a project-scoped token", "project-domain": "403 scoped to a domain",
		"system": "403 scoped to the system: use a project-scoped token", "unscoped": "403 no scope: use a project-scoped token",
		"rules": "403 access rules", "no-rules": "403 access rules",
		"forged": "403 can't use", "long": "403 can't use", "any": "403 has no project",
		strings.Repeat("x", maxToken+1): "401 longer than", "a b": "401 not valid", "a\x00": "401 not valid", "ä": "401 not valid",
	} {
		status, text, _ := strings.Cut(says, " ")
		want := structs.CodeUnauthenticated
		if status == "403" {
			want = structs.CodeForbidden
		}
		for range 2 { // from Keystone, and from the cache
			if _, err := x.auth(token); structs.CodeOf(err) != want || !strings.Contains(err.Error(), text) {
				t.Errorf("%.20s: %v, want %s", token, err, says)
			}
		}
		if n := x.fake.Validations(token); len(token) > 20 && n > 0 || n > 1 {
			t.Errorf("%.20s was asked for %d times", token, n)
		}
	}
	if strings.Contains(x.log.String(), "garbage") {
		t.Errorf("the log has a token:\n%s", x.log)
	}
}

func TestCacheIsUsedForItsTimeOnly(t *testing.T) {
	x := newTester(t)
	for range 10 {
		x.is("alice", "")
	}
	if n := x.fake.Validations("alice"); n != 1 {
		t.Errorf("%d validations of one token", n)
	}
	x.fake.Revoke("alice")
	x.is("alice", "")
	x.pass(31 * time.Second)
	x.is("alice", structs.CodeUnauthenticated)
	// The refusal is remembered for a second.
	x.fake.Add("alice", keystonefake.Caller("alpha", "alice", "reader"))
	x.is("alice", structs.CodeUnauthenticated)
	x.pass(1100 * time.Millisecond)
	if c := x.is("alice", ""); !slices.Equal(c.Roles, []structs.Role{"reader"}) {
		t.Errorf("roles %v after the others were removed", c.Roles)
	}
	if s := x.Stats(); s.Hits != 11 || s.Misses != 3 || s.Entries != 1 || s.Bytes < 1024 {
		t.Errorf("%+v", s)
	}
	if want := []string{ResultValid, ResultInvalid, ResultValid}; !slices.Equal(x.results, want) {
		t.Errorf("results %v", x.results)
	}
}

func TestCacheEndsWithTheToken(t *testing.T) {
	x := newTester(t)
	soon := keystonefake.Caller("alpha", "alice", "member")
	soon.Expires = time.Now().Add(10 * time.Second)
	x.fake.Add("soon", soon)
	x.is("soon", "")
	x.pass(11 * time.Second)
	x.is("soon", structs.CodeUnauthenticated)
}

// TestCacheIsRenewedBeforeItsEnd: users of a slow Keystone don't wait every 30 s.
func TestCacheIsRenewedBeforeItsEnd(t *testing.T) {
	x := newTester(t)
	x.is("alice", "")
	x.fake.Block()
	x.pass(25 * time.Second)
	for range 20 {
		x.is("alice", "") // doesn't wait
	}
	x.eventually("a validation in the background", func() bool { return x.fake.Validations("alice") == 2 })
	x.fake.Open()
	x.eventually("its answer is used", func() bool { return slices.Equal(x.seen(), []string{ResultValid, ResultValid}) })
	x.pass(10 * time.Second)
	x.is("alice", "")
	if n := x.fake.Validations("alice"); n != 2 {
		t.Errorf("%d validations", n)
	}
}

func (x *tester) seen() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.results)
}

// TestOneValidationOfOneColdToken: 64 clients begin at once.
func TestOneValidationOfOneColdToken(t *testing.T) {
	x := newTester(t)
	x.fake.Block()
	var all sync.WaitGroup
	var begun atomic.Int64
	failed := make(chan error, 64)
	for range 64 {
		all.Go(func() {
			begun.Add(1)
			if _, err := x.auth("alice"); err != nil {
				failed <- err
			}
		})
	}
	x.eventually("all ask", func() bool { return begun.Load() == 64 && x.misses.Load() == 64 })
	x.fake.Open()
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if n, logins := x.fake.Validations("alice"), x.fake.Logins(); n != 1 || logins != 1 {
		t.Errorf("%d validations and %d logins", n, logins)
	}
}

// TestOneWhoLeavesFailsNoOther: the first client of a validation goes away.
func TestOneWhoLeavesFailsNoOther(t *testing.T) {
	x := newTester(t)
	x.fake.Block()
	ctx, leave := context.WithCancel(context.Background())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := x.Authenticate(ctx, identity.Credentials{Token: "alice"})
		first <- err
	}()
	x.eventually("the first asks", func() bool { n, _ := x.fake.Waiting(); return n == 1 })
	go func() {
		_, err := x.auth("alice")
		second <- err
	}()
	x.eventually("the second asks", func() bool { return x.misses.Load() == 2 })
	leave()
	if err := <-first; structs.CodeOf(err) != structs.CodeUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	x.fake.Open()
	if err := <-second; err != nil {
		t.Errorf("who stayed got %v", err)
	}
	if n := x.fake.Validations("alice"); n != 1 {
		t.Errorf("%d validations", n)
	}
}

func TestServiceTokenIsRenewed(t *testing.T) {
	x := newTester(t)
	x.is("alice", "")
	x.fake.RevokeOwn()
	for i := range 10 {
		x.fake.Add(fmt.Sprint("user-", i), keystonefake.Caller("alpha", "alice", "member"))
	}
	x.is("garbage", structs.CodeUnauthenticated) // a 404 after the second login
	x.fake.RevokeOwn()
	x.fake.Block()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if _, err := x.auth(fmt.Sprint("user-", i)); err != nil {
				t.Errorf("user %d: %v", i, err)
			}
		})
	}
	x.fake.Open()
	all.Wait()
	if n := x.fake.Logins(); n != 3 {
		t.Errorf("%d logins, want one for each revocation", n)
	}
	x.fake.SetPassword("changed")
	x.fake.RevokeOwn()
	x.fake.Add("new", keystonefake.Caller("alpha", "alice", "member"))
	x.is("new", structs.CodeUnavailable)
	x.is("alice", "") // cached
	if log := x.log.String(); strings.Count(log, "refuses the service user") != 1 || strings.Contains(log, keystonefake.Password) {
		t.Errorf("log:\n%s", log)
	}
}

func TestServiceUserWithoutRightIsNoRefusalOfUsers(t *testing.T) {
	x := newTester(t)
	x.fake.Deny(true)
	x.is("alice", structs.CodeUnavailable)
	if !strings.Contains(x.log.String(), "give \\\"magnum\\\" the role service or admin") &&
		!strings.Contains(x.log.String(), `give "magnum" the role service or admin`) {
		t.Errorf("log:\n%s", x.log)
	}
	x.fake.Deny(false)
	x.pass(maxPause)
	x.is("alice", "")
}

func TestKeystoneAway(t *testing.T) {
	for name, break_ := range map[string]func(*tester){
		"503":      func(x *tester) { x.fake.SetStatus(503) },
		"500":      func(x *tester) { x.fake.SetStatus(500) },
		"redirect": func(x *tester) { x.fake.SetStatus(302) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t)
			x.is("alice", "")
			break_(x)
			x.fake.Add("bob", keystonefake.Caller("beta", "bob", "member"))
			_, err := x.auth("bob")
			var known *structs.Error
			if !errors.As(err, &known) || known.Code != structs.CodeUnavailable || known.RetryAfter < time.Second {
				t.Errorf("%+v", err)
			}
			asked := x.fake.Validations("")
			x.is("bob", structs.CodeUnavailable)
			if n := x.fake.Validations(""); n != asked {
				t.Error("Keystone is asked again at once")
			}
			x.is("alice", "")
			x.pass(31 * time.Second)
			x.is("alice", structs.CodeUnavailable)
			x.fake.SetStatus(0)
			x.pass(maxPause)
			x.is("alice", "")
			x.is("bob", "")
			if log := x.log.String(); strings.Count(log, "is away") != 1 || strings.Count(log, "is back") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// TestNoKeystone: nobody listens.
func TestNoKeystone(t *testing.T) {
	x := newTester(t, func(c *Config) { c.AuthURL = "http://127.0.0.1:1/v3" })
	x.is("alice", structs.CodeUnavailable)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	x.eventually("a warning", func() bool { return strings.Contains(x.log.String(), "can't be logged in to yet") })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRunFindsTheEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"": "authenticates callers", "regionone": "authenticates callers", "other": "no public endpoint",
	} {
		x := newTester(t, func(c *Config) { c.Region = region })
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		x.eventually(want, func() bool { return strings.Contains(x.log.String(), want) })
		stop()
		<-done
	}
}

// TestEndpointsAreCompared: a server warns if the catalogue sends clients elsewhere.
func TestEndpointsAreCompared(t *testing.T) {
	const own, several = "https://magnum.example.org:9511/v1", "several services of type container"
	for _, tt := range []struct {
		endpoint string
		catalog  []string
		warning  string // "" means none
	}{
		{"", []string{"http://10.0.0.9/"}, ""},
		{own, []string{own}, ""},
		{own, []string{"https://Magnum.example.org:9511"}, ""},
		{"https://magnum.example.org:9511/", []string{own + "/"}, ""},
		{own, []string{"http://magnum.example.org:9511/v1"}, "another public endpoint"},
		{own, []string{"https://magnum.example.org/v1"}, "another public endpoint"},
		{own, []string{"https://magnum.example.org:9511/v2"}, "another public endpoint"},
		{own, []string{"not a URL"}, "another public endpoint"},
		{own, []string{own, "https://other.example.org/v1"}, "another public endpoint"},
		{own, []string{own, own}, several},
		{"", []string{own, "https://other.example.org/v1"}, several},
		{own, nil, "no public endpoint"},
	} {
		x := newTester(t, func(c *Config) { c.Endpoint = tt.endpoint })
		x.fake.SetEndpoints(tt.catalog...)
		if !x.greet(t.Context()) {
			t.Fatalf("no login: %s", x.log)
		}
		if log := x.log.String(); strings.Contains(log, "[WARN]") != (tt.warning != "") || !strings.Contains(log, tt.warning) {
			t.Errorf("endpoint %q, catalogue %q: %s", tt.endpoint, tt.catalog, log)
		}
	}
	for _, endpoint := range []string{"magnum", "ftp://magnum", "http://", "http://u:p@magnum", "http://magnum?x", "http://magnum#x"} {
		c := Config{AuthURL: "http://k:5000", Username: "u", Password: "p", Endpoint: endpoint}
		if err := c.Check(); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-keystone-endpoint") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}

// TestEndpointsAreComparedLater: a Keystone that is away at the start is tried again.
func TestEndpointsAreComparedLater(t *testing.T) {
	x := newTester(t, func(c *Config) { c.Endpoint = "http://10.0.0.9" })
	x.sweepEvery = 10 * time.Millisecond
	x.fake.SetStatus(503)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	x.eventually("a warning", func() bool { return strings.Contains(x.log.String(), "can't be logged in to yet") })
	x.fake.SetStatus(0)
	x.eventually("the comparison", func() bool { return strings.Contains(x.log.String(), "another public endpoint") })
	stop()
	<-done
}

// TestUnknownTokensKeepNobodyOut: a slow Keystone and a flood of unknown tokens hold up
// neither cached users, nor those whose tokens were valid before.
func TestUnknownTokensKeepNobodyOut(t *testing.T) {
	x := newTester(t)
	x.fake.Add("bob", keystonefake.Caller("beta", "bob", "member"))
	x.is("alice", "")
	x.pass(31 * time.Second)
	x.is("bob", "")
	x.fake.Block()
	var flood sync.WaitGroup
	for i := range 4 * freshCalls {
		flood.Go(func() { _, _ = x.auth(fmt.Sprint("garbage-", i)) })
	}
	x.eventually("the flood fills its share", func() bool { n, _ := x.fake.Waiting(); return n == freshCalls })
	x.is("bob", "")
	again := make(chan error, 1)
	go func() {
		_, err := x.auth("alice")
		again <- err
	}()
	x.eventually("alice's token is asked for", func() bool { return x.fake.Validations("alice") == 2 })
	if _, most := x.fake.Waiting(); most > freshCalls+1 {
		t.Errorf("%d calls at a time", most)
	}
	x.fake.Open()
	if err := <-again; err != nil {
		t.Error(err)
	}
	flood.Wait()
}

// TestQueueIsBounded: with the slots taken, only so many tokens wait.
func TestQueueIsBounded(t *testing.T) {
	x := newTester(t)
	for range freshCalls {
		x.fresh <- struct{}{}
	}
	x.waiting.Store(maxWaiting)
	x.is("alice", structs.CodeUnavailable)
	x.waiting.Store(0)
	for range freshCalls {
		<-x.fresh
	}
	x.is("alice", "")
}

func TestSlowKeystoneTimesOut(t *testing.T) {
	x := newTester(t, func(c *Config) { c.Timeout = time.Second })
	x.is("alice", "")
	x.fake.Block()
	x.fake.Add("bob", keystonefake.Caller("beta", "bob", "member"))
	x.is("bob", structs.CodeUnavailable)
	x.is("alice", "")
	x.fake.Open()
	x.pass(maxPause)
	x.is("bob", "")
}

func TestServiceTokens(t *testing.T) {
	x := newTester(t)
	over := keystonefake.Caller("alpha", "alice", "member")
	over.Expires = time.Now().Add(-time.Minute)
	x.fake.Add("expired", over)
	x.fake.Add("nova", keystonefake.Caller("service", "nova", "Service"))
	for _, c := range []struct {
		token, service string
		want           structs.Code
	}{
		{"alice", "", ""}, {"expired", "", structs.CodeUnauthenticated}, {"expired", "nova", ""}, {"alice", "nova", ""},
		{"garbage", "nova", structs.CodeUnauthenticated}, {"alice", "garbage", structs.CodeUnauthenticated},
		{"expired", "alice", structs.CodeUnauthenticated}, {"alice", "alice", structs.CodeUnauthenticated},
		{"alice", "expired", structs.CodeUnauthenticated}, {"", "nova", structs.CodeUnauthenticated},
		{"expired", "", structs.CodeUnauthenticated},
	} {
		caller, err := identity.Chain{Keystone: x}.Authenticate(context.Background(),
			identity.Credentials{Token: c.token, ServiceToken: c.service})
		if structs.CodeOf(err) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && c.service != "" && (caller.Service == nil || caller.Service.UserName != "nova" ||
			caller.Service.UserID != "id-nova" ||
			caller.Service.ProjectID != "id-service" || caller.UserName != "alice" || caller.Is("service")) {
			t.Errorf("%+v: %+v for %+v", c, caller, caller.Service)
		}
		if err == nil && c.service == "" && caller.Service != nil {
			t.Errorf("%+v: a service %+v", c, caller.Service)
		}
	}
	x.fake.SetStatus(503)
	x.pass(31 * time.Second)
	if _, err := x.Service(context.Background(), "nova"); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("without Keystone: %v", err)
	}
}

// TestChainTellsTokensApart: local tokens cost no call, and Keystone's no lookup.
func TestChainTellsTokensApart(t *testing.T) {
	x := newTester(t)
	id, secret := structs.NewID(), structs.NewSecret()
	local := structs.FormatToken(id, secret)
	row := &structs.Token{Meta: structs.Meta{ID: id}, Hash: structs.HashSecret(secret), Project: "p", User: "u", Role: structs.RoleMember}
	lookups := 0
	tokens := identity.Tokens{
		Find: func(string) *structs.Token { lookups++; return row }, CatchUp: func(context.Context) error { lookups++; return nil },
	}
	both := identity.Chain{Local: tokens, Keystone: x}
	ask := func(a identity.Authenticator, token string) (structs.Caller, error) {
		return a.Authenticate(context.Background(), identity.Credentials{Token: token})
	}
	if c, err := ask(both, "alice"); err != nil || c.Kind != structs.CallerKeystone || lookups != 0 {
		t.Errorf("%+v, %v, %d lookups", c, err, lookups)
	}
	if _, err := ask(both, "garbage"); structs.CodeOf(err) != structs.CodeUnauthenticated || lookups != 0 {
		t.Errorf("%v, %d lookups", err, lookups)
	}
	asked := x.fake.Validations("")
	if c, err := ask(both, local); err != nil || c.Kind != structs.CallerLocal || c.TokenID != id || lookups != 1 {
		t.Errorf("%+v, %v, %d lookups", c, err, lookups)
	}
	for token, a := range map[string]identity.Authenticator{
		local + "0": both, "mgt_x": both, local: identity.Chain{Keystone: x}, "": both,
	} {
		if _, err := ask(a, token); structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("%.10s: %v", token, err)
		}
	}
	if n := x.fake.Validations(""); n != asked {
		t.Errorf("Keystone was shown %d local tokens", n-asked)
	}
	x.fake.Add("nova", keystonefake.Caller("service", "nova", "service"))
	for service, want := range map[string]structs.Code{
		"nova": "", "garbage": structs.CodeUnauthenticated, local: structs.CodeUnauthenticated,
	} {
		c, err := both.Authenticate(context.Background(), identity.Credentials{Token: local, ServiceToken: service})
		if structs.CodeOf(err) != want || err == nil && (c.Service == nil || c.Kind != structs.CallerLocal) {
			t.Errorf("local token with service %.10s: %+v, %v", service, c, err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	now := time.Now()
	for i := range maxEntries + 10 {
		c.keep(keyOf(fmt.Sprint(i), false), &entry{until: now.Add(time.Minute), size: 100})
	}
	if n, size := c.size(); n != maxEntries || size != 100*maxEntries {
		t.Errorf("%d entries of %d bytes", n, size)
	}
	for i := range maxRefusals + 10 {
		c.refuse(keyOf(fmt.Sprint("bad", i), false), now.Add(time.Second))
	}
	if n, _ := c.size(); n != maxEntries || c.refusals.Len() != maxRefusals {
		t.Errorf("%d entries and %d refusals after a flood", n, c.refusals.Len())
	}
	for i := range 100 {
		c.keep(keyOf(fmt.Sprint("big", i), false), &entry{until: now.Add(time.Hour), size: 1 << 20})
	}
	if n, size := c.size(); size > maxBytes || n > maxEntries {
		t.Errorf("%d entries of %d bytes", n, size)
	}
	for range 10 { // the same token again
		c.keep(keyOf("big99", false), &entry{until: now.Add(time.Hour), size: 1 << 20})
	}
	if n, size := c.size(); n != 16 || size != maxBytes {
		t.Errorf("%d entries of %d bytes", n, size)
	}
	c.sweep(now.Add(2 * time.Hour))
	if n, size := c.size(); n != 0 || size != 0 {
		t.Errorf("%d entries of %d bytes after all", n, size)
	}
}

// TestSessionsEnd: what goes on for long ends with the token.
func TestSessionsEnd(t *testing.T) {
	watch := func(x *tester, token string) (ended chan bool, stop context.CancelFunc) {
		caller := x.is(token, "")
		ctx, cancel := context.WithCancel(context.Background())
		ended = make(chan bool, 1)
		go func() { ended <- caller.Credential.Ends(ctx) }()
		return ended, cancel
	}
	fast := func(c *Config) { c.CacheTTL = time.Second }
	wait := func(t *testing.T, ended chan bool) {
		t.Helper()
		select {
		case over := <-ended:
			if !over {
				t.Error("the session says that it was stopped")
			}
		case <-time.After(patience):
			t.Error("the session goes on")
		}
	}
	t.Run("revoked", func(t *testing.T) {
		x := newTester(t, fast)
		ended, stop := watch(x, "alice")
		defer stop()
		x.fake.Revoke("alice")
		wait(t, ended)
	})
	t.Run("expired", func(t *testing.T) {
		x := newTester(t)
		soon := keystonefake.Caller("alpha", "alice", "member")
		soon.Expires = time.Now().Add(2 * time.Second)
		x.fake.Add("soon", soon)
		ended, stop := watch(x, "soon")
		defer stop()
		wait(t, ended)
		if n := x.fake.Validations("soon"); n != 1 {
			t.Errorf("%d validations", n)
		}
	})
	t.Run("role removed", func(t *testing.T) {
		x := newTester(t, fast)
		ended, stop := watch(x, "alice")
		defer stop()
		x.fake.Add("alice", keystonefake.Caller("alpha", "alice", "reader"))
		wait(t, ended)
	})
	t.Run("stopped", func(t *testing.T) {
		x := newTester(t, fast)
		ended, stop := watch(x, "alice")
		stop()
		if <-ended {
			t.Error("the token has not ended")
		}
	})
	t.Run("shared", func(t *testing.T) {
		x := newTester(t, fast)
		var all []chan bool
		for range 50 {
			ended, stop := watch(x, "alice")
			defer stop()
			all = append(all, ended)
		}
		x.eventually("three rounds", func() bool { return x.fake.Validations("alice") >= 3 })
		if n, most := x.fake.Waiting(); n > 1 || most > 1 {
			t.Errorf("%d validations of one token at a time", most)
		}
		x.fake.SetStatus(503) // sessions go on in an outage
		x.eventually("Keystone is away", func() bool { return strings.Contains(x.log.String(), "is away") })
		select {
		case <-all[0]:
			t.Error("a session ends because Keystone is away")
		default:
		}
		x.fake.SetStatus(0)
		x.fake.Revoke("alice")
		for _, ended := range all {
			wait(t, ended)
		}
	})
}

func TestCheckOfSession(t *testing.T) {
	x := newTester(t)
	c := x.is("alice", "")
	if err := c.Credential.Check(); err != nil {
		t.Error(err)
	}
	x.fake.Revoke("alice")
	x.pass(31 * time.Second)
	x.is("alice", structs.CodeUnauthenticated)
	if err := c.Credential.Check(); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Errorf("revoked: %v", err)
	}
	x.pass(2 * time.Hour)
	if err := c.Credential.Check(); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Errorf("expired: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{AuthURL: "https://k.example:5000/v3", Username: "magnum", Password: "p"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if err := (Config{}).Check(); err != nil {
		t.Errorf("none: %v", err)
	}
	for says, change := range map[string]func(*Config){
		"-keystone-auth-url is missing":   func(c *Config) { c.AuthURL = "" },
		"not a URL such":                  func(c *Config) { c.AuthURL = "k.example:5000" },
		"without user":                    func(c *Config) { c.AuthURL = "http://u:p@k.example:5000" },
		"can't be in it":                  func(c *Config) { c.AuthURL = "http://k.example/'x" },
		"v2.0":                            func(c *Config) { c.AuthURL = "http://k.example:5000/v2.0/" },
		"-keystone-username is missing":   func(c *Config) { c.Username = "" },
		"-keystone-password is missing":   func(c *Config) { c.Password = "" },
		"-keystone-cache-ttl 10m0s":       func(c *Config) { c.CacheTTL = 10 * time.Minute },
		"-keystone-cache-ttl 1ms":         func(c *Config) { c.CacheTTL = time.Millisecond },
		"-keystone-timeout 2m0s":          func(c *Config) { c.Timeout = 2 * time.Minute },
		"-keystone-cacert needs":          func(c *Config) { c.AuthURL, c.CACert = "http://k.example", "ca.pem" },
		"-keystone-cacert: open /nowhere": func(c *Config) { c.CACert = "/nowhere/ca.pem" },
	} {
		c := good
		change(&c)
		_, err := New(c, hclog.NewNullLogger(), nil)
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// TestHugeAnswerIsCutOff: a Keystone that sends without end takes no memory.
func TestHugeAnswerIsCutOff(t *testing.T) {
	x := newTester(t)
	x.is("alice", "")
	x.client.provider.HTTPClient.Transport = bounded{endless{x.client.provider.HTTPClient.Transport}}
	x.fake.Add("bob", keystonefake.Caller("beta", "bob", "member"))
	x.is("bob", structs.CodeUnavailable)
}

type endless struct{ next http.RoundTripper }

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
func (spaces) Close() error { return nil }

func (e endless) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err == nil {
		resp.Body.Close()
		resp.Body = spaces{}
	}
	return resp, err
}

// FuzzAnswer: whatever Keystone says of a token, a caller has a project, a user and a
// bounded number of roles, or is refused.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"token":{"user":{"id":"u","name":"n","domain":{"id":"d"}},"project":{"id":"p"},"roles":[{"name":"Admin"}]}}`))
	f.Add([]byte(`{"token":{"user":{"id":"u"},"domain":{"id":"d"}}}`))
	f.Add([]byte(`{"token":{"user":{"id":"u"},"system":{"all":true}}}`))
	f.Add([]byte(`{"token":{"project":{"id":"p"},"application_credential":{"access_rules":[]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Config{}.WithDefaults()
		said, err := parseAnswer(text)
		if err != nil {
			return
		}
		caller, err := said.caller(&c)
		if err != nil {
			if structs.CodeOf(err) != structs.CodeForbidden || caller.ProjectID != "" {
				t.Errorf("%+v, %v", caller, err)
			}
			return
		}
		if caller.ProjectID == "" || caller.UserID == "" || len(caller.Roles) > maxRoles+1 ||
			strings.ContainsAny(caller.ProjectID, "\x00\n") {
			t.Errorf("%+v", caller)
		}
	})
}

// FuzzToken: no text of a token makes checkText pass what can't be in a header.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", "gAAAAABl", "a b", "\x7f", "ü", strings.Repeat("x", maxToken+1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if checkText(text) != nil {
			return
		}
		if len(text) > maxToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q passes", text)
		}
	})
}

// BenchmarkAuthenticate is what a request with a cached token pays, with its policy.
func BenchmarkAuthenticate(b *testing.B) {
	x := newTester(b, func(c *Config) { c.CacheTTL = 5 * time.Minute })
	token := strings.Repeat("g", 200)
	x.fake.Add(token, keystonefake.Caller("alpha", "alice", "reader", "member"))
	chain := identity.Chain{Keystone: x}
	b.ReportAllocs()
	for b.Loop() {
		caller, err := chain.Authenticate(context.Background(), identity.Credentials{Token: token})
		if err != nil {
			b.Fatal(err)
		}
		if err := identity.Check(caller, identity.ContainerCreate); err != nil {
			b.Fatal(err)
		}
	}
}
