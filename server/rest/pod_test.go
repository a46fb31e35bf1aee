package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// podHead begins a pod's manifest.
const podHead = `{"apiVersion":"v1","kind":"Pod",`

// largePod returns a manifest of a pod with the number of containers, each with 60 KiB of
// arguments.
func largePod(name string, containers int) string {
	var all []string
	for i := range containers {
		all = append(all, fmt.Sprintf(`{"name":"c%d","image":"x","args":[%q]}`, i, strings.Repeat("a", 60<<10)))
	}
	return fmt.Sprintf(podHead+`"metadata":{"name":%q},"spec":{"containers":[%s]}}`, name, strings.Join(all, ","))
}

// podManifest returns a manifest of a pod with one container for each image.
func podManifest(name string, images ...string) string {
	var containers []string
	for i, image := range images {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image))
	}
	return fmt.Sprintf(podHead+`"metadata":{"name":%q,"labels":{"app":%[1]q}},"spec":{"containers":[%s]}}`,
		name, strings.Join(containers, ","))
}

// podOf returns the body of a POST of a pod.
func podOf(t testing.TB, manifest, more string) string {
	return `{"manifest":` + strings.TrimSpace(toJSON(t, manifest)) + more + `}`
}

// pod creates a pod of one container and waits until it runs.
func (f *fixture) pod(name string) map[string]any {
	f.t.Helper()
	return f.do("POST", "/v1/pods?wait=1m", podOf(f.t, podManifest(name, "busybox:latest"), "")).is(201).object()
}

// conditions returns a pod's conditions in short form.
func conditions(pod map[string]any) string {
	var all []string
	for _, c := range pod["conditions"].([]any) {
		c := c.(map[string]any)
		text := fmt.Sprint(c["type"], "=", c["status"])
		if c["reason"] != nil {
			text += fmt.Sprint("(", c["reason"], ")")
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// TestPodLifeCycle follows a pod from its creation to its deletion.
func TestPodLifeCycle(t *testing.T) {
	f := newFixture(t)
	events := f.events(t, "?type=pod")
	text := podManifest("web", "nginx:1", "busybox:latest")
	r := f.do("POST", "/v1/pods", podOf(t, text, `,"bay_uuid":"b1"`)).is(201)
	made := r.object()
	id := made["uuid"].(string)
	if r.header.Get("Location") != f.s.URL+"/v1/pods/"+id {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	if made["manifest"] != text || made["name"] != "web" || made["bay_uuid"] != f.bay || made["host"] != "host-1" || made["epoch"] != 1.0 {
		t.Errorf("the pod is %v", made)
	}
	var now map[string]any
	servertest.Eventually(t, "it runs", func() bool {
		now = f.do("GET", "/v1/pods/web", "").is(200).object()
		return now["status"] == "Running"
	})
	want := "PodScheduled=True Initialized=True ContainersReady=True Ready=True"
	if got := conditions(now); got != want || now["ready"] != true || now["address"] != "172.18.0.2" || now["manifest"] != text {
		t.Errorf("%s; the pod is %v", got, now)
	}
	first := now["containers"].([]any)[0].(map[string]any)
	if first["name"] != "c0" || first["image"] != "nginx:1" || first["ready"] != true || first["last_state"] != nil ||
		first["state"].(map[string]any)["state"] != "running" {
		t.Errorf("its container is %v", first)
	}
	a, _ := f.agent.Assigned(id)
	if a.Kind != structs.WorkloadPod || a.ContainerID != "" || a.Pod == nil || a.Spec != nil || a.Pod.Spec.Containers[1].Image !=
		"busybox:latest" || a.Pod.Labels["app"] != "web" || a.StopTimeout != 30 || a.Desired != structs.DesiredRunning {
		t.Errorf("the host has %+v", a)
	}
	if host := f.do("GET", "/v1/hosts/host-1", "").object(); host["containers"] != 1.0 {
		t.Errorf("the host is %v", host)
	}

	// Another image is a change, and the host carries it out.
	changed := podManifest("web", "nginx:2", "busybox:latest")
	op := func(text string) string {
		return `[{"op":"replace","path":"/manifest","value":` + strings.TrimSpace(toJSON(t, text)) + `}]`
	}
	now = f.do("PATCH", "/v1/pods/web?wait=1m", op(changed)).is(200).object()
	if now["manifest"] != changed || now["images"].([]any)[0] != "nginx:2" || now["updated_at"] == nil || now["epoch"] != 1.0 {
		t.Errorf("after the PATCH: %v", now)
	}
	if a, _ = f.agent.Assigned(id); a.Generation != 2 || a.StartGeneration != 1 || a.Pod.Spec.Containers[0].Image != "nginx:2" {
		t.Errorf("after the PATCH the host has %+v", a)
	}
	unchanged(t, f.s, "the same PATCH", func() { f.do("PATCH", "/v1/pods/web", op(changed)).is(200) })

	f.do("DELETE", "/v1/pods/web", "").is(204)
	f.do("GET", "/v1/pods/"+id, "").is(404).code("pod.not_found")
	snap := f.s.Store.Snapshot()
	ref := structs.Ref{Kind: structs.WorkloadPod, ID: id}
	if snap.Pod(id) != nil || snap.Manifest(ref.BesideID()) != nil || snap.Get(structs.TableActions, ref.BesideID()) != nil {
		t.Error("a row is left")
	}
	if used := snap.Usage(f.agent.HostID); used.Workloads != 0 {
		t.Errorf("reserved: %+v", used)
	}
	got := events.until("deleted pod web Deleting")
	if want := "created pod web Pending, updated pod web Running, updated pod web Deleting, deleted pod web Deleting"; got != want {
		t.Errorf("events: %s", got)
	}
}

func TestPodActions(t *testing.T) {
	f := newFixture(t)
	f.pod("web")
	f.do("PATCH", "/v1/pods/web?wait=10s", `[{"op":"replace","path":"/manifest","value":`+
		strings.TrimSpace(toJSON(t, podManifest("web", "busybox:2")))+`}]`).is(200)
	var got []string
	for _, a := range f.do("GET", "/v1/pods/web/actions", "").is(200).object()["actions"].([]any) {
		a := a.(map[string]any)
		got = append(got, fmt.Sprint(a["action"], " ", a["result"]))
	}
	if fmt.Sprint(got) != "[update success create success]" {
		t.Errorf("actions: %v", got)
	}
	f.do("GET", "/v1/pods/nope/actions", "").is(404)
}

// TestPodsWithInitContainers shows the conditions of a pod while its init containers run,
// and after its containers have ended.
func TestPodConditions(t *testing.T) {
	parts := make(chan []structs.PartReport, 1)
	f := newFixture(t, servertest.Parts(func(structs.Assignment, *structs.Observed) []structs.PartReport { return <-parts }))
	manifest := podHead + `"metadata":{"name":"job"},"spec":{"restartPolicy":"Never","initContainers":[{"name":"i","image":"x"}],` +
		`"containers":[{"name":"c","image":"x"}]}}`
	one := 1
	running, ended := structs.PartState{State: structs.PartRunning}, structs.PartState{State: structs.PartTerminated, ExitCode: new(int)}
	failed := structs.PartState{State: structs.PartTerminated, ExitCode: &one, Reason: structs.ReasonError}
	waiting := structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonInitializing}
	at := func(i, c structs.PartState) []structs.PartReport {
		observed := structs.Observed{Status: structs.ContainerRunning}
		return []structs.PartReport{{Part: "i", Observed: observed, State: i},
			{Part: "c", Observed: observed, State: c, Ready: c.State == structs.PartRunning}}
	}
	parts <- at(running, waiting)
	id := f.do("POST", "/v1/pods", podOf(t, manifest, "")).is(201).uuid()
	for n, tt := range []struct {
		report       []structs.PartReport
		status, want string
	}{
		{nil, "Pending", "PodScheduled=True Initialized=False(ContainersNotInitialized) ContainersReady=False(ContainersNotReady) " +
			"Ready=False(ContainersNotReady)"},
		{at(ended, running), "Running", "PodScheduled=True Initialized=True ContainersReady=True Ready=True"},
		{at(ended, ended), "Succeeded", "PodScheduled=True Initialized=True ContainersReady=False(PodCompleted) Ready=False(PodCompleted)"},
		{at(ended, failed), "Failed", "PodScheduled=True Initialized=True ContainersReady=False(PodFailed) Ready=False(PodFailed)"},
		{at(failed, waiting), "Failed", "PodScheduled=True Initialized=False(ContainersNotInitialized) ContainersReady=False(PodFailed) " +
			"Ready=False(PodFailed)"},
	} {
		if tt.report != nil {
			report := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1})
			report.Observed, report.Parts = structs.Observed{Status: structs.ContainerRunning, Generation: 1}, tt.report
			if err := f.agent.Send(t.Context(), report); err != nil {
				t.Fatal(err)
			}
		}
		var now map[string]any
		servertest.Eventually(t, fmt.Sprint("report ", n, " is shown"), func() bool {
			now = f.do("GET", "/v1/pods/"+id, "").is(200).object()
			return now["status"] == tt.status && f.s.Store.Snapshot().Pod(id).Observed.Status != ""
		})
		if got := conditions(now); got != tt.want {
			t.Errorf("report %d: %s, not %s", n, got, tt.want)
		}
	}
}

// TestPodWaits: a pod that fits nowhere says why.
func TestPodWaits(t *testing.T) {
	f := newFixture(t)
	manifest := podHead + `"metadata":{"generateName":"big-"},"spec":{"containers":[{"name":"c","image":"x",` +
		`"resources":{"requests":{"memory":99999999999}}}]}}`
	pod := f.do("POST", "/v1/pods", podOf(t, manifest, "")).is(201).object()
	if got := conditions(pod); !strings.HasPrefix(got, "PodScheduled=False(Unschedulable) Initialized=False(ContainersNotInitialized) ") ||
		pod["status"] != "Pending" ||
		pod["host"] != nil || !strings.Contains(fmt.Sprint(pod["status_reason"]), "memory") ||
		!strings.HasPrefix(pod["name"].(string), "big-") || len(pod["name"].(string)) != len("big-")+5 {
		t.Errorf("%s: %v", got, pod)
	}
	f.do("POST", "/v1/pods?wait=10ms", podOf(t, strings.Replace(manifest, "big-", "bigger-", 1), "")).is(202)
	f.do("DELETE", "/v1/pods/"+pod["name"].(string), "").is(204)
}

// TestPodErrors: a create that waits says why the host failed.
func TestPodErrors(t *testing.T) {
	f := newFixture(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		if a.Desired == structs.DesiredAbsent {
			return servertest.Obey(a)
		}
		return &structs.Observed{Generation: a.Generation, Status: structs.ContainerError, Failed: true, Reason: "no such user: nobody"}
	}), servertest.Parts(func(structs.Assignment, *structs.Observed) []structs.PartReport { return nil }))
	f.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("web", "x"), "")).is(500).mentions("no such user: nobody")
	unmet := 0
	for _, c := range f.do("GET", "/v1/pods/web", "").is(200).object()["conditions"].([]any) {
		c := c.(map[string]any)
		if c["status"] == "False" {
			unmet++
			if c["reason"] == nil || !strings.Contains(fmt.Sprint(c["message"]), "no such user: nobody") {
				t.Errorf("condition %v does not say what the host has said of the pod as a whole", c)
			}
		}
	}
	if unmet != 2 {
		t.Errorf("%d conditions are unmet, want ContainersReady and Ready", unmet)
	}
}

// TestListOfPods lists and filters pods, by both spellings of paths.
func TestListOfPods(t *testing.T) {
	f := newFixture(t)
	f.s.StartAgent(t, "host-2")
	f.do("POST", "/v1/bays?wait=1m", `{"name":"b2"}`).is(201)
	for _, name := range []string{"a", "b", "c"} {
		f.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest(name, "busybox"), `,"bay":"b1"`)).is(201)
	}
	f.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("a", "busybox"), `,"bay":"b2"`)).is(201)
	for path, want := range map[string]string{
		"/v1/pods": "a b c a", "/v1/pods/": "a b c a", "/pods": "a b c a", "/v1/pods/?limit=2": "a b", "/v1/pods?name=b": "b",
		"/v1/pods?label=app=c": "c", "/v1/pods?label=app": "a b c a", "/v1/pods?bay=b2": "a", "/v1/pods?host=host-1": "a b c",
		"/v1/pods?status=running&bay=b1": "a b c", "/v1/pods?status=Failed": "", "/v1/pods?sort_key=name&sort_dir=desc&bay=b1": "c b a",
		"/v1/pods/detail": "a b c a", "/v1/pods/detail/?bay=b2": "a", "/v1/pods?all_projects=true": "a b c a",
	} {
		if got := f.do("GET", path, "").is(200).names("pods"); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	f.do("GET", "/v1/pods/a", "").is(409)
	for _, pod := range f.do("GET", "/v1/pods/detail", "").items("pods") {
		if pod["manifest"] != nil || pod["ready"] != true {
			t.Errorf("in a detailed list: %v", pod)
		}
	}
	f.do("GET", "/v1/pods/b/detail", "").is(404)

	// A blocking read of a pod.
	r := f.do("GET", "/v1/pods/b", "").is(200)
	done := make(chan map[string]any, 1)
	go func() {
		done <- f.do("GET", fmt.Sprintf("/v1/pods/b?index=%d&wait=10s", r.index()), "").object()
	}()
	servertest.Eventually(t, "the read waits", func() bool { return f.s.REST.Parked() > 0 })
	f.do("PATCH", "/v1/pods/b", `[{"op":"replace","path":"/manifest","value":`+
		strings.TrimSpace(toJSON(t, podManifest("b", "busybox:2")))+`}]`).is(200)
	if now := <-done; now["images"].([]any)[0] != "busybox:2" {
		t.Errorf("the blocking read: %v", now)
	}
	f.do("GET", "/v1/pods/b?consistent", "").is(200)
	f.do("GET", "/v1/pods/b?stale", "").is(200)
}

// TestPodRefusals provokes every refusal of a pod's requests.
func TestPodRefusals(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(_ context.Context, url string) (string, error) {
		if strings.HasSuffix(url, "/bad") {
			return "", structs.Errorf(structs.CodeInvalid, "manifest_url %q: the server answered 404", url)
		}
		return podManifest("fetched", "x"), nil
	})))
	web := f.pod("web")["uuid"].(string)
	f.do("POST", "/v1/pods?wait=1m", `{"manifest_url":"http://example.com/pod","bay":"b1"}`).is(201)
	post := func(more string) string { return podOf(t, podManifest("new", "x"), more) }
	patch := func(path string, value any) string {
		return `[{"op":"replace","path":"` + path + `","value":` + strings.TrimSpace(toJSON(t, value)) + `}]`
	}
	labels := map[string]string{}
	for i := range 20 {
		labels[fmt.Sprint("k", i)] = strings.Repeat("v", 4000)
	}
	large, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "new", "annotations": labels},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "x"}}}})
	for _, tt := range []struct {
		method, path, body string
		status             int
		mentions           string
	}{
		{"GET", "/v1/pods/nope", "", 404, "Pod nope could not be found."},
		{"DELETE", "/v1/pods/nope", "", 404, "Pod nope could not be found."},
		{"PATCH", "/v1/pods/nope", patch("/manifest", podManifest("nope", "x")), 404, "Pod nope could not be found."},
		{"PUT", "/v1/pods", "", 405, "GET, POST"},
		{"POST", "/v1/pods", `{}`, 400, "manifest. Value: 'None'. Mandatory field missing"},
		{"POST", "/v1/pods", `{"manifest":""}`, 400, "manifest"},
		{"POST", "/v1/pods", `{"manifest":null,"manifest_url":null}`, 400, "Mandatory field missing"},
		{"POST", "/v1/pods", post(`,"manifest_url":"http://example.com/x"`), 400, "manifest and manifest_url are both given"},
		{"POST", "/v1/pods", `{"manifest":"` + strings.Repeat(" ", 512<<10) + `x"}`, 400, "manifest: 524289 bytes are more than 524288"},
		{"POST", "/v1/pods", `{"manifest_url":"http://example.com/bad"}`, 400, "the server answered 404"},
		{"POST", "/v1/pods", post(`,"bay":"nope"`), 400, "Bay nope could not be found."},
		{"POST", "/v1/pods", post(`,"bay":"b1","bay_uuid":"kube"`), 400, "two spellings of one field"},
		{"POST", "/v1/pods", post(`,"uuid":"x"`), 400, "Expected a uuid but received x."},
		{"POST", "/v1/pods", post(`,"uuid":"` + web + `"`), 409, "A pod with UUID " + web + " already exists."},
		{"POST", "/v1/pods", post(`,"infra_image":"A b"`), 400, "infra_image"},
		{"POST", "/v1/pods", post(`,"exclusive":"maybe"`), 400, "true, false, lease"},
		{"POST", "/v1/pods", post(`,"registry":{"username":"u"}`), 400, "credentials need a username and a password"},
		{"POST", "/v1/pods", podOf(t, podManifest("new", "quay.io/a", "x"), `,"registry":{"username":"u","password":"p"}`), 400,
			"registry.server is missing: the images name the registries quay.io, docker.io"},
		{"POST", "/v1/pods", podOf(t, podManifest("new", "x"),
			`,"infra_image":"quay.io/a","registry":{"username":"u","password":"p"}`), 400,
			"registry.server is missing"},
		{"POST", "/v1/pods", post(`,"status":"Running"`), 400, "status"},
		{"POST", "/v1/pods", post(`,"bogus":1`), 400, "bogus"},
		{"POST", "/v1/pods", podOf(t, "nothing", ""), 400, "manifest"},
		{"POST", "/v1/pods", podOf(t, podManifest("web", "x"), ""), 409,
			"Bay b1 has a pod web already, with UUID " + web + ": delete it first"},
		{"POST", "/v1/pods", podOf(t, podManifest("new", slices.Repeat([]string{"x"}, 100)...), ""), 400,
			"spec.containers: 100 with the init containers"},
		{"POST", "/v1/pods", podOf(t, string(large), ""), 400, "metadata.annotations"},
		{"POST", "/v1/pods", podOf(t, largePod("new", 7), ""), 400, "bytes of fields are more than 393216"},
		{"POST", "/v1/pods", `{"manifest":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "manifest: is more than 524288 bytes"},
		{"PATCH", "/v1/pods/web", `{}`, 400, "a PATCH is a list of operations"},
		{"PATCH", "/v1/pods/web", `[]`, 400, "manifest"},
		{"PATCH", "/v1/pods/web", patch("/name", "x"), 400, "'/name' is an internal attribute"},
		{"PATCH", "/v1/pods/web", patch("/labels", map[string]string{"a": "b"}), 400, "'/labels' is an internal attribute"},
		{"PATCH", "/v1/pods/web", patch("/uuid", "x"), 400, "'/uuid' is an internal attribute"},
		{"PATCH", "/v1/pods/web", `[{"op":"remove","path":"/bay_uuid"}]`, 400, "mandatory attribute"},
		{"PATCH", "/v1/pods/web", `[{"op":"remove","path":"/manifest"}]`, 400, "mandatory attribute"},
		{"PATCH", "/v1/pods/web", patch("/manifest", ""), 400, "needs value"},
		{"PATCH", "/v1/pods/web", patch("/exclusive", true), 400, "cannot change pod property(ies) exclusive"},
		{"PATCH", "/v1/pods/web", patch("/manifest", "nothing"), 400, "manifest"},
		{"PATCH", "/v1/pods/web", patch("/manifest", podManifest("other", "x")), 400,
			`metadata.name: "other" is not the pod's name, "web"`},
		{"PATCH", "/v1/pods/web", patch("/manifest", podManifest("web", "x", "y")), 400, "spec"},
		{"PATCH", "/v1/pods/web", patch("/manifest_url", "http://example.com/bad"), 400, "the server answered 404"},
		{"GET", "/v1/pods?bogus=1", "", 400, `Unknown argument: "bogus"`},
		{"GET", "/v1/pods?bay=nope", "", 400, "Bay nope could not be found."},
		{"GET", "/v1/events?type=podd", "", 400, "container, pod, bay, host"},
	} {
		unchanged(t, f.s, tt.method+" "+tt.path+" "+cut(tt.body), func() {
			f.do(tt.method, tt.path, tt.body).is(tt.status).mentions(tt.mentions)
		})
	}
	if pod := f.do("GET", "/v1/pods/fetched", "").is(200).object(); pod["manifest_url"] != "http://example.com/pod" ||
		pod["manifest"] != podManifest("fetched", "x") {
		t.Errorf("the fetched pod is %v", pod)
	}
	f.do("PATCH", "/v1/pods/fetched", patch("/manifest_url", "http://example.com/other")).is(200)
	if pod := f.do("GET", "/v1/pods/fetched", "").is(200).object(); pod["manifest_url"] != "http://example.com/other" {
		t.Errorf("after another URL the pod is %v", pod)
	}
}

// TestPodNeedsItsSchema: a pod is refused while a server of the cluster doesn't know pods.
func TestPodNeedsItsSchema(t *testing.T) {
	s := servertest.NewOfSchema(t, structs.SchemaPods-1)
	f := newFixtureOn(t, s)
	unchanged(t, s, "a pod", func() {
		f.do("POST", "/v1/pods", podOf(t, podManifest("web", "x"), "")).is(503).mentions("upgrade the other servers first")
	})
	s.MustDo(t, func() error {
		_, err := conductor.Do(t.Context(), s.Conductor, conductor.RaiseSchema{Schema: structs.SchemaVersion})
		return err
	})
	f.pod("web")
}

// TestPodOfLostHostMoves: a pod with restartPolicy Always runs on another host under a new
// epoch; one with another policy stays. What they reserve follows.
func TestPodOfLostHostMoves(t *testing.T) {
	c := newCluster(t, 2)
	create := func(name, policy string) map[string]any {
		manifest := fmt.Sprintf(podHead+`"metadata":{"name":%q},"spec":{"restartPolicy":%q,"containers":[{"name":"c","image":"x",`+
			`"ports":[{"containerPort":80,"hostPort":8080}],"resources":{"requests":{"memory":1048576}}}]}}`, name, policy)
		return c.do("POST", "/v1/pods?wait=1m", podOf(t, manifest, "")).is(201).object()
	}
	web := create("web", "Always")
	host := web["host"].(string)
	lost := c.agents[host].HostID
	if used := c.s.Store.Snapshot().Usage(lost); used.Memory != 1<<20 || !used.HasPort("tcp", 8080) || used.Workloads != 1 {
		t.Errorf("reserved: %+v", used)
	}
	c.lose(host)
	var now map[string]any
	c.eventually("it runs elsewhere", func() bool {
		now = c.do("GET", "/v1/pods/web", "").is(200).object()
		return now["status"] == "Running" && now["host"] != host && now["epoch"] == 2.0 && now["uuid"] == web["uuid"]
	})
	other := c.agents[now["host"].(string)]
	for _, id := range []string{lost, other.HostID} { // the lost host may still run it
		if used := c.s.Store.Snapshot().Usage(id); used.Memory != 1<<20 || !used.HasPort("tcp", 8080) || used.Workloads != 1 {
			t.Errorf("reserved on %s: %+v", id, used)
		}
	}
	if a, _ := other.Assigned(web["uuid"].(string)); a.Epoch != 2 || a.Pod == nil {
		t.Errorf("the other host has %+v", a)
	}
}

// TestPodOfLostHostStays: a pod whose containers aren't always restarted is Unknown until
// its host returns.
func TestPodOfLostHostStays(t *testing.T) {
	c := newCluster(t, 2)
	manifest := podHead + `"metadata":{"name":"job"},"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"x"}]}}`
	host := c.do("POST", "/v1/pods?wait=1m", podOf(t, manifest, "")).is(201).object()["host"].(string)
	c.lose(host)
	var now map[string]any
	c.eventually("it says so", func() bool {
		now = c.do("GET", "/v1/pods/job", "").is(200).object()
		return now["status"] == "Unknown"
	})
	if got := conditions(now); now["host"] != host || !strings.Contains(fmt.Sprint(now["status_reason"]), "its restartPolicy is Never") ||
		!strings.HasSuffix(got, "Ready=False(HostLost)") {
		t.Errorf("%s: %v", got, now)
	}
	c.do("DELETE", "/v1/pods/job?wait=50ms", "").is(202)
	c.do("DELETE", "/v1/pods/job?force=true", "").is(204)
	c.do("GET", "/v1/pods/job", "").is(404)
}

// TestPodsGoWithTheirBay: the rows of pods and of their manifests are deleted with the bay.
func TestPodsGoWithTheirBay(t *testing.T) {
	f := newFixture(t)
	f.pod("one")
	f.pod("two")
	f.do("DELETE", "/v1/bays/b1?wait=1m", "").is(204)
	snap := f.s.Store.Snapshot()
	for _, table := range []structs.Table{structs.TablePods, structs.TableManifests, structs.TableActions} {
		for row := range snap.List(table, "*", 0) {
			t.Errorf("%s: row %s is left", table, row.Base().ID)
		}
	}
}

// TestPodIsCreatedOnce: the same key makes one pod.
func TestPodIsCreatedOnce(t *testing.T) {
	f := newFixture(t)
	key := header{"Idempotency-Key", "k"}
	body := podOf(t, podManifest("web", "x"), "")
	id := f.do("POST", "/v1/pods", body, key).is(201).uuid()
	if again := f.do("POST", "/v1/pods", body, key).is(201).uuid(); again != id {
		t.Errorf("pods %s and %s", id, again)
	}
	f.do("POST", "/v1/pods", podOf(t, podManifest("other", "x"), ""), key).is(409)
	// A name is free again once the pod is gone, and not before.
	f.do("POST", "/v1/pods", body).is(409)
	f.do("DELETE", "/v1/pods/web", "").is(204)
	f.do("POST", "/v1/pods", body).is(201)
}

// TestPodIsFetchedOnce: a retry returns the pod without its manifest's server, which may
// answer otherwise by then.
func TestPodIsFetchedOnce(t *testing.T) {
	fetched := 0
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(context.Context, string) (string, error) {
		if fetched++; fetched > 1 {
			return "", structs.Errorf(structs.CodeInvalid, "manifest_url: the server answered 404")
		}
		return podManifest("web", "x"), nil
	})))
	key := header{"Idempotency-Key", "k"}
	const body = `{"manifest_url":"http://example.com/pod"}`
	id := f.do("POST", "/v1/pods", body, key).is(201).uuid()
	if again := f.do("POST", "/v1/pods", body, key).is(201).uuid(); again != id || fetched != 1 {
		t.Errorf("pods %s and %s, fetched %d times", id, again, fetched)
	}
	f.do("POST", "/v1/pods", `{"manifest_url":"http://example.com/other"}`, key).is(409)
	f.do("DELETE", "/v1/pods/web", "").is(204)
	f.do("POST", "/v1/pods", body, key).is(409).says(`the object that the request with Idempotency-Key "k" created has been deleted: ` +
		"use a new key to create another")
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
	f.do("POST", "/v1/pods", body, header{"Idempotency-Key", "other"}).is(400)
}

// TestLargePod: the largest pod fits in an entry, and a report of it is small.
func TestLargePod(t *testing.T) {
	f := newFixture(t)
	text := largePod("large", 6)
	text += strings.Repeat(" ", structs.MaxManifest-len(text))
	f.do("POST", "/v1/pods?wait=1m", podOf(t, text, "")).is(201)
	servertest.Eventually(t, "it runs", func() bool { return f.do("GET", "/v1/pods/large", "").object()["status"] == "Running" })
	if got := f.do("GET", "/v1/pods/large", "").object()["manifest"]; got != text {
		t.Errorf("the manifest has %d bytes, not %d", len(got.(string)), len(text))
	}
	if !f.s.Store.Snapshot().HasSpecs() {
		t.Error("its spec is in its row")
	}
	f.do("DELETE", "/v1/pods/large", "").is(204)
	if f.s.Store.Snapshot().HasSpecs() {
		t.Error("its spec is left")
	}
}

// TestPodSessions opens each kind of session with a container of a pod. The host is offered
// the pod's reference with the container's name.
func TestPodSessions(t *testing.T) {
	s := newScript()
	s.play = serveText
	f := newFixture(t, servertest.Serve(s.serve))
	manifest := podHead + `"metadata":{"name":"web","annotations":{"kubectl.kubernetes.io/default-container":"c1"}},"spec":{` +
		`"initContainers":[{"name":"i","image":"x"}],"containers":[{"name":"c0","image":"x"},{"name":"c1","image":"x"}]}}`
	id := f.do("POST", "/v1/pods?wait=1m", podOf(t, manifest, "")).is(201).uuid()
	f.pod("plain")
	offered := func(pod, container string, kind structs.SessionKind) structs.SessionOffer {
		t.Helper()
		offer := <-s.offers
		if offer.Kind != kind || offer.ContainerID != "" || pod != "" &&
			offer.Ref() != (structs.Ref{Kind: structs.WorkloadPod, ID: pod, Epoch: 1, Part: container}) {
			t.Errorf("offer %+v, of %v", offer, offer.Ref())
		}
		return offer
	}
	if got := f.do("GET", "/v1/pods/web/logs", "").is(200).object()["output"]; got != "out ü\nerr\n" {
		t.Errorf("logs %q", got)
	}
	offered(id, "c1", structs.SessionLogs)
	f.do("GET", "/v1/pods/web/logs?container=i&tail=3&timestamps=true", "").is(200)
	if offer := offered(id, "i", structs.SessionLogs); offer.Logs.Tail != 3 || !offer.Logs.Timestamps || offer.Logs.Previous {
		t.Errorf("logs of %+v", offer.Logs)
	}
	f.do("GET", "/v1/pods/plain/logs", "", header{"Accept", "text/plain"}).is(200)
	offered("", "c0", structs.SessionLogs)
	got := f.do("PUT", "/v1/pods/web/execute?command=ls+-l&container=c0", "").is(200).object()
	if got["output"] != "ls|-l\ncomplaint\n" || got["exit_code"] != 3.0 {
		t.Errorf("execute %v", got)
	}
	offered(id, "c0", structs.SessionExec)
	f.do("GET", "/v1/pods/web/stats", "").is(200)
	offered(id, "c1", structs.SessionStats)
	f.do("GET", "/v1/pods/web/top?container=c0", "").is(200)
	offered(id, "c0", structs.SessionTop)
	if r := f.raw("GET", "/v1/pods/web/archive?path=/etc", ""); r.status != 200 || string(r.body) != "tar of /etc" {
		t.Errorf("archive: %d %s", r.status, r.body)
	}
	offered(id, "c1", structs.SessionArchiveGet)

	// Refusals.
	f.do("GET", "/v1/pods/nope/logs", "").is(404).code("pod.not_found")
	f.do("GET", "/v1/pods/web/logs?container=nope", "").is(400).says(`container "nope": pod web has no such container, but c0, c1, i`)
	f.do("GET", "/v1/pods/web/logs?previous=true", "").is(409).mentions("has not been restarted")
	f.do("PUT", "/v1/pods/web/execute?container=c0", "").is(400)
	f.do("PUT", "/v1/pods/web/execute?command=ls&container=i", "").is(409).mentions("Container i of pod web is Stopped (Completed)",
		"Running")
	f.do("GET", "/v1/containers/web/logs?container=x", "").is(400)
	f.do("POST", "/v1/pods", podOf(t, podHead+`"metadata":{"name":"big"},"spec":{"containers":[{"name":"c","image":"x",`+
		`"resources":{"requests":{"memory":99999999999}}}]}}`, "")).is(201)
	f.do("GET", "/v1/pods/big/logs", "").is(409).mentions("Container c of pod big has no host yet", "memory")

	// A container that was restarted has previous logs.
	report := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1})
	seen := structs.Observed{Status: structs.ContainerRunning, Generation: 1}
	report.Observed, report.Parts = seen, []structs.PartReport{{Part: "c1", Observed: seen,
		State: structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonCrashLoop, Message: "back-off 10s"},
		Last:  structs.PartState{State: structs.PartTerminated, ExitCode: new(int)}}}
	report.Parts[0].RestartCount = 1
	if err := f.agent.Send(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	f.do("GET", "/v1/pods/web/logs?previous=true", "").is(200)
	if offer := offered(id, "c1", structs.SessionLogs); !offer.Logs.Previous {
		t.Errorf("logs of %+v", offer.Logs)
	}
	f.do("PUT", "/v1/pods/web/execute?command=ls", "").is(409).mentions("is waiting (CrashLoopBackOff: back-off 10s)")
}

var (
	podShort = []string{"uuid", "name", "desc", "bay_uuid", "images", "labels", "status", "links"}
	podFull  = append(slices.Clone(podShort), "manifest", "manifest_url", "created_at", "updated_at", "status_reason", "host", "address",
		"ready", "conditions", "containers", "epoch")
)

// TestPodRequestsOfClientOf2015 replays recorded requests of the client of 2015, and checks
// the parts of the responses that the client needs.
func TestPodRequestsOfClientOf2015(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(context.Context, string) (string, error) {
		return podManifest("p2", "busybox"), nil
	})))
	if got := f.observe("GET", "/v1/pods", "").is(200).items("pods"); len(got) != 0 {
		t.Errorf("pods %v", got)
	}
	bay := f.observe("GET", "/v1/bays/b1", "").is(200).object()
	if bay["status"] != "CREATE_COMPLETE" { // else that client refuses to create a pod
		t.Errorf("bay %v", bay)
	}
	text := podManifest("p1", "busybox:latest", "nginx")
	post := func(manifest, url any) *reply {
		return f.observe("POST", "/v1/pods", toJSON(t, map[string]any{"manifest_url": url, "bay_uuid": f.bay, "manifest": manifest}))
	}
	r := post(text, nil).is(201)
	pod := r.object()
	r.shows(f, "pods", pod, podFull...)
	r.holds(pod, map[string]any{"uuid": anyUUID, "name": "p1", "desc": nil, "bay_uuid": f.bay,
		"images": []any{"busybox:latest", "nginx"}, "labels": map[string]any{"app": "p1"}, "manifest": text, "manifest_url": nil,
		"created_at": anyTime, "updated_at": nil})
	if r.header.Get("Location") != f.s.URL+"/v1/pods/"+pod["uuid"].(string) {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	r = f.observe("POST", "/v1/pods", `{"manifest_url":"http://example.com/pod.json","bay_uuid":"`+f.bay+`"}`).is(201)
	r.holds(r.object(), map[string]any{"name": "p2", "manifest_url": "http://example.com/pod.json"})
	post(nil, nil).is(400) // of a file that doesn't exist

	await(t, "the pod runs", func() bool { return f.do("GET", "/v1/pods/p1", "").is(200).object()["status"] == "Running" })
	r = f.observe("GET", "/v1/pods", "").is(200)
	exactly(t, r.items("pods")[0], podShort, "name")
	r.only(r.items("pods")[0], f.observe("GET", "/v1/pods/p1", "").is(200).object())
	r = f.observe("GET", "/v1/pods/?limit=1", "").is(200)
	next, _ := r.object()["next"].(string)
	if path, ok := strings.CutPrefix(next, f.s.URL); !ok || f.observe("GET", path, "").is(200).names("pods") != "p2" {
		t.Errorf("next is %q", next)
	}
	r = f.observe("GET", "/v1/pods/p1", "").is(200)
	r.shows(f, "pods", r.object(), podFull...)
	changed := podManifest("p1", "busybox:2", "nginx")
	r = f.observe("PATCH", "/v1/pods/p1", `[{"op":"replace","path":"/manifest","value":`+strings.TrimSpace(toJSON(t, changed))+`}]`).is(200)
	r.holds(r.object(), map[string]any{"images": []any{"busybox:2", "nginx"}, "manifest": changed, "updated_at": anyTime})
	f.observe("DELETE", "/v1/pods/p1", "").is(204)
	f.observe("GET", "/v1/pods/p1", "").is(404)
}

// TestPodSecretsAreNotShown fills each field of a pod's request with a marker. It looks for
// those of secret fields in responses, events and the log, and for the others in the body.
func TestPodSecretsAreNotShown(t *testing.T) {
	var log logged
	f := newFixtureOn(t, servertest.New(t,
		servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log}))))
	events := f.events(t, "")
	var request structs.PodRequest
	mark(t, reflect.ValueOf(&request).Elem(), "")
	request.Bay, request.BayUUID, request.Manifest, request.ManifestURL = "", f.bay, podManifest("web", "x"), ""
	request.Exclusive, request.InfraImage = structs.ExclusiveLease, "marker-infra-image"
	body := toJSON(t, request)
	secrets := leaves(t, request.Secrets)
	if len(secrets) != 3 {
		t.Fatalf("the secrets are %v", secrets)
	}
	said := map[string]string{}
	say := func(what string, r *reply) *reply {
		said[what] = fmt.Sprint(r.header, string(r.body))
		return r
	}
	key := header{"Idempotency-Key", "k"}
	created := say("the create", f.do("POST", "/v1/pods?wait=1m", body, key).is(201))
	id := created.uuid()
	say("its repeat", f.do("POST", "/v1/pods?wait=1m", body, key).is(201))
	say("another one of its name", f.do("POST", "/v1/pods", body).is(409))
	for member, wrong := range map[string]string{`"password":"marker-registry.password"`: `"password":["marker-registry.password"]`,
		`"registry":{`: `"registry":{"x":1,`, `"exclusive":"lease"`: `"exclusive":"x"`} {
		if !strings.Contains(body, member) {
			t.Fatalf("%s is not in %s", member, body)
		}
		say("the refusal of "+wrong, f.do("POST", "/v1/pods", strings.Replace(body, member, wrong, 1)).is(400))
	}
	for _, path := range []string{"/v1/pods/" + id, "/v1/pods", "/v1/pods/detail", "/v1/pods/" + id + "/actions", "/v1/hosts/host-1",
		"/v1/bays/b1", "/v1/operator/state"} {
		say(path, f.raw("GET", path, ""))
	}
	say("a patch", f.do("PATCH", "/v1/pods/"+id, `[{"op":"replace","path":"/manifest","value":`+
		strings.TrimSpace(toJSON(t, podManifest("web", "y")))+`}]`).is(200))
	say("a patch of the secret", f.do("PATCH", "/v1/pods/"+id, `[{"op":"add","path":"/registry","value":`+toJSON(t, request.Registry)+
		`}]`).is(400))
	if a, _ := f.agent.Assigned(id); !reflect.DeepEqual(a.Secrets, request.Secrets) {
		t.Errorf("its host has %#v", a.Secrets)
	}
	say("the delete", f.do("DELETE", "/v1/pods/"+id, ""))
	for n := 0; ; n++ {
		e := events.next()
		said[fmt.Sprint("event ", n)] = toJSON(t, e)
		if e.UUID == id && e.Event == "deleted" {
			break
		}
	}
	said["the log"] = log.String()
	for what, text := range said {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s: %s", what, secret, text)
			}
		}
	}
	asked := map[string]any{}
	if err := json.Unmarshal([]byte(body), &asked); err != nil {
		t.Fatal(err)
	}
	delete(asked, "registry")
	delete(asked, "bay")          // another name of bay_uuid
	delete(asked, "manifest_url") // not together with a manifest
	shown := created.object()
	for name, value := range asked {
		if !reflect.DeepEqual(shown[name], value) {
			t.Errorf("%s was asked for as %v and is shown as %v", name, value, shown[name])
		}
	}
}

// TestPatchNamesAnotherRegistry: a change doesn't leave open for which registry the
// credentials are either.
func TestPatchNamesAnotherRegistry(t *testing.T) {
	f := newFixture(t)
	f.do("POST", "/v1/pods?wait=10s", podOf(t, podManifest("web", "quay.io/a:1", "quay.io/b:1"),
		`,"registry":{"username":"u","password":"p"}`)).is(201)
	f.do("POST", "/v1/pods?wait=10s", podOf(t, podManifest("named", "quay.io/a:1", "quay.io/b:1"),
		`,"registry":{"username":"u","password":"p","server":"quay.io"}`)).is(201)
	patch := func(name string, images ...string) *reply {
		return f.do("PATCH", "/v1/pods/"+name+"?wait=10s", `[{"op":"replace","path":"/manifest","value":`+
			strings.TrimSpace(toJSON(t, podManifest(name, images...)))+`}]`)
	}
	patch("web", "quay.io/a:2", "quay.io/b:2").is(200)
	if r := patch("web", "quay.io/a:2", "x"); r.status != 400 || !strings.Contains(string(r.body), "registry.server is missing") {
		t.Errorf("%d %s", r.status, r.body)
	}
	patch("named", "quay.io/a:2", "x").is(200)
}
