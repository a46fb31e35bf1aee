package rest_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// marked are the values of those fields of a container's request that don't accept any
// text, by JSON path. Other fields are filled by their types.
var marked = map[string]any{
	"uuid": structs.NewID(), "workdir": "/marker-workdir", "hostname": "marker-hostname", "image_id": "marker-image-id",
	"image_pull_policy":    "always",
	"ports.container_port": 8471, "ports.host_port": 8472, "ports.protocol": "udp", "memory": 47185920, "cpu": 0.471,
	"restart_policy": structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: 471},
	"volumes.type":   structs.MountVolume, "volumes.target": "/marker-target", "volumes.size": 0, // only a tmpfs has a size
	"stop_timeout": 471, "log_max_size": 4718592, "exclusive": structs.ExclusiveLease,
	"auto_remove": false,           // contradicts a restart policy
	"bay":         "", "image": "", // other names of bay_uuid and image_id
	"command": structs.Command{Args: []string{"marker-command"}}, "healthcheck.test": structs.Command{Args: []string{"marker-test"}},
	"healthcheck.retries": 471,
}

// mark fills the value at the JSON path with markers. Each string gets its own marker.
func mark(t testing.TB, v reflect.Value, path string) {
	t.Helper()
	if value, ok := marked[path]; ok {
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		if f, ok := value.(float64); ok { // cores
			value = structs.MilliCPU(f * 1000)
		}
		v.Set(reflect.ValueOf(value).Convert(v.Type()))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		mark(t, v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous:
				mark(t, v.Field(i), path)
			case f.IsExported() && f.Tag.Get("api") != "-" &&
				!(f.Name == "Command" && f.Type.Kind() == reflect.Slice): // the request's own is beside it
				mark(t, v.Field(i), strings.TrimPrefix(path+"."+name, "."))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		mark(t, v.Index(0), path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("marker-key-"+path), reflect.ValueOf("marker-value-"+path))
	case reflect.String:
		v.SetString("marker-" + path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(471)
	default:
		t.Fatalf("%s is of type %v: give it a marker", path, v.Type())
	}
}

// leaves returns the strings and numbers in the JSON of a value.
func leaves(t testing.TB, v any) (all []string) {
	t.Helper()
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		case string:
			all = append(all, v)
		case nil:
		default:
			t.Fatalf("%v is a secret that is no text: it has no marker", v)
		}
	}
	var tree any
	if err := json.Unmarshal([]byte(toJSON(t, v)), &tree); err != nil {
		t.Fatal(err)
	}
	walk(tree)
	return all
}

// TestSecretsAreNotShown fills each field of a container's request with a marker. It looks
// for the markers of secret fields, and for all other secrets of clients, agents and
// servers, in responses, events and the log. The container's body shows all other fields.
func TestSecretsAreNotShown(t *testing.T) {
	var log logged
	script := newScript()
	script.play = serveText
	s := servertest.New(t, servertest.WithTokens(),
		servertest.WithLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log})))
	c := newCaller(t, s)
	c.token = c.do("POST", "/v1/operator/bootstrap", "").is(201).object()["token"].(string)
	f := &fixture{caller: c, agent: s.StartAgent(t, "host-1", servertest.Serve(script.serve))}
	f.bay = f.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201).uuid()
	events := f.events(t, "", header{"X-Auth-Token", f.token})

	var request structs.ContainerRequest
	mark(t, reflect.ValueOf(&request).Elem(), "")
	request.BayUUID = f.bay
	request.Name = new("marker-name")
	f.do("PATCH", "/v1/hosts/host-1", `[{"op":"add","path":"/labels","value":`+toJSON(t, request.Constraints)+`}]`).is(200)
	secrets := map[string]string{"the host's secret": f.agent.Secret, "the caller's token": f.token}
	for i, text := range leaves(t, request.Secrets) {
		secrets[fmt.Sprint("secret ", i, " of the request")] = text
	}
	if len(secrets) != 2+3 {
		t.Fatalf("the secrets are %v: a new one has to be among them, then this number is another one", secrets)
	}
	said := map[string]string{}
	say := func(what string, r *reply) *reply {
		said[what] = fmt.Sprint(r.header, string(r.body))
		return r
	}

	body := toJSON(t, request)
	key := header{"Idempotency-Key", "k"}
	created := say("the create", f.do("POST", "/v1/containers?wait=1m", body, key).is(201))
	id := created.uuid()
	say("its repeat", f.do("POST", "/v1/containers?wait=1m", body, key).is(201))
	say("another request under its key", f.do("POST", "/v1/containers", strings.Replace(body, "marker-name", "marker-other", 1),
		key).is(409))
	say("another one of its UUID", f.do("POST", "/v1/containers", body).is(409))
	for member, wrong := range map[string]string{`"cpu":0.471`: `"cpu":-1`, `"stdin":true`: `"stdin":"maybe"`,
		`"password":"marker-registry.password"`: `"password":["marker-registry.password"]`,
		`"marker-registry.password"`:            `"marker-registry.password\u0000"`,
		`"marker-registry.username"`:            `{"a":"marker-registry.username"}`, `"registry":{`: `"registry":{"x":1,`,
		`"tty":true`: `"tty":true,"x":1`} {
		if !strings.Contains(body, member) {
			t.Fatalf("%s is not in %s", member, body)
		}
		// A refusal shows the refused value to its sender, unless the value is a secret.
		say("the refusal of "+wrong, f.do("POST", "/v1/containers", strings.Replace(body, member, wrong, 1)).is(400))
	}
	for _, path := range []string{"/v1/containers/" + id, "/v1/containers", "/v1/containers/detail", "/v1/containers/" + id + "/actions",
		"/v1/hosts", "/v1/hosts/host-1", "/v1/bays/b1",
		"/v1/bays", "/v1/volumes", "/v1/tokens", "/v1/operator/state", "/v1/operator/members", "/v1/operator/raft/peers",
		"/v1/openapi.json", "/metrics"} {
		say(path, f.raw("GET", path, "", header{"X-Auth-Token", f.token}))
	}
	said["Zun's answer"] = string(f.raw("GET", "/v1/containers/"+id, "", speaksZun).body)
	say("a patch", f.do("PATCH", "/v1/containers/"+id, `[{"op":"replace","path":"/name","value":"marker-renamed"}]`).is(200))
	say("a patch of the secret", f.do("PATCH", "/v1/containers/"+id, `[{"op":"add","path":"/registry","value":`+toJSON(t, request.Registry)+
		`}]`).is(400))
	say("a rebuild", f.do("PUT", "/v1/containers/"+id+"/rebuild", "").is(200))
	say("a pull", f.do("POST", "/v1/images", `{"image":"me/it:1","registry":`+toJSON(t, request.Registry)+`}`).is(200))
	for {
		offer := <-script.offers
		if offer.Kind != structs.SessionImagePull {
			continue
		}
		if !reflect.DeepEqual(offer.Registry, request.Registry) {
			t.Errorf("the agent pulls with %#v", offer.Registry)
		}
		break
	}
	for _, kind := range []string{`{"name":"t1"}`, `{"name":"t2","join":true}`} {
		made := f.do("POST", "/v1/tokens", kind).is(201).object() // the only response that shows the secret
		secrets["the token of "+kind] = made["token"].(string)
		say("the list after "+kind, f.do("GET", "/v1/tokens", ""))
		say("the delete after "+kind, f.do("DELETE", "/v1/tokens/"+made["uuid"].(string), ""))
	}
	cluster := s.Store.Snapshot().Cluster()
	secrets["the hash of the join token"] = cluster.JoinTokenHash
	secrets["the hash of the host's secret"] = s.Store.Snapshot().Host(f.agent.HostID).SecretHash

	// The host's assignment has the request's secrets, under their own names.
	if a, _ := f.agent.Assigned(id); !reflect.DeepEqual(a.Secrets, request.Secrets) {
		t.Errorf("its host has %#v", a.Secrets)
	}
	for _, understands := range []string{"", structs.UnderstandsSpec} {
		var work map[string]any
		r := f.raw("GET", "/v1/agent/hosts/"+f.agent.HostID+"/work?index=0", "", header{"Authorization", "Bearer " + f.agent.Secret},
			header{"X-Magnum-Registration", "1"}, header{structs.HeaderUnderstands, understands}).is(200)
		if err := json.Unmarshal(r.body, &work); err != nil || !strings.Contains(string(r.body), request.Registry.Password) {
			t.Fatalf("the host is sent %s, %v", r.body, err)
		}
		for _, a := range work["assignments"].([]any) {
			a := a.(map[string]any)
			delete(a, "registry")
			if spec, ok := a["spec"].(map[string]any); ok && understands == "" {
				delete(spec, "Registry")
			}
		}
		said["what a host is sent besides, with "+understands] = toJSON(t, work)
	}
	report := toJSON(t, structs.StatusReport{Registration: 1, Seq: 1 << 40,
		Containers: []structs.ContainerReport{{ContainerID: id, Epoch: 1, Observed: structs.Observed{Status: "None"}}}})
	say("a report that is refused", f.raw("POST", "/v1/agent/hosts/"+f.agent.HostID+"/status", report,
		header{"Authorization", "Bearer " + f.agent.Secret}).is(400))
	say("a host with a wrong secret", f.raw("POST", "/v1/agent/hosts/"+f.agent.HostID+"/status", report,
		header{"Authorization", "Bearer x" + f.agent.Secret}).is(401))

	say("the delete", f.do("DELETE", "/v1/containers/"+id+"?force=true&wait=10s", ""))
	for n := 0; ; n++ {
		e := events.next()
		said[fmt.Sprint("event ", n)] = toJSON(t, e)
		if e.UUID == id && e.Event == "deleted" {
			break
		}
	}
	said["the log"] = log.String()
	for what, text := range said {
		for which, secret := range secrets {
			if secret != "" && strings.Contains(text, secret) {
				t.Errorf("%s has %s, %s: %s", what, which, secret, text)
			}
		}
	}
	for which, secret := range secrets {
		if secret == "" {
			t.Errorf("%s is empty: nothing is looked for", which)
		}
	}
	if !strings.Contains(said["the log"], id) {
		t.Error("the log says nothing of the container: it is not at the level of the test")
	}

	// Fields that aren't secret are shown unchanged.
	asked := map[string]any{}
	if err := json.Unmarshal([]byte(body), &asked); err != nil {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[structs.Secrets]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		delete(asked, name)
	}
	shown := created.object()
	for name, value := range asked {
		if !reflect.DeepEqual(shown[name], value) {
			t.Errorf("%s was asked for as %v and is shown as %v: show it, or put it into structs.Secrets", name, value, shown[name])
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[structs.ContainerRequest]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if _, there := asked[name]; !there && !f.Anonymous && f.IsExported() && f.Tag.Get("api") != "-" && name != "registry" &&
			marked[name] != "" && marked[name] != false {
			t.Errorf("field %s has no marker: give it one", name)
		}
	}
}

// TestMarkersAreUnique checks that no marker is part of another, in which a secret would
// go unnoticed.
func TestMarkersAreUnique(t *testing.T) {
	var request structs.ContainerRequest
	mark(t, reflect.ValueOf(&request).Elem(), "")
	secrets := leaves(t, request.Secrets)
	request.Secrets = structs.Secrets{}
	for _, secret := range secrets {
		if !strings.HasPrefix(secret, "marker-") || strings.Contains(toJSON(t, request), secret) {
			t.Errorf("%q is no marker of its own", secret)
		}
	}
}
