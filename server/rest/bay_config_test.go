package rest_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// public has what users' own clients need of a cluster.
func public(nodes int) *structs.KubernetesCluster {
	c := servertest.Nodes(nodes)
	c.PublicAddress, c.CA = "https://kube.example.com:6443", "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
	return c
}

// publicCluster makes the agent that of a cluster which users can reach.
func publicCluster(nodes int) servertest.AgentOption {
	return func(_ *servertest.Agent, r *structs.HostRegister) { r.Fingerprint.Cluster = public(nodes) }
}

// serveCredential answers with a token that names the project.
func serveCredential(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
	if offer.Kind == structs.SessionCredential && offer.ContainerID == "" {
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, `{"token":"kube-token-of-`+offer.ProjectID+`",`)
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, `"expires_at":"2026-01-02T03:04:05+00:00"}`)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	}
	conn.Close(websocket.StatusNormalClosure, "")
}

func TestBayConfig(t *testing.T) {
	k := newKube(t)
	k.do("GET", "/v1/bays/kube/config", "").is(409).mentions("start it with -kubernetes-api URL")
	if err := k.cluster.SendCluster(context.Background(), public(2)); err != nil {
		t.Fatal(err)
	}
	r := k.do("GET", "/v1/bays/kube/config", "").is(200)
	var got structs.BayConfigBody
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatal(err)
	}
	project := k.s.Store.Snapshot().Bay(k.bayID).ProjectID
	if got.BayUUID != k.bayID || got.Bay != "kube" || got.APIAddress != "https://kube.example.com:6443" || got.CA == nil ||
		*got.CA != public(1).CA || got.Namespace != structs.KubernetesNamespace(project) {
		t.Errorf("the configuration is %s", r.body)
	}
	open := public(2)
	open.CA = ""
	if err := k.cluster.SendCluster(context.Background(), open); err != nil {
		t.Fatal(err)
	}
	k.do("GET", "/v1/bays/kube/config", "").is(200).has(`"ca":null`)
	k.do("GET", "/v1/bays/b1/config", "").is(400).mentions("Bay b1 is of coe docker: it has no Kubernetes cluster")
	k.do("POST", "/v1/bays/b1/credential", "").is(400).mentions("nothing to configure")
	k.do("GET", "/v1/bays/none/config", "").is(404)
	waiting := k.do("POST", "/v1/bays?wait=0s", `{"name":"none-yet","coe":"kubernetes"}`).uuid()
	k.do("GET", "/v1/bays/"+waiting+"/config", "").is(409).mentions("has no cluster yet")
	k.do("POST", "/v1/bays/"+waiting+"/credential", "").is(409).mentions("has no cluster yet")
}

// TestBayCredential: a project gets a token for its own namespace, also on a shared bay, and
// nobody else does. Who leaves the project gets no other.
func TestBayCredential(t *testing.T) {
	log := &logged{}
	s := servertest.New(t, servertest.WithTokens(), servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log})))
	l := newLocal(t, s)
	s.StartAgent(t, "cluster-1", servertest.Cluster(1), publicCluster(1), servertest.Serve(serveCredential))
	alice, mallory, admin := l.as(l.token("alice")), l.as(l.token("mallory")), l.as(l.token("admin"))
	bay := alice.do("POST", "/v1/bays?wait=1m", `{"name":"kube","coe":"kubernetes"}`).is(201).uuid()
	r := alice.do("POST", "/v1/bays/kube/credential", "").is(200)
	if got := r.object(); got["token"] != "kube-token-of-p1" || got["expires_at"] != "2026-01-02T03:04:05+00:00" ||
		r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the credential is %s with %v", r.body, r.header)
	}
	unchanged(t, s, "a credential", func() { alice.do("POST", "/v1/bays/kube/credential", "").is(200) })
	l.as(l.token("reader")).do("POST", "/v1/bays/kube/credential", "").is(403)
	l.as(l.token("reader")).do("GET", "/v1/bays/kube/config", "").is(200)
	for _, path := range []string{"/v1/bays/" + bay, "/v1/bays/kube"} {
		mallory.do("POST", path+"/credential", "").is(404)
		mallory.do("GET", path+"/config", "").is(404)
	}
	stranger := l.as(l.create(`{"name":"op","project_id":"p9","user_id":"op","role":"admin"}`))
	stranger.do("POST", "/v1/bays/"+bay+"/credential", "").is(403).mentions("is of project p1 and not shared")
	stranger.do("GET", "/v1/bays/"+bay+"/config", "").is(403)

	leaver := l.create(`{"name":"leaver","project_id":"p1","user_id":"leo","role":"member"}`)
	l.as(leaver).do("POST", "/v1/bays/kube/credential", "").is(200)
	l.revoke(leaver)
	l.as(leaver).do("POST", "/v1/bays/kube/credential", "").is(401)

	s.StartAgent(t, "cluster-2", servertest.Cluster(1), publicCluster(1), servertest.Serve(serveCredential))
	admin.do("POST", "/v1/bays?wait=1m", `{"name":"all","coe":"kubernetes","shared":true}`).is(201)
	mallory.do("POST", "/v1/bays/all/credential", "").is(200).has("kube-token-of-p2")
	mallory.do("GET", "/v1/bays/all/config", "").is(200).has(`"namespace":"magnum-p2"`)
	if strings.Contains(log.String(), "kube-token-of") || !strings.Contains(log.String(), "/credential") {
		t.Errorf("the log has a token, or nothing of the requests:\n%s", log)
	}
}

// TestBayCredentialRefusals: what the agent says reaches the user, and what is no credential
// doesn't.
func TestBayCredentialRefusals(t *testing.T) {
	var say atomic.Pointer[[]string]
	s := servertest.New(t, servertest.WithHostPatience(300*time.Millisecond))
	c := newCaller(t, s)
	agent := s.StartAgent(t, "cluster-1", servertest.Cluster(1), servertest.Serve(
		func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
			for i, text := range *say.Load() {
				_ = servertest.Send(ctx, conn, []byte{structs.ChannelStdout, structs.ChannelControl}[i], text)
			}
			_, _, _ = conn.Read(ctx) // until the server has enough
		}))
	c.do("POST", "/v1/bays?wait=1m", `{"name":"kube","coe":"kubernetes"}`).is(201)
	for _, tt := range []struct {
		out, control string
		status       int
		mentions     string
	}{
		{"", `{"error":"the agent may not do that","code":"conflict"}`, 409, "Bay kube, host cluster-1: the agent may not do that"},
		{"", `{"error":"pod x","code":"unavailable"}`, 503, "pod x"},
		{`{"token":"","expires_at":"2026-01-02T03:04:05+00:00"}`, `{"done":true}`, 503, "sent no credential"},
		{`{"token":"x"}`, `{"done":true}`, 503, "sent no credential"},
		{`{"token":`, `{"done":true}`, 503, "can't be read"},
		{`"` + strings.Repeat("x", 65<<10), `{"done":true}`, 413, "more than"},
	} {
		say.Store(&[]string{tt.out, tt.control})
		c.do("POST", "/v1/bays/kube/credential", "").is(tt.status).mentions(tt.mentions)
	}
	say.Store(&[]string{})
	c.do("POST", "/v1/bays/kube/credential", "").is(503).mentions("did not answer within 300ms")
	agent.Stop()
	c.do("POST", "/v1/bays/kube/credential", "").is(503)
}
