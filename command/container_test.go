package command

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

func containerJSON(status string, more ...string) string {
	return `{"uuid":"u1","name":"c1","status":"` + status + `","links":[]` + strings.Join(more, "") + `}`
}

const (
	started = `,"started_at":"2015-04-20T19:06:08+00:00"`
	code0   = `,"exit_code":0`
)

func TestContainerFlagsMakeTheRequest(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, containerJSON("Creating"))
	s := newShell(t, f)
	s.env["MINE"] = "own"
	for _, tt := range []struct{ line, want string }{
		{"busybox", `{"image":"busybox"}`},
		{"busybox sleep 100", `{"command":["sleep","100"],"image":"busybox"}`},
		{"busybox sleep 100 -name x", `{"command":["sleep","100"],"image":"busybox","name":"x"}`},
		{"-name x busybox -- sh -c ls", `{"command":["sh","-c","ls"],"image":"busybox","name":"x"}`},
		{"-image-id i -command a_b", `{"command":"a_b","image_id":"i"}`},
		{"-e A=1 -e MINE -e NONE -env B= --environment C=x=y i", `{"environment":{"A":"1","B":"","C":"x=y","MINE":"own"},"image":"i"}`},
		{"-p 80 -p 8080:81/udp -publish 1:1 i",
			`{"image":"i","ports":[{"container_port":80,"host_port":0,"protocol":"tcp"},{"container_port":81,"host_port":8080,` +
				`"protocol":"udp"},{"container_port":1,"host_port":1,"protocol":"tcp"}]}`},
		{"-v d:/d -volume e:/e:ro -tmpfs /t:size=1m i",
			`{"image":"i","volumes":[{"name":"d","target":"/d","type":"volume"},{"name":"e","target":"/e","type":"volume",` +
				`"read_only":true},{"target":"/t","type":"tmpfs","size":1048576}]}`},
		{"-m 512m -cpus 0.5 -log-max-size 1m i", `{"cpu":0.5,"image":"i","log_max_size":1048576,"memory":536870912}`},
		{"-w /w -u 1000:1000 -h host i", `{"hostname":"host","image":"i","user":"1000:1000","workdir":"/w"}`},
		{"-l a=b -label c=d -labels e i", `{"image":"i","labels":{"a":"b","c":"d","e":""}}`},
		{"-restart on-failure:3 -stop-timeout 5 i", `{"image":"i","restart_policy":"on-failure:3","stop_timeout":5}`},
		{"-it i", `{"image":"i","stdin":true,"tty":true}`},
		{"--exclusive i", `{"exclusive":true,"image":"i"}`},
		{"--exclusive=lease i", `{"exclusive":"lease","image":"i"}`},
		{"-i -t --rm i", `{"auto_remove":true,"image":"i","stdin":true,"tty":true}`},
		{"-tty=false i", `{"image":"i","tty":false}`},
		{"-pull never -constraint zone=a -entrypoint sh -bay web -uuid U i",
			`{"bay":"web","constraints":{"zone":"a"},"entrypoint":"sh","image":"i","image_pull_policy":"never","uuid":"U"}`},
		{"-bay-uuid B -restart-policy always -image-pull-policy always -auto-remove i",
			`{"auto_remove":true,"bay_uuid":"B","image":"i","image_pull_policy":"always","restart_policy":"always"}`},
	} {
		r := s.run(append([]string{"container-create", "-detach"}, strings.Fields(tt.line)...)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != "POST /v1/containers "+tt.want {
			t.Errorf("%s: code %d %s, asked\n%s\nwant\nPOST /v1/containers %s", tt.line, r.code, r.stderr, asked[len(asked)-1], tt.want)
		}
	}
}

func TestContainerFlagErrors(t *testing.T) {
	f := newFakeAPI(t)
	s := newShell(t, f)
	for line, want := range map[string]string{
		"-p x i":                "flag -p: \"x\" has the port",
		"-v /etc:/etc i":        "names a path of the host",
		"-e =1 i":               "has no name",
		"-m much i":             "is not a size",
		"-cpus 0 i":             "is not a number of cores",
		"-cpus NaN i":           "is not a number of cores",
		"-tmpfs x i":            "does not begin with /",
		"-l =x i":               "has no key",
		"-command a i b":        "both give the command",
		"-stop-timeout -1 i":    "is below 0",
		"-json /no/such/file":   "no such file",
		"-format x i":           "neither table nor json",
		"i -frobnicate":         "there is no flag -frobnicate",
		"i sh -c ls":            "after \"--\"",
		"-json":                 "needs a value",
		"-restart-polcy always": "did you mean -restart-policy?",
	} {
		r := s.run(append([]string{"container-create"}, strings.Fields(line)...)...)
		if r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: code %d, %q, want %q", line, r.code, r.stderr, want)
		}
	}
	if asked := f.requests(); len(asked) != 0 {
		t.Errorf("the server was asked %q", asked)
	}
}

func TestContainerCreateFromJSON(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, containerJSON("Creating"))
	s := newShell(t, f)
	const body = `{"name":"c1","image_id":"busybox","command":"sleep 100","bay_uuid":"b1","environment":{"A":"1","B":"2"},` +
		`"memory":12345678901}`
	file := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	sorted := `{"bay_uuid":"b1","command":"sleep 100","environment":{"A":"1","B":"2"},"image_id":"busybox","memory":12345678901,` +
		`"name":"c1"}`
	for _, tt := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"--json", file}, "", sorted},
		{[]string{"--json", "-"}, body, sorted},
		{nil, body, sorted},
		{[]string{"-debug"}, body, sorted},
		{[]string{"--json", file, "-e", "B=3", "-e", "C=4", "-name", "c2", "alpine"}, "",
			`{"bay_uuid":"b1","command":"sleep 100","environment":{"A":"1","B":"3","C":"4"},"image":"alpine","memory":12345678901,` +
				`"name":"c2"}`},
		{[]string{"--json", file, "-bay", "b2"}, "", strings.Replace(sorted, `"bay_uuid":"b1"`, `"bay":"b2"`, 1)},
		{nil, `{"unknown":[1]}`, `{"unknown":[1]}`},
	} {
		s.stdin = strings.NewReader(tt.stdin)
		r := s.run(append([]string{"container-create", "-detach"}, tt.args...)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != "POST /v1/containers "+tt.want {
			t.Errorf("%q: code %d %s, asked\n%s\nwant\nPOST /v1/containers %s", tt.args, r.code, r.stderr, asked[len(asked)-1], tt.want)
		}
	}
	before := len(f.requests())
	for stdin, want := range map[string]string{"": "is empty", "[]": "not a JSON object", "null": "not a JSON object",
		"{} {}": "more than one", "{": "not a JSON object"} {
		s.stdin = strings.NewReader(stdin)
		if r := s.run("container-create"); r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("standard input %q: %+v, want %q", stdin, r, want)
		}
	}
	if len(f.requests()) != before {
		t.Error("an invalid body was sent")
	}
}

func TestContainerCreateWaits(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, containerJSON("Creating"))
	f.answer("GET /v1/containers/u1", 200, containerJSON("Creating", `,"status_reason":"pulling busybox: 30 %"`), containerJSON("Stopped"))
	s := newShell(t, f)
	r := s.run("container-create", "busybox")
	if r.code != 0 || !strings.Contains(r.stdout, "| status   | Stopped |") || r.stderr != "c1: Creating: pulling busybox: 30 %\n" {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Stopped"), containerJSON("Running", started))
	r = s.run("container-create", "-run", "busybox", "-format", "{{.status}}")
	if r.code != 0 || r.stdout != "Running\n" || f.requests()[len(f.requests())-3] != `POST /v1/containers?run=true {"image":"busybox"}` {
		t.Errorf("-run: %+v, asked %q", r, f.requests())
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Error", `,"status_reason":"no such image: busybox"`))
	if r = s.run("container-create", "busybox"); r.code != 1 ||
		!strings.Contains(r.stderr, "ERROR: container c1: Error: no such image: busybox.") {
		t.Errorf("Error: %+v", r)
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Creating", `,"status_reason":"no host fits"`))
	s.givesUp("still Creating after WAIT: no host fits", "container-create", "busybox", "-timeout", "WAIT")
}

func TestContainerActions(t *testing.T) {
	f := newFakeAPI(t)
	s := newShell(t, f)
	for _, action := range []string{"start", "stop", "reboot", "pause", "unpause"} {
		f.answer("PUT /v1/containers/a/"+action, 200, "null")
		f.answer("PUT /v1/containers/b/"+action, 409, `{"errors":[{"code":"container.conflict","detail":"Container b is Paused."}]}`)
		r := s.run("container-"+action, "b", "a", "c")
		verb := strings.ToUpper(action[:1]) + action[1:]
		want := verb + " for container b failed: Container b is Paused. (HTTP 409)\n" + verb + " for container c failed: Container " +
			action + " could not be found. (HTTP 404)\n\"magnum container-list\" lists them.\n"
		if r.code != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("%s: code %d, %q\nwant %q", action, r.code, r.stderr, want)
		}
		if r := s.run("container-"+action, "a"); r != (result{}) {
			t.Errorf("%s a: %+v, want silence", action, r)
		}
	}
	s.run("container-stop", "-t", "3", "-detach", "a")
	s.run("container-stop", "a")
	asked := f.requests()
	if got := asked[len(asked)-2:]; got[0] != "PUT /v1/containers/a/stop?timeout=3&wait=0s" ||
		got[1] != "PUT /v1/containers/a/stop?wait=10m0s" {
		t.Errorf("asked %q", got)
	}
	f.answer("PUT /v1/containers/a/stop", 202, containerJSON("Running", `,"status_reason":"stopping"`))
	if r := s.run("container-stop", "-wait", "1s", "a"); r.code != 1 ||
		r.stderr != "Stop for container a failed: it is still Running after 1s: stopping. It goes on without you\n" {
		t.Errorf("202: %+v", r)
	}
}

func TestContainerDelete(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("DELETE /v1/containers/a", 204, "")
	f.answer("DELETE /v1/containers/b", 202, containerJSON("Deleting"))
	s := newShell(t, f)
	if r := s.run("container-delete", "-force", "-stop", "a"); r != (result{}) ||
		f.requests()[0] != "DELETE /v1/containers/a?force=true&stop=true&wait=10m0s" {
		t.Errorf("%+v, asked %q", r, f.requests())
	}
	if r := s.run("container-delete", "b", "-wait", "2s"); r.code != 1 ||
		r.stderr != "Delete for container b failed: it is still Deleting after 2s. It goes on without you\n" {
		t.Errorf("202: %+v", r)
	}
	if r := s.run("container-delete", "-detach", "b"); r != (result{}) {
		t.Errorf("-detach: %+v", r)
	}
}

func TestSlowActionsShowProgress(t *testing.T) {
	f := newFakeAPI(t)
	shown, begun := make(chan struct{}), 0
	f.handle("PUT /v1/containers/a/start", func(w http.ResponseWriter, _ *http.Request) { <-shown; io.WriteString(w, "null") })
	f.handle("GET /v1/containers/a", func(w http.ResponseWriter, r *http.Request) {
		if begun++; begun == 2 {
			close(shown)
		}
		if begun >= 2 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Magnum-Index", "5")
		io.WriteString(w, containerJSON("Creating", `,"status_reason":"pulling"`))
	})
	r := newShell(t, f).run("container-start", "a")
	if r.code != 0 || r.stderr != "start a ...\nstart a: Creating: pulling\n" {
		t.Errorf("%+v", r)
	}
}

func TestContainerLogs(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/c1/logs", 200, "line\n")
	s := newShell(t, f)
	for line, want := range map[string]string{
		"c1":                                    "stderr=true&stdout=true",
		"c1 -f --tail 10 -since 5m -timestamps": "follow=true&since=5m&stderr=true&stdout=true&tail=10&timestamps=true",
		"-stderr c1 -n all":                     "stderr=true&stdout=false",
		"-stdout -t c1":                         "stderr=false&stdout=true&timestamps=true",
	} {
		r := s.run(append([]string{"container-logs"}, strings.Fields(line)...)...)
		asked := f.requests()
		if r.code != 0 || r.stdout != "line\n" || asked[len(asked)-1] != "GET /v1/containers/c1/logs?"+want {
			t.Errorf("%s: %+v, asked %q", line, r, asked[len(asked)-1])
		}
	}
	if r := s.run("container-logs", "c9"); r.code != 1 ||
		!strings.HasPrefix(r.stderr, "ERROR: Container logs could not be found. (HTTP 404)") {
		t.Errorf("%+v", r)
	}
	f.handle("GET /v1/containers/c2/logs", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if r := s.run("container-logs", "-f", "c2"); r.code != 1 || r.stdout != "part" || !strings.Contains(r.stderr, "the logs broke off") {
		t.Errorf("broken: %+v", r)
	}
}

// session returns a handler that opens a session, which sends what play sends.
func session(t testing.TB, play func(send func(channel byte, payload []byte))) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting the session: %v", err)
			return
		}
		defer conn.CloseNow()
		play(func(channel byte, payload []byte) {
			if err := conn.Write(r.Context(), websocket.MessageBinary, append([]byte{channel}, payload...)); err != nil {
				t.Errorf("sending: %v", err)
			}
		})
		conn.Close(websocket.StatusNormalClosure, "")
	}
}

func TestContainerExecute(t *testing.T) {
	f := newFakeAPI(t)
	s := newShell(t, f)
	// More bytes than the limit of a JSON response, and not valid UTF-8.
	piece := bytes.Repeat([]byte{0xff, 0xfe, 0x00, 'A'}, 8<<10)
	const pieces = 17 << 20 / (32 << 10)
	f.handle("GET /v1/containers/c1/execute/ws", session(t, func(send func(channel byte, payload []byte)) {
		for range pieces {
			send(structs.ChannelStdout, piece)
		}
		send(structs.ChannelStderr, []byte("err"))
		send(structs.ChannelStdout, nil) // keepalive of the agent
		send(structs.ChannelControl, []byte(`{"exit_code":3}`))
	}))
	r := s.run("container-execute", "c1", "--command", "ls -l '/a b'", "-u", "root", "-w", "/x", "-e", "A=1")
	if r.code != 3 || r.stdout != strings.Repeat(string(piece), pieces) || r.stderr != "err" {
		t.Errorf("code %d, %d bytes, %q", r.code, len(r.stdout), r.stderr)
	}
	r = s.run("container-execute", "c1", "--", "ls", "-l")
	if r.code != 3 {
		t.Errorf("%+v", r)
	}
	asked := f.requests()
	if asked[0] != "GET /v1/containers/c1/execute/ws?command=%5B%22ls%22%2C%22-l%22%2C%22%2Fa+b%22%5D&env=A%3D1&stdin=false&tty=false&"+
		"user=root&workdir=%2Fx" ||
		asked[1] != "GET /v1/containers/c1/execute/ws?command=%5B%22ls%22%2C%22-l%22%5D&stdin=false&tty=false" {
		t.Errorf("asked %q", asked)
	}
	f.answer("PUT /v1/containers/c0/execute", 200, `{"output":"2015"}`)
	if r := s.run("container-execute", "c0", "ls"); r != (result{0, "2015", ""}) {
		t.Errorf("a response of a 2015 server: %+v", r)
	}
	for line, want := range map[string]string{"c1 -command a b": "both give", "c1 -command 'a": "unclosed quote",
		"-it c1 sh": "not a terminal"} {
		if r := s.run(append([]string{"container-execute"}, strings.Fields(line)...)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
	if r := s.run("container-execute", "c9", "ls"); r.code != 1 {
		t.Errorf("%+v", r)
	}
}

func TestStatus(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /", 200, `{"name":"x","version":"1.2","versions":[]}`)
	f.answer("GET /v1/operator/state", 200, `{"index":42,"hash":"ab","leader":"s1"}`)
	f.answer("GET /v1/hosts", 200, `{"hosts":[{"uuid":"1","state":"ready"},{"uuid":"2","state":"lost"}]}`)
	f.answer("GET /v1/bays", 200, `{"bays":[{"uuid":"1","status":"CREATE_COMPLETE"}]}`)
	f.answer("GET /v1/containers", 200,
		fmt.Sprintf(`{"containers":[%s,%s,%s]}`, containerJSON("Running"), containerJSON("Running"), containerJSON("Error")))
	f.answer("GET /v1/pods", 200, `{"pods":[`+podJSON("web", "Running", true)+`]}`)
	s := newShell(t, f)
	r := s.run("status")
	for _, want := range []string{"| leader               | s1", "| index                | 42", "| hosts                | 1/2 ready",
		`{"Error":1,"Running":2}`, `{"Running":1}`, "| version              | 1.2"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s%s", want, r.stdout, r.stderr)
		}
	}
	f.answer("GET /v1/status/leader", 200, `{"leader":{"name":"rack-7","address":"192.0.2.1:9511"}}`)
	if r := s.run("status", "-format", "{{.leader}}"); r.stdout != "rack-7 (192.0.2.1:9511)\n" {
		t.Errorf("leader: %+v", r)
	}
	f.answer("GET /v1/status/leader", 503, `{"errors":[{"status":503,"code":"no_leader","detail":"there is no leader"}]}`)
	if r := s.run("status", "-format", "{{.leader}}"); r.code != 0 || r.stdout != "<no value>\n" {
		t.Errorf("no leader: %+v", r)
	}
	f.answer("GET /v1/pods", 404, `{}`)
	if r := s.run("status", "-format", "{{.containers}} {{.pods}}"); r.code != 0 || r.stdout != "3 <no value>\n" {
		t.Errorf("of a server without pods: %+v", r)
	}
	f.answer("GET /", 404, "{}")
	f.answer("GET /v1/operator/state", 403, "{}")
	f.answer("GET /v1/hosts", 403, "{}")
	if r := s.run("status", "-format", "{{.containers}} {{.hosts}} {{.leader}}"); r.code != 0 || r.stdout != "3 <no value> <no value>\n" {
		t.Errorf("as a member: %+v", r)
	}
	f.answer("GET /v1/containers", 401, "{}")
	if r := s.run("status"); r.code != 1 {
		t.Errorf("401: %+v", r)
	}
}
