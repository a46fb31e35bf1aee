package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestHostDelete: the host's agent gets 401 from then on, and its registration is refused
// for good.
func TestHostDelete(t *testing.T) {
	f := newFixture(t)
	f.do("DELETE", "/v1/hosts/nobody", "").is(404)
	f.do("DELETE", "/v1/hosts/host-1", "").is(409).mentions("host-drain")
	f.do("PUT", "/v1/hosts/host-1/drain", "").is(200)
	f.do("DELETE", "/v1/hosts/host-1", "").is(204)
	f.do("DELETE", "/v1/hosts/host-1", "").is(404)
	f.do("GET", "/v1/hosts/"+f.agent.HostID, "").is(404)
	agentCall := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, f.s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.agent.Secret)
		r.Header.Set("Content-Type", "application/json")
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		text, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got.StatusCode, string(text)
	}
	at := "/v1/agent/hosts/" + f.agent.HostID
	for _, call := range [][3]string{
		{"GET", at + "/work?index=0&registration=1&wait=0s", ""}, {"POST", at + "/status", `{"registration":1,"seq":99}`},
		{"POST", at + "/quarantine", `{"registration":1}`},
	} {
		if status, text := agentCall(call[0], call[1], call[2]); status != 401 {
			t.Errorf("%s %s is %d: %s", call[0], call[1], status, text)
		}
	}
	register := `{"host_id":"` + f.agent.HostID + `","name":"host-1","join_token":"` + servertest.JoinToken + `","secret":"` + f.agent.Secret +
		`","registration":1,"fingerprint":{"backend":"docker"},"follows":{"cluster_id":"` + f.s.Store.Snapshot().Cluster().ClusterID + `"}}`
	if status, text := agentCall("POST", "/v1/agent/hosts", register); status != 403 || !strings.Contains(text, string(structs.HintDeleted)) {
		t.Errorf("its registration is %d: %s", status, text)
	}
	// The name is free, and the bay gets the new host.
	f.s.StartAgent(t, "host-1")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if host := f.do("GET", "/v1/hosts/host-1", "").is(200).object(); host["bay_uuid"] == f.bay {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the bay has not got the new host")
		}
	}
}

// TestJoinTokensWithLimits: the API shows what a join token grants, and refuses it for others.
func TestJoinTokensWithLimits(t *testing.T) {
	f := newFixture(t)
	made := f.do("POST", "/v1/tokens", `{"name":"rack","join":true,"max_hosts":1,"labels":{"rack":"r7"}}`).is(201).object()
	if made["max_hosts"] != 1.0 || made["labels"].(map[string]any)["rack"] != "r7" {
		t.Errorf("the token is %v", made)
	}
	f.do("POST", "/v1/tokens", `{"max_hosts":1}`).is(400).mentions("join")
	f.do("POST", "/v1/tokens", `{"labels":{"a":"b"}}`).is(400).mentions("join")
	f.do("POST", "/v1/tokens", `{"join":true,"max_hosts":-1}`).is(400).mentions("max_hosts")
	f.do("POST", "/v1/tokens", `{"join":true,"labels":{"":"b"}}`).is(400).mentions("labels")
	with := func(_ *servertest.Agent, r *structs.HostRegister) { r.JoinToken = made["token"].(string) }
	f.s.StartAgent(t, "host-2", with)
	host := f.do("GET", "/v1/hosts/host-2", "").is(200).object()
	if host["token_labels"].(map[string]any)["rack"] != "r7" || host["labels"].(map[string]any)["rack"] != "r7" {
		t.Errorf("the host is %v", host)
	}
}
