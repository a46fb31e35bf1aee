package rest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestQuotas: an operator sets limits, a tenant sees them beside what its project uses, and
// gets no more.
func TestQuotas(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	c := newCaller(t, s)
	admin, alice, mallory := c.as("admin"), c.as("alice"), c.as("mallory")
	alice.do("POST", "/v1/bays?wait=1m", `{"name":"b"}`).is(201)
	use := func(r *reply, resource string) string {
		t.Helper()
		u, ok := r.is(200).object()[resource].(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", resource, r.body)
		}
		return fmt.Sprint(u["in_use"], " of ", u["limit"], ", ", u["source"])
	}
	expect := func(r *reply, resource, want string) {
		t.Helper()
		if got := use(r, resource); got != want {
			t.Errorf("%s: %s, not %s", resource, got, want)
		}
	}
	expect(alice.do("GET", "/v1/quotas/p1", ""), "bays", "1 of -1, shipped")
	set := admin.do("PUT", "/v1/quotas/p1", `{"containers":1,"cpu":"1.5"}`)
	expect(set, "containers", "0 of 1, project")
	expect(set, "cpu", "0 of 1.5, project")
	admin.do("PUT", "/v1/quotas/p1", `{"memory":1073741824}`).is(200)
	admin.do("PUT", "/v1/quota_classes/default", `{"bays":1}`).is(200)
	alice.do("POST", "/v1/containers", `{"image":"busybox","memory":"64m"}`).is(400).mentions("cpu is missing")
	alice.do("POST", "/v1/containers", `{"image":"busybox","memory":"64m","cpu":1}`).is(201)
	alice.do("POST", "/v1/containers", `{"image":"busybox","memory":"64m","cpu":0.1}`).is(403).code("quota.quota").
		mentions("Quota exceeded for containers: the project uses 1 of 1, and this would take 1 more")
	alice.do("POST", "/v1/bays", `{}`).is(403).mentions("Quota exceeded for bays: the project uses 1 of 1, and this would take 1 more")
	got := alice.do("GET", "/v1/quotas/p1", "")
	expect(got, "containers", "1 of 1, project")
	expect(got, "memory", "6.7108864e+07 of 1.073741824e+09, project")
	expect(got, "cpu", "1 of 1.5, project")
	expect(got, "bays", "1 of 1, default")
	expect(got, "pods", "0 of -1, shipped")
	if got.object()["project_id"] != "p1" || got.object()["updated_at"] == nil {
		t.Errorf("%s", got.body)
	}
	expect(alice.do("GET", "/v1/quotas/p1/defaults", ""), "containers", "0 of -1, shipped")
	expect(alice.do("GET", "/v1/quota_classes/default", ""), "bays", "0 of 1, default")

	// Another project's quota is none of a tenant's business; an operator sees all.
	mallory.do("GET", "/v1/quotas/p1", "").is(404).mentions("Quota p1 could not be found")
	expect(mallory.do("GET", "/v1/quotas/p2", ""), "containers", "0 of -1, shipped")
	expect(admin.do("GET", "/v1/quotas/p2", ""), "bays", "0 of 1, default")
	if own := mallory.do("GET", "/v1/quotas", "").is(200).items("quotas"); len(own) != 1 || own[0]["project_id"] != "p2" {
		t.Errorf("mallory's own: %v", own)
	}
	mallory.do("GET", "/v1/quotas?all_projects=true", "").is(403)
	admin.do("PUT", "/v1/quotas/p3", `{"pods":3}`).is(200)
	list := admin.do("GET", "/v1/quotas?all_projects=true&limit=1", "").is(200)
	if all := list.items("quotas"); len(all) != 1 || all[0]["project_id"] != "p1" ||
		!strings.Contains(fmt.Sprint(list.object()["next"]), "marker=p1") {
		t.Errorf("the first page: %s", list.body)
	}
	next := fmt.Sprint(list.object()["next"])
	last := admin.do("GET", next[strings.Index(next, "/v1/"):], "").is(200)
	if all := last.items("quotas"); len(all) != 1 || all[0]["project_id"] != "p3" || last.object()["next"] != nil {
		t.Errorf("the last page: %s", last.body)
	}

	// Bad values are refused by name, and change nothing.
	for body, message := range map[string]string{
		`{}`:                          "has no limit",
		`{"bays":-2}`:                 "bays. Value: '-2'",
		`{"bays":"many"}`:             "bays",
		`{"bays":9007199254740993}`:   "bays",
		`{"cpu":-0.5}`:                "cpu",
		`{"cpu":1e300}`:               "cpu",
		`{"memory":"lots"}`:           "memory",
		`{"disk":1}`:                  "disk",
		`{"bays":1,"project_id":"x"}`: "project_id",
		`[]`:                          "object",
	} {
		unchanged(t, s, body, func() { admin.do("PUT", "/v1/quotas/p1", body).is(400).mentions(message) })
	}
	admin.do("PUT", "/v1/quotas/"+strings.Repeat("x", structs.MaxName+1), `{"bays":1}`).is(400).mentions("project_id")

	admin.do("DELETE", "/v1/quotas/p1", "").is(204)
	admin.do("DELETE", "/v1/quotas/p1", "").is(204)
	admin.do("DELETE", "/v1/quota_classes/default", "").is(204)
	alice.do("POST", "/v1/containers", `{"image":"busybox"}`).is(201)
	alice.do("POST", "/v1/bays", `{}`).is(201)
	admin.do("GET", "/v1/quota_classes/other", "").is(404)
}

// TestQuotaOfAKubernetesBay: what pods and replication controllers of a Kubernetes bay request
// is read from their manifests.
func TestQuotaOfAKubernetesBay(t *testing.T) {
	k := newKube(t)
	before := k.do("POST", "/v1/pods?wait=10s", podOf(t, podManifest("before", "x"), `,"bay":"kube"`)).is(201).uuid()
	k.do("PUT", "/v1/quotas/"+structs.DefaultProject, fmt.Sprintf(`{"memory":%d,"cpu":2}`, 100<<20)).is(200)
	in := func(manifest, requests string) string {
		text := strings.Replace(manifest, `"image":"x"`, `"image":"x","resources":{"requests":{`+requests+`}}`, 1)
		return podOf(t, text, `,"bay":"kube"`)
	}
	pod := func(name, requests string) string { return in(podManifest(name, "x"), requests) }
	rc := func(name string, replicas int, requests string) string {
		return in(rcManifest(name, replicas, "x"), requests)
	}
	used := func(want string) {
		t.Helper()
		got := k.do("GET", "/v1/quotas/"+structs.DefaultProject, "").is(200).object()
		memory, cpu := got["memory"].(map[string]any)["in_use"], got["cpu"].(map[string]any)["in_use"]
		if text := fmt.Sprint(memory.(float64)/(1<<20), "Mi, ", cpu); text != want {
			t.Errorf("%s are used, not %s", text, want)
		}
	}
	const at, template = "spec.containers[0].resources.requests.", "spec.template.spec.containers[0].resources.requests."
	k.do("POST", "/v1/pods", pod("a", ``)).is(400).mentions(at + "memory is missing")
	k.do("POST", "/v1/pods", pod("a", `"memory":"1Mi"`)).is(400).mentions(at + "cpu is missing")
	k.do("POST", "/v1/rcs", rc("c", 1, `"cpu":1`)).is(400).mentions(template + "memory is missing")
	k.do("POST", "/v1/pods", pod("a", `"memory":"101Mi","cpu":1`)).is(403).mentions("Quota exceeded for memory")
	k.do("POST", "/v1/pods?wait=10s", pod("a", `"memory":"60Mi","cpu":"500m"`)).is(201)
	used("60Mi, 0.5")
	k.do("POST", "/v1/pods", pod("b", `"memory":"60Mi","cpu":"500m"`)).is(403).mentions("Quota exceeded for memory")
	k.do("POST", "/v1/rcs", rc("c", 2, `"memory":"10Mi","cpu":"250m"`)).is(201)
	used("80Mi, 1")
	change := func(text string) string {
		return `[{"op":"replace","path":"/manifest","value":` + strings.TrimSpace(toJSON(t, text)) + `}]`
	}
	k.do("PATCH", "/v1/pods/"+before, change(podManifest("before", "y"))).is(200) // it was there before the quota
	larger := strings.Replace(podManifest("before", "x"), `"image":"x"`,
		`"image":"x","resources":{"limits":{"memory":"30Mi","cpu":"1m"}}`, 1)
	k.do("PATCH", "/v1/pods/"+before, change(larger)).is(403).mentions("Quota exceeded for memory")
	k.do("PATCH", "/v1/pods/"+before, change(strings.ReplaceAll(larger, "30Mi", "20Mi"))).is(200)
	used("100Mi, 1.001")
}

// TestZunQuotas: what OpenStack's container client sends and expects.
func TestZunQuotas(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	c := newCaller(t, s)
	admin, alice := c.as("admin"), c.as("alice")
	is := func(r *reply, want string) {
		t.Helper()
		if got := strings.TrimSpace(string(r.is(200).body)); got != want {
			t.Errorf("%s: %s, not %s", r.what, got, want)
		}
	}
	is(admin.zun("GET", "/v1/quotas/p1/defaults", ""), `{"containers":-1,"memory":-1,"cpu":-1,"disk":-1}`)
	is(admin.zun("PUT", "/v1/quotas/p1", `{"containers":"5","memory":"1024","cpu":"2"}`),
		`{"containers":5,"memory":1024,"cpu":2,"disk":-1}`)
	is(alice.zun("GET", "/v1/quotas/p1", ""), `{"containers":5,"memory":1024,"cpu":2,"disk":-1}`)
	is(alice.zun("GET", "/v1/quotas/p1?usages=True", ""), `{"containers":{"limit":5,"in_use":0},"memory":{"limit":1024,"in_use":0},`+
		`"cpu":{"limit":2,"in_use":0},"disk":{"limit":-1,"in_use":0}}`)
	is(admin.zun("PUT", "/v1/quota_classes/default", `{"containers":7}`), `{"containers":7,"memory":-1,"cpu":-1,"disk":-1}`)
	is(alice.zun("GET", "/v1/quota_classes/default", ""), `{"containers":7,"memory":-1,"cpu":-1,"disk":-1}`)
	admin.zun("DELETE", "/v1/quotas/p1", "").is(204)
	is(alice.zun("GET", "/v1/quotas/p1", ""), `{"containers":7,"memory":-1,"cpu":-1,"disk":-1}`)
	alice.zun("PUT", "/v1/quotas/p1", `{"containers":9}`).is(403)
	alice.zun("GET", "/v1/quotas/p2", "").is(404)
	is(admin.zun("PUT", "/v1/quotas/p1", `{"containers":"-1","disk":-1,"cpu":null}`), `{"containers":-1,"memory":-1,"cpu":-1,"disk":-1}`)
	for body, message := range map[string]string{`{"containers":"many"}`: "containers", `{"memory":1.5}`: "memory",
		`{"memory":-2}`: "memory", `{"memory":1e30}`: "memory", `{"cpu":"NaN"}`: "cpu", `{"disk":5}`: "disk", `{"networks":1}`: "networks",
		`[]`: "object", `{}`: "no limit"} {
		unchanged(t, s, body, func() { admin.zun("PUT", "/v1/quotas/p1", body).is(400).mentions(message) })
	}
}
