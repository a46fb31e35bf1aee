package command

import (
	"net/http"
	"strings"
	"testing"
)

func TestContainerChangeRequests(t *testing.T) {
	f := newFakeAPI(t)
	for _, request := range []string{"PUT /v1/containers/c1/kill", "PUT /v1/containers/c1/rebuild"} {
		f.answer(request, 200, "null")
	}
	f.answer("PUT /v1/containers/c1/rename", 200, containerJSON("Running"))
	f.answer("PATCH /v1/containers/c1", 200, containerJSON("Running"))
	s := newShell(t, f)
	for line, want := range map[string]string{
		"container-kill c1":                "PUT /v1/containers/c1/kill?wait=10m0s",
		"container-kill -s HUP -detach c1": "PUT /v1/containers/c1/kill?signal=HUP&wait=0s",
		"container-rename c1 c2":           "PUT /v1/containers/c1/rename?name=c2",
		"container-rebuild c1 -detach":     "PUT /v1/containers/c1/rebuild?wait=0s",
		"container-rebuild -image x:1 c1":  "PUT /v1/containers/c1/rebuild?image=x%3A1&wait=10m0s",
		"container-update -m 1g -cpus 2 c1": `PATCH /v1/containers/c1?wait=10m0s [{"op":"replace","path":"/memory",` +
			`"value":1073741824},{"op":"replace","path":"/cpu","value":2}]`,
		"container-update c1 -name n -m 0 -cpu 0": `PATCH /v1/containers/c1?wait=10m0s [{"op":"replace","path":"/name","value":"n"},` +
			`{"op":"remove","path":"/memory"},{"op":"remove","path":"/cpu"}]`,
	} {
		r := s.run(strings.Fields(line)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != want {
			t.Errorf("%s: %+v, asked %s, want %s", line, r, asked[len(asked)-1], want)
		}
	}
	if r := s.run("container-rename", "c1", "c2", "-json"); r.stdout != containerJSON("Running")+"\n" {
		t.Errorf("-json: %+v", r)
	}
	if r := s.run("container-rename", "c1", "c2"); !strings.Contains(r.stdout, "| Property") || !strings.Contains(r.stdout, "| name") {
		t.Errorf("%+v", r)
	}
	before := len(f.requests())
	for line, want := range map[string]string{
		"container-kill":              "CONTAINER is missing",
		"container-rename c1":         "NAME is missing",
		"container-rebuild -image= c": "-image is empty",
		"container-update c1":         "nothing to change",
		"container-update -m x c1":    "is not a size",
		"container-update -cpus -1 c": "is not a number of cores",
		"container-update -name= c1":  "is empty",
		"container-wait":              "CONTAINER is missing",
		"container-wait -timeout x c": "is not a duration",
		"container-top":               "CONTAINER is missing",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
	if asked := f.requests(); len(asked) != before {
		t.Errorf("the server was asked %q", asked[before:])
	}
	f.answer("PUT /v1/containers/c1/kill", 409, `{"errors":[{"code":"container.conflict","detail":"it is Stopped"}]}`)
	if r := s.run("container-kill", "c1"); r.code != 1 || r.stderr != "Kill for container c1 failed: it is Stopped (HTTP 409)\n" {
		t.Errorf("%+v", r)
	}
}

func TestContainerWait(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/a", 200, containerJSON("Stopped"), containerJSON("Running", started),
		containerJSON("Stopped", started, `,"exit_code":3`))
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started), containerJSON("Stopped", started, `,"exit_code":3`))
	f.answer("GET /v1/containers/b", 200, containerJSON("Stopped", started, code0))
	s := newShell(t, f)
	if r := s.run("container-wait", "a", "b"); r.code != 0 || r.stdout != "3\n0\n" {
		t.Errorf("%+v", r)
	}
	ended := containerJSON("Stopped", started, `,"exit_code":3`)
	for line, want := range map[string]string{
		"container-wait -format {{.name}}:{{.exit_code}} a b": "c1:3\nc1:0\n",
		"container-wait -json a":                              "[" + ended + "]\n",
		"container-wait -format table a": "+------+------+---------+-----------+\n" +
			"| uuid | name | status  | exit_code |\n" +
			"+------+------+---------+-----------+\n" +
			"| u1   | c1   | Stopped | 3         |\n" +
			"+------+------+---------+-----------+\n",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 0 || r.stdout != want {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := s.run("container-wait", "-json", "none"); r.code != 1 || r.stdout != "[]\n" ||
		!strings.Contains(r.stderr, "Container none could not be found") {
		t.Errorf("-json of none that has ended: %+v", r)
	}
	if r := s.run("container-wait", "-format", "name", "a"); r.code != 2 || !strings.Contains(r.stderr, "no template") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/containers/a", 200, containerJSON("Error", `,"status_reason":"no such image"`))
	if r := s.run("container-wait", "a", "b", "none"); r.code != 1 || r.stdout != "0\n" ||
		!strings.Contains(r.stderr, "Wait for container a failed: it has ended without an exit code: Error: no such image") ||
		!strings.Contains(r.stderr, "Container none could not be found") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/containers/slow", 200, `{"uuid":"slow","name":"slow","status":"Running","links":[]}`)
	s.givesUp("it is still Running after WAIT", "container-wait", "-timeout", "WAIT", "slow")
	f.answer("GET /v1/containers/goes", 200, `{"uuid":"gone","name":"goes","status":"Running","links":[]}`)
	if r := s.run("container-wait", "goes"); r.code != 1 || !strings.Contains(r.stderr, "was deleted before") {
		t.Errorf("%+v", r)
	}
}

func TestContainerTop(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/c1/top", 200, `{"titles":["PID","CMD"],"processes":[["1","sh -c x"],["2"]]}`)
	s := newShell(t, f)
	want := "+-----+---------+\n| PID | CMD     |\n+-----+---------+\n| 1   | sh -c x |\n| 2   |         |\n+-----+---------+\n"
	if r := s.run("container-top", "c1", "-o", "pid,cmd"); r.code != 0 || r.stdout != want ||
		f.requests()[0] != "GET /v1/containers/c1/top?ps_args=-o+pid%2Ccmd" {
		t.Errorf("%+v, asked %q", r, f.requests())
	}
	if r := s.run("container-top", "-json", "c1"); r.stdout != `{"titles":["PID","CMD"],"processes":[["1","sh -c x"],["2"]]}`+"\n" {
		t.Errorf("-json: %+v", r)
	}
}

const statsJSON = `{"read_at":"2015-04-20T19:06:08+00:00","cpu_percent":12.345,"memory_used":1048576,"memory_limit":4194304,` +
	`"network_in":1023,"network_out":0,"block_in":2048,"block_out":0,"pids":3}`

func TestContainerStats(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers", 200, `{"containers":[`+containerJSON("Running")+`]}`)
	f.answer("GET /v1/containers/c1", 200, containerJSON("Running"))
	f.answer("GET /v1/containers/u1/stats", 200, statsJSON)
	s := newShell(t, f)
	for _, line := range []string{"container-stats -no-stream", "container-stats -no-stream c1"} {
		if r := s.run(strings.Fields(line)...); r.code != 0 || !strings.Contains(r.stdout,
			"| c1   | 12.35% | 1.0m   | 4.0m  | 25.00%   | 1023       | 0           | 2.0k    | 0        | 3    |") {
			t.Errorf("%s: %+v", line, r)
		}
	}
	want := `{"uuid":"u1","name":"c1",` + statsJSON[1:] + "\n"
	if r := s.run("container-stats", "-no-stream", "-json", "c1"); r.stdout != want {
		t.Errorf("-json prints %s want %s", r.stdout, want)
	}
	f.handle("GET /v1/containers/u1/stats", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("stream") != "true" {
			t.Errorf("asked %s", r.RequestURI)
		}
		w.Write([]byte(statsJSON + "\n" + statsJSON + "\n"))
	})
	if r := s.run("container-stats", "-json", "c1"); r.code != 0 || r.stdout != want+want {
		t.Errorf("-json prints %+v", r)
	}
	f.answer("GET /v1/containers/u1/stats", 409, `{"errors":[{"code":"container.conflict","detail":"it is Stopped"}]}`)
	for _, flag := range []string{"-no-stream", "-json"} {
		if r := s.run("container-stats", flag, "c1"); r.code != 1 || !strings.Contains(r.stderr, "container c1: it is Stopped") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
	f.answer("GET /v1/containers", 200, `{"containers":[]}`)
	if r := s.run("container-stats"); r.code != 1 || !strings.Contains(r.stderr, "no container runs") {
		t.Errorf("%+v", r)
	}
}
