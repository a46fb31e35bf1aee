package rest_test

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"context"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// observe makes a request as the client of 2015 does.
func (f *fixture) observe(method, path, body string) *reply {
	f.t.Helper()
	media := "application/json"
	if method == "DELETE" {
		media = "application/octet-stream"
	}
	headers := []header{{"X-Auth-Token", "tok123"}, {"User-Agent", "python-magnumclient"}, {"Content-Type", media},
		{"Accept-Encoding", "identity"}}
	if method != "DELETE" {
		headers = append(headers, header{"Accept", "application/json"})
	}
	r := f.do(method, path, body, headers...)
	if r.status != 204 && !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
		f.t.Errorf("%s: Content-Type %q: that client ignores the body", r.what, r.header.Get("Content-Type"))
	}
	return r
}

// shows checks that an object has at least these fields, and its two links.
func (r *reply) shows(f *fixture, noun string, object map[string]any, fields ...string) {
	r.t.Helper()
	for _, field := range fields {
		if _, ok := object[field]; !ok {
			r.t.Errorf("%s: no %s in %v", r.what, field, object)
		}
	}
	id := object["uuid"].(string)
	want := fmt.Sprint([]any{
		map[string]any{"href": f.s.URL + "/v1/" + noun + "/" + id, "rel": "self"},
		map[string]any{"href": f.s.URL + "/" + noun + "/" + id, "rel": "bookmark"},
	})
	if got := fmt.Sprint(object["links"]); got != want {
		r.t.Errorf("%s: links %s, want %s", r.what, got, want)
	}
	for _, hidden := range []string{"project_id", "user_id", "id", "stack_id"} {
		if _, ok := object[hidden]; ok {
			r.t.Errorf("%s: %s is shown", r.what, hidden)
		}
	}
}

// Patterns for values that the server chooses.
var (
	anyUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	anyTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$`)
	anyText = regexp.MustCompile(`^.+$`)
)

// holds checks the values of fields. A wanted value is compared as it is, nil means null,
// and a pattern has to match.
func (r *reply) holds(object map[string]any, want map[string]any) {
	r.t.Helper()
	for field, value := range want {
		got, there := object[field]
		if form, ok := value.(*regexp.Regexp); ok {
			if text, ok := got.(string); !ok || !form.MatchString(text) {
				r.t.Errorf("%s: %s is %#v, and not of the form %s", r.what, field, got, form)
			}
		} else if !there || !reflect.DeepEqual(got, value) {
			r.t.Errorf("%s: %s is %#v, not %#v", r.what, field, got, value)
		}
	}
}

// only checks that objects have the same values in a list as in their detail.
func (r *reply) only(object, whole map[string]any) {
	r.t.Helper()
	for field, value := range object {
		if !reflect.DeepEqual(value, whole[field]) {
			r.t.Errorf("%s: %s is %#v in the list, and %#v in the object", r.what, field, value, whole[field])
		}
	}
}

// aStats is an agent's document of stats.
const aStats = `{"read_at":"2026-01-02T03:04:05+00:00","cpu_percent":12.5,"memory_used":1048576,"memory_limit":2097152,"network_in":1,` +
	`"network_out":2,"block_in":3,"block_out":4,"pids":5}`

// serveText answers logs with lines, and a command with the command itself.
func serveText(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
	switch offer.Kind {
	case structs.SessionLogs:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, "out ü\n")
		_ = servertest.Send(ctx, conn, structs.ChannelStderr, "err\n")
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionExec:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, strings.Join(offer.Exec.Command, "|")+"\n")
		_ = servertest.Send(ctx, conn, structs.ChannelStderr, "complaint\n")
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"exit_code":3}`)
	case structs.SessionStats:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, aStats)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionTop:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, `{"titles":["PID","CMD"],`)
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, `"processes":[["1","sleep 100"]]}`)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionImageList:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, someImages)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionImagePull:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, "pulling "+offer.Image)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionImagePrune:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, `{"images":["old:1","sha256:00"],"size":300}`)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionImageLoad:
		if _, ok := readInput(ctx, conn); ok {
			_ = servertest.Send(ctx, conn, structs.ChannelStdout, `{"images":["loaded:1"],"size":0}`)
			_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
		}
	case structs.SessionVolumeList:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout,
			`[{"name":"data","project_id":"p1","created_at":"2026-01-02T03:04:05+00:00","used_by":[]}]`)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionVolumeDelete:
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionArchiveGet:
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, "tar of "+offer.Path)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	case structs.SessionArchivePut:
		for {
			_, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if message[0] == structs.ChannelControl {
				break
			}
		}
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
	}
	conn.Close(websocket.StatusNormalClosure, "")
}

var (
	bayShort      = []string{"uuid", "name", "baymodel_id", "node_count", "status", "bay_create_timeout", "links"}
	bayFull       = append(slices.Clone(bayShort), "api_address", "node_addresses", "discovery_url", "created_at", "updated_at")
	bayModelShort = []string{"uuid", "name", "image_id", "apiserver_port", "coe", "links"}
	bayModelFull  = append(slices.Clone(bayModelShort), "flavor_id", "master_flavor_id", "keypair_id", "external_network_id",
		"fixed_network", "dns_nameserver", "docker_volume_size", "ssh_authorized_key", "cluster_distro", "created_at", "updated_at")
	nodeFields     = []string{"uuid", "type", "image_id", "ironic_node_id", "links"}
	containerShort = []string{"uuid", "name", "bay_uuid", "image_id", "command", "status", "links"}
	containerFull  = append(slices.Clone(containerShort), "created_at", "updated_at", "status_reason", "exit_code", "host", "addresses",
		"started_at", "finished_at", "restart_count", "epoch")
)

// TestRequestsOfClientOf2015 replays recorded requests of the client of 2015, and checks
// the parts of the responses that the client needs.
func TestRequestsOfClientOf2015(t *testing.T) {
	f := newFixture(t, servertest.Serve(serveText))
	f.observe("DELETE", "/v1/bays/b1", "").is(204)
	servertest.Eventually(t, "the bay is gone", func() bool { return f.observe("GET", "/v1/bays/b1", "").status == 404 })

	if got := f.observe("GET", "/v1/bays", "").is(200).items("bays"); len(got) != 0 {
		t.Errorf("bays %v", got)
	}
	r := f.observe("POST", "/v1/baymodels", `{"name":"bm","flavor_id":"m1.medium","master_flavor_id":null,"image_id":"img",`+
		`"keypair_id":"kp","external_network_id":"net","fixed_network":null,"dns_nameserver":"8.8.8.8","docker_volume_size":"5",`+
		`"ssh_authorized_key":null,"coe":"swarm"}`).is(201)
	model := r.object()
	r.shows(f, "baymodels", model, bayModelFull...)
	modelID := model["uuid"].(string)
	sent := map[string]any{
		"uuid": anyUUID, "name": "bm", "image_id": "img", "apiserver_port": nil, "coe": "swarm", "flavor_id": "m1.medium",
		"master_flavor_id": nil, "keypair_id": "kp",
		"external_network_id": "net", "fixed_network": nil, "dns_nameserver": "8.8.8.8", "docker_volume_size": 5.0,
		"ssh_authorized_key": nil, "cluster_distro": nil,
		"created_at": anyTime, "updated_at": nil,
	}
	r.holds(model, sent)
	if model["docker_volume_size"] != 5.0 || model["master_flavor_id"] != nil || model["coe"] != "swarm" || model["updated_at"] != nil {
		t.Errorf("baymodel %v", model)
	}
	if r.header.Get("Location") != f.s.URL+"/v1/baymodels/"+modelID {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	r = f.observe("GET", "/v1/baymodels", "").is(200)
	exactly(t, r.items("baymodels")[0], bayModelShort, "name")
	r.only(r.items("baymodels")[0], model)
	r = f.observe("GET", "/v1/baymodels/bm", "").is(200)
	r.shows(f, "baymodels", r.object(), bayModelFull...)
	r.holds(r.object(), model)

	r = f.observe("POST", "/v1/bays", `{"name":"k8s1","baymodel_id":"`+modelID+
		`","node_count":"1","discovery_url":null,"bay_create_timeout":"5"}`).is(201)
	bay := r.object()
	r.shows(f, "bays", bay, bayFull...)
	if bay["node_count"] != 1.0 || bay["bay_create_timeout"] != 5.0 || bay["baymodel_id"] != modelID || bay["coe"] != "swarm" ||
		bay["status"] != "CREATE_COMPLETE" {
		t.Errorf("bay %v", bay)
	}
	r.holds(bay, map[string]any{
		"uuid": anyUUID, "name": "k8s1", "baymodel_id": modelID, "node_count": 1.0, "bay_create_timeout": 5.0, "api_address": nil,
		"discovery_url": nil, "created_at": anyTime, "updated_at": nil,
	})
	if addresses, ok := bay["node_addresses"].([]any); !ok || len(addresses) != 1 {
		t.Errorf("node_addresses %#v", bay["node_addresses"])
	}
	r = f.observe("POST", "/v1/bays", `{"name":null,"baymodel_id":"`+modelID+
		`","node_count":null,"discovery_url":null,"bay_create_timeout":null}`).is(201)
	unnamed := r.object()
	if unnamed["name"] == "" || unnamed["node_count"] != 1.0 || unnamed["status"] != "CREATE_IN_PROGRESS" {
		t.Errorf("bay %v", unnamed)
	}
	r = f.observe("GET", "/v1/bays/k8s1", "").is(200)
	r.shows(f, "bays", r.object(), bayFull...)
	r.holds(r.object(), bay)
	made := []map[string]any{bay, unnamed}
	for i, item := range f.observe("GET", "/v1/bays", "").is(200).items("bays") {
		exactly(t, item, bayShort)
		r.only(item, made[i])
	}
	for i, item := range f.observe("GET", "/v1/bays/detail", "").is(200).items("bays") {
		r.shows(f, "bays", item, bayFull...)
		r.holds(item, made[i])
	}

	if got := f.observe("PATCH", "/v1/bays/k8s1",
		`[{"op":"replace","path":"/node_count","value":3}]`).is(200).object(); got["node_count"] != 3.0 ||
		got["status"] != "UPDATE_IN_PROGRESS" || got["updated_at"] == nil {
		t.Errorf("bay %v", got)
	}
	f.observe("PATCH", "/v1/bays/k8s1", `[{"op":"add","path":"/name","value":"foo"},{"op":"add","path":"/discovery_url",`+
		`"value":"http://x"}]`).is(400)
	f.observe("PATCH", "/v1/bays/k8s1", `[{"op":"remove","path":"/name"}]`).is(400)

	f.observe("GET", "/v1/nodes", "").is(200).items("nodes")
	r = f.observe("POST", "/v1/nodes", `{"type":"virt","image_id":"img"}`).is(201)
	r.shows(f, "nodes", r.object(), nodeFields...)
	r.holds(r.object(), map[string]any{"uuid": anyUUID, "type": "virt", "image_id": "img", "ironic_node_id": nil})

	bayID := bay["uuid"].(string)
	r = f.observe("POST", "/v1/containers", `{"name":"c1","image_id":"busybox:latest","command":"sleep 100","bay_uuid":"`+bayID+
		`"}`).is(201)
	c := r.object()
	r.shows(f, "containers", c, containerFull...)
	if c["command"] != "sleep 100" || c["bay_uuid"] != bayID || c["image_id"] != "busybox:latest" ||
		c["status"] != "Creating" && c["status"] != "Stopped" { // an agent may have created it by now
		t.Errorf("container %v", c)
	}
	r.holds(c, map[string]any{
		"uuid": anyUUID, "name": "c1", "status": anyText, "status_reason": nil, "exit_code": nil, "host": anyText, "addresses": []any{},
		"started_at": nil, "finished_at": nil,
		"restart_count": 0.0, "epoch": 1.0, "created_at": anyTime, "updated_at": nil,
	})
	f.observe("POST", "/v1/containers", `{"name":"c2","image_id":"busybox:latest","command":"sleep 100","bay_uuid":"`+bayID+`"}`).is(201)
	listed := f.observe("GET", "/v1/containers", "").is(200).items("containers")[0]
	exactly(t, listed, containerShort)
	r = f.observe("GET", "/v1/containers/c1", "").is(200)
	r.shows(f, "containers", r.object(), containerFull...)
	for _, changes := range []string{"status", "links"} { // the host may have reported it, and links are checked above
		delete(listed, changes)
	}
	r.only(listed, c)
	r.holds(r.object(), map[string]any{"uuid": c["uuid"], "name": "c1", "bay_uuid": bayID, "image_id": "busybox:latest",
		"command": "sleep 100", "host": c["host"], "epoch": 1.0, "created_at": c["created_at"]})
	for _, action := range []string{"start", "pause", "unpause", "reboot"} {
		if got := string(f.observe("PUT", "/v1/containers/c1/"+action, "").is(200).body); got != "null" {
			t.Errorf("%s answers %q", action, got)
		}
	}
	if got := f.observe("GET", "/v1/containers/c1/logs", "").is(200).object(); got["output"] != "out ü\nerr\n" {
		t.Errorf("logs %v", got)
	}
	got := f.observe("PUT", "/v1/containers/c1/execute?command=ls+-l+%2Ftmp%3B+echo+%C3%BC+%26+%22x%22", "").is(200).object()
	if got["output"] != "ls|-l|/tmp;|echo|ü|&|x\ncomplaint\n" || got["exit_code"] != 3.0 {
		t.Errorf("execute %v", got)
	}
	f.observe("PUT", "/v1/containers/c1/stop", "").is(200)
	f.observe("DELETE", "/v1/containers/c1", "").is(204)
	f.observe("DELETE", "/v1/containers/c2", "").is(204)
	if got := f.observe("GET", "/v1/containers", "").items("containers"); len(got) != 0 {
		t.Errorf("containers %v", got)
	}

	for range 3 {
		f.observe("POST", "/v1/bays", `{"baymodel_id":"bm"}`).is(201)
	}
	all := f.observe("GET", "/v1/bays", "").items("bays")
	r = f.observe("GET", "/v1/bays/?limit=3", "").is(200)
	if got := r.items("bays"); len(got) != 3 {
		t.Fatalf("%d bays, want 3", len(got))
	}
	next, err := url.Parse(r.object()["next"].(string))
	if err != nil || next.Path != "/v1/bays" || "http://"+next.Host != f.s.URL || next.Query().Get("marker") != all[2]["uuid"] ||
		next.Query().Get("limit") != "3" {
		t.Fatalf("next %v (%v)", next, err)
	}
	r = f.observe("GET", next.RequestURI(), "").is(200)
	if got := r.items("bays"); len(got) != len(all)-3 || got[0]["uuid"] != all[3]["uuid"] {
		t.Errorf("second page %v", got)
	}
	if _, ok := r.object()["next"]; ok {
		t.Errorf("next on the last page: %s", r.body)
	}

	for _, b := range all {
		f.observe("DELETE", "/v1/bays/"+b["uuid"].(string), "").is(204)
	}
	servertest.Eventually(t, "the bays are gone", func() bool { return len(f.observe("GET", "/v1/bays", "").items("bays")) == 0 })
	f.observe("DELETE", "/v1/baymodels/bm", "").is(204)
	f.observe("GET", "/v1/baymodels/bm", "").is(404).says("BayModel bm could not be found.")
}

// exactly checks that an object has these fields and no others.
func exactly(t *testing.T, object map[string]any, fields []string, more ...string) {
	t.Helper()
	var got []string
	for name := range object {
		got = append(got, name)
	}
	want := slices.Clone(fields)
	for _, m := range more {
		if !slices.Contains(want, m) {
			want = append(want, m)
		}
	}
	sort.Strings(got)
	sort.Strings(want)
	if !slices.Equal(got, want) {
		t.Errorf("fields %v, want %v", got, want)
	}
}
