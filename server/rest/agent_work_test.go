package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestWorkIsSentAsItsAgentUnderstandsIt polls as an agent of today's build, and as one
// that knows specs in the earlier form only.
func TestWorkIsSentAsItsAgentUnderstandsIt(t *testing.T) {
	f := newFixture(t)
	id := f.container("c", `,"restart_policy":"on-failure:3","registry":{"username":"bob","password":"s3cret"}`)
	poll := func(understands ...string) (raw string, a structs.Assignment) {
		t.Helper()
		r, err := http.NewRequest("GET", f.s.URL+"/v1/agent/hosts/"+f.agent.HostID+"/work?index=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.agent.Secret)
		r.Header.Set("X-Magnum-Registration", "1")
		for _, u := range understands {
			r.Header.Add(structs.HeaderUnderstands, u)
		}
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var buf bytes.Buffer
		_, err = buf.ReadFrom(resp.Body)
		var work structs.Work
		if err != nil || resp.StatusCode != 200 || json.Unmarshal(buf.Bytes(), &work) != nil || len(work.Assignments) != 1 {
			t.Fatalf("%d: %s, %v", resp.StatusCode, &buf, err)
		}
		return buf.String(), work.Assignments[0]
	}
	earlier, a := poll()
	now, b := poll("something", "else, "+structs.UnderstandsSpec)
	if !reflect.DeepEqual(a, b) || a.ContainerID != id || a.Spec.RestartPolicy.MaxRetries != 3 || a.Registry == nil || a.Registry.Password != "s3cret" {
		t.Errorf("they read as\n%+v\n%+v", a, b)
	}
	for _, has := range []string{`"Image":"busybox:latest"`, `"RestartPolicy":{"Name":"on-failure","MaxRetries":3}`, `"Registry":{"username":"bob"`} {
		if !strings.Contains(earlier, has) || strings.Contains(now, has) {
			t.Errorf("%s is not in\n%s\nor is in\n%s", has, earlier, now)
		}
	}
	for _, has := range []string{`"image_id":"busybox:latest"`, `"restart_policy":"on-failure:3"`, `"registry":{"username":"bob"`} {
		if strings.Contains(earlier, has) || !strings.Contains(now, has) {
			t.Errorf("%s is in\n%s\nor is not in\n%s", has, earlier, now)
		}
	}
}

// TestSecretsOfASpecAreNowhereShown fills each field of a request with a marker, and
// looks for them in answers, events and logs: those of the credentials are nowhere, and
// the others are in the container's answer.
func TestSecretsOfASpecAreNowhereShown(t *testing.T) {
	var log logged
	f := newFixtureOn(t, servertest.New(t, servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log}))))
	events := f.events(t, "")
	const secret = "marker-registry-"
	shown := map[string]any{
		"image": "marker-image", "command": []string{"marker-command"}, "entrypoint": []string{"marker-entrypoint"},
		"environment": map[string]string{"MARKER": "marker-environment"}, "labels": map[string]string{"marker": "marker-label"},
		"workdir": "/marker-workdir", "hostname": "marker-hostname", "user": "marker-user",
		"ports":  []structs.Port{{ContainerPort: 8471, Protocol: "tcp"}},
		"memory": 47185920, "cpu": 0.471, "restart_policy": "on-failure:471",
		"volumes":      []structs.Mount{{Name: "marker-volume", Target: "/marker-target", Type: structs.MountVolume}},
		"stop_timeout": 471, "tty": true, "stdin": true, "image_pull_policy": "always", "log_max_size": 4718592,
		"healthcheck": map[string]any{"test": []string{"marker-healthcheck"}, "interval": 471}, "exclusive": "lease",
	}
	hidden := map[string]any{"registry": map[string]string{"username": secret + "user", "password": secret + "password", "server": secret + "server"}}
	request := map[string]any{"name": "marker-name", "bay": f.bay}
	for _, fields := range []map[string]any{shown, hidden} {
		for k, v := range fields {
			request[k] = v
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[structs.ContainerRequest]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch name {
		case "", "command_text", "uuid", "bay_uuid", "image_id": // other words of what is there
		case "constraints", "auto_remove": // no host has them; it would go
		default:
			if request[name] == nil {
				t.Errorf("field %s has no marker: give it one", name)
			}
		}
	}
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	created := f.do("POST", "/v1/containers?wait=10s", string(body)).is(201)
	id := created.uuid()
	if a, _ := f.agent.Assigned(id); a.Registry == nil || a.Registry.Password != secret+"password" {
		t.Fatalf("its host has the credentials %#v", a.Registry)
	}
	said := map[string]string{"the create": string(created.body)}
	for _, path := range []string{"/v1/containers/" + id, "/v1/containers", "/v1/containers/detail", "/v1/hosts", "/v1/hosts/host-1", "/v1/bays/b1", "/v1/volumes"} {
		said[path] = string(f.do("GET", path, "").body)
	}
	said["a refusal"] = string(f.do("POST", "/v1/containers", strings.Replace(string(body), `"cpu":0.471`, `"cpu":-1`, 1)).is(400).body)
	said["a patch"] = string(f.do("PATCH", "/v1/containers/"+id, `[{"op":"replace","path":"/name","value":"marker-renamed"}]`).is(200).body)
	f.do("DELETE", "/v1/containers/"+id+"?force=true", "")
	for {
		e := events.next()
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		said["event "+fmt.Sprint(len(said))] = string(b)
		if e.UUID == id && e.Event == "deleted" {
			break
		}
	}
	said["the log"] = log.String()
	for what, text := range said {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells the credentials: %s", what, text)
		}
	}
	for _, marker := range []string{"marker-image", "marker-command", "marker-entrypoint", "marker-environment", "marker-label", "marker-workdir", "marker-hostname",
		"marker-user", "8471", "47185920", "0.471", "on-failure:471", "marker-volume", "marker-target", `"stop_timeout":471`, `"tty":true`, `"stdin":true`,
		"always", "4718592", "marker-healthcheck", `"lease"`} {
		if !strings.Contains(said["/v1/containers/"+id], marker) {
			t.Errorf("the answer does not show %s: %s", marker, said["/v1/containers/"+id])
		}
	}
}
