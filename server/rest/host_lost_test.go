package rest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// cluster is a bay over hosts, each of which has its own fake agent.
type cluster struct {
	*caller
	t      *testing.T
	s      *servertest.Server
	agents map[string]*servertest.Agent // by name
}

func newCluster(t *testing.T, hosts int, options ...servertest.AgentOption) *cluster {
	t.Helper()
	s := servertest.New(t)
	c := &cluster{caller: newCaller(t, s), t: t, s: s, agents: map[string]*servertest.Agent{}}
	for i := range hosts {
		name := fmt.Sprint("host-", i+1)
		c.agents[name] = s.StartAgent(t, name, options...)
	}
	c.do("POST", "/v1/bays?wait=1m", fmt.Sprintf(`{"name":"bay","node_count":%d}`, hosts)).is(201)
	return c
}

// container has the fields of a container's body that the tests use.
func (c *cluster) container(name string) map[string]any {
	return c.do("GET", "/v1/containers/"+name, "").is(200).object()
}

// run creates a container and returns its UUID and the name of its host.
func (c *cluster) run(name, fields string) (id, host string) {
	c.t.Helper()
	body := c.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"`+name+`","image":"x"`+fields+`}`).is(201).object()
	return body["uuid"].(string), body["host"].(string)
}

// lose takes the power from a host.
func (c *cluster) lose(host string) {
	c.t.Helper()
	c.agents[host].Stop()
	c.s.Lose(c.t, c.agents[host].HostID)
}

func (c *cluster) eventually(what string, f func() bool) {
	c.t.Helper()
	servertest.Eventually(c.t, what, f)
}

func TestContainersOfLostHostMove(t *testing.T) {
	c := newCluster(t, 2)
	id, host := c.run("web", `,"restart_policy":"always"`)
	c.run("data", `,"restart_policy":"always","volumes":[{"name":"v","target":"/v"}]`)
	data := c.container("data")["host"].(string)
	c.lose(host)
	c.eventually("it runs elsewhere", func() bool {
		now := c.container("web")
		return now["status"] == "Running" && now["host"] != host && now["epoch"] == 2.0 && now["uuid"] == id
	})
	if data != host {
		c.lose(data)
	}
	c.eventually("what has a volume stays", func() bool {
		now := c.container("data")
		reason, _ := now["status_reason"].(string)
		return now["status"] == "Unknown" && now["host"] == data && strings.Contains(reason, "its volume v is on that host")
	})
	actions := c.do("GET", "/v1/containers/web/actions", "").is(200).object()["actions"].([]any)
	if first := actions[0].(map[string]any); first["action"] != "reschedule" || first["result"] != "success" {
		t.Errorf("%v", first)
	}
}

func TestFenceAndRelease(t *testing.T) {
	c := newCluster(t, 2)
	_, host := c.run("one", `,"restart_policy":"always","exclusive":true`)
	for _, action := range []string{"fence", "fence?force=true", "release"} {
		unchanged(t, c.s, action, func() { c.do("PUT", "/v1/hosts/"+host+"/"+action, "").is(409) })
	}
	c.do("PUT", "/v1/hosts/nope/fence", "").is(404)
	c.do("PUT", "/v1/hosts/nope/release", "").is(404)
	c.lose(host)
	c.eventually("it is not moved, and says why", func() bool {
		reason, _ := c.container("one")["status_reason"].(string)
		return strings.Contains(reason, "magnum host-fence "+host)
	})
	if body := c.do("PUT", "/v1/hosts/"+host+"/fence", "").is(200).object(); body["fenced"] != true || body["state"] != "lost" {
		t.Errorf("%v", body)
	}
	c.eventually("it runs elsewhere", func() bool {
		now := c.container("one")
		return now["status"] == "Running" && now["host"] != host && now["exclusive"] == true
	})
}

func TestExclusiveIsValidatedAndImmutable(t *testing.T) {
	c := newCluster(t, 1)
	for _, value := range []string{`"maybe"`, "1", "{}", "[]"} {
		unchanged(t, c.s, value, func() { c.do("POST", "/v1/containers", `{"image":"x","exclusive":`+value+`}`).is(400) })
	}
	for value, want := range map[string]string{"true": "true", "false": "false", `"lease"`: "lease", `"True"`: "true", "null": "false"} {
		body := c.do("POST", "/v1/containers", `{"image":"x","exclusive":`+value+`}`).is(201).object()
		if got := fmt.Sprint(body["exclusive"]); got != want {
			t.Errorf("%s is shown as %s", value, got)
		}
	}
	c.do("POST", "/v1/containers?wait=1m", `{"name":"one","image":"x","exclusive":true}`).is(201)
	c.do("PATCH", "/v1/containers/one", `[{"op":"remove","path":"/exclusive"}]`).is(400).says("cannot change container property(ies) " +
		"exclusive.")
}

func TestDrainMovesWithoutPause(t *testing.T) {
	hold := make(chan struct{})
	c := newCluster(t, 2, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		if a.Epoch > 1 && a.Desired == structs.DesiredRunning {
			<-hold // the pull of its image takes long
		}
		return servertest.Obey(a)
	}))
	id, host := c.run("web", `,"restart_policy":"always"`)
	_, other := c.run("batch", "")
	batch := other
	drained := func(host string) map[string]any {
		return c.do("GET", "/v1/hosts/"+host, "").is(200).object()["drain"].(map[string]any)
	}
	c.do("PUT", "/v1/hosts/"+host+"/drain?deadline=1h", "").is(200)
	c.eventually("the move is under way", func() bool { return drained(host)["moving"] == 1.0 })
	if a, _ := c.agents[host].Assigned(id); a.Epoch != 1 || a.Desired != structs.DesiredRunning {
		t.Errorf("the old host got %+v", a)
	}
	if drained(host)["deadline"] == nil {
		t.Error("no deadline is shown")
	}
	close(hold)
	c.eventually("it runs on the other host and is gone from the first", func() bool {
		a, _ := c.agents[host].Assigned(id)
		return c.container("web")["status"] == "Running" && c.container("web")["host"] != host && a.Desired == structs.DesiredAbsent
	})
	c.do("PUT", "/v1/hosts/"+host+"/undrain", "").is(200)
	c.do("PUT", "/v1/hosts/"+batch+"/drain", "").is(200)
	c.eventually("what can't move is waited for", func() bool {
		d := drained(batch)
		return d["remaining"] != 0.0 && strings.Contains(fmt.Sprint(d["waits"]), "its restart policy is no")
	})
	c.do("PUT", "/v1/hosts/"+batch+"/drain?force=true", "").is(200)
	c.eventually("the drain is done", func() bool { return drained(batch)["remaining"] == 0.0 })
	reason, _ := c.container("batch")["status_reason"].(string)
	if c.container("batch")["status"] != "Stopped" || !strings.Contains(reason, "being drained") {
		t.Errorf("%v", c.container("batch"))
	}
	c.do("PUT", "/v1/containers/batch/start", "").is(409)
	c.do("PUT", "/v1/hosts/"+batch+"/undrain", "").is(200)
	c.eventually("it runs again", func() bool { return c.container("batch")["status"] == "Running" })
	c.do("PUT", "/v1/hosts/"+batch+"/drain?deadline=soon", "").is(400)
	c.do("PUT", "/v1/hosts/"+batch+"/drain?deadline=1000h", "").is(400)
}

// TestDrainShowsWhatIsNotReady: a drain names what runs on another host and is not ready there.
func TestDrainShowsWhatIsNotReady(t *testing.T) {
	c := newCluster(t, 2, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		o := servertest.Obey(a)
		if o != nil && o.Status == structs.ContainerRunning {
			o.Health = map[bool]string{true: "healthy", false: "starting"}[a.Epoch == 1]
		}
		return o
	}))
	id, host := c.run("web", `,"restart_policy":"always","healthcheck":{"test":"true"}`)
	c.do("PUT", "/v1/hosts/"+host+"/drain", "").is(200)
	c.eventually("the drain says what it waits for", func() bool {
		d := c.do("GET", "/v1/hosts/"+host, "").is(200).object()["drain"].(map[string]any)
		return d["moving"] == 1.0 && d["remaining"] == 1.0 && strings.Contains(fmt.Sprint(d["waits"]),
			"until it is ready there: its health is starting")
	})
	if a, _ := c.agents[host].Assigned(id); a.Epoch != 1 || a.Desired != structs.DesiredRunning {
		t.Errorf("the old host got %+v", a)
	}
}

// TestReportsOfEarlierPlacementsAreIgnored checks that a report about an earlier placement
// doesn't change the present one.
func TestReportsOfEarlierPlacementsAreIgnored(t *testing.T) {
	c := newCluster(t, 2)
	id, host := c.run("web", `,"restart_policy":"always"`)
	c.lose(host)
	c.eventually("it runs elsewhere", func() bool {
		now := c.container("web")
		return now["status"] == "Running" && now["epoch"] == 2.0
	})
	if err := c.agents[host].Report(context.Background(), id, 1,
		structs.Observed{Status: structs.ContainerError, Reason: "old", Generation: 9}); err != nil {
		t.Fatal(err)
	}
	if now := c.container("web"); now["status"] != "Running" || now["host"] == host {
		t.Errorf("%v", now)
	}
}
