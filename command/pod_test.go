package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// podJSON returns a pod of one container as the API shows it. more are further fields.
func podJSON(name, status string, ready bool, more ...string) string {
	return fmt.Sprintf(`{"uuid":"u-%s","name":%[1]q,"desc":null,"bay_uuid":"b1","images":["nginx"],"labels":{"app":"x"},"status":%q,`+
		`"links":[],"ready":%t%s}`, name, status, ready, strings.Join(more, ""))
}

// containersJSON returns the field containers with containers of a name and state.
func containersJSON(of ...string) string {
	var all []string
	for i := 0; i < len(of); i += 2 {
		all = append(all, fmt.Sprintf(`{"name":%q,"image":"nginx","state":%s,"last_state":null,"ready":%t,"restart_count":0,"ports":[]}`,
			of[i], of[i+1], strings.Contains(of[i+1], "running")))
	}
	return `,"containers":[` + strings.Join(all, ",") + `]`
}

const (
	creating = `{"state":"waiting","reason":"ContainerCreating","message":"pulling nginx: 30 %"}`
	pulling  = `{"state":"waiting","reason":"ErrImagePull","message":"no such image: nginx"}`
	running  = `{"state":"running"}`
)

const podManifest = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers: [{name: c, image: nginx}]\n"

func TestPodCreateSendsTheManifest(t *testing.T) {
	dir := t.TempDir()
	web := write(t, dir, "web.yaml", "# mine\n"+podManifest)
	write(t, dir, "b.json", `{"kind":"Pod"}`)
	write(t, dir, "c.yml", "kind: Pod\n")
	write(t, dir, "notes.txt", "no manifest")
	if err := os.Mkdir(filepath.Join(dir, "sub.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	mine := `{"manifest":"# mine\n` + strings.ReplaceAll(podManifest, "\n", `\n`) + `"}`
	two := write(t, t.TempDir(), "two", "kind: Pod\nx: 1\n---\nkind: Pod\nx: 2\n")
	object, sent := `{"kind":"Pod"}`, `"manifest":"{\"kind\":\"Pod\"}"`
	f := newFakeAPI(t)
	f.answer("POST /v1/pods", 201, podJSON("web", "Pending", false))
	for _, c := range []struct {
		line, stdin string
		want        []string // bodies
	}{
		{"-manifest " + web, "", []string{mine}},
		{"-f " + web + " -bay prod", "", []string{`{"bay":"prod",` + mine[1:]}},
		{"--manifest -", "kind: Pod\n", []string{`{"manifest":"kind: Pod\n"}`}},
		{"--manifest=- -exclusive -infra-image pause:1 -uuid U", object, []string{
			`{"uuid":"U",` + sent + `,"exclusive":true,"infra_image":"pause:1"}`}},
		{"-manifest - -exclusive=lease", object, []string{`{` + sent + `,"exclusive":"lease"}`}},
		{"-manifest " + dir, "", []string{`{"manifest":"{\"kind\":\"Pod\"}"}`, `{"manifest":"kind: Pod\n"}`,
			mine}},
		{"-manifest " + two + " -manifest -", object, []string{`{"manifest":"kind: Pod\nx: 1\n"}`,
			`{"manifest":"---\nkind: Pod\nx: 2\n"}`, `{` + sent + `}`}},
		{"-manifest -", `{"kind":"List","items":[` + object + "," + object + "]}", []string{"{" + sent + "}", "{" + sent + "}"}},
		{"-manifest-url http://h/web.yaml -bay-uuid b", "", []string{`{"bay":"b","manifest_url":"http://h/web.yaml"}`}},
	} {
		s := newShell(t, f)
		s.stdin = strings.NewReader(c.stdin)
		before := len(f.requests())
		r := s.run(append([]string{"pod-create", "-detach"}, strings.Fields(c.line)...)...)
		want := "POST /v1/pods " + strings.Join(c.want, "\nPOST /v1/pods ")
		if got := strings.Join(f.requests()[before:], "\n"); r.code != 0 || got != want {
			t.Errorf("%s: code %d %s, asked\n%s\nwant\n%s", c.line, r.code, r.stderr, got, want)
		}
	}
	s := newShell(t, f)
	s.stdin = strings.NewReader("s3cret\n")
	r := s.run("pod-create", "-detach", "-manifest", two, "-registry-username", "joe", "-registry-password-stdin")
	asked := f.requests()
	if r.code != 0 || !strings.HasSuffix(asked[len(asked)-1], `"registry":{"username":"joe","password":"s3cret"}}`) {
		t.Errorf("registry: %+v, asked %s", r, asked[len(asked)-1])
	}
}

func TestPodCreateRefusals(t *testing.T) {
	dir := t.TempDir()
	f := newFakeAPI(t)
	two := write(t, dir, "two.yaml", "kind: Pod\n---\nkind: Pod\n")
	for _, c := range []struct {
		line, stdin string
		code        int
		want        string
	}{
		{"", "", 2, "-manifest is missing, or -manifest-url"},
		{"-manifest", "", 2, "needs a value"},
		{"-manifest a -manifest-url http://h", "", 2, "exclude each other"},
		{"-manifest - -manifest -", "{}", 2, "standard input (-) is given twice"},
		{"-manifest - -registry-username joe -registry-password-stdin", "{}", 2, "both read standard input"},
		{"-registry-server h -manifest " + two, "", 2, "-registry-username is missing"},
		{"-manifest " + two + " web", "", 2, "one argument too many"},
		{"-manifest " + two + " -uuid U", "", 2, "-uuid is for one pod, and there are 2"},
		{"-manifest " + two + " -exclusive=perhaps", "", 2, "must be one of true, false, lease"},
		{"-manifest " + two + " -format x", "", 2, "neither table nor json"},
		{"-manifest " + dir + "/none.yaml", "", 1, "none.yaml: no such file"},
		{"-manifest " + t.TempDir(), "", 1, "has no manifests: no files *.yaml, *.yml or *.json"},
		{"-manifest -", "", 1, "standard input: manifest: is empty"},
		{"-manifest " + write(t, dir, "blank.yaml", "# nothing\n---\n"), "", 1, "blank.yaml: manifest: is empty"},
		{"-manifest " + write(t, dir, "svc.yaml", "kind: Service\nmetadata: {name: x}\n"), "", 1,
			"svc.yaml is a Service: this command takes manifests of kind Pod only"},
		{"-manifest -", "kind: Pod\n---\nkind: Deployment\n", 1,
			"document 2 of standard input (line 2) is a Deployment: this command takes manifests of " +
				"kind Pod only; use a ReplicationController"},
		{"-manifest -", `{"kind":"List","items":[]}`, 1, "standard input: manifest: is empty"},
		{"-manifest -", "metadata: {}\n", 1, "standard input: kind: is missing"},
		{"-manifest -", "kind: Pod\n---\n[", 1,
			"standard input: the document that begins in line 2: manifest: is not YAML"},
		{"-manifest -", strings.Repeat("x", maxManifests+1), 1, "larger than 16777216 bytes"},
	} {
		s := newShell(t, f)
		s.stdin = strings.NewReader(c.stdin)
		r := s.run(append([]string{"pod-create"}, strings.Fields(c.line)...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%s: %+v, want code %d and %q", c.line, r, c.code, c.want)
		}
	}
	if asked := f.requests(); len(asked) != 0 {
		t.Errorf("the server was asked %q", asked)
	}
	f.answer("POST /v1/pods", 400, `{"errors":[{"code":"pod.invalid","detail":"manifest_url: http://h/x: connection refused"}]}`)
	if r := newShell(t, f).run("pod-create", "-manifest-url", "http://h/x"); r.code != 1 ||
		r.stderr != "ERROR: manifest_url: http://h/x: connection refused (HTTP 400)\n" {
		t.Errorf("an unreachable URL: %+v", r)
	}
}

func TestPodCreateWaits(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/pods", 201, podJSON("web", "Pending", false))
	file := write(t, t.TempDir(), "web.yaml", podManifest)
	f.answer("GET /v1/pods/u-web/actions", 200,
		`{"actions":[{"action":"update","result":"error","message":"x"},{"action":"create","result":"error","message":"no network left"}]}`)
	pending := podJSON("web", "Pending", false, containersJSON("app", creating))
	reason := func(name string) string {
		return podJSON("web", "Pending", false, containersJSON("app", `{"state":"waiting","reason":"`+name+`","message":"why"}`))
	}
	for _, c := range []struct {
		name   string
		states []string
		code   int
		stderr string
	}{
		{"started", []string{pending, podJSON("web", "Running", false, containersJSON("app", running))}, 0,
			"web: Pending: app: waiting: ContainerCreating: pulling nginx: 30 %\n"},
		{"ended well", []string{podJSON("web", "Succeeded", false)}, 0, ""},
		{"ended", []string{podJSON("web", "Failed", false, `,"status_reason":"DeadlineExceeded: 10 s"`)}, 1,
			"ERROR: pod web: Failed: DeadlineExceeded: 10 s. Look at it with \"magnum pod-show u-web\", delete it with " +
				"\"magnum pod-delete u-web\"\n"},
		{"no image", []string{pending, podJSON("web", "Pending", false, containersJSON("side", running, "app", pulling))}, 1,
			"web: Pending: app: waiting: ContainerCreating: pulling nginx: 30 %\n" +
				"ERROR: pod web is not running: app: waiting: ErrImagePull: no such image: nginx. Look at it with " +
				"\"magnum pod-show u-web\", delete it with \"magnum pod-delete u-web\"\n"},
		{"an init container that fails", []string{podJSON("web", "Pending", false,
			`,"init_containers":[{"name":"i","state":{"state":"waiting","reason":"CrashLoopBackOff","message":"back-off 40s"}}]`)}, 1,
			"ERROR: pod web is not running: i: waiting: CrashLoopBackOff: back-off 40s. Look"},
		{"refused by the engine", []string{reason("CreateContainerError")}, 1, "CreateContainerError: why"},
		{"bad configuration", []string{reason("CreateContainerConfigError")}, 1, "CreateContainerConfigError: why"},
		{"no such command", []string{reason("RunContainerError")}, 1, "RunContainerError: why"},
		{"no network", []string{podJSON("web", "Pending", false, `,"status_reason":"no network left","host":"h1"`)}, 1,
			"ERROR: pod web is not running: no network left. Look at it"},
		{"refused by a cluster", []string{podJSON("web", "Pending", false, `,"status_reason":"it is forbidden","epoch":1`)}, 1,
			"ERROR: pod web is not running: no network left. Look at it"}, // as the record of the creation says
		{"no host", []string{podJSON("web", "Pending", false, `,"status_reason":"no host fits"`)}, 1,
			"web: Pending: no host fits\nERROR: pod web is still Pending: no host fits after WAIT. It goes on without you: " +
				"see \"magnum pod-show u-web\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.answer("GET /v1/pods/u-web", 200, c.states...)
			args := []string{"pod-create", "-manifest", file, "-format", "{{.status}}"}
			if c.name == "no host" {
				newShell(t, f).givesUp(c.stderr, append(args, "-wait", "WAIT")...)
				return
			}
			r := newShell(t, f).run(args...)
			if r.code != c.code || !strings.Contains(r.stderr, c.stderr) || (r.stdout != "") != (c.code == 0) {
				t.Errorf("%+v, want code %d and %q", r, c.code, c.stderr)
			}
		})
	}
	f.answer("GET /v1/pods/u-web", 404, `{"errors":[{"status":404,"code":"pod.not_found","detail":"Pod u-web could not be found."}]}`)
	if r := newShell(t, f).run("pod-create", "-manifest", file); r.code != 1 || r.stderr != "ERROR: pod web was deleted meanwhile\n" {
		t.Errorf("deleted: %+v", r)
	}
}

// Of several pods each is tried, as for commands with several arguments.
func TestPodCreateOfSeveral(t *testing.T) {
	f := newFakeAPI(t)
	n := 0
	f.handle("POST /v1/pods", func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 2 {
			w.WriteHeader(409)
			io.WriteString(w, `{"errors":[{"code":"pod.conflict","detail":"The bay has a pod b."}]}`)
			return
		}
		w.WriteHeader(201)
		io.WriteString(w, podJSON(fmt.Sprint("p", n), "Pending", false))
	})
	f.answer("GET /v1/pods/u-p1", 200, podJSON("p1", "Running", true, `,"host":"h1"`))
	f.answer("GET /v1/pods/u-p3", 200, podJSON("p3", "Running", true, `,"host":"h2"`))
	s := newShell(t, f)
	s.stdin = strings.NewReader("kind: Pod\n---\nkind: Pod\n---\nkind: Pod\n")
	r := s.run("pod-create", "-manifest", "-")
	want := "+------+------+---------+------+\n| uuid | name | status  | host |\n+------+------+---------+------+\n" +
		"| u-p1 | p1   | Running | h1   |\n| u-p3 | p3   | Running | h2   |\n+------+------+---------+------+\n"
	failed := "Create for document 2 of standard input (line 2) failed: The bay has a pod b. (HTTP 409)\n"
	if r != (result{1, want, failed}) {
		t.Errorf("%+v", r)
	}
	n = 2
	s.stdin = strings.NewReader("kind: Pod\n---\nkind: Pod\n")
	if r := s.run("pod-create", "-manifest", "-", "-detach", "-format", "{{.name}}"); r != (result{0, "p3\np4\n", ""}) {
		t.Errorf("-format: %+v", r)
	}
}

func TestInterruptedPodCreateNamesThePod(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/pods", 201, podJSON("web", "Pending", false))
	ctx, cancel := context.WithCancel(context.Background())
	f.handle("GET /v1/pods/u-web", func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	var out, errOut bytes.Buffer
	e := &env{stdin: strings.NewReader(podManifest), stdout: &out, stderr: &errOut,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	code := e.run(ctx, []string{"pod-create", "-manifest", "-"})
	want := "pod web goes on without you: see \"magnum pod-show u-web\"\nERROR: interrupted\n"
	if code != exitInterrupted || errOut.String() != want {
		t.Errorf("code %d, %q", code, errOut.String())
	}
}

func TestPodUpdate(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("PATCH /v1/pods/web", 200, podJSON("web", "Running", true))
	dir := t.TempDir()
	file := write(t, dir, "web.yaml", "kind: Pod\n")
	s := newShell(t, f)
	for _, c := range []struct{ line, want string }{
		{"replace manifest=" + file, `?wait=10m0s [{"op":"replace","path":"/manifest","value":"kind: Pod\n"}]`},
		{"add /manifest=" + file + " -detach", `?wait=0s [{"op":"add","path":"/manifest","value":"kind: Pod\n"}]`},
		{"replace manifest=-", `?wait=10m0s [{"op":"replace","path":"/manifest","value":"{\"kind\":\"Pod\"}"}]`},
		{`replace manifest={"a":1}`, `?wait=10m0s [{"op":"replace","path":"/manifest","value":"{\"a\":1}"}]`},
		{"replace manifest_url=http://h/x", `?wait=10m0s [{"op":"replace","path":"/manifest_url","value":"http://h/x"}]`},
		{"remove manifest", `?wait=10m0s [{"op":"remove","path":"/manifest"}]`},
	} {
		s.stdin = strings.NewReader(`{"kind":"Pod"}`)
		r := s.run(append([]string{"pod-update", "web"}, strings.Fields(c.line)...)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != "PATCH /v1/pods/web"+c.want || !strings.Contains(r.stdout, "| status   | Running") {
			t.Errorf("%s: %+v, asked %s", c.line, r, asked[len(asked)-1])
		}
	}
	before := len(f.requests())
	for line, want := range map[string]string{
		"replace manifest=" + dir + "/none.yaml": "no such file",
		"replace manifest=" + write(t, dir, "two.yml",
			"kind: Pod\n---\nkind: Pod\n"): "has 2 documents: give the manifest of this pod only",
		"replace manifest=" + write(t, dir, "svc.yml", "kind: Service"): "is a Service",
		"replace manifest=" + write(t, dir, "no.yml", "\n"):             "is empty",
		"replace manifest=": "has no value: write manifest=FILE",
		"replace manifest=" + file + " manifest=" + file: "is given twice",
		"replace manifest":      "has no value",
		"mend manifest=" + file: "is not add, replace or remove",
		"replace":               "PATH=VALUE is missing",
	} {
		if r := s.run(append([]string{"pod-update", "web"}, strings.Fields(line)...)...); r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
	if asked := f.requests(); len(asked) != before {
		t.Errorf("the server was asked %q", asked[before:])
	}
	f.answer("PATCH /v1/pods/web", 202, podJSON("web", "Running", false, `,"status_reason":"pulling nginx:2"`))
	if r := s.run("pod-update", "web", "replace", "manifest="+file, "-wait", "1s"); r.code != 1 ||
		r.stderr != "ERROR: it is still Running after 1s: pulling nginx:2. It goes on without you\n" {
		t.Errorf("202: %+v", r)
	}
}

func TestPodDelete(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("DELETE /v1/pods/a", 204, "")
	f.answer("DELETE /v1/pods/b", 202, podJSON("b", "Deleting", false, `,"restart_policy":"Always"`))
	s := newShell(t, f)
	if r := s.run("pod-delete", "-force", "a"); r != (result{}) || f.requests()[0] != "DELETE /v1/pods/a?force=true&wait=10m0s" {
		t.Errorf("%+v, asked %q", r, f.requests())
	}
	if r := s.run("pod-delete", "b", "a", "-wait", "2s"); r.code != 1 ||
		r.stderr != "Delete for pod b failed: it is still Deleting after 2s. It goes on without you\n" {
		t.Errorf("202: %+v", r)
	}
	if r := s.run("pod-delete", "-detach", "b"); r != (result{}) {
		t.Errorf("-detach: %+v", r)
	}
	f.answer("DELETE /v1/pods/c", 404, `{"errors":[{"status":404,"code":"pod.not_found","detail":"Pod c could not be found."}]}`)
	if r := s.run("pod-delete", "c"); r.code != 1 ||
		r.stderr != "Delete for pod c failed: Pod c could not be found. (HTTP 404)\n\"magnum pod-list\" lists them.\n" {
		t.Errorf("404: %+v", r)
	}
	if r := s.run("pod-delete"); r.code != 2 {
		t.Errorf("no pod: %+v", r)
	}
}

func TestPodSlowDeleteShowsProgress(t *testing.T) {
	f := newFakeAPI(t)
	shown := make(chan struct{})
	var once sync.Once
	f.handle("DELETE /v1/pods/a", func(w http.ResponseWriter, _ *http.Request) { <-shown; w.WriteHeader(204) })
	f.handle("GET /v1/pods/a", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("index") {
			once.Do(func() { close(shown) })
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Magnum-Index", "5")
		io.WriteString(w, podJSON("a", "Deleting", false, containersJSON("app", `{"state":"running","message":"preStop"}`)))
	})
	r := newShell(t, f).run("pod-delete", "a")
	if r.code != 0 || !strings.HasPrefix(r.stderr, "delete a ...\ndelete a: Deleting") {
		t.Errorf("%+v", r)
	}
}

// brokenPod is a pod in which everything goes wrong at once.
const brokenPod = `{"uuid":"u2","name":"shop","desc":null,"bay_uuid":"b1","images":["shop:1","proxy:1"],"labels":{"app":"shop"},` +
	`"status":"Running","links":[{"href":"http://h/v1/pods/u2","rel":"self"}],"status_reason":null,"manifest_url":null,` +
	`"manifest":"kind: Pod\nspec: {}\n","created_at":"2015-04-20T19:06:08+00:00","updated_at":null,"host":"h1","address":"10.0.0.2",` +
	`"ready":false,"conditions":[{"type":"PodScheduled","status":"True","reason":null,"message":null},` +
	`{"type":"Initialized","status":"True","reason":null,"message":null},` +
	`{"type":"ContainersReady","status":"False","reason":"ContainersNotReady","message":"containers that are not ready: app, proxy"},` +
	`{"type":"Ready","status":"False","reason":"ContainersNotReady","message":"containers that are not ready: app, proxy"}],` +
	`"init_containers":[{"name":"migrate","image":"shop:1","state":{"state":"terminated","reason":"Completed","message":null,` +
	`"exit_code":0,"started_at":null,"finished_at":null},"last_state":null,"ready":true,"restart_count":0,"ports":[]}],` +
	`"containers":[{"name":"app","image":"shop:1","state":{"state":"waiting","reason":"CrashLoopBackOff",` +
	`"message":"back-off 40s: it is started again at 19:09:00","exit_code":null,"started_at":null,"finished_at":null},` +
	`"last_state":{"state":"terminated","reason":"OOMKilled","message":"killed by the kernel","exit_code":137,` +
	`"started_at":"2015-04-20T19:08:00+00:00","finished_at":"2015-04-20T19:08:20+00:00"},"ready":false,"restart_count":3,` +
	`"ports":[{"container_port":80,"host_port":8080,"protocol":"tcp"}]},` +
	`{"name":"proxy","image":"proxy:1","state":{"state":"running","reason":null,` +
	`"message":"readiness probe failed: HTTP status 503: \u001b[31mdown","exit_code":null,"started_at":"2015-04-20T19:06:08+00:00",` +
	`"finished_at":null},"last_state":null,"ready":false,"restart_count":1,"ports":[]}],"annotations":{},"restart_policy":"Always",` +
	`"started_at":"2015-04-20T19:06:08+00:00","epoch":1,"exclusive":false}`

func TestPodShow(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/pods/shop", 200, brokenPod)
	f.answer("GET /v1/pods/web", 200, podJSON("web", "Running", true, containersJSON("app", running)))
	s := newShell(t, f)
	var all strings.Builder
	for _, line := range []string{"pod-show shop", "pod-show web", "pod-show -format {{.name}}={{.ready}} shop"} {
		r := s.run(strings.Fields(line)...)
		all.WriteString("$ magnum " + line + "\n" + r.stdout + r.stderr)
		if r.code != 0 {
			t.Errorf("%s: code %d, %s", line, r.code, r.stderr)
		}
	}
	golden(t, "pods", all.String())
	if r := s.run("pod-show", "-json", "shop"); r.stdout != brokenPod+"\n" {
		t.Errorf("-json prints %s", r.stdout)
	}
}

func TestWhyNotReady(t *testing.T) {
	text := func(s string) *string { return &s }
	waiting := func(name, reason string) structs.PodContainerBody {
		c := structs.PodContainerBody{Name: name, State: structs.PartStateBody{State: structs.PartWaiting}}
		if reason != "" {
			c.State.Reason = &reason
		}
		return c
	}
	initializing := []structs.PodContainerBody{waiting("app", structs.ReasonInitializing)}
	for _, c := range []struct {
		name string
		pod  structs.PodBody
		want string
	}{
		{"ready", structs.PodBody{Ready: true, StatusReason: text("x")}, ""},
		{"no host", structs.PodBody{StatusReason: text("no host has 8g"), Conditions: []structs.PodCondition{
			{Type: "PodScheduled", Status: "False", Reason: text("Unschedulable"), Message: text("no host has 8g")},
			{Type: "Ready", Status: "False", Reason: text("ContainersNotReady")},
		}}, "no host has 8g|PodScheduled: Unschedulable"},
		{"a container's reason", structs.PodBody{StatusReason: text("app: Pull: no image"), Containers: []structs.PodContainerBody{
			{Name: "app", State: structs.PartStateBody{State: structs.PartWaiting, Reason: text("Pull"), Message: text("no image")}},
		}}, "app: waiting: Pull: no image"},
		{"completed", structs.PodBody{Conditions: []structs.PodCondition{
			{Type: "ContainersReady", Status: "False", Reason: text("PodCompleted")},
			{Type: "Ready", Status: "False", Reason: text("PodCompleted")},
		}}, "Ready: PodCompleted"},
		{"host lost", structs.PodBody{Conditions: []structs.PodCondition{
			{Type: "Ready", Status: "False", Reason: text("HostLost"), Message: text("host h1 is lost")},
		}}, "Ready: HostLost: host h1 is lost"},
		{"initializing", structs.PodBody{Containers: initializing, InitContainers: []structs.PodContainerBody{
			{Name: "one", State: structs.PartStateBody{State: structs.PartTerminated, ExitCode: new(int)}},
			{Name: "two", State: structs.PartStateBody{State: structs.PartRunning}},
			waiting("three", structs.ReasonInitializing),
		}}, "init container two: running, not ready"},
		{"not reported yet", structs.PodBody{Containers: []structs.PodContainerBody{waiting("app", "")}}, "app: waiting"},
		{"being deleted", structs.PodBody{Containers: []structs.PodContainerBody{{Name: "app", RestartCount: 2}}},
			"app: removed, 2 restarts"},
		{"a slow start", structs.PodBody{Containers: []structs.PodContainerBody{
			{Name: "app", State: structs.PartStateBody{State: structs.PartRunning}, RestartCount: 1},
		}}, "app: running, 1 restart, not ready"},
	} {
		if got := strings.Join(whyNotReady(&c.pod), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPodList(t *testing.T) {
	f := newFakeAPI(t)
	age := time.Now().Add(-200 * time.Second).UTC().Format(time.RFC3339)
	aged := strings.Replace(brokenPod, `"created_at":"2015-04-20T19:06:08+00:00"`, `"created_at":"`+age+`"`, 1)
	f.answer("GET /v1/pods", 200, `{"pods":[`+podJSON("web", "Running", true)+`]}`)
	f.answer("GET /v1/pods/detail", 200, `{"pods":[`+aged+`]}`)
	s := newShell(t, f)
	if r := s.run("pod-list"); r.code != 0 || !strings.Contains(r.stdout, "| uuid  | name |\n+-------+------+\n| u-web | web  |\n") {
		t.Errorf("%+v", r)
	}
	r := s.run("pod-list", "-wide")
	want := "| u2   | shop | Running | 0/2   | 4        | CrashLoopBackOff | 3m  | 10.0.0.2 | h1   | shop:1, proxy:1 | b1       |\n"
	if r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("-wide:\n%s%s", r.stdout, r.stderr)
	}
}

func TestShortReason(t *testing.T) {
	why := structs.ReasonInitializing
	for want, pod := range map[string]structs.PodBody{
		"None": {Ready: true, Conditions: []structs.PodCondition{{Status: "False", Reason: &why}}},
		"PodInitializing": {InitContainers: []structs.PodContainerBody{{State: structs.PartStateBody{State: structs.PartRunning}}},
			Containers: []structs.PodContainerBody{{State: structs.PartStateBody{State: structs.PartWaiting, Reason: &why}}}},
	} {
		if got := shortReason(&pod); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m", 119 * time.Minute: "1h", 47 * time.Hour: "47h",
		50 * time.Hour: "2d",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// TestPodListWatch runs until the fake server has no further list.
func TestPodListWatch(t *testing.T) {
	list := func(pods ...string) string { return `{"pods":[` + strings.Join(pods, ",") + `]}` }
	a, b := podJSON("a", "Running", true), podJSON("b", "Pending", false, containersJSON("app", creating))
	b2 := podJSON("b", "Running", true, containersJSON("app", running))
	noted := strings.Replace(b2, `"desc":null`, `"desc":"x"`, 1) // seen in no column
	states := []string{list(a, b), list(a, b), list(a, b2), list(a, noted), list(noted)}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "uuid  name  status   ready  restarts  reason             age   address  host  images  bay_uuid\n" +
			"u-a   a     Running  0/0    0         None               None  None     None  nginx   b1\n" +
			"u-b   b     Pending  0/1    0         ContainerCreating  None  None     None  nginx   b1\n" +
			"u-b   b     Running  1/1    0         None               None  None     None  nginx   b1\n" +
			"u-a   a     Deleted  0/0    0         None               None  None     None  nginx   b1\n"},
		{[]string{"-format", "{{.name}} {{.status}}"}, "a Running\nb Pending\nb Running\nb Running\na Deleted\n"},
		{[]string{"-json"}, strings.Join([]string{a, b, b2, noted, strings.Replace(a, "Running", "Deleted", 1), ""}, "\n")},
	} {
		f := newFakeAPI(t)
		ctx, cancel := context.WithCancel(context.Background())
		n := 0
		f.handle("GET /v1/pods/detail", func(w http.ResponseWriter, r *http.Request) {
			if want := fmt.Sprint(n); n > 0 && r.URL.Query().Get("index") != want {
				t.Errorf("read %d is for index %s", n, r.URL.Query().Get("index"))
			}
			if n == len(states) {
				cancel()
				<-r.Context().Done()
				return
			}
			n++
			w.Header().Set("X-Magnum-Index", fmt.Sprint(n))
			io.WriteString(w, states[n-1])
		})
		var out, errOut bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut,
			lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
		code := e.run(ctx, append([]string{"pod-list", "-watch"}, c.args...))
		if code != 0 || out.String() != c.want {
			t.Errorf("%q: code %d, %s\n%s\nwant\n%s", c.args, code, errOut.String(), out.String(), c.want)
		}
		cancel()
	}
	s := newShell(t, newFakeAPI(t))
	if r := s.run("pod-list", "-watch", "-q"); r.code != 2 || !strings.Contains(r.stderr, "exclude each other") {
		t.Errorf("-q: %+v", r)
	}
}

func TestPodLogs(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/pods/web/logs", 200, "line\n")
	s := newShell(t, f)
	for line, want := range map[string]string{
		"web": "stderr=true&stdout=true",
		"web -f --tail 10 -since 5m -timestamps -container app": "container=app&" +
			"follow=true&since=5m&stderr=true&stdout=true&tail=10&timestamps=true",
		"-previous web -c app -stderr": "container=app&previous=true&stderr=true&stdout=false",
	} {
		r := s.run(append([]string{"pod-logs"}, strings.Fields(line)...)...)
		asked := f.requests()
		if r.code != 0 || r.stdout != "line\n" || asked[len(asked)-1] != "GET /v1/pods/web/logs?"+want {
			t.Errorf("%s: %+v, asked %q", line, r, asked[len(asked)-1])
		}
	}
	for line, want := range map[string]string{
		"":                  "POD is missing",
		"-all -c app web":   "-all and -container exclude each other",
		"-f -previous web":  "-previous and -follow exclude each other",
		"-tail perhaps web": "must be a number of lines or all",
	} {
		if r := s.run(append([]string{"pod-logs"}, strings.Fields(line)...)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}

func TestPodLogsOfAllContainers(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/pods/web", 200, podJSON("web", "Running", false,
		`,"init_containers":[{"name":"init","state":{"state":"terminated"}}]`+
			`,"containers":[{"name":"app","state":{"state":"waiting","reason":"CrashLoopBackOff"},"last_state":{"state":"terminated"}},`+
			`{"name":"side","state":{"state":"running"}},{"name":"late","state":{"state":"waiting"}}]`))
	f.handle("GET /v1/pods/u-web/logs", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		switch r.URL.Query().Get("container") {
		case "init":
			io.WriteString(w, "done\n")
		case "app":
			io.WriteString(w, "one\n\ntwo") // the last line has no end
		case "side":
			io.WriteString(w, strings.Repeat("x", maxLine)+"y\n")
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	want := "[init] done\n[app] one\n[app] \n[app] two\n[side] " + strings.Repeat("x", maxLine) + "\n[side] y\n"
	s := newShell(t, f)
	if r := s.run("pod-logs", "-all", "web"); r.code != 0 || r.stdout != want {
		t.Errorf("code %d, %s, %d bytes", r.code, r.stderr, len(r.stdout))
	}
	r := s.run("pod-logs", "-all", "-follow", "web") // in any order
	for line := range strings.Lines(want) {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("-follow lacks %.20q", line)
		}
	}
	if r.code != 0 || len(r.stdout) != len(want) {
		t.Errorf("-follow: code %d, %s, %d bytes, want %d", r.code, r.stderr, len(r.stdout), len(want))
	}
	if r := s.run("pod-logs", "-all", "-previous", "web"); r.code != 0 || r.stdout != "[app] one\n[app] \n[app] two\n" {
		t.Errorf("-previous: code %d, %s, %.100q", r.code, r.stderr, r.stdout)
	}
	f.answer("GET /v1/pods/new", 200, podJSON("new", "Pending", false, containersJSON("app", creating)))
	if r := s.run("pod-logs", "-all", "new"); r.code != 1 || !strings.Contains(r.stderr, "no container of pod new has been started yet") {
		t.Errorf("no logs: %+v", r)
	}
	if r := s.run("pod-logs", "-all", "-previous", "new"); r.code != 1 || !strings.Contains(r.stderr, "pod new was restarted, so") {
		t.Errorf("no previous logs: %+v", r)
	}
	f.answer("GET /v1/pods/u-web/logs", 503, `{"errors":[{"code":"pod.unavailable","detail":"host h1 is lost"}]}`)
	if r := s.run("pod-logs", "-all", "web"); r.code != 1 || !strings.Contains(r.stderr, "container init: host h1 is lost") {
		t.Errorf("an error: %+v", r)
	}
}

func TestPodExecute(t *testing.T) {
	f := newFakeAPI(t)
	f.handle("GET /v1/pods/web/execute/ws", session(t, func(send func(channel byte, payload []byte)) {
		send(structs.ChannelStdout, []byte("out"))
		send(structs.ChannelStderr, []byte("err"))
		send(structs.ChannelControl, []byte(`{"exit_code":3}`))
	}))
	s := newShell(t, f)
	if r := s.run("pod-execute", "-container", "app", "web", "ls", "-l"); r != (result{3, "out", "err"}) {
		t.Errorf("%+v", r)
	}
	want := "GET /v1/pods/web/execute/ws?command=%5B%22ls%22%2C%22-l%22%5D&container=app&stdin=false&tty=false"
	if f.requests()[0] != want {
		t.Errorf("asked %s", f.requests()[0])
	}
	f.answer("PUT /v1/pods/old/execute", 200, `{"output":"at once"}`)
	if r := s.run("pod-execute", "old", "ls"); r != (result{0, "at once", ""}) {
		t.Errorf("in one request: %+v", r)
	}
	for line, want := range map[string]string{"": "POD is missing", "web": "COMMAND is missing", "-it web sh": "not a terminal"} {
		if r := s.run(append([]string{"pod-execute"}, strings.Fields(line)...)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}

func TestActionsOfObjects(t *testing.T) {
	f := newFakeAPI(t)
	for _, kind := range []string{"pod", "bay", "baymodel", "node", "host", "rc", "service"} {
		f.answer("GET /v1/"+kind+"s/web/actions", 200, `{"actions":[{"action":"create","result":"success"}]}`)
		if r := newShell(t, f).run(kind+"-actions", "-format", "{{.action}} {{.result}}", "web"); r != (result{0, "create success\n", ""}) {
			t.Errorf("%s-actions: %+v", kind, r)
		}
	}
}

// Manifests have environment variables, which -debug never prints.
func TestDebugHidesManifests(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/pods", 201, podJSON("web", "Pending", false))
	f.answer("PATCH /v1/pods/web", 200, podJSON("web", "Running", true))
	file := write(t, t.TempDir(), "web.yaml", "kind: Pod\nenv: [{name: PASSWORD, value: s3cret}]\n")
	s := newShell(t, f)
	r := s.run("pod-create", "-debug", "-detach", "-bay", "b7", "-manifest", file)
	r2 := s.run("pod-update", "-debug", "web", "replace", "manifest="+file, "manifest_url=http://h/x")
	all := r.stderr + r2.stderr
	shown := strings.Contains(all, `"bay":"b7"`) && strings.Contains(all, "http://h/x")
	if r.code != 0 || r2.code != 0 || !shown || strings.Contains(all, "s3cret") {
		t.Errorf("codes %d %d, stderr %s", r.code, r2.code, all)
	}
	if got := strings.Join(f.requests(), "\n"); strings.Count(got, "s3cret") != 2 {
		t.Errorf("the server got %s", got)
	}
}
