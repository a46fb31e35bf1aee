package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// otherManifest is a manifest of a kind that apply doesn't take.
const otherManifest = "kind: Deployment\nmetadata: {name: x}\n"

func TestApplyWithAServer(t *testing.T) {
	s := podServer(t)
	dir := t.TempDir()
	run := func(line, stdin string, want result) {
		t.Helper()
		s.stdin = strings.NewReader(stdin)
		if r := s.run(strings.Fields(line)...); r.code != want.code || r.stdout != want.stdout ||
			!strings.Contains(r.stderr, want.stderr) || want.stderr == "" && r.stderr != "" && !strings.HasPrefix(r.stderr, "rc front: ") {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
	all := rcManifestOf("front", 2, "nginx:1") + "---\n" + manifestOf("db", "pg:1") + "---\n" + manifestOf("web", "nginx:1")
	file := write(t, dir, "all.yaml", all)
	run("apply -f "+file, "", result{0, "rc/front created\npod/db created\npod/web created\n", ""})
	run("apply -f -", all, result{0, "rc/front unchanged\npod/db unchanged\npod/web unchanged\n", ""})
	run("apply -bay b1 -f "+file, "", result{0, "rc/front unchanged\npod/db unchanged\npod/web unchanged\n", ""})
	run("apply -f -", rcManifestOf("front", 1, "nginx:1")+"---\n"+manifestOf("web", "nginx:2"),
		result{0, "rc/front changed\npod/web changed\n", ""})
	run("rc-list -format {{.name}}={{.current}}", "", result{0, "front=1\n", ""})
	run("pod-list -name web -format {{.images}}", "", result{0, "[nginx:2]\n", ""})
	// A change that isn't possible in place, beside one that is.
	r := func() result {
		s.stdin = strings.NewReader(manifestOf("web", "nginx:2") + "    command: [x]\n---\n" + manifestOf("db", "pg:2"))
		return s.run("apply", "-f", "-")
	}()
	if r.code != 1 || r.stdout != "pod/db changed\n" || !strings.Contains(r.stderr,
		"pod/web of document 1 of standard input (line 1) failed: spec.containers[0].command: can't be changed while the pod exists") ||
		!strings.HasSuffix(r.stderr, "(HTTP 400)\nWhat can't be changed has to be deleted before: \"magnum pod-delete web\". "+
			"Then apply again.\n") {
		t.Errorf("a change of the command: %+v", r)
	}
	run("apply -f -", manifestOf("other", "x")+"  hostNetwork: true\n",
		result{1, "", "pod/other of standard input failed: spec.hostNetwork"})
	service := serviceManifestOf("db", "ports: [{port: 5432}]")
	run("apply -f -", service, result{0, "service/db created\n", ""})
	run("apply -f -", service, result{0, "service/db unchanged\n", ""})
	run("apply -f -", serviceManifestOf("db", "ports: [{port: 5433}]"), result{0, "service/db changed\n", ""})
	run("delete -f -", service, result{0, "service/db deleted\n", ""})
	run("service-list -q", "", result{0, "", ""})
	run("apply -bay none -f -", manifestOf("other", "x"), result{1, "", "\"magnum bay-list\" lists them."})

	run("delete -f -", manifestOf("web", "y")+"---\n"+manifestOf("nobody", "y")+"---\n"+rcManifestOf("front", 9, "y"),
		result{1, "pod/web deleted\nrc/front deleted\n", "pod/nobody not found\n"})
	run("pod-list -format {{.name}}", "", result{0, "db\n", ""})
	run("delete -ignore-not-found -force -f "+file, "", result{0, "pod/db deleted\n", "rc/front not found\npod/web not found\n"})
	run("pod-list -q", "", result{0, "", ""})
}

func TestApplyRefusals(t *testing.T) {
	f := newFakeAPI(t)
	for _, c := range []struct {
		line, stdin string
		code        int
		want        string
	}{
		{"apply", "", 2, "-f is missing"},
		{"delete", "", 2, "-f is missing"},
		{"apply -f - -f -", podManifest, 2, "standard input (-) is given twice"},
		{"apply -f - web", podManifest, 2, "one argument too many"},
		{"apply -f - -registry-username joe -registry-password-stdin", podManifest, 2, "both read standard input"},
		{"apply -f -", podManifest + "---\n" + otherManifest, 1, "document 2 of standard input (line 7) is a Deployment: " +
			"this command takes manifests of kind Pod, ReplicationController, Service only; use a ReplicationController"},
		{"apply -f -", "kind: Secret\nmetadata: {name: x}\n", 1, "; in a bay of Docker hosts, " +
			"write its values into env of the containers; " +
			"credentials of a registry go into the field registry beside the manifest; in a Kubernetes bay, create it with kubectl\n"},
		{"delete -f -", otherManifest, 1, "is a Deployment"},
		{"apply -f -", "kind: Pod\nmetadata: {generateName: a-}\n", 1, "standard input has no metadata.name"},
	} {
		s := newShell(t, f)
		s.stdin = strings.NewReader(c.stdin)
		if r := s.run(strings.Fields(c.line)...); r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%s: %+v, want code %d, %s", c.line, r, c.code, c.want)
		}
	}
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("the server was asked: %q", asked)
	}
}

// TestManifestsOfOtherBays checks that servers get manifests as they are, with what a bay of
// Docker hosts refuses: only servers know what the bay is.
func TestManifestsOfOtherBays(t *testing.T) {
	f := newFakeAPI(t)
	const (
		pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web.example.com}\nspec:\n  hostNetwork: true\n  containers:\n" +
			"  - {name: app, image: nginx, securityContext: {privileged: true}, envFrom: [{secretRef: {name: s}}]}\n" +
			"  volumes: [{name: etc, hostPath: {path: /etc}}]\n"
		service = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {type: ExternalName, externalName: example.com}\n"
		rc      = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: front}\nspec:\n  minReadySeconds: 5\n  template:\n" +
			"    metadata: {labels: {app: web}}\n    spec: {hostPID: true, containers: [{name: app, image: nginx}]}\n"
	)
	names := map[string]string{pod: "web.example.com", service: "db", rc: "front"}
	for _, k := range []struct{ noun, text string }{{"pod", pod}, {"service", service}, {"rc", rc}} {
		body := fmt.Sprintf(`{"uuid":"u-%s","name":%q}`, k.noun, names[k.text])
		f.answer("GET /v1/"+k.noun+"s", 200, `{"`+k.noun+`s":[]}`)
		f.answer("POST /v1/"+k.noun+"s", 201, body)
		wait := " -detach"
		if k.noun == "service" {
			wait = ""
		}
		for _, line := range []string{"apply -detach -f -", k.noun + "-create" + wait + " -f -"} {
			s := newShell(t, f)
			s.stdin = strings.NewReader(k.text)
			r := s.run(strings.Fields(line)...)
			asked := f.requests()
			want, _ := json.Marshal(k.text)
			if last := asked[len(asked)-1]; r.code != 0 || !strings.Contains(last, "POST /v1/"+k.noun+"s") ||
				!strings.Contains(last, string(want)) {
				t.Errorf("%s: %+v, asked %s", line, r, last)
			}
		}
		f.answer("GET /v1/"+k.noun+"s", 200, `{"`+k.noun+`s":[`+body+`]}`)
		f.answer("DELETE /v1/"+k.noun+"s/u-"+k.noun, 204, "")
		s := newShell(t, f)
		s.stdin = strings.NewReader(k.text)
		want := k.noun + "/" + names[k.text] + " deleted\n"
		if r := s.run("delete", "-detach", "-f", "-"); r.code != 0 || r.stdout != want {
			t.Errorf("delete: %+v, want %s", r, want)
		}
	}
}

// TestApplyRequests: what apply and delete ask a server.
func TestApplyRequests(t *testing.T) {
	f := newFakeAPI(t)
	list := func(pods ...string) string { return `{"pods":[` + strings.Join(pods, ",") + `]}` }
	s := newShell(t, f)
	run := func(line string) result {
		t.Helper()
		if s.stdin = strings.NewReader(podManifest); strings.Contains(line, "password-stdin") {
			s.stdin = strings.NewReader("p\n")
		}
		return s.run(strings.Fields(line)...)
	}
	asked := func(before int) string { return strings.Join(f.requests()[before:], "\n") }
	web := podJSON("web", "Running", true)
	text := strings.ReplaceAll(podManifest, "\n", `\n`)

	file := write(t, t.TempDir(), "web.yaml", podManifest)
	f.answer("GET /v1/pods", 200, list())
	f.answer("POST /v1/pods", 201, web)
	if r := run("apply -detach -bay prod -registry-username joe -registry-password-stdin -f " + file); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if got, want := asked(0), "GET /v1/pods?bay=prod&name=web\nPOST /v1/pods {\"bay\":\"prod\",\"manifest\":\""+text+
		"\",\"registry\":{\"username\":\"joe\",\"password\":\"p\"}}"; got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
	// One that was fetched by its URL isn't the same, although its text is.
	f.answer("GET /v1/pods", 200, list(web))
	f.answer("GET /v1/pods/u-web", 200, podJSON("web", "Running", true, `,"manifest":"`+text+`","manifest_url":"http://h/web"`))
	f.answer("PATCH /v1/pods/u-web", 200, web)
	before := len(f.requests())
	if r := run("apply -detach -f -"); r.code != 0 || r.stdout != "pod/web changed\n" {
		t.Errorf("%+v", r)
	}
	if got := asked(before); !strings.Contains(got, `PATCH /v1/pods/u-web?wait=0s [{"op":"replace","path":"/manifest","value":"`) {
		t.Errorf("asked\n%s", got)
	}
	f.answer("GET /v1/pods", 200, list(web, podJSON("web", "Running", true)))
	for _, name := range []string{"apply", "delete"} {
		if r := run(name + " -f -"); r.code != 1 || !strings.Contains(r.stderr, "2 bays have a pod web: choose one with -bay") {
			t.Errorf("%s of an ambiguous name: %+v", name, r)
		}
	}
	f.answer("GET /v1/pods", 200, list(web))
	before = len(f.requests())
	f.answer("DELETE /v1/pods/u-web", 204, "")
	if r := run("delete -force -detach -f -"); r.code != 0 || r.stdout != "pod/web deleted\n" {
		t.Errorf("%+v", r)
	}
	if got := asked(before); !strings.Contains(got, "DELETE /v1/pods/u-web?force=true&wait=0s") {
		t.Errorf("asked\n%s", got)
	}
	// It waits until the pod is gone, and says what the pod waits for when it gives up.
	deleting := podJSON("web", "Deleting", false, `,"status_reason":"its host is lost"`)
	f.answer("GET /v1/pods/u-web", 200, deleting)
	if r := s.givesUp("pod/web of "+file+" failed: it is still Deleting: its host is lost after ", "delete", "-wait", "WAIT", "-f",
		file); r.stdout != "pod/web deleted\n" || !strings.Contains(r.stderr, "s. It goes on") {
		t.Errorf("%+v", r)
	}
	n := 0
	f.handle("GET /v1/pods/u-web", func(w http.ResponseWriter, _ *http.Request) {
		if n++; n < 3 {
			w.Header().Set("X-Magnum-Index", fmt.Sprint(n))
			io.WriteString(w, deleting)
			return
		}
		w.WriteHeader(404)
		io.WriteString(w, `{"errors":[{"status":404,"code":"pod.not_found","detail":"Pod u-web could not be found."}]}`)
	})
	if r := run("delete -f -"); r.code != 0 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
}

// TestApplyOfWhatIsDeleted: an object that is being deleted isn't "unchanged", for it will be
// gone. apply waits for that, and creates it again.
func TestApplyOfWhatIsDeleted(t *testing.T) {
	text := strings.ReplaceAll(podManifest, "\n", `\n`)
	rcText := rcManifestOf("front", 2, "nginx:1")
	for _, c := range []struct{ kind, manifest, object, deleting string }{
		{"pod", podManifest, podJSON("web", "Running", true), podJSON("web", "Deleting", false, `,"manifest":"`+text+`"`)},
		{"rc", rcText, `{"uuid":"u-web","name":"front"}`,
			`{"uuid":"u-web","name":"front","deleting":true,"manifest":"` + strings.ReplaceAll(rcText, "\n", `\n`) + `"}`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			f := newFakeAPI(t)
			s := newShell(t, f)
			f.answer("GET /v1/"+c.kind+"s", 200, `{"`+c.kind+`s":[`+c.object+`]}`)
			f.answer("GET /v1/"+c.kind+"s/u-web", 200, c.deleting)
			file := write(t, t.TempDir(), "m.yaml", c.manifest)
			r := s.run("apply", "-detach", "-f", file)
			if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "it is being deleted") {
				t.Errorf("-detach: %+v", r)
			}
			n := 0
			f.handle("GET /v1/"+c.kind+"s/u-web", func(w http.ResponseWriter, _ *http.Request) {
				if n++; n < 3 {
					w.Header().Set("X-Magnum-Index", fmt.Sprint(n))
					io.WriteString(w, c.deleting)
					return
				}
				w.WriteHeader(404)
				io.WriteString(w, `{"errors":[{"status":404,"code":"`+c.kind+`.not_found","detail":"gone"}]}`)
			})
			f.handle("POST /v1/"+c.kind+"s", func(w http.ResponseWriter, _ *http.Request) {
				if n < 3 {
					t.Error("it is created before it is gone")
				}
				w.WriteHeader(400)
				io.WriteString(w, `{"errors":[{"status":400,"code":"invalid","detail":"asked for again"}]}`)
			})
			if r = s.run("apply", "-f", file); r.code != 1 || !strings.Contains(r.stderr, "asked for again") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestApplyBesideAnother: another client creates the object while apply does.
func TestApplyBesideAnother(t *testing.T) {
	f := newFakeAPI(t)
	s := newShell(t, f)
	web := podJSON("web", "Running", true, `,"manifest":"`+strings.ReplaceAll(podManifest, "\n", `\n`)+`"`)
	made := false
	f.handle("GET /v1/pods", func(w http.ResponseWriter, _ *http.Request) {
		if made {
			io.WriteString(w, `{"pods":[`+web+`]}`)
			return
		}
		io.WriteString(w, `{"pods":[]}`)
	})
	f.handle("POST /v1/pods", func(w http.ResponseWriter, _ *http.Request) {
		made = true
		w.WriteHeader(409)
		io.WriteString(w, `{"errors":[{"status":409,"code":"pod.conflict","detail":"Bay b1 has a pod web already"}]}`)
	})
	f.answer("GET /v1/pods/u-web", 200, web)
	if r := s.run("apply", "-f", write(t, t.TempDir(), "m.yaml", podManifest)); r.code != 0 || r.stdout != "pod/web unchanged\n" {
		t.Errorf("%+v", r)
	}
}
