package rest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

var objectPath = regexp.MustCompile(`^/v1/(bays|baymodels|nodes|containers|pods|rcs|services)/:id`)

// argumentsFor are arguments without which routes are refused.
func argumentsFor(path string) string {
	for end, more := range map[string]string{"/execute": "&command=ls", "/execute/ws": "&command=ls", "/rename": "&name=new",
		"archive": "&path=/", "/resize": "&w=80&h=24", "/execute_resize": "&w=80&h=24&exec_id=x"} {
		if strings.HasSuffix(path, end) {
			return more
		}
	}
	return ""
}

// TestAllProjectsByRole tries every route of a single object with all_projects, as everybody
// who is no operator.
func TestAllProjectsByRole(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	own := newCaller(t, s).as("alice").do("POST", "/v1/baymodels", `{"coe":"docker"}`).is(201).uuid()
	tried := 0
	walk := func(routes []rest.Route, do func(c *caller, method, path, body string) *reply) {
		for _, rt := range routes {
			if !objectPath.MatchString(rt.Path) {
				continue
			}
			tried++
			for _, id := range []string{own, structs.NewID(), "web"} {
				path := strings.Replace(rt.Path, ":id", id, 1)
				path = strings.Replace(path, ":request", "req-1", 1) + "?all_projects=true" + argumentsFor(rt.Path)
				body := map[string]string{"PATCH": `[{"op":"replace","path":"/name","value":"new"}]`}[rt.Method]
				for _, who := range []string{"reader", "alice", "mallory"} {
					if r := do(newCaller(t, s).as(who), rt.Method, path, body); r.status != 403 {
						t.Errorf("%s %s as %q: status %d: %s", rt.Method, path, who, r.status, cut(string(r.body)))
					}
				}
			}
		}
	}
	walk(s.REST.Routes(), func(c *caller, method, path, body string) *reply { return c.do(method, path, body) })
	walk(s.REST.ZunRoutes(), func(c *caller, method, path, body string) *reply { return c.zun(method, path, body) })
	if tried < 60 {
		t.Errorf("only %d routes were tried", tried)
	}
}

// TestAllProjects has an operator use names of other projects. Without all_projects they mean
// nothing.
func TestAllProjects(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1", servertest.Serve(serveText))
	admin, alice, mallory := newCaller(t, s).as("admin"), newCaller(t, s).as("alice"), newCaller(t, s).as("mallory")
	home := admin.do("POST", "/v1/bays?wait=10s", `{"name":"home","shared":true}`).is(201).uuid()
	post := func(c *caller, name string) string {
		return c.do("POST", "/v1/containers?run=true&wait=10s", `{"name":"`+name+`","image":"busybox","bay":"`+home+`"}`).is(201).uuid()
	}
	theirs, old := post(mallory, "theirs"), post(mallory, "old")
	const all = "?all_projects=true"

	admin.do("GET", "/v1/containers/theirs", "").is(404)
	admin.zun("GET", "/v1/containers/theirs", "").is(404)
	for _, r := range []*reply{
		admin.do("GET", "/v1/containers/theirs"+all, "").is(200),
		admin.zun("GET", "/v1/containers/theirs?all_projects=True", "").is(200),
		admin.zun("GET", "/v1/containers/theirs?all_tenants=1", "").is(200),
	} {
		if r.uuid() != theirs {
			t.Errorf("%s shows %s, not %s", r.what, r.uuid(), theirs)
		}
	}
	for name, status := range map[string]int{"alice": 403, "mallory": 403, "admin": 200} {
		newCaller(t, s).as(name).zun("GET", "/v1/containers?all_tenants=true", "").is(status)
	}
	admin.zun("GET", "/v1/containers/theirs?all_tenants=false", "").is(404)
	admin.do("GET", "/v1/containers/theirs/actions"+all, "").is(200)
	admin.do("GET", "/v1/containers/theirs/logs"+all, "").is(200)
	admin.do("PUT", "/v1/containers/theirs/stop"+all, "").is(200)
	admin.zun("POST", "/v1/containers/theirs/start"+all, "").is(202)
	admin.do("PUT", "/v1/containers/theirs/rename?name=also"+strings.Replace(all, "?", "&", 1), "").is(200)

	// A name in two projects means neither.
	admin.do("PUT", "/v1/containers/also/rename?name=theirs&all_projects=true", "").is(200)
	own := post(alice, "theirs")
	admin.do("GET", "/v1/containers/theirs"+all, "").is(409)
	admin.zun("DELETE", "/v1/containers/theirs?force=1&all_projects=1", "").is(409)
	for _, id := range []string{own, theirs} {
		if status := admin.do("GET", "/v1/containers/"+id, "").is(200).object()["status"]; status == "Deleting" {
			t.Errorf("container %s is deleted", id)
		}
	}
	admin.do("DELETE", "/v1/containers/old?force=true", "").is(404)
	admin.zun("DELETE", "/v1/containers/old?force=true&all_projects=true", "").is(204)
	mallory.do("GET", "/v1/containers/"+old, "").is(404)

	model := mallory.do("POST", "/v1/baymodels", `{"name":"m","coe":"docker"}`).is(201).uuid()
	mallory.do("POST", "/v1/baymodels", `{"name":"other","coe":"docker"}`).is(201)
	mallory.do("POST", "/v1/bays?wait=0s", `{"name":"b","baymodel_id":"`+model+`"}`)
	for path, wait := range map[string]string{"/v1/bays/b": "&wait=30s", "/v1/baymodels/other": ""} {
		admin.do("DELETE", path, "").is(404)
		admin.do("DELETE", path+all+wait, "").is(204)
		mallory.do("GET", path, "").is(404)
	}
}
