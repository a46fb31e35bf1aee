package rest_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// local has a server's own tokens: one for each of walkers, and invalid ones.
type local struct {
	*caller // has the first admin token
	texts   map[string]string
}

func newLocal(t testing.TB, s *servertest.Server) *local {
	t.Helper()
	first := newCaller(t, s).do("POST", "/v1/operator/bootstrap", "").is(201).object()["token"].(string)
	l := &local{caller: newCaller(t, s).as(first),
		texts: map[string]string{"": "", "wrong": structs.FormatToken(structs.NewID(), structs.NewSecret())}}
	for name, caller := range tokens {
		if len(caller.Roles) == 0 {
			// The API doesn't create a token without a role.
			l.texts[name] = l.put(structs.Token{Project: caller.ProjectID, User: caller.UserID})
			continue
		}
		l.texts[name] = l.create(fmt.Sprintf(`{"name":"%s","project_id":"%s","user_id":"%s","role":"%s"}`, name, caller.ProjectID,
			caller.UserID, caller.Roles[0]))
	}
	return l
}

// token returns the token of a caller.
func (l *local) token(name string) string { return l.texts[name] }

// create creates a token as the first admin, and returns it.
func (l *local) create(body string) string {
	l.t.Helper()
	return l.do("POST", "/v1/tokens", body).is(201).object()["token"].(string)
}

// put writes a token's row without checks.
func (l *local) put(token structs.Token) string {
	l.t.Helper()
	id, secret := structs.NewID(), structs.NewSecret()
	token.Hash = structs.HashSecret(secret)
	_, err := conductor.Do(context.Background(), l.s.Conductor, conductor.CreateToken{UUID: id, Token: token})
	if err != nil {
		l.t.Fatal(err)
	}
	return structs.FormatToken(id, secret)
}

// revoke revokes a token as the first admin.
func (l *local) revoke(token string) {
	l.t.Helper()
	id, _, _ := structs.ParseToken(token)
	l.do("DELETE", "/v1/tokens/"+id, "").is(204)
}

// logged is the log of a server.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestInvalidTokensAreRefusedOnEveryRoute tries every route with every kind of invalid,
// revoked or expired token. The status is 401, nothing changes, and the response shows
// nothing. The log has no secret.
func TestInvalidTokensAreRefusedOnEveryRoute(t *testing.T) {
	var log logged
	s := servertest.New(t, servertest.WithTokens(),
		servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log})))
	one := s.StartAgent(t, "secret-host", servertest.Serve(serveText))
	other := s.StartAgent(t, "other-host")
	l := newLocal(t, s)
	alice := l.as(l.token("alice"))
	bay := alice.do("POST", "/v1/bays?wait=1m", `{"name":"secret-bay"}`).is(201).uuid()
	container := alice.do("POST", "/v1/containers?run=true&wait=5s", `{"name":"secret-name","image":"busybox","bay":"`+bay+
		`"}`).is(201).uuid()
	revoked := l.create(`{"name":"gone","role":"admin"}`)
	l.revoke(revoked)
	id, secret, _ := structs.ParseToken(l.token("admin"))
	_, foreign, _ := structs.ParseToken(l.token("alice"))
	row := s.Store.Snapshot().Token(id)
	join := l.create(`{"join":true}`)
	user := map[string]string{
		"none": "", "garbage": "tok123", "an unknown one": structs.FormatToken(structs.NewID(), secret),
		"another's secret": structs.FormatToken(id, foreign), "the hash": structs.FormatToken(id, row.Hash), "the id": id,
		"half a secret":           structs.FormatToken(id, secret[:32]),
		"a secret without its id": secret, "revoked": revoked,
		"expired":      l.put(structs.Token{Project: "p1", Role: structs.RoleAdmin, ExpiresAt: time.Now().Add(-time.Second)}),
		"a join token": join, "a host's secret": one.Secret, "the cluster's join token": servertest.JoinToken,
		"a NUL": "mgt_%00", "very long": "mgt_" + strings.Repeat("a", 8000),
	}
	agent := map[string]string{
		"none": "", "an admin's token": "Bearer " + l.token("admin"), "a join token": "Bearer " + join,
		"the cluster's join token": "Bearer " + servertest.JoinToken,
		"another host's secret":    "Bearer " + other.Secret, "the hash of its secret": "Bearer " + structs.HashSecret(one.Secret),
		"its secret as another scheme": "Basic " + one.Secret,
	}
	path := func(p string) string {
		noun := strings.Split(p, "/")[min(2, strings.Count(p, "/"))]
		id := map[string]string{"bays": bay, "containers": container, "hosts": one.HostID, "agent": one.HostID, "tokens": id}[noun]
		return strings.NewReplacer(":id", id, ":sid", "none", ":request", "none").Replace(p)
	}
	check := func(what string, r *reply) {
		t.Helper()
		if r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: status %d, challenge %q, want 401", what, r.status, r.header.Get("WWW-Authenticate"))
		}
		for _, word := range []string{"secret-", bay, secret, row.Hash, one.Secret, foreign} {
			if strings.Contains(string(r.body), word) {
				t.Errorf("%s: the answer tells %q: %s", what, word, r.body)
			}
		}
	}
	routes := 0
	try := func(method, p string, public bool, headers ...header) {
		switch {
		case public:
			return
		case strings.HasPrefix(p, "/v1/agent/hosts/"):
			for name, bearer := range agent {
				unchanged(t, s, p+" with "+name, func() {
					check(method+" "+p+" with "+name,
						l.as(l.token("admin")).raw(method, path(p), `{"registration":1,"seq":99}`,
							append(headers, header{"Authorization", bearer})...))
				})
			}
		case p == "/v1/agent/hosts":
			for name, token := range user {
				if name == "a join token" || name == "the cluster's join token" || name == "a NUL" {
					continue
				}
				body := fmt.Sprintf(`{"host_id":"%s","name":"x","join_token":"%s","secret":"%s","fingerprint":{"backend":"docker"}}`,
					structs.NewID(), token, structs.NewSecret())
				check("register with "+name, l.as(l.token("admin")).raw(method, p, body))
			}
		default:
			for name, token := range user {
				unchanged(t, s, method+" "+p+" with "+name, func() {
					check(method+" "+p+" with "+name, l.as(token).raw(method, path(p), "{}", headers...))
				})
			}
		}
		routes++
	}
	public := map[string]bool{"GET /": true, "GET /v1/status/leader": true, "GET /v1/status/health": true, "GET /v1/status/ready": true,
		"GET /v1/terminals/:sid": true, "POST /v1/operator/bootstrap": true}
	for _, rt := range s.REST.Routes() {
		try(rt.Method, rt.Path, public[rt.Method+" "+rt.Path])
	}
	for _, rt := range s.REST.ZunRoutes() {
		try(rt.Method, rt.Path, false, speaksZun)
	}
	if routes < 60 {
		t.Errorf("only %d routes were tried", routes)
	}
	for what, text := range map[string]string{"the admin's": secret, "alice's": foreign, "a join token's": strings.SplitN(join, "_", 3)[2],
		"a host's": one.Secret, "the hash": row.Hash} {
		if strings.Contains(log.String(), text) {
			t.Errorf("the log has the secret: %s", what)
		}
	}
	if !strings.Contains(log.String(), "token made") {
		t.Error("the log says nothing: its test can't fail")
	}
}

func TestBootstrapGivesOneToken(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	c := newCaller(t, s)
	c.do("POST", "/v1/tokens", "{}").is(401)
	var mu sync.Mutex
	var made []string
	var all sync.WaitGroup
	for range 8 { // one of them is the first, and only that one gets a token
		all.Go(func() {
			r := c.raw("POST", "/v1/operator/bootstrap", "")
			mu.Lock()
			defer mu.Unlock()
			switch r.status {
			case 201:
				made = append(made, r.object()["token"].(string))
				if r.header.Get("Cache-Control") != "no-store" {
					t.Error("the answer may be kept by proxies")
				}
			case 409:
			default:
				t.Errorf("status %d: %s", r.status, r.body)
			}
		})
	}
	all.Wait()
	if len(made) != 1 {
		t.Fatalf("%d tokens were made", len(made))
	}
	unchanged(t, s, "a second bootstrap", func() {
		c.do("POST", "/v1/operator/bootstrap", "").is(409).code("token.conflict").mentions("already", "token-create")
	})
	admin := c.as(made[0])
	list := admin.do("GET", "/v1/tokens", "").is(200).items("tokens")
	if len(list) != 1 || list[0]["name"] != "bootstrap" || list[0]["role"] != "admin" || list[0]["project_id"] != "default" ||
		list[0]["expires_at"] != nil {
		t.Errorf("tokens %v", list)
	}
	// The first token can be revoked, and isn't given out again.
	admin.do("DELETE", "/v1/tokens/bootstrap", "").is(204)
	admin.do("GET", "/v1/tokens", "").is(401)
	c.do("POST", "/v1/operator/bootstrap", "").is(409)
	newCaller(t, servertest.New(t)).do("POST", "/v1/operator/bootstrap", "").is(409).mentions("-auth token")
}

func TestBootstrapWithUnknownOutcome(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	s.Log.Break(servertest.LoseAfter)
	answered := make(chan *reply, 1)
	go func() { answered <- newCaller(t, s).raw("POST", "/v1/operator/bootstrap", "") }()
	servertest.Eventually(t, "leadership is lost", func() bool { return !s.Leading() })
	s.StartLeading(t)
	text := (<-answered).is(201).object()["token"].(string)
	newCaller(t, s).as(text).do("GET", "/v1/tokens", "").is(200)
}

func TestTokensAreShownWithoutTheirSecret(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	l := newLocal(t, s)
	before := time.Now().Add(-time.Second)
	made := l.do("POST", "/v1/tokens", `{"name":"ci","project_id":"p9","role":"reader","expires_in":3600}`).is(201)
	body := made.object()
	text := body["token"].(string)
	id, secret, ok := structs.ParseToken(text)
	if !ok || id != body["uuid"] || body["project_id"] != "p9" || body["user_id"] != "ci" || body["role"] != "reader" ||
		body["expired"] != false || body["join"] != false || body["created_by"] != "admin" {
		t.Errorf("made %s", made.body)
	}
	if made.header.Get("Location") != s.URL+"/v1/tokens/"+id {
		t.Errorf("Location %q", made.header.Get("Location"))
	}
	if at, err := time.Parse(time.RFC3339, body["expires_at"].(string)); err != nil || at.Before(before.Add(time.Hour)) ||
		at.After(time.Now().Add(time.Hour)) {
		t.Errorf("expires_at %v", body["expires_at"])
	}
	row := s.Store.Snapshot().Token(id)
	if row.Hash != structs.HashSecret(secret) || strings.Contains(fmt.Sprintf("%+v", *row), secret) {
		t.Errorf("row %+v", row)
	}
	for _, path := range []string{"/v1/tokens", "/v1/tokens/detail", "/v1/tokens/" + id, "/v1/tokens/ci", "/v1/tokens?name=ci"} {
		r := l.do("GET", path, "").is(200)
		if !strings.Contains(string(r.body), id) || strings.Contains(string(r.body), secret) || strings.Contains(string(r.body), row.Hash) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
	// The token's holder acts in the token's project, as its user.
	l.as(text).do("GET", "/v1/bays", "").is(200)
	l.as(text).do("POST", "/v1/bays", "{}").is(403)
	l.as(text).do("GET", "/v1/bays", "", header{"X-Auth-Project-Id", "p1"}).is(403)
	bay := l.as(l.token("mallory")).do("POST", "/v1/bays", "{}").is(201).uuid()
	if b := s.Store.Snapshot().Bay(bay); b.ProjectID != "p2" || b.UserID != "mallory" {
		t.Errorf("a bay of %s, %s", b.ProjectID, b.UserID)
	}
	l.revoke(text)
	l.as(text).do("GET", "/v1/bays", "").is(401).mentions("revoked")
	l.do("GET", "/v1/tokens/"+id, "").is(404).says("Token " + id + " could not be found.")

	expired := l.put(structs.Token{Name: "old", ExpiresAt: time.Now().Add(-time.Minute).UTC().Truncate(time.Second)})
	if got := l.do("GET", "/v1/tokens/old", "").is(200).object(); got["expired"] != true {
		t.Errorf("expired: %v", got)
	}
	l.as(expired).do("GET", "/v1/bays", "").is(401).mentions("expired")
}

func TestInvalidTokenRequests(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	l := newLocal(t, s)
	for body, words := range map[string][]string{
		`{"role":"root"}`:                                {"role", "root", "admin, member, reader"},
		`{"expires_in":-1}`:                              {"expires_in", "-1", "0..315360000"},
		`{"expires_in":315360001}`:                       {"expires_in", "315360001"},
		`{"project_id":"*"}`:                             {"project_id", "all projects"},
		`{"expires_in":"soon"}`:                          {"expires_in", "soon"},
		`{"name":""}`:                                    {"name"},
		`{"name":5}`:                                     {"name"},
		`{"project_id":"a\u0000b"}`:                      {"project_id"},
		`{"join":true,"role":"admin"}`:                   {"join", "no project_id, user_id or role"},
		`{"join":true,"project_id":"p"}`:                 {"join"},
		`{"join":"perhaps"}`:                             {"join"},
		`{"token":"mine"}`:                               {"token"},
		`{"hash":"mine"}`:                                {"hash"},
		`{"uuid":"` + structs.NewID() + `"}`:             {"uuid", "read only"},
		`{"created_by":"x"}`:                             {"created_by", "read only"},
		`{"user_id":"` + strings.Repeat("x", 256) + `"}`: {"user_id"},
		`[]`: {"body"},
		`{`:  {"body"},
	} {
		unchanged(t, s, body, func() { l.do("POST", "/v1/tokens", body).is(400).mentions(words...) })
	}
	l.do("DELETE", "/v1/tokens/nobody", "").is(404).says("Token nobody could not be found.")
	l.do("GET", "/v1/tokens?status=x", "").is(400)
	l.do("PATCH", "/v1/tokens/admin", "[]").is(405)
	key := header{"Idempotency-Key", "k"}
	l.do("POST", "/v1/tokens", `{"name":"once"}`, key).is(201)
	l.do("POST", "/v1/tokens", `{"name":"once"}`, key).is(409).mentions("shown only once")
	l.do("POST", "/v1/tokens", `{"name":"twice"}`, key).is(409)
}

func TestAgentsJoinWithTokens(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	l := newLocal(t, s)
	register := func(host, secret, token string) *reply {
		return l.as("").do("POST", "/v1/agent/hosts",
			fmt.Sprintf(`{"host_id":"%s","name":"x-%s","join_token":"%s","secret":"%s","fingerprint":{"backend":"docker"}}`, host, host,
				token, secret))
	}
	host, secret := structs.NewID(), structs.NewSecret()
	join := l.create(`{"name":"rack 7","join":true,"expires_in":3600}`)
	register(host, secret, join).is(200)
	register(structs.NewID(), structs.NewSecret(), servertest.JoinToken).is(200)
	expired := l.put(structs.Token{Join: true, ExpiresAt: time.Now().Add(-time.Second)})
	register(structs.NewID(), structs.NewSecret(), expired).is(401).mentions("expired", "token-create -join")
	register(structs.NewID(), structs.NewSecret(), l.token("admin")).is(401).mentions("not this cluster's")
	register(structs.NewID(), structs.NewSecret(), "").is(401)
	l.revoke(join)
	unchanged(t, s, "a replay", func() {
		register(structs.NewID(), structs.NewSecret(), join).is(401).mentions("revoked")
		register(host, structs.NewSecret(), join).is(401).mentions("another secret")
	})
	register(host, secret, join).is(200) // the host authenticates with its secret now
	register(host, secret, expired).is(200)
}
