package command

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// podServer starts a server with a host and a bay, and returns a shell that calls it.
func podServer(t *testing.T, options ...servertest.AgentOption) *shell {
	t.Helper()
	server := servertest.New(t)
	server.StartAgent(t, "host-1", options...)
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = server.URL
	if r := s.run("bay-create", "-name", "b1"); r.code != 0 {
		t.Fatalf("bay-create: %+v", r)
	}
	return s
}

func manifestOf(name, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\nspec:\n  containers:\n  - name: app\n    image: %s\n",
		name, image)
}

func TestPodCommandsWithAServer(t *testing.T) {
	s := podServer(t)
	check := func(line string, want result) {
		t.Helper()
		if r := s.run(strings.Fields(line)...); r.code != want.code || !strings.Contains(r.stdout, want.stdout) ||
			!strings.Contains(r.stderr, want.stderr) || (r.stdout == "") != (want.stdout == "") {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
	dir := t.TempDir()
	two := write(t, dir, "two.yaml", manifestOf("web", "nginx:1")+"---\n"+manifestOf("db", "pg:1"))
	check("pod-create -format {{.name}}={{.status}} -manifest "+two, result{0, "web=Running\ndb=Running\n", ""})
	check("pod-list -bay b1 -format {{.name}}:{{.host}}:{{.ready}}", result{0, "web:host-1:true\ndb:host-1:true\n", ""})
	check("pod-list -wide -name web", result{0, "| Running | 1/1   | 0        | None   |", ""})
	check("pod-show web", result{0, "| containers      | app: running, ready, nginx:1", ""})
	check("pod-show -format {{.manifest}} db", result{0, "name: db", ""})
	check("pod-create -manifest "+two, result{1, "", "(line 9) failed: Bay b1 has a pod db already"})
	check("pod-update web replace manifest="+write(t, dir, "web2.yaml", manifestOf("web", "nginx:2")), result{0, `["nginx:2"]`, ""})
	check("pod-update web replace manifest="+write(t, dir, "web3.yaml", manifestOf("other", "nginx:2")), result{1, "", "metadata.name"})
	check("pod-update web replace manifest="+write(t, dir, "web4.yaml", manifestOf("web", "nginx:2")+"  hostNetwork: true\n"),
		result{1, "", "spec.hostNetwork"})
	typo := strings.Replace(manifestOf("x", "nginx"), "image:", "imagePolicy: 1\n    image:", 1)
	check("pod-create -manifest "+write(t, dir, "typo.yaml", typo),
		result{1, "", "spec.containers[0].imagePolicy"})
	check("pod-create -manifest "+write(t, dir, "none.yaml", "metadata: {}\n"), result{1, "", "ERROR: "})
	check("pod-create -manifest "+write(t, dir, "flow.yaml", "{apiVersion: v1, kind: Service, metadata: {name: x}}\n"),
		result{1, "", "Service"})
	check("pod-create -manifest-url http://127.0.0.1:1/web.yaml", result{1, "", "manifest_url"})
	check("pod-create -bay none -manifest "+two, result{1, "", "Bay none could not be found. (HTTP 400)\n\"magnum bay-list\" lists them."})
	check("pod-actions -format {{.action}}={{.result}} web", result{0, "update=success\ncreate=success\n", ""})
	check("pod-show none", result{1, "", `Pod none could not be found. (HTTP 404) "magnum pod-list" lists them.`})
	check("pod-delete web db none", result{1, "", "Delete for pod none failed: Pod none could not be found."})
	check("pod-list -q", result{0, "", ""})
}

// TestPodThatIsNotReadyOnAServer shows a pod whose containers are as hosts report them.
func TestPodThatIsNotReadyOnAServer(t *testing.T) {
	one := 1
	s := podServer(t, servertest.Parts(func(structs.Assignment, *structs.Observed) []structs.PartReport {
		seen := structs.Observed{Status: structs.ContainerRunning, Generation: 1}
		return []structs.PartReport{
			{Part: "app", Observed: seen, State: structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonCrashLoop,
				Message: "started again in 40 s"},
				Last: structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonError, ExitCode: &one}},
			{Part: "side", Observed: seen, Started: true, State: structs.PartState{State: structs.PartRunning,
				Message: "readiness probe failed: HTTP status 503"}},
		}
	}))
	file := write(t, t.TempDir(), "web.yaml", manifestOf("web", "nginx")+"  - {name: side, image: proxy}\n")
	if r := s.run("pod-create", "-manifest", file); r.code != 0 {
		t.Fatalf("%+v", r) // it runs, as Kubernetes means it
	}
	r := s.run("pod-show", "web")
	for _, want := range []string{
		"| why_not_ready   | app: waiting: CrashLoopBackOff: started again in 40 s",
		"|   before: terminated: Error, exit code 1",
		"| side: running, not ready: readiness probe failed: HTTP status 503",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	if r := s.run("pod-list", "-wide"); !strings.Contains(r.stdout, "| 0/2   | 0        | CrashLoopBackOff |") {
		t.Errorf("-wide:\n%s", r.stdout)
	}
}

func TestPodThatCannotRunOnItsHost(t *testing.T) {
	s := podServer(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		if a.Desired == structs.DesiredAbsent {
			return servertest.Obey(a)
		}
		return &structs.Observed{Generation: a.Generation, Status: structs.ContainerError, Failed: true, Reason: "no network left"}
	}), servertest.Parts(func(structs.Assignment, *structs.Observed) []structs.PartReport { return nil }))
	r := s.run("pod-create", "-manifest", write(t, t.TempDir(), "web.yaml", manifestOf("web", "nginx")))
	if r.code != 1 || !strings.Contains(r.stderr, "ERROR: pod web is not running: no network left. Look at it") {
		t.Errorf("%+v", r)
	}
}

func TestPodSessionsWithAServer(t *testing.T) {
	s := podServer(t, servertest.Serve(func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		send := func(channel byte, text string) {
			_ = conn.Write(ctx, websocket.MessageBinary, append([]byte{channel}, text...)) // the user sees what is missing
		}
		switch {
		case offer.Logs != nil:
			send(structs.ChannelStdout, fmt.Sprintf("%s previous %t\n", offer.Part, offer.Logs.Previous))
			send(structs.ChannelControl, `{"done":true}`)
		case offer.Kind == structs.SessionAttach:
			send(structs.ChannelStdout, fmt.Sprintf("%s tty %t stdin %t", offer.Part, offer.Exec.TTY, offer.Exec.Stdin))
			send(structs.ChannelControl, `{"exit_code":6}`)
		case offer.Kind == structs.SessionTop:
			send(structs.ChannelStdout, fmt.Sprintf(`{"titles":["PID","%s"],"processes":[["1",%q]]}`, offer.Part, offer.Args))
			send(structs.ChannelControl, `{"done":true}`)
		case offer.Kind == structs.SessionStats:
			send(structs.ChannelStdout, fmt.Sprintf(`{"pids":%d}`, len(offer.Part)))
			send(structs.ChannelControl, `{"done":true}`)
		case offer.Kind == structs.SessionArchiveGet:
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			text := offer.Part + " " + offer.Path
			_ = tw.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: int64(len(text))}) // to memory
			_, _ = io.WriteString(tw, text)
			_ = tw.Close()
			send(structs.ChannelStdout, b.String())
			send(structs.ChannelControl, `{"done":true}`)
		case offer.Kind == structs.SessionArchivePut:
			n := 0
			for {
				_, m, err := conn.Read(ctx)
				if err != nil || m[0] == structs.ChannelControl {
					break
				}
				n += len(m) - 1
			}
			send(structs.ChannelControl, fmt.Sprintf(`{"error":"%s %s got %d bytes","code":"conflict"}`, offer.Part, offer.Path, n))
		case offer.Exec != nil:
			send(structs.ChannelStdout, offer.Part+" "+strings.Join(offer.Exec.Command, " "))
			send(structs.ChannelControl, `{"exit_code":4}`)
		}
	}))
	file := write(t, t.TempDir(), "web.yaml", manifestOf("web", "nginx")+"  - {name: side, image: proxy, stdin: true}\n")
	if r := s.run("pod-create", "-manifest", file); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	s.stdin = strings.NewReader("")
	for line, want := range map[string]result{
		"pod-logs web":                      {0, "app previous false\n", ""},
		"pod-logs -c side web":              {0, "side previous false\n", ""},
		"pod-logs -all web":                 {0, "[app] app previous false\n[side] side previous false\n", ""},
		"pod-execute web ls -l":             {4, "app ls -l", ""},
		"pod-execute -container side web x": {4, "side x", ""},
		"pod-attach web":                    {6, "app tty false stdin false", ""},
		"pod-attach -it -c side web":        {6, "side tty false stdin true", ""},
		"pod-attach -no-stdin -c side web":  {6, "side tty false stdin false", ""},
		"pod-top -json web aux":             {0, `{"titles":["PID","app"],"processes":[["1","aux"]]}` + "\n", ""},
		"pod-top -c side -json web":         {0, `{"titles":["PID","side"],"processes":[["1","-ef"]]}` + "\n", ""},
		"pod-cp web:/etc/a -":               {0, "app /etc/a", ""},
		"pod-cp -c side web:a -":            {0, "side /a", ""},
		"pod-cp -c side - web:/d":           {1, "", "ERROR: side /d got 0 bytes (HTTP 409)\n"},
		"pod-cp web:a web:b":                {2, "", "copy to a local path first"},
		"pod-cp a b":                        {2, "", "write POD:PATH"},
		"pod-cp -c none web:a -":            {1, "", "has no such container, but app, side"},
		"pod-stats -no-stream web":          {0, "| 3    |\n| web/side |", ""},
		"pod-stats -no-stream -c side":      {0, "| web/side |", ""},
		"pod-stats -no-stream -c none web":  {1, "", "has no such container, but app, side"},
		"pod-stats -no-stream -c none":      {1, "", "no such container runs"},
		"pod-attach -c none web":            {1, "", "has no such container, but app, side"},
		"pod-logs -previous web": {1, "", "ERROR: Container app of pod web has not been restarted, so there are no previous logs " +
			"(HTTP 409)\n"},
		"pod-logs -c none web": {1, "", "ERROR: container \"none\": pod web has no such container, but app, side (HTTP 400)\n"},
	} {
		r := s.run(strings.Fields(line)...)
		exact := !strings.HasPrefix(line, "pod-cp") && !strings.HasPrefix(line, "pod-stats") && !strings.Contains(line, "none")
		if exact && r != want || r.code != want.code || !strings.Contains(r.stdout, want.stdout) ||
			!strings.Contains(r.stderr, want.stderr) {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
	r := s.run("pod-stats", "-no-stream", "-json", "web")
	var lines []statsLine
	for line := range strings.Lines(r.stdout) {
		var l statsLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Error(err)
		}
		lines = append(lines, l)
	}
	if len(lines) != 2 || lines[0].Container != "app" || lines[1].Container != "side" || lines[1].PIDs != 4 || lines[1].Name != "web" {
		t.Errorf("-json: %+v", r)
	}
}
