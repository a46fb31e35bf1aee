package rest_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/identity/keystone"
	"github.com/stackforge/magnum/server/identity/keystone/keystonefake"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// cloud is a fake Keystone with a token for each of the callers in tokens.
type cloud struct {
	*keystonefake.Keystone
	t    testing.TB
	auth *keystone.Authenticator
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{Keystone: keystonefake.New(t), t: t}
	for name, caller := range tokens {
		token := keystonefake.Caller("project "+caller.ProjectID, caller.UserID, caller.Roles...)
		token.ProjectID = caller.ProjectID
		c.Add(cloudToken(name), token)
	}
	var err error
	c.auth, err = keystone.New(keystone.Config{
		AuthURL: c.URL, Username: keystonefake.Username, Password: keystonefake.Password, CacheTTL: time.Second,
	}, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cloudToken returns the token of a caller.
func cloudToken(name string) string {
	if name == "" {
		return ""
	}
	return "gAAAA-" + name
}

// server returns a server that takes the cloud's tokens only. With the option both it also
// takes those of the options before.
func (c *cloud) server(options ...servertest.Option) *servertest.Server {
	c.t.Helper()
	all := []servertest.Option{func(conf *rest.Config) {
		conf.Authenticator, conf.AuthURI = identity.Chain{Keystone: c.auth}, c.URL
	}}
	for _, o := range options {
		all = append(all, func(conf *rest.Config) {
			chain, _ := conf.Authenticator.(identity.Chain)
			o(conf)
			if local, ok := conf.Authenticator.(identity.Tokens); ok {
				conf.Authenticator = identity.Chain{Local: local, Keystone: chain.Keystone}
			}
		})
	}
	return servertest.New(c.t, all...)
}

// both is only a reminder at the call: an option that sets the authenticator of local tokens
// is joined with Keystone's.
func both(*rest.Config) {}

func TestKeystoneAnswers(t *testing.T) {
	c := newCloud(t)
	for _, scope := range []string{"domain", "system", "unscoped"} {
		c.Add(scope, keystonefake.Token{User: "alice", Project: "p1", Roles: []string{"admin"}, Scope: scope})
	}
	c.Add("rules", keystonefake.Token{User: "alice", Project: "p1", Roles: []string{"member"}, AccessRules: `[]`})
	over := keystonefake.Caller("p1", "alice", "member")
	over.Expires = time.Now().Add(-time.Minute)
	c.Add("expired", over)
	c.Add("nova", keystonefake.Caller("service", "nova", "service"))
	s := c.server()
	call := newCaller(t, s)
	for token, want := range map[string]int{
		"": 401, "garbage": 401, "expired": 401, strings.Repeat("x", 5000): 401, "mgt_x": 401,
		"domain": 403, "system": 403, "unscoped": 403, "rules": 403, cloudToken("nobody"): 403, cloudToken("alice"): 200,
	} {
		r := call.as(token).do("GET", "/v1/bays", "")
		challenge := ""
		if want == 401 {
			challenge = `Keystone uri="` + c.URL + `"`
		}
		if r.status != want || r.header.Get("WWW-Authenticate") != challenge || token != "" && want == 401 && token != "expired" &&
			strings.Contains(string(r.body), token) {
			t.Errorf("%.20q: %d, challenge %q: %s", token, r.status, r.header.Get("WWW-Authenticate"), cut(string(r.body)))
		}
		if want == 403 && token != cloudToken("nobody") && token != "rules" &&
			!strings.Contains(string(r.body), "use a project-scoped token") {
			t.Errorf("%.20q: %s", token, r.body)
		}
	}
	alice := call.as(cloudToken("alice"))
	bay := alice.do("POST", "/v1/bays", "{}", header{"X-Project-Id", "id-p2"}, header{"X-User-Id", "root"}).is(201).uuid()
	if got := s.Store.Snapshot().Bay(bay); got.ProjectID != "p1" || got.UserID != "id-alice" {
		t.Errorf("bay of project %q, user %q", got.ProjectID, got.UserID)
	}
	for project, want := range map[string]int{"p1": 200, "project p1": 200, "p2": 403, "project p2": 403} {
		alice.do("GET", "/v1/bays", "", header{"X-Auth-Project-Id", project}).is(want)
	}
	for token, by := range map[string]map[string]int{
		"expired":           {"nova": 200, "": 401, "garbage": 401, cloudToken("admin"): 401},
		cloudToken("alice"): {"nova": 200, "": 200, "garbage": 401, cloudToken("admin"): 401},
		"garbage":           {"nova": 401},
	} {
		for service, want := range by {
			call.as(token).do("GET", "/v1/bays", "", header{"X-Service-Token", service}).is(want)
		}
	}
}

func TestKeystoneAwayIsNoRefusal(t *testing.T) {
	c := newCloud(t)
	s := c.server(servertest.WithTokens(), both)
	l := newLocal(t, s)
	agent := s.StartAgent(t, "host-1", servertest.Serve(serveText))
	c.SetStatus(503)
	call := newCaller(t, s)
	r := call.as(cloudToken("alice")).do("GET", "/v1/bays", "").is(503)
	if n, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || n < 1 || r.header.Get("WWW-Authenticate") != "" {
		t.Errorf("headers %v", r.header)
	}
	call.as(l.token("alice")).do("GET", "/v1/bays", "").is(200)
	call.do("GET", "/v1/status/health", "").is(200)
	call.do("GET", "/v1/agent/hosts/"+agent.HostID+"/sessions/x", "", header{"Authorization", "Bearer " + agent.Secret},
		header{"Upgrade", "websocket"}, header{"Connection", "Upgrade"}).is(404)
	c.SetStatus(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if call.as(cloudToken("alice")).do("GET", "/v1/bays", "").status == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the token isn't valid although Keystone is back")
		}
	}
}

// TestKeystoneRevocationEndsLongLivedRequests: streams, terminals and blocking reads end with
// their token, also when it only loses the role that they need.
func TestKeystoneRevocationEndsLongLivedRequests(t *testing.T) {
	c := newCloud(t)
	s := c.server(servertest.WithEventTick(time.Hour))
	s.StartAgent(t, "host-1", servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "first\n")
		<-conn.CloseRead(ctx).Done()
	}))
	owner := newCaller(t, s).as(cloudToken("alice"))
	owner.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	owner.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox","stdin":true,"tty":true}`).is(201)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	alice := func(roles ...structs.Role) keystonefake.Token {
		token := keystonefake.Caller("project p1", "alice", roles...)
		token.ProjectID = "p1"
		return token
	}
	end := map[string]func(token string){
		"revoked":      func(token string) { c.Revoke(token) },
		"role removed": func(token string) { c.Add(token, alice("reader")) },
	}
	for what, path := range map[string]string{"logs": "/v1/containers/c/logs?follow=true", "attach": "/v1/containers/c/attach/ws"} {
		for how, end := range end {
			token := "gAAAA-" + what + how[:4]
			c.Add(token, alice("reader", "member"))
			closed := make(chan error, 1)
			if what == "logs" {
				r, _ := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
				r.Header.Set("X-Auth-Token", token)
				resp, err := httpClient.Do(r)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s: %v, %v", what, resp, err)
				}
				go func() {
					defer resp.Body.Close()
					_, err := io.ReadAll(resp.Body)
					closed <- err
				}()
			} else {
				conn, _, err := websocket.Dial(ctx, strings.Replace(s.URL, "http", "ws", 1)+path,
					&websocket.DialOptions{HTTPHeader: http.Header{"X-Auth-Token": {token}}})
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					defer conn.CloseNow()
					var err error
					for err == nil {
						_, _, err = conn.Read(ctx)
					}
					closed <- err
				}()
			}
			select {
			case err := <-closed:
				t.Errorf("%s ended before its token was %s: %v", what, how, err)
				continue
			default:
			}
			end(token)
			if err := <-closed; err == nil || ctx.Err() != nil {
				t.Errorf("%s, %s: %v, %v", what, how, err, ctx.Err())
			}
		}
	}
}

// TestPolicyFileRulesRequests: the rules that are in force when a request begins decide.
func TestPolicyFileRulesRequests(t *testing.T) {
	rules, err := identity.ParseRules([]byte("bay:create: rule:admin\ncontainer:get_all: role:auditor or rule:reader\n"))
	if err != nil {
		t.Fatal(err)
	}
	inForce := identity.DefaultRules()
	c := newCloud(t)
	c.Add("auditor", keystonefake.Caller("p1", "audrey", "Auditor"))
	s := c.server(func(conf *rest.Config) { conf.Rules = func() structs.Rules { return inForce } })
	call := newCaller(t, s)
	call.as(cloudToken("alice")).do("POST", "/v1/bays", "{}").is(201)
	call.as("auditor").do("GET", "/v1/containers", "").is(403)
	inForce = rules
	r := call.as(cloudToken("alice")).do("POST", "/v1/bays", "{}").is(403)
	if !strings.Contains(string(r.body), "bay:create") || !strings.Contains(string(r.body), "role:admin") {
		t.Errorf("%s", r.body)
	}
	call.as(cloudToken("admin")).do("POST", "/v1/bays", "{}").is(201)
	call.as("auditor").do("GET", "/v1/containers", "").is(200)
	call.as("auditor").do("GET", "/v1/pods", "").is(403)
}

// TestFailedAuthenticationIsLogged: at info, once for an address in some seconds, without
// the token.
func TestFailedAuthenticationIsLogged(t *testing.T) {
	var log logged
	s := servertest.New(t, servertest.WithAuth(tokens), servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Output: &log})))
	call := newCaller(t, s)
	call.do("GET", "/v1/bays", "").is(401) // without a token
	if text := log.String(); strings.Contains(text, "authentication failed") {
		t.Errorf("log: %s", text)
	}
	for range 20 {
		call.as("guessed-token").do("GET", "/v1/bays", "").is(401)
	}
	text := log.String()
	if bytes.Count([]byte(text), []byte("[INFO]  authentication failed: client=127.0.0.1")) != 1 || strings.Contains(text, "guessed") {
		t.Errorf("log: %s", text)
	}
}
