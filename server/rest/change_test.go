package rest_test

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestKillSignalReachesHostOnce checks that the host gets the signal once, under its own
// generation.
func TestKillSignalReachesHostOnce(t *testing.T) {
	f := newFixture(t)
	id := f.running("c")
	for query, want := range map[string]string{"": "SIGKILL", "?signal=hup": "SIGHUP", "?signal=10": "SIGUSR1", "?signal=RTMIN%2B3": "37"} {
		f.do("PUT", "/v1/containers/c/kill"+query, "").is(200)
		a, _ := f.agent.Assigned(id)
		if a.Signal != want || a.KillGeneration != a.Generation {
			t.Errorf("%q: assignment %+v", query, a)
		}
	}
}

// TestActionsOfAContainer checks the records of actions: their user, request and result.
func TestActionsOfAContainer(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	alice := newCaller(t, s).as("alice")
	alice.do("POST", "/v1/bays?wait=1m", `{}`).is(201)
	created := alice.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"x"}`).is(201).header.Get("X-Openstack-Request-Id")
	first := alice.do("GET", "/v1/containers/c/actions", "").is(200).items("actions")
	if len(first) != 1 || first[0]["action"] != "create" || first[0]["user_id"] != "alice" || first[0]["result"] != "success" ||
		first[0]["request_id"] != created {
		t.Errorf("%v", first)
	}
	request := alice.as("admin").do("PUT", "/v1/containers/c/stop", "").is(200).header.Get("X-Openstack-Request-Id")
	got := alice.do("GET", "/v1/containers/c/actions", "").is(200).items("actions")
	if len(got) != 2 || got[0]["action"] != "stop" || got[0]["user_id"] != "root" || got[0]["request_id"] != request ||
		got[0]["result"] != "success" ||
		got[0]["finished_at"] == nil || got[1]["action"] != "create" {
		t.Errorf("%v", got)
	}
	zun := alice.zun("GET", "/v1/containers/c/container_actions", "").is(200).items("containerActions")
	if len(zun) != 2 || zun[0]["action"] != "stop" || zun[0]["request_id"] != request || zun[0]["container_uuid"] == "" {
		t.Errorf("%v", zun)
	}
	one := alice.zun("GET", "/v1/containers/c/container_actions/"+request, "").is(200).object()
	if one["action"] != "stop" || len(one["events"].([]any)) != 1 {
		t.Errorf("%v", one)
	}
	alice.do("GET", "/v1/containers/nope/actions", "").is(404)
}

func TestRename(t *testing.T) {
	f := newFixture(t)
	id := f.running("c")
	if got := f.do("PUT", "/v1/containers/c/rename?name=ü+b", "").is(200).object()["name"]; got != "ü b" {
		t.Errorf("name %v", got)
	}
	f.do("GET", "/v1/containers/c", "").is(404)
	if f.do("GET", "/v1/containers/%C3%BC%20b", "").is(200).uuid() != id {
		t.Error("another container")
	}
}

func TestRebuild(t *testing.T) {
	f := newFixture(t)
	id := f.running("c")
	before := f.s.Store.Snapshot().Container(id)
	f.do("PUT", "/v1/containers/c/rebuild?image=alpine", "").is(200)
	after := f.s.Store.Snapshot().Container(id)
	if after.Spec.Image != "alpine" || after.Epoch != before.Epoch+1 || after.HostID != before.HostID ||
		after.Status() != structs.ContainerRunning {
		t.Errorf("%+v", after)
	}
	f.do("PUT", "/v1/containers/c/rebuild", "").is(200)
	if now := f.s.Store.Snapshot().Container(id); now.Spec.Image != "alpine" || now.Epoch != after.Epoch+1 {
		t.Errorf("%+v", now)
	}
}

// TestPatchLimitsOfRunningContainer checks that a change of limits waits for the host, and
// reports its failure.
func TestPatchLimitsOfRunningContainer(t *testing.T) {
	fails := make(chan bool, 1)
	fails <- false
	f := newFixture(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		seen := servertest.Obey(a)
		fail := <-fails
		fails <- fail
		if fail {
			seen.Failed, seen.Reason = true, "the engine refuses"
		}
		return seen
	}))
	id := f.running("c")
	body := f.do("PATCH", "/v1/containers/c",
		`[{"op":"replace","path":"/memory","value":"64m"},{"op":"add","path":"/cpu","value":0.5},{"op":"replace","path":"/name",`+
			`"value":"d"}]`).is(200).object()
	if body["memory"] != float64(64<<20) || body["cpu"] != 0.5 || body["name"] != "d" || body["status"] != "Running" {
		t.Errorf("%v", body)
	}
	if a, _ := f.agent.Assigned(id); a.Spec.Memory != 64<<20 || a.Spec.MilliCPU != 500 || a.Generation != 2 || a.Epoch != 1 {
		t.Errorf("assignment %+v", a)
	}
	body = f.do("PATCH", "/v1/containers/d", `[{"op":"remove","path":"/memory"}]`).is(200).object()
	if body["memory"] != nil || body["cpu"] != 0.5 {
		t.Errorf("%v", body)
	}
	<-fails
	fails <- true
	f.do("PATCH", "/v1/containers/d", `[{"op":"replace","path":"/memory","value":"32m"}]`).is(500).says("Container d: the engine refuses")
}

// TestHealthcheckAndRegistryReachHost checks that a host gets the health check and the
// credentials of a registry, and that no response shows the credentials.
func TestHealthcheckAndRegistryReachHost(t *testing.T) {
	f := newFixture(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		seen := servertest.Obey(a)
		if a.Spec.Healthcheck != nil {
			seen.Health = "starting"
		}
		return seen
	}))
	r := f.do("POST", "/v1/containers?run=true&wait=10s",
		`{"name":"c","image":"registry:5000/x","registry":{"username":"bob","password":"s3cret"},
		"healthcheck":{"test":"wget -q localhost","interval":"30","retries":3}}`).is(201)
	a, _ := f.agent.Assigned(r.uuid())
	if g := a.Registry; g == nil || g.Username != "bob" || g.Password != "s3cret" {
		t.Errorf("registry %+v", g)
	}
	if h := a.Spec.Healthcheck; h == nil || h.Test.Text != "wget -q localhost" || h.Interval != 30 || h.Retries != 3 {
		t.Errorf("healthcheck %+v", h)
	}
	for _, path := range []string{"/v1/containers/c", "/v1/containers/detail", "/v1/containers"} {
		if body := string(f.do("GET", path, "").is(200).body); strings.Contains(body, "s3cret") || strings.Contains(body, "bob") {
			t.Errorf("%s shows the credentials: %s", path, body)
		}
	}
	body := f.do("GET", "/v1/containers/c", "").is(200).object()
	if check, _ := body["healthcheck"].(map[string]any); body["health"] != "starting" || check["test"] != "wget -q localhost" ||
		check["interval"] != 30.0 {
		t.Errorf("%v", body)
	}
	none := f.do("POST", "/v1/containers?wait=1m", `{"image":"x","healthcheck":{"test":[]}}`).is(201)
	if check, _ := none.object()["healthcheck"].(map[string]any); check == nil || len(check["test"].([]any)) != 0 {
		t.Errorf("%s", none.body)
	}
	plain := f.do("POST", "/v1/containers?wait=1m", `{"image":"x"}`).is(201).object()
	if plain["healthcheck"] != nil || plain["health"] != nil {
		t.Errorf("%v", plain)
	}
}
