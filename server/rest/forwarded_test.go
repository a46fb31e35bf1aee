package rest_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// fellow is a member with a known peer secret. It takes connections without TLS for those
// of servers.
type fellow struct{ secret string }

func (fellow) ID() string                                  { return "this-server" }
func (fellow) FromServer(c *tls.ConnectionState) bool      { return c == nil }
func (f fellow) Secret() string                            { return f.secret }
func (fellow) ReadIndex(context.Context) (uint64, error)   { return 7, nil }
func (fellow) LeaderIndex(context.Context) (uint64, error) { return 6, nil }
func (fellow) Silent(hosts []string) []string              { return hosts }
func (fellow) Followed(_ context.Context, hosts []string, _ uint64, _ time.Duration) []string {
	return hosts
}
func (fellow) Offer(string, structs.SessionOffer) {}
func (fellow) Progress() structs.PeerProgress     { return structs.PeerProgress{LastIndex: 9} }
func (fellow) Identity(nonce string) structs.PeerIdentity {
	return structs.PeerIdentity{ID: "this-server", Proof: nonce}
}

func (fellow) TakeHeartbeats(context.Context, map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged, error) {
	return structs.PeerAcknowledged{}, nil
}

func (fellow) Grant(proof string, _ structs.PeerGrant) error {
	if proof != "proof" {
		return structs.Errorf(structs.CodeForbidden, "no proof")
	}
	return nil
}

func withFellow(secret string) servertest.Option {
	return func(c *rest.Config) {
		c.Member = fellow{secret}
		c.Peers = peer.New(peer.Config{URLs: func(string) []string { return nil }, Secret: func() string { return secret }})
	}
}

// TestPeerRoutesNeedPeerSecret checks that only a client with the peer secret is taken for
// a server of the cluster.
func TestPeerRoutesNeedPeerSecret(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, withFellow("the secret")))
	right := header{peer.HeaderPeer, "the secret"}
	for _, path := range []string{"read-index", "heard", "silent", "offers", "progress"} {
		f.raw("POST", "/v1/peer/"+path, "{}").is(403)
		f.raw("POST", "/v1/peer/"+path, "{}", header{peer.HeaderPeer, "another"}).is(403)
		f.raw("POST", "/v1/peer/"+path, "{}", header{"X-Auth-Token", "the secret"}).is(403)
		f.raw("POST", "/v1/peer/"+path, "{}", right).is(200)
	}
	f.raw("POST", "/v1/peer/grant", "{}").is(403)
	f.raw("POST", "/v1/peer/grant", "{}", header{peer.HeaderProof, "proof"}).is(200)
	f.raw("POST", "/v1/peer/identity", `{"nonce":"short"}`).is(400).mentions("nonce")
	f.raw("POST", "/v1/peer/identity", `{"nonce":"`+strings.Repeat("n", 32)+`"}`).is(200)
	unchanged(t, f.s, "a request that claims to be forwarded", func() {
		f.do("POST", "/v1/baymodels", `{"coe":"docker"}`, header{peer.HeaderPeer, "another"}).is(403)
	})
	alone := newFixtureOn(t, servertest.New(t))
	alone.raw("POST", "/v1/peer/progress", "{}", right).is(403)
	f.raw("POST", "/v1/peer/progress", "{}", right, header{peer.HeaderServer, "this-server"}).is(200)
	f.raw("POST", "/v1/peer/progress", "{}", right,
		header{peer.HeaderServer, "another"}).is(503).mentions("this is server this-server, not another")
	young := newFixtureOn(t, servertest.New(t, withFellow("")))
	young.raw("POST", "/v1/peer/progress", "{}", header{peer.HeaderPeer, "x"}).is(503)
}

// TestPeerSecretWithoutServerCertificateIsRefused checks on every route that, with TLS, the
// peer secret is not enough without a server's certificate.
func TestPeerSecretWithoutServerCertificateIsRefused(t *testing.T) {
	s := servertest.New(t, withFellow("the secret"))
	rt := func(path, body string, headers ...header) int {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.TLS = &tls.ConnectionState{}
		r.Header.Set("Content-Type", "application/json")
		for _, h := range headers {
			r.Header.Set(h.name, h.value)
		}
		w := httptest.NewRecorder()
		s.REST.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for _, path := range []string{"read-index", "heard", "silent", "offers", "progress"} {
		if code := rt("/v1/peer/"+path, "{}", header{peer.HeaderPeer, "the secret"}); code != 403 {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code := rt("/v1/peer/identity", `{"nonce":"`+strings.Repeat("n", 32)+`"}`); code != 403 {
		t.Errorf("identity: %d", code)
	}
	if code := rt("/v1/peer/grant", "{}", header{peer.HeaderProof, "proof"}); code != 403 {
		t.Errorf("grant: %d", code)
	}
	if code := rt("/v1/baymodels", `{"coe":"docker"}`, header{peer.HeaderPeer, "the secret"}); code != 403 {
		t.Errorf("a request that claims to be forwarded: %d", code)
	}
}

// TestForwardedRequests checks that a forwarded request is answered with the decision,
// creates one object even if it comes twice, and isn't forwarded again.
func TestForwardedRequests(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, withFellow("the secret")))
	seed := structs.NewSecret()
	on := []header{{peer.HeaderPeer, "the secret"}, {peer.HeaderSeed, seed}}
	first := f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, on...).is(200)
	again := f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, append(on, header{peer.HeaderRetryAfterUnknown, "true"})...).is(200)
	for _, r := range []*reply{first, again} {
		if id := structs.DeriveID(seed); !strings.Contains(string(r.body), `"ID":"`+id+`"`) {
			t.Errorf("made %s, not baymodel %s", r.body, id)
		}
	}
	if n := len(f.do("GET", "/v1/baymodels", "").items("baymodels")); n != 1 {
		t.Errorf("%d baymodels", n)
	}
	// A retry doesn't bring back an object that was deleted before the answer came.
	f.do("DELETE", "/v1/baymodels/"+structs.DeriveID(seed), "").is(204)
	f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`,
		append(on, header{peer.HeaderRetryAfterUnknown, "1"})...).is(409).mentions("has been deleted before")
	// An action may have been carried out before its container was deleted with its record.
	gone := "/v1/containers/" + structs.NewID() + "/stop"
	f.raw("PUT", gone, "", on...).is(404)
	f.raw("PUT", gone, "", append(on, header{peer.HeaderRetryAfterUnknown, "1"})...).is(503).mentions("may have been carried out")
	if n := len(f.do("GET", "/v1/baymodels", "").items("baymodels")); n != 0 {
		t.Errorf("%d baymodels", n)
	}
	// A retry of a delete leaves an object alone that was created since.
	// What the leader does on its own may come between a create and its answer, so that
	// the index before is that of an earlier answer.
	before := f.do("GET", "/v1/baymodels", "").is(200).index()
	m := f.do("POST", "/v1/baymodels", `{"coe":"docker"}`).is(201)
	retry := func(sinceIndex uint64) []header {
		return append(on, header{peer.HeaderRetryAfterUnknown, strconv.FormatUint(sinceIndex, 10)})
	}
	path := "/v1/baymodels/" + m.uuid()
	left := f.raw("DELETE", path, "", retry(before)...).is(503).mentions("may have been created since")
	if got := left.header.Get(peer.HeaderOutcome); got != peer.OutcomeUnknown {
		t.Errorf("outcome %q", got)
	}
	f.do("GET", path, "").is(200)
	f.raw("DELETE", path, "", retry(m.index())...).is(200)
	f.do("GET", path, "").is(404)
	f.raw("DELETE", path, "", retry(m.index())...).is(200) // an earlier try has deleted it
	// A retry of an action leaves a container alone that was created since.
	before = f.do("GET", "/v1/baymodels", "").is(200).index()
	made := f.do("POST", "/v1/containers", `{"image":"i","name":"again"}`).is(201)
	f.raw("PUT", "/v1/containers/again/start", "", retry(before)...).is(503).mentions("may have been created since")
	if got := f.do("GET", "/v1/containers/again/actions", "").items("actions"); len(got) != 1 {
		t.Errorf("the actions are %v, want the create alone", got)
	}
	f.raw("PUT", "/v1/containers/again/start", "", retry(made.index())...).is(200)
	// The log and the action's record have the request ID that the user got.
	asked := f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, append(on, header{peer.HeaderAsked, "req-of-the-user"})...)
	if got := asked.header.Get("X-Openstack-Request-Id"); got != "req-of-the-user" {
		t.Errorf("request ID %s", got)
	}
	pretends := f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, header{peer.HeaderAsked, "req-of-the-user"})
	if got := pretends.header.Get("X-Openstack-Request-Id"); got == "req-of-the-user" {
		t.Errorf("a user has chosen the request ID")
	}
	f.s.StopLeading()
	// The answer comes at once instead of after Hold: the forwarding server tries again.
	f.do("POST", "/v1/baymodels", `{"coe":"docker"}`, on...).is(503).code("no_leader")
}

// TestForwardedWriteReturnsIndex checks that the response to a forwarded write has an index
// of after the write, because the forwarding server waits for that index. The body is the
// row instead of a response for clients.
func TestForwardedWriteReturnsIndex(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, withFellow("the secret")))
	f.container("c", "")
	for _, w := range []struct{ method, path, body string }{
		{"PATCH", "/v1/bays/" + f.bay, `[{"op":"replace","path":"/node_count","value":3}]`},
		{"POST", "/v1/bays?wait=10m", `{"name":"more","node_count":5}`},
		{"POST", "/v1/baymodels", `{"name":"m","coe":"docker"}`},
		{"POST", "/v1/nodes", `{}`},
		{"POST", "/v1/containers?wait=10m", `{"name":"d","image":"busybox","bay":"b1"}`},
		{"PATCH", "/v1/containers/c", `[{"op":"replace","path":"/name","value":"e"}]`},
		{"PUT", "/v1/containers/e/start?wait=10m", ""},
		{"PUT", "/v1/containers/e/rename?name=c", ""},
		{"DELETE", "/v1/containers/d?force=true&wait=10m", ""},
		{"PUT", "/v1/hosts/" + f.agent.HostID + "/drain", ""},
		{"POST", "/v1/tokens", `{"name":"t"}`},
		{"DELETE", "/v1/bays/more?wait=10m", ""},
	} {
		before := f.s.Store.Index()
		r := f.raw(w.method, w.path, w.body, header{peer.HeaderPeer, "the secret"}).is(200)
		if r.index() <= before {
			t.Errorf("%s %s: index %d, which was there before", w.method, w.path, r.index())
		}
		if strings.Contains(string(r.body), `"links"`) {
			t.Errorf("%s %s: it is answered as a client: %s", w.method, w.path, r.body)
		}
	}
}

// TestOnlyServersVouchForCallers: the header that says who a forwarded request's caller is
// counts with the peer secret only.
func TestOnlyServersVouchForCallers(t *testing.T) {
	s := newCloud(t).server(withFellow("the secret"))
	call := newCaller(t, s)
	root := base64.StdEncoding.EncodeToString([]byte(`{"project_id":"p9","user_id":"root","roles":["admin"]}`))
	for _, token := range []string{"", "garbage"} {
		call.as(token).do("POST", "/v1/baymodels", `{"coe":"docker"}`, header{peer.HeaderCaller, root}).is(401)
		call.as(token).do("POST", "/v1/baymodels", `{"coe":"docker"}`, header{peer.HeaderCaller, root},
			header{peer.HeaderPeer, "x"}).is(403)
	}
	secret := header{peer.HeaderPeer, "the secret"}
	made := call.do("POST", "/v1/baymodels", `{"coe":"docker"}`, secret, header{peer.HeaderCaller, root}).is(200)
	if !strings.Contains(string(made.body), `"ProjectID":"p9"`) {
		t.Errorf("made %s", made.body)
	}
	for _, bad := range []string{"", "?", base64.StdEncoding.EncodeToString([]byte(`{"user_id":"root","roles":["admin"]}`))} {
		call.do("POST", "/v1/baymodels", `{"coe":"docker"}`, secret, header{peer.HeaderCaller, bad}).is(401)
	}
	reader := base64.StdEncoding.EncodeToString([]byte(`{"project_id":"p9","user_id":"rita","roles":["reader"]}`))
	call.do("POST", "/v1/baymodels", `{"coe":"docker"}`, secret, header{peer.HeaderCaller, reader}).is(403)
}
