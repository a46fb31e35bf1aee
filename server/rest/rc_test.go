package rest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// rcManifest returns a manifest of a replication controller whose pods have one container.
func rcManifest(name string, replicas int, image string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":%q,"labels":{"tier":"x"}},`+
		`"spec":{"replicas":%d,"selector":{"app":%[1]q},"template":{"metadata":{"labels":{"app":%[1]q}},`+
		`"spec":{"containers":[{"name":"c0","image":%[3]q}]}}}}`, name, replicas, image)
}

// patchManifest returns the body of a PATCH of a manifest.
func patchManifest(t testing.TB, text string) string {
	return `[{"op":"replace","path":"/manifest","value":` + strings.TrimSpace(toJSON(t, text)) + `}]`
}

// podsOf returns the pods that belong to a replication controller and are not being deleted.
func (f *fixture) podsOf(rc string) (all []map[string]any) {
	f.t.Helper()
	for _, p := range f.do("GET", "/v1/pods/detail", "").is(200).object()["pods"].([]any) {
		if p := p.(map[string]any); p["rc_uuid"] == rc && p["status"] != "Deleting" {
			all = append(all, p)
		}
	}
	return all
}

// TestRCLifeCycle follows a replication controller from its creation to its deletion.
func TestRCLifeCycle(t *testing.T) {
	f := newFixture(t)
	text := rcManifest("web", 2, "nginx:1")
	r := f.do("POST", "/v1/rcs?wait=1m", podOf(t, text, `,"bay_uuid":"b1","infra_image":"pause:1"`)).is(201)
	made := r.object()
	id := made["uuid"].(string)
	if r.header.Get("Location") != f.s.URL+"/v1/rcs/"+id {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	r.holds(made, map[string]any{"name": "web", "bay_uuid": f.bay, "replicas": 2.0, "current": 2.0, "ready": 2.0, "updated": 2.0,
		"status_reason": nil, "manifest": text, "manifest_url": nil, "deleting": false, "generation": 1.0, "observed_generation": 1.0,
		"exclusive": false, "infra_image": "pause:1"})
	if got := fmt.Sprint(made["images"], made["labels"], made["selector"]); got != "[nginx:1] map[tier:x] map[app:web]" {
		t.Errorf("images, labels and selector: %s", got)
	}
	pods := f.podsOf(id)
	if len(pods) != 2 {
		t.Fatalf("its pods are %v", pods)
	}
	for _, p := range pods {
		if !strings.HasPrefix(p["name"].(string), "web-") || p["infra_image"] != "pause:1" || p["ready"] != true ||
			fmt.Sprint(p["labels"]) != "map[app:web]" || p["manifest"] != nil {
			t.Errorf("pod %v", p)
		}
	}
	brief := f.do("GET", "/v1/rcs", "").is(200).object()["rcs"].([]any)[0].(map[string]any)
	var fields []string
	for field := range brief {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	if got := strings.Join(fields, " "); got != "bay_uuid images labels links name replicas uuid" {
		t.Errorf("the list has %s", got)
	}

	// Replicas at once, another template pod by pod.
	now := f.do("PATCH", "/v1/rcs/web?wait=1m", patchManifest(t, rcManifest("web", 3, "nginx:1"))).is(200).object()
	if now["replicas"] != 3.0 || now["ready"] != 3.0 || now["generation"] != 2.0 || now["updated_at"] == nil {
		t.Errorf("after the PATCH: %v", now)
	}
	now = f.do("PATCH", "/v1/rcs/web?wait=1m", patchManifest(t, rcManifest("web", 3, "nginx:2"))).is(200).object()
	if now["updated"] != 3.0 || now["ready"] != 3.0 || fmt.Sprint(now["images"]) != "[nginx:2]" {
		t.Errorf("after the PATCH: %v", now)
	}
	for _, p := range f.podsOf(id) {
		if fmt.Sprint(p["images"], p["infra_image"]) != "[nginx:2]pause:1" {
			t.Errorf("pod %v", p)
		}
	}
	servertest.Eventually(t, "the old pods are gone", func() bool {
		return len(f.do("GET", "/v1/pods", "").is(200).object()["pods"].([]any)) == 3
	})
	unchanged(t, f.s, "the same PATCH", func() {
		f.do("PATCH", "/v1/rcs/web", patchManifest(t, rcManifest("web", 3, "nginx:2"))).is(200)
	})
	now = f.do("PATCH", "/v1/rcs/web?wait=1m", patchManifest(t, rcManifest("web", 0, "nginx:2"))).is(200).object()
	if now["current"] != 0.0 || len(f.podsOf(id)) != 0 {
		t.Errorf("after the PATCH: %v", now)
	}
	f.do("PATCH", "/v1/rcs/web?wait=1m", patchManifest(t, rcManifest("web", 1, "nginx:2"))).is(200)
	// A deleted pod is replaced.
	first := f.podsOf(id)[0]["uuid"]
	f.do("DELETE", fmt.Sprint("/v1/pods/", first), "").is(204)
	servertest.Eventually(t, "another pod is ready", func() bool {
		pods := f.podsOf(id)
		return len(pods) == 1 && pods[0]["ready"] == true && pods[0]["uuid"] != first
	})

	f.do("DELETE", "/v1/rcs/web", "").is(204)
	f.do("GET", "/v1/rcs/"+id, "").is(404).code("rc.not_found")
	snap := f.s.Store.Snapshot()
	for _, table := range []structs.Table{structs.TableRCs, structs.TablePods, structs.TableManifests} {
		for row := range snap.List(table, "*", 0) {
			t.Errorf("%s: row %s is left", table, row.Base().ID)
		}
	}
	if used := snap.Usage(f.agent.HostID); used.Workloads != 0 {
		t.Errorf("reserved: %+v", used)
	}
}

// TestRCWaits: a wait ends with 202 if the pods don't become ready in time, and the object says
// why.
func TestRCWaits(t *testing.T) {
	f := newFixture(t)
	large := strings.Replace(rcManifest("large", 2, "x"), `"image":"x"`, `"image":"x","resources":{"requests":{"memory":"1Ti"}}`, 1)
	now := f.do("POST", "/v1/rcs?wait=50ms", podOf(t, large, "")).is(202).object()
	if now["ready"] != 0.0 {
		t.Errorf("%v", now)
	}
	servertest.Eventually(t, "it says why", func() bool {
		now = f.do("GET", "/v1/rcs/large", "").is(200).object()
		return now["current"] == 2.0 && strings.Contains(fmt.Sprint(now["status_reason"]), "memory 1048576 MiB")
	})
	f.do("DELETE", "/v1/rcs/large?wait=1m", "").is(204)
}

// TestRCPodsOfLostHostMove: the pods of a lost host run elsewhere, and there are no others.
func TestRCPodsOfLostHostMove(t *testing.T) {
	c := newCluster(t, 2)
	id := c.do("POST", "/v1/rcs?wait=1m", podOf(t, rcManifest("web", 4, "x"), "")).is(201).uuid()
	bay := c.do("GET", "/v1/bays/bay", "").is(200).uuid()
	on := make(map[string]int)
	for w := range c.s.Store.Snapshot().InBay(bay) {
		on[w.Place().HostID]++
	}
	if len(on) != 2 {
		t.Fatalf("the pods are on %v", on)
	}
	var lost string
	for name := range c.agents {
		lost = name
	}
	gone := c.agents[lost].HostID
	c.lose(lost)
	c.eventually("all run on the other host", func() bool {
		now := c.do("GET", "/v1/rcs/web", "").is(200).object()
		all, there := 0, 0
		for w := range c.s.Store.Snapshot().InBay(bay) {
			if all++; w.Place().HostID != gone {
				there++
			}
		}
		return now["uuid"] == id && now["ready"] == 4.0 && all == 4 && there == 4
	})
}

func TestRCRefusals(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(_ context.Context, url string) (string, error) {
		if strings.HasSuffix(url, "/bad") {
			return "", structs.Errorf(structs.CodeInvalid, "manifest_url %q: the server answered 404", url)
		}
		return rcManifest("fetched", 0, "x"), nil
	})))
	f.do("POST", "/v1/rcs?wait=1m", podOf(t, rcManifest("web", 0, "x"), "")).is(201)
	f.do("POST", "/v1/rcs?wait=1m", `{"manifest_url":"http://example.com/rc"}`).is(201)
	patch := func(path string, value any) string {
		return `[{"op":"replace","path":"` + path + `","value":` + strings.TrimSpace(toJSON(t, value)) + `}]`
	}
	overlaps := strings.Replace(rcManifest("other", 1, "x"), `"selector":{"app":"other"}`, `"selector":{"tier":"x"}`, 1)
	overlaps = strings.Replace(overlaps, `"labels":{"app":"other"}`, `"labels":{"app":"other","tier":"x"}`, 1)
	for _, tt := range []struct {
		method, path, body string
		status             int
		mentions           string
	}{
		{"POST", "/v1/rcs", `{}`, 400, "give a manifest, or a manifest_url"},
		{"POST", "/v1/rcs", podOf(t, "x", `,"manifest_url":"http://example.com/rc"`), 400, "both given"},
		{"POST", "/v1/rcs", podOf(t, podManifest("web", "x"), ""), 400, "kind"},
		{"POST", "/v1/rcs", podOf(t, rcManifest("web", 1, "x"), ""), 409, "has a replication controller web already"},
		{"POST", "/v1/rcs", podOf(t, rcManifest("n", 1001, "x"), ""), 400, "spec.replicas: 1001 not in 0..1000"},
		{"POST", "/v1/rcs", podOf(t, strings.Replace(rcManifest("n", 1, "x"), `"template"`, `"templat"`, 1), ""), 400, "spec.templat"},
		{"POST", "/v1/rcs", podOf(t, overlaps, ""), 400, "spec.selector: a pod could match it"},
		{"POST", "/v1/rcs", podOf(t, rcManifest("n", 1, "x"), `,"bay":"nope"`), 400, "Bay nope could not be found."},
		{"POST", "/v1/rcs", podOf(t, rcManifest("n", 1, "x"), `,"replicas":3`), 400, "replicas"},
		{"POST", "/v1/rcs", podOf(t, rcManifest("n", 1, "x"), `,"bogus":3`), 400, "Unknown attribute"},
		{"POST", "/v1/rcs", podOf(t, largeRC(7), ""), 400, "bytes of fields are more than 393216"},
		{"POST", "/v1/rcs", `{"manifest_url":"http://example.com/bad"}`, 400, "the server answered 404"},
		{"PATCH", "/v1/rcs/web", patch("/replicas", 3), 400, "'/replicas' is an internal attribute"},
		{"PATCH", "/v1/rcs/web", patch("/name", "n"), 400, "'/name' is an internal attribute"},
		{"PATCH", "/v1/rcs/web", patch("/labels", "n"), 400, "'/labels' is an internal attribute"},
		{"PATCH", "/v1/rcs/web", `[{"op":"remove","path":"/manifest"}]`, 400, "/manifest"},
		{"PATCH", "/v1/rcs/web", patch("/exclusive", true), 400, "cannot change rc property(ies) exclusive"},
		{"PATCH", "/v1/rcs/web", patch("/manifest", "nothing"), 400, "manifest"},
		{"PATCH", "/v1/rcs/web", patch("/manifest", rcManifest("other", 1, "x")), 400,
			`metadata.name: "other" is not the replication controller's name, "web"`},
		{"PATCH", "/v1/rcs/nope", patch("/manifest", rcManifest("nope", 1, "x")), 404, "nope"},
		{"PATCH", "/v1/rcs/web", patch("/manifest_url", "http://example.com/bad"), 400, "the server answered 404"},
		{"DELETE", "/v1/rcs/nope", "", 404, "nope"},
		{"GET", "/v1/rcs?status=x", "", 400, `Unknown argument: "status"`},
		{"GET", "/v1/rcs?sort_key=images", "", 400, "sort_key"},
	} {
		unchanged(t, f.s, tt.method+" "+tt.path+" "+cut(tt.body), func() {
			f.do(tt.method, tt.path, tt.body).is(tt.status).mentions(tt.mentions)
		})
	}
	if rc := f.do("GET", "/v1/rcs/fetched", "").is(200).object(); rc["manifest_url"] != "http://example.com/rc" ||
		rc["manifest"] != rcManifest("fetched", 0, "x") {
		t.Errorf("the fetched one is %v", rc)
	}
	for query, want := range map[string]int{"?name=web": 1, "?label=tier=x": 2, "?bay=b1": 2, "?label=tier=y": 0, "?sort_key=replicas": 2} {
		if got := len(f.do("GET", "/v1/rcs"+query, "").is(200).object()["rcs"].([]any)); got != want {
			t.Errorf("%s lists %d, not %d", query, got, want)
		}
	}
}

// largeRC returns a manifest whose template has containers with 60 KiB of arguments each.
func largeRC(containers int) string {
	pod := largePod("x", containers)
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"large"},"spec":{"replicas":2,`+
		`"template":{"metadata":{"labels":{"app":"large"}},"spec":%s}}}`, pod[strings.Index(pod, `{"containers"`):len(pod)-1])
}

// TestLargeRC: the largest replication controller fits in an entry, its pods too, and counting
// them writes little.
func TestLargeRC(t *testing.T) {
	f := newFixture(t)
	text := largeRC(6)
	text += strings.Repeat(" ", structs.MaxManifest-len(text))
	f.do("POST", "/v1/rcs?wait=1m", podOf(t, text, "")).is(201)
	if got := f.do("GET", "/v1/rcs/large", "").object(); got["manifest"] != text || got["ready"] != 2.0 {
		t.Errorf("%v ready, and the manifest has %d bytes, not %d", got["ready"], len(got["manifest"].(string)), len(text))
	}
	f.do("DELETE", "/v1/rcs/large?wait=1m", "").is(204)
	if f.s.Store.Snapshot().HasSpecs() {
		t.Error("a spec is left")
	}
}

// TestRCIsCreatedOnce: the same key makes one replication controller, also if its manifest
// can't be fetched again.
func TestRCIsCreatedOnce(t *testing.T) {
	fetched := false
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(context.Context, string) (string, error) {
		if fetched {
			return "", structs.Errorf(structs.CodeInvalid, "the server of the manifest is gone")
		}
		fetched = true
		return rcManifest("fetched", 0, "x"), nil
	})))
	byURL := `{"manifest_url":"http://example.com/rc"}`
	once := f.do("POST", "/v1/rcs", byURL, header{"Idempotency-Key", "url"}).is(201).uuid()
	if again := f.do("POST", "/v1/rcs", byURL, header{"Idempotency-Key", "url"}).is(201).uuid(); again != once {
		t.Errorf("%s and %s", once, again)
	}
	key := header{"Idempotency-Key", "k"}
	body := podOf(t, rcManifest("web", 0, "x"), "")
	id := f.do("POST", "/v1/rcs", body, key).is(201).uuid()
	if again := f.do("POST", "/v1/rcs", body, key).is(201).uuid(); again != id {
		t.Errorf("%s and %s", id, again)
	}
	f.do("POST", "/v1/rcs", podOf(t, rcManifest("other", 0, "x"), ""), key).is(409)
}

// TestRCsGoWithTheirBay: nothing of them is left, and no pod is made again.
func TestRCsGoWithTheirBay(t *testing.T) {
	f := newFixture(t)
	f.do("POST", "/v1/rcs?wait=1m", podOf(t, rcManifest("web", 3, "x"), "")).is(201)
	f.do("DELETE", "/v1/bays/b1?wait=1m", "").is(204)
	snap := f.s.Store.Snapshot()
	for _, table := range []structs.Table{structs.TableRCs, structs.TablePods, structs.TableManifests} {
		for row := range snap.List(table, "*", 0) {
			t.Errorf("%s: row %s is left", table, row.Base().ID)
		}
	}
}

// TestRCRequestsOfClientOf2015 replays requests of the client of 2015, and checks the parts of
// the responses that the client needs.
func TestRCRequestsOfClientOf2015(t *testing.T) {
	f := newFixture(t)
	if got := f.observe("GET", "/v1/rcs", "").is(200).items("rcs"); len(got) != 0 {
		t.Errorf("rcs %v", got)
	}
	short := []string{"uuid", "name", "images", "bay_uuid", "labels", "replicas", "links"}
	full := append(slices.Clone(short), "manifest", "manifest_url", "created_at", "updated_at", "status_reason", "current", "ready")
	text := rcManifest("r1", 2, "busybox:latest")
	r := f.observe("POST", "/v1/rcs", toJSON(t, map[string]any{"manifest_url": nil, "bay_uuid": f.bay, "manifest": text})).is(201)
	rc := r.object()
	r.shows(f, "rcs", rc, full...)
	r.holds(rc, map[string]any{"uuid": anyUUID, "name": "r1", "bay_uuid": f.bay, "images": []any{"busybox:latest"},
		"labels": map[string]any{"tier": "x"}, "replicas": 2.0, "manifest": text, "manifest_url": nil, "created_at": anyTime,
		"updated_at": nil})
	f.observe("POST", "/v1/rcs", `{"manifest_url":null,"bay_uuid":"`+f.bay+`"}`).is(400) // of a file that doesn't exist
	r = f.observe("GET", "/v1/rcs", "").is(200)
	exactly(t, r.items("rcs")[0], short, "name")
	r.only(r.items("rcs")[0], f.observe("GET", "/v1/rcs/r1", "").is(200).object())
	changed := rcManifest("r1", 1, "busybox:latest")
	r = f.observe("PATCH", "/v1/rcs/r1", patchManifest(t, changed)).is(200)
	r.holds(r.object(), map[string]any{"replicas": 1.0, "manifest": changed, "updated_at": anyTime})
	f.observe("DELETE", "/v1/rcs/r1", "").is(204)
	f.observe("GET", "/v1/rcs/r1", "").is(404)
	if got := f.observe("GET", "/v1/pods", "").is(200).items("pods"); len(got) != 0 {
		t.Errorf("pods %v", got)
	}
	links := f.observe("GET", "/v1/", "").is(200).object()["rcs"]
	if got := fmt.Sprint(links); !strings.Contains(got, f.s.URL+"/v1/rcs/") || !strings.Contains(got, f.s.URL+"/rcs/") {
		t.Errorf("links %v", links)
	}
}

// TestRCSecretsAreNotShown: the hosts get the registry's password, and no answer has it.
func TestRCSecretsAreNotShown(t *testing.T) {
	f := newFixture(t)
	body := podOf(t, rcManifest("web", 1, "x"), `,"registry":{"username":"u","password":"hunter2"},"exclusive":"lease"`)
	f.do("POST", "/v1/rcs?wait=1m", body).is(201)
	f.do("PATCH", "/v1/rcs/web?wait=1m", patchManifest(t, rcManifest("web", 1, "y"))).is(200)
	for _, path := range []string{"/v1/rcs", "/v1/rcs/web", "/v1/rcs/detail", "/v1/pods/detail"} {
		if got := string(f.raw("GET", path, "").body); strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", path, got)
		}
	}
	// Of images of two registries nobody can say which one the credentials are for.
	two := strings.Replace(rcManifest("web", 1, "y"), `[{"name":"c0"`, `[{"name":"c1","image":"other.example/z"},{"name":"c0"`, 1)
	f.do("PATCH", "/v1/rcs/web", patchManifest(t, two)).is(400).mentions("registry.server is missing")
	f.do("POST", "/v1/rcs", podOf(t, strings.ReplaceAll(two, `"web"`, `"two"`), `,"registry":{"username":"u","password":"p"}`)).is(400).
		mentions("registry.server is missing")
	for w := range f.s.Store.Snapshot().OnHost(f.agent.HostID) {
		p := w.(*structs.Pod)
		if p.Secrets.Registry == nil || p.Secrets.Registry.Password != "hunter2" || p.Spec.Exclusive != structs.ExclusiveLease {
			t.Errorf("the host has %+v", p)
		}
	}
}
