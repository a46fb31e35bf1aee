package rest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// speaksZun is the header of a client of Zun.
var speaksZun = header{"OpenStack-API-Version", "container 1.40"}

// zun makes a request as a client of Zun. The OpenAPI document doesn't describe the
// responses of the dialect, but its errors are the same.
func (c *caller) zun(method, path, body string) *reply {
	c.t.Helper()
	r := c.raw(method, path, body, speaksZun)
	if got := r.header.Get("OpenStack-API-Version"); got != "container 1.40" {
		c.t.Errorf("%s: version %q", r.what, got)
	}
	if r.status >= 400 {
		r.checkError()
	}
	return r
}

// zunWalk is walk for the dialect.
var zunWalk = map[string][7]int{
	"GET /v1/containers":                                {401, 401, 403, 200, 200, 200, 200},
	"POST /v1/containers":                               {401, 401, 403, 403, 202, 202, 400},
	"GET /v1/containers/:id":                            {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/containers/:id":                          {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/containers/:id":                         {401, 401, 403, 403, 204, 204, 404},
	"POST /v1/containers/:id/start":                     {401, 401, 403, 403, 202, 202, 404},
	"POST /v1/containers/:id/stop":                      {401, 401, 403, 403, 202, 202, 404},
	"POST /v1/containers/:id/reboot":                    {401, 401, 403, 403, 202, 202, 404},
	"POST /v1/containers/:id/pause":                     {401, 401, 403, 403, 202, 202, 404},
	"POST /v1/containers/:id/unpause":                   {401, 401, 403, 403, 409, 409, 404},
	"POST /v1/containers/:id/kill":                      {401, 401, 403, 403, 202, 202, 404},
	"POST /v1/containers/:id/rename":                    {401, 401, 403, 403, 200, 200, 404},
	"POST /v1/containers/:id/rebuild":                   {401, 401, 403, 403, 202, 202, 404},
	"GET /v1/containers/:id/logs":                       {401, 401, 403, 200, 200, 200, 404},
	"POST /v1/containers/:id/execute":                   {401, 401, 403, 403, 200, 200, 404},
	"POST /v1/containers/:id/execute_resize":            {401, 401, 403, 403, 404, 404, 404}, // no such terminal
	"GET /v1/containers/:id/attach":                     {401, 401, 403, 403, 200, 200, 404},
	"POST /v1/containers/:id/resize":                    {401, 401, 403, 403, 404, 404, 404},
	"GET /v1/containers/:id/stats":                      {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/top":                        {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/container_actions":          {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/container_actions/:request": {401, 401, 403, 404, 404, 404, 404},
	"GET /v1/containers/:id/get_archive":                {401, 401, 403, 403, 200, 200, 404},
	"POST /v1/containers/:id/put_archive":               {401, 401, 403, 403, 202, 202, 404},

	"GET /v1/quotas/:id":            {401, 401, 403, 200, 200, 200, 404},
	"PUT /v1/quotas/:id":            {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/quotas/:id/defaults":   {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/quota_classes/default": {401, 401, 403, 200, 200, 200, 200},
	"PUT /v1/quota_classes/default": {401, 401, 403, 403, 403, 200, 403},
}

func TestEveryZunRouteByRole(t *testing.T) {
	t.Run("static", func(t *testing.T) {
		walkZunRoutes(t, servertest.New(t, servertest.WithAuth(tokens)), func(name string) string { return name })
	})
	t.Run("tokens", func(t *testing.T) {
		s := servertest.New(t, servertest.WithTokens())
		walkZunRoutes(t, s, newLocal(t, s).token)
	})
}

func walkZunRoutes(t *testing.T, s *servertest.Server, of func(name string) string) {
	s.StartAgent(t, "host-1", servertest.Serve(serveText))
	owner := newCaller(t, s).as(of("alice"))
	owner.do("POST", "/v1/bays?wait=1m", `{"name":"home"}`).is(201)
	for _, rt := range s.REST.ZunRoutes() {
		key := rt.Method + " " + rt.Path
		want, ok := zunWalk[key]
		if !ok {
			t.Errorf("%s has no expectation", key)
		}
		for i, token := range walkers {
			path, body := rt.Path, ""
			if path = strings.Replace(path, "quotas/:id", "quotas/p1", 1); strings.Contains(path, ":id") {
				id := owner.do("POST", "/v1/containers?run=true&wait=1m", `{"image":"busybox"}`).is(201).uuid()
				path = strings.Replace(path, ":id", id, 1)
			}
			for end, query := range map[string]string{"/execute": "?command=ls", "/rename": "?name=new", "_archive": "?path=/",
				"execute_resize": "?w=1&h=1&exec_id=x", "/resize": "?w=1&h=1"} {
				if strings.HasSuffix(path, end) {
					path += query
				}
			}
			switch {
			case rt.Method == "DELETE":
				path += "?force=True&stop=False&all_projects=False"
			case rt.Method == "PATCH":
				body = `{"name":"new"}`
			case rt.Method == "PUT":
				body = `{"containers":"1000"}`
			case rt.Path == "/v1/containers" && rt.Method == "POST":
				body = `{"image":"busybox"}`
			case strings.Contains(path, "put_archive"):
				body = `{"data":"eA=="}`
			}
			try := func() *reply { return newCaller(t, s).as(of(token)).zun(rt.Method, path, body) }
			r := try()
			if r.status != want[i] {
				t.Errorf("%s as %q: status %d, want %d: %s", key, token, r.status, want[i], cut(string(r.body)))
			}
			if want[i] == 401 || want[i] == 403 {
				unchanged(t, s, key, func() { try() })
			}
		}
	}
	if len(zunWalk) != len(s.REST.ZunRoutes()) {
		t.Errorf("%d expectations for %d routes", len(zunWalk), len(s.REST.ZunRoutes()))
	}
}

// TestZunCreate replays the client's request with all its options, and checks the created
// container.
func TestZunCreate(t *testing.T) {
	f := newFixture(t, servertest.Serve(serveText))
	r := f.zun("POST", "/v1/containers?run=true", `{"name":"c","image":"busybox","command":["sh","-c","sleep 9"],"cpu":"0.5","memory":"64",
		"environment":{"A":"1"},"labels":{"k":"v"},"workdir":"/tmp","hostname":"h","image_pull_policy":"never","image_driver":"docker",
		"restart_policy":{"Name":"on-failure","MaximumRetryCount":"3"},"interactive":true,"tty":true,"auto_remove":false,
		"mounts":[{"source":"data","destination":"/data"}],"exposed_ports":{"80/tcp":{},"53/udp":{}},"entrypoint":["/init"],
		"healthcheck":{"cmd":"true","interval":30,"retries":3,"timeout":5},"hints":{"bay":"b1"},"nets":[],"security_groups":[]}`).is(202)
	body := r.object()
	if body["memory"] != "64" || body["cpu"] != 0.5 || body["image"] != "busybox" || body["host"] != "host-1" ||
		fmt.Sprint(body["restart_policy"]) != "map[MaximumRetryCount:3 Name:on-failure]" ||
		fmt.Sprint(body["command"]) != "[sh -c sleep 9]" || fmt.Sprint(body["ports"]) != "[53 80]" {
		t.Errorf("%s", r.body)
	}
	a, _ := f.agent.Assigned(r.uuid())
	servertest.Eventually(t, "the host has it", func() bool { a, _ = f.agent.Assigned(r.uuid()); return a.Spec != nil })
	s := a.Spec
	if s.Memory != 64<<20 || s.MilliCPU != 500 || !s.TTY || !s.Stdin || s.Volumes[0].Name != "data" || s.Volumes[0].Target != "/data" ||
		len(s.Ports) != 2 ||
		s.Healthcheck.Test.Text != "true" || s.Healthcheck.Interval != 30 || s.RestartPolicy.MaxRetries != 3 ||
		s.Entrypoint[0] != "/init" || len(s.Constraints) != 0 {
		t.Errorf("%+v", s)
	}
	// The client sends this body if no option was given.
	f.zun("POST", "/v1/containers", `{"image":"busybox","environment":{},"labels":{},"auto_remove":false,"command":[],"hints":{},`+
		`"nets":[],"mounts":[]}`).is(202)

	servertest.Eventually(t, "the host has done it all", func() bool {
		for row := range f.s.Store.Snapshot().List(structs.TableContainers, "default", 0) {
			if !row.(*structs.Container).Done() {
				return false
			}
		}
		return true
	})
	for text, status := range map[string]int{
		`{"image":"x","memory":"lots"}`: 400, `{"image":"x","nets":[{"network":"n"}]}`: 400, `{"image":"x","security_groups":["s"]}`: 400,
		`{"image":"x","runtime":"kata"}`: 400, `{"image":"x","disk":5}`: 400, `{"image":"x","availability_zone":"z"}`: 400,
		`{"image":"x","auto_heal":true}`: 400,
		`{"image":"x","registry":"r"}`:   400, `{"image":"x","host":"h"}`: 400, `{"image":"x","privileged":true}`: 403,
		`{"image":"x","image_driver":"glance"}`:  400,
		`{"image":"x","healthcheck":{"cmd":""}}`: 400, `{"image":"x","mounts":[{"size":"5","destination":"/d"}]}`: 400,
		`{"image":"x","mounts":[{"type":"bind","source":"eA==","destination":"/d"}]}`: 400,
		`{"image":"x","exposed_ports":{"http":{}}}`:                                   400,
		`{"image":"x","exposed_ports":[]}`:                                            400, `{"image":"x","bogus":1}`: 400,
		`{"image":"x","restart_policy":{"Name":"sometimes","MaximumRetryCount":"0"}}`: 400,
		`{"image":"x","hints":{"bay":"nope"}}`:                                        400, `{"image":"x","uuid":"` + unknownID + `"}`: 400,
		`[]`: 400, ``: 400,
	} {
		unchanged(t, f.s, text, func() { f.zun("POST", "/v1/containers", text).is(status) })
	}
}

func TestZunShowsAndLists(t *testing.T) {
	f := newFixture(t)
	id := f.running("run")
	f.container("made", `,"labels":{"a":"b"}`)
	f.container("small", `,"memory":"32m"`)
	body := f.zun("GET", "/v1/containers/run?all_projects=False", "").is(200).object()
	if body["uuid"] != id || body["status"] != "Running" || body["task_state"] != nil || body["memory"] != nil ||
		body["project_id"] != "default" ||
		fmt.Sprint(body["addresses"]) != "map[default:[map[addr:172.18.0.2 version:4]]]" ||
		fmt.Sprint(body["restart_policy"]) != "map[MaximumRetryCount:0 Name:no]" {
		t.Errorf("%v", body)
	}
	if got := f.zun("GET", "/v1/containers/made", "").is(200).object()["status"]; got != "Created" {
		t.Errorf("status %v", got)
	}
	for query, want := range map[string]string{
		"": "run made small", "?all_projects=1": "run made small", "?name=run": "run", "?status=Created": "made small",
		"?status=running": "run", "?memory=32": "small",
		"?image=busybox:latest": "run made small", "?image=x": "", "?project_id=default": "run made small", "?user_id=x": "",
		"?task_state=x": "", "?host=host-1": "run made small",
		"?auto_remove=True": "", "?name=None": "run made small", "?sort_key=name&sort_dir=desc": "small run made",
	} {
		if got := f.zun("GET", "/v1/containers"+query, "").is(200).names("containers"); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	// The dialect's lists have the fields that the client prints.
	line := f.zun("GET", "/v1/containers?name=made", "").is(200).items("containers")[0]
	if line["image"] != "busybox:latest" || line["status"] != "Created" || line["task_state"] != nil || line["addresses"] == nil ||
		line["ports"] == nil {
		t.Errorf("a line of the list: %v", line)
	}
	page := f.zun("GET", "/v1/containers?limit=2", "").is(200).object()
	next, _ := page["next"].(string)
	if !strings.Contains(next, "/v1/containers?") {
		t.Fatalf("next %q", next)
	}
	if got := f.zun("GET", strings.TrimPrefix(next, f.s.URL), "").is(200).names("containers"); got != "small" {
		t.Errorf("next page: %q", got)
	}
	f.zun("GET", "/v1/containers?bogus=1", "").is(400)
	f.zun("GET", "/v1/containers?memory=x", "").is(400)
	f.zun("GET", "/v1/containers/nope", "").is(404)
	// Other routes ignore the header.
	f.zun("GET", "/", "").is(200)
	f.zun("GET", "/v1/bays", "").is(200)
	f.zun("POST", "/v1/containers/run/commit", "").is(404)
	// A version of another API, or one that can't be read, is ignored.
	for _, version := range []string{"container-infra latest", "compute 2.1", "container", "container 2.1", "container x", ""} {
		body := f.do("GET", "/v1/containers/run", "", header{"OpenStack-API-Version", version}).is(200).object()
		if body["image_id"] == nil {
			t.Errorf("%q: %v", version, body)
		}
	}
	r := f.raw("GET", "/v1/containers/run", "", header{"OpenStack-API-Version", "compute 2.1, container latest"}).is(200)
	if r.object()["image"] == nil || r.header.Get("OpenStack-API-Version") != "container 1.40" {
		t.Errorf("%v %s", r.header, r.body)
	}
}

func TestZunActions(t *testing.T) {
	f := newFixture(t, servertest.Serve(serveText))
	id := f.container("c", "")
	status := func(want string) {
		t.Helper()
		if got := f.zun("GET", "/v1/containers/c", "").is(200).object()["status"]; got != want {
			t.Errorf("status %v, want %s", got, want)
		}
	}
	for _, step := range []struct{ action, status string }{
		{"start", "Running"}, {"pause", "Paused"}, {"unpause", "Running"}, {"reboot?timeout=5", "Running"}, {"kill?signal=HUP", "Running"},
		{"kill?signal=None", "Running"}, {"stop?timeout=10", "Stopped"},
	} {
		r := f.zun("POST", "/v1/containers/c/"+step.action, "").is(202)
		if len(r.body) > 0 {
			t.Errorf("%s: body %s", step.action, r.body)
		}
		status(step.status)
	}
	f.zun("POST", "/v1/containers/c/pause", "").is(409)
	f.zun("POST", "/v1/containers/c/rebuild?image_driver=glance", "").is(400)
	f.zun("POST", "/v1/containers/c/rebuild?image=alpine&image_driver=docker", "").is(202)
	if got := f.s.Store.Snapshot().Container(id).Spec.Image; got != "alpine" {
		t.Errorf("image %q", got)
	}
	body := f.zun("PATCH", "/v1/containers/c", `{"name":"d","memory":"128","cpu":"0.25"}`).is(200).object()
	if body["name"] != "d" || body["memory"] != "128" || body["cpu"] != 0.25 {
		t.Errorf("%v", body)
	}
	for text, want := range map[string]int{`{"name":""}`: 400, `{"memory":"1"}`: 400, `{"cpu":"x"}`: 400, `{"auto_heal":true}`: 400,
		`{"image":"x"}`: 400, `[]`: 400, ``: 400} {
		f.zun("PATCH", "/v1/containers/d", text).is(want)
	}
	f.zun("POST", "/v1/containers/d/rename?name=c", "").is(200)
	f.zun("DELETE", "/v1/containers/c?force=False&stop=False&all_projects=False", "").is(204)
}

func TestZunSessions(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = serveText
	for query, since := range map[string]string{
		"?stdout=True&stderr=True&timestamps=False&tail=all": "", "?since=2015-04-20+19:06:08": "2015-04-20T19:06:08Z",
		"?since=1429556768": "2015-04-20T19:06:08Z", "?since=None": "",
	} {
		if got := string(f.zun("GET", "/v1/containers/c/logs"+query, "").is(200).body); got != `"out ü\nerr\n"` {
			t.Errorf("%s: %s", query, got)
		}
		if offer := <-s.offers; offer.Logs.Since != since {
			t.Errorf("%s: %+v", query, offer.Logs)
		}
	}
	got := f.zun("POST", "/v1/containers/c/execute?"+url.Values{"command": {`"ls" "-l a"`}}.Encode(), "").is(200).object()
	if got["output"] != "ls|-l a\ncomplaint\n" || got["exit_code"] != 3.0 {
		t.Errorf("%v", got)
	}
	f.zun("POST", "/v1/containers/c/execute", "").is(400)
	stats := f.zun("GET", "/v1/containers/c/stats", "").is(200)
	if string(stats.body) != `{"CONTAINER":"c","CPU %":12.5,"MEM USAGE(MiB)":1,"MEM LIMIT(MiB)":2,"MEM %":50,"BLOCK I/O(B)":"3/4","NET `+
		`I/O(B)":"1/2"}` {
		t.Errorf("%s", stats.body)
	}
	if top := f.zun("GET", "/v1/containers/c/top?ps_args=None",
		"").is(200); string(top.body) != `{"Titles":["PID","CMD"],"Processes":[["1","sleep 100"]]}` {
		t.Errorf("%s", top.body)
	}
	f.zun("GET", "/v1/containers/c/top?ps_args=%60id%60", "").is(400)
}

func TestZunArchives(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.container("c", "")
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	_ = w.WriteHeader(&tar.Header{Name: "f", Size: 100 << 10, Mode: 0o644})
	_, _ = w.Write(bytes.Repeat([]byte("ab"), 50<<10))
	w.Close()
	var got bytes.Buffer
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		if offer.Kind == structs.SessionArchiveGet {
			_ = servertest.Send(ctx, conn, stdout, archive.String())
		} else {
			for got.Reset(); ; {
				_, message, err := conn.Read(ctx)
				if err != nil || message[0] == ctl {
					break
				}
				got.Write(message[1:])
			}
		}
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
	}
	body := f.zun("GET", "/v1/containers/c/get_archive?path=/f", "").is(200).object()
	data, err := base64.StdEncoding.DecodeString(body["data"].(string))
	if err != nil || !bytes.Equal(data, archive.Bytes()) || body["stat"].(map[string]any)["name"] != "f" {
		t.Errorf("%d bytes, %v, %v", len(data), err, body["stat"])
	}
	<-s.offers
	encoded := base64.StdEncoding.EncodeToString(archive.Bytes())
	f.zun("POST", "/v1/containers/c/put_archive?path=/", ` { "data" : "`+encoded+"\"}\n").is(202)
	if !bytes.Equal(got.Bytes(), archive.Bytes()) {
		t.Errorf("%d bytes arrived", got.Len())
	}
	<-s.offers
	for _, bad := range []string{``, `{}`, `{"data":1}`, `{"data":"eA=="`, `{"data":"eA==","x":1}`, `{"data":"eA=="}x`, `{"data":"!"}`,
		`{"data":"eA`, `{"other":"eA=="}`} {
		f.zun("POST", "/v1/containers/c/put_archive?path=/", bad).is(400)
	}
	f.zun("POST", "/v1/containers/c/put_archive", `{"data":""}`).is(400)
	if len(s.offers) > 0 {
		t.Error("a host was asked for a session")
	}
}

// TestZunTerminal checks that a URL can be used once, and that the streams are raw.
func TestZunTerminal(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox","tty":true,"stdin":true}`).is(201)
	f.container("idle", "")
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		conn.SetReadLimit(1 << 20) // as agents have it
		for {
			_, message, err := conn.Read(ctx)
			switch {
			case err != nil:
				return
			case string(message[1:]) == "exit":
				_ = servertest.Send(ctx, conn, ctl, `{"exit_code":0}`)
				conn.Close(websocket.StatusNormalClosure, "")
				return
			}
			_ = servertest.Send(ctx, conn, stdout, fmt.Sprintf("%d %s", message[0], message[1:]))
		}
	}
	dial := func(url string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: httpClient, Subprotocols: []string{"binary", "base64"}})
	}
	prepared := f.zun("POST", "/v1/containers/c/execute?command=sh&run=False&interactive=True", "").is(200).object()
	id := prepared["exec_id"].(string)
	f.zun("POST", "/v1/containers/c/execute_resize?exec_id="+id+"&w=80&h=24", "").is(202)
	conn, _, err := dial(prepared["proxy_url"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if offer := <-s.offers; offer.Kind != structs.SessionExec || !offer.Exec.TTY || !offer.Exec.Stdin || offer.Exec.Width != 80 ||
		offer.Exec.Height != 24 {
		t.Errorf("offer %+v", offer.Exec)
	}
	says := func(want string) {
		t.Helper()
		if _, got, err := conn.Read(t.Context()); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	_ = conn.Write(t.Context(), websocket.MessageBinary, []byte("hi"))
	says("0 hi")
	f.zun("POST", "/v1/containers/c/execute_resize?exec_id="+id+"&w=100&h=30", "").is(202)
	says(`3 {"resize":{"w":100,"h":30}}`)
	// Messages of any length are passed on in pieces.
	conn.SetReadLimit(1 << 20)
	go func() { _ = conn.Write(t.Context(), websocket.MessageBinary, bytes.Repeat([]byte("x"), 2<<20)) }()
	for got := 0; got < 2<<20; {
		_, piece, err := conn.Read(t.Context())
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += len(piece) - len("0 ")
	}
	if _, resp, err := dial(prepared["proxy_url"].(string)); err == nil || resp.StatusCode != 404 {
		t.Errorf("a URL was good for twice: %v", err)
	}
	_ = conn.Write(t.Context(), websocket.MessageBinary, []byte("exit"))
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("it ends with %v", err)
	}
	servertest.Eventually(t, "the terminal is forgotten", func() bool {
		return f.zun("POST", "/v1/containers/c/execute_resize?exec_id="+id+"&w=1&h=1", "").status == 404
	})

	var attached string
	if err := json.Unmarshal(f.zun("GET", "/v1/containers/c/attach", "").is(200).body, &attached); err != nil {
		t.Fatal(err)
	}
	f.zun("POST", "/v1/containers/c/resize?w=80&h=24", "").is(202)
	conn, _, err = dial(attached)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if offer := <-s.offers; offer.Kind != structs.SessionAttach || !offer.Exec.TTY || offer.Exec.Width != 80 {
		t.Errorf("offer %+v", offer)
	}
	f.zun("GET", "/v1/containers/idle/attach", "").is(409)
	f.zun("POST", "/v1/containers/idle/execute?command=sh&interactive=True&run=False", "").is(409)
	if _, resp, err := dial("ws" + strings.TrimPrefix(f.s.URL, "http") + "/v1/terminals/unknown"); err == nil || resp.StatusCode != 404 {
		t.Errorf("unknown: %v", err)
	}
}
