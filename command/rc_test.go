package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

func rcManifestOf(name string, replicas int, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ReplicationController\nmetadata:\n  name: %s\nspec:\n  replicas: %d\n  template:\n"+
		"    metadata:\n      labels: {app: %[1]s}\n    spec:\n      containers:\n      - name: app\n        image: %[3]s\n",
		name, replicas, image)
}

func TestRCCommandsWithAServer(t *testing.T) {
	s := podServer(t)
	check := func(line string, want result) {
		t.Helper()
		if r := s.run(strings.Fields(line)...); r.code != want.code || !strings.Contains(r.stdout, want.stdout) ||
			!strings.Contains(r.stderr, want.stderr) || (r.stdout == "") != (want.stdout == "") {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
	dir := t.TempDir()
	two := write(t, dir, "two.yaml", rcManifestOf("web", 2, "nginx:1")+"---\n"+rcManifestOf("db", 1, "pg:1"))
	check("rc-create -format {{.name}}={{.ready}} -manifest "+two, result{0, "web=2\ndb=1\n", ""})
	check("rc-list -bay b1 -format {{.name}}:{{.replicas}}", result{0, "web:2\ndb:1\n", ""})
	check("rc-list -wide -name web", result{0, "| 2        | 2       | 2     | 2       | None   |", ""})
	check("rc-show web", result{0, "| replicas            | 2 ", ""})
	check("rc-show -format {{.manifest}} db", result{0, "name: db", ""})
	check("rc-create -manifest "+two, result{1, "", "Bay b1 has a replication controller db already"})
	check("rc-create -manifest "+write(t, dir, "same.yaml", strings.Replace(rcManifestOf("x", 1, "img"), "app: x", "tier: x", 1)),
		result{1, "", "spec.selector: a pod could match it"})
	check("rc-update -format {{.images}}{{.updated}} web replace manifest="+write(t, dir, "web2.yaml", rcManifestOf("web", 3, "nginx:2")),
		result{0, "nginx:2", ""})
	check("pod-list -format {{.images}}", result{0, "nginx:2", ""})
	check("rc-update -detach -format {{.replicas}} web replace manifest="+write(t, dir, "web0.yaml", rcManifestOf("web", 0, "nginx:2")),
		result{0, "0\n", ""})
	check("rc-update web replace manifest="+write(t, dir, "web3.yaml", rcManifestOf("other", 1, "nginx:2")), result{1, "", "metadata.name"})
	check("rc-create -manifest "+write(t, dir, "pod.yaml", manifestOf("x", "y")), result{1, "",
		"is a Pod: this command takes manifests of kind ReplicationController only"})
	check("rc-show none", result{1, "", `"magnum rc-list" lists them.`})
	check("rc-delete web db none", result{1, "", "Delete for rc none failed:"})
	check("rc-list -q", result{0, "", ""})
	check("pod-list -q", result{0, "", ""})
}

// TestRCWaits: a wait ends if a pod can't be started, and if the time is over. Old pods stay.
func TestRCWaits(t *testing.T) {
	s := podServer(t, servertest.Parts(func(a structs.Assignment, o *structs.Observed) []structs.PartReport {
		part := structs.PartReport{Part: "app", Observed: *o, Ready: true, Started: true,
			State: structs.PartState{State: structs.PartRunning}}
		switch a.Pod.Spec.Containers[0].Image {
		case "missing":
			o.Status = structs.ContainerCreating
			part.Ready, part.Started = false, false
			part.State = structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonImagePull, Message: "no such image: missing"}
		case "unready":
			part.Ready = false
		}
		return []structs.PartReport{part}
	}))
	dir := t.TempDir()
	web := func(image string) string { return write(t, dir, image, rcManifestOf("web", 1, image)) }
	if r := s.run("rc-create", "-manifest", web("good")); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	r := s.givesUp("rolling update: 1 of 1 pods are of the new template; waits for pod web-",
		"rc-update", "-wait", "WAIT", "web", "replace", "manifest="+web("unready"))
	if !strings.Contains(r.stderr, "rc web is not done after") {
		t.Errorf("%+v", r)
	}
	r = s.run("rc-update", "web", "replace", "manifest="+web("missing"))
	if r.code != 1 || !strings.Contains(r.stderr, "no such image: missing") || !strings.Contains(r.stderr, "rc-show") {
		t.Errorf("%+v", r)
	}
	if r := s.run("pod-list", "-format", "{{.images}}"); !strings.Contains(r.stdout, "good") {
		t.Errorf("the old pod is gone: %+v", r)
	}
}

func TestRCUsage(t *testing.T) {
	f := newFakeAPI(t)
	two := write(t, t.TempDir(), "two.yaml", rcManifestOf("a", 1, "x")+"---\n"+rcManifestOf("b", 1, "x"))
	for line, want := range map[string]string{
		"rc-create":                               "-manifest is missing, or -manifest-url",
		"rc-create -uuid U -manifest " + two:      "-uuid is for one replication controller, and there are 2",
		"rc-create -manifest " + two + " web":     "one argument too many",
		"rc-update web":                           "PATH=VALUE",
		"rc-update web replace manifest=":         "has no value",
		"rc-delete":                               "RC",
		"rc-list -wide -quiet -watch":             "exclude each other",
		"rc-update -format x web add manifest={}": "neither table nor json",
	} {
		if r := newShell(t, f).run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
	if asked := f.requests(); len(asked) != 0 {
		t.Errorf("the server was asked %q", asked)
	}
}

// TestRCListWatch: each change is a line, also the deletion of an object without a status.
func TestRCListWatch(t *testing.T) {
	rc := func(name string, ready int, reason string) string {
		return fmt.Sprintf(`{"uuid":"u-%s","name":%[1]q,"images":["x"],"bay_uuid":"b1","labels":{},"replicas":2,"links":[],"current":2,`+
			`"ready":%d,"updated":2,"status_reason":%s,"deleting":false,"selector":{"app":"x"}}`, name, ready, reason)
	}
	list := func(rcs ...string) string { return `{"rcs":[` + strings.Join(rcs, ",") + `]}` }
	states := []string{list(rc("a", 1, `"waits"`)), list(rc("a", 2, "null")), list()}
	f := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	f.handle("GET /v1/rcs/detail", func(w http.ResponseWriter, r *http.Request) {
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
	code := e.run(ctx, []string{"rc-list", "-watch"})
	want := "uuid  name  replicas  current  ready  updated  reason  age   images  selector     bay_uuid  status\n" +
		"u-a   a     2         2        1      2        waits   None  x       {\"app\":\"x\"}  b1\n" +
		"u-a   a     2         2        2      2        None    None  x       {\"app\":\"x\"}  b1\n" +
		"u-a   a     2         2        2      2        None    None  x       {\"app\":\"x\"}  b1        Deleted\n"
	if code != 0 || out.String() != want {
		t.Errorf("code %d, %s\n%s\nwant\n%s", code, errOut.String(), out.String(), want)
	}
}
