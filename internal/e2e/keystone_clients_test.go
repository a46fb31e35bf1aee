//go:build openstack

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/keystonetest"
	"github.com/stackforge/magnum/structs"
)

// TestKeystoneOpenStackClient: OpenStack's own container client signs in and finds the server
// in the catalogue, by OS_* and by clouds.yaml.
func TestKeystoneOpenStackClient(t *testing.T) {
	t.Parallel()
	c := newKeystoneCluster(t, keystonetest.Open(t), "")
	c.startAgent()
	c.makeBay(c.as(c.keystone.Token(t, c.Alice, c.Alpha)))
	alice, carol := c.keystone.Env(c.Alice, c.Alpha, c.region), c.keystone.Env(c.Carol, c.Alpha, c.region)
	clouds := []string{"OS_CLIENT_CONFIG_FILE=" + c.clouds(t)}

	made := c.openstackAs(alice, "appcontainer", "run", "-f", "json", "--name", "talks", image, "sh", "-c",
		"echo hello; "+strings.ReplaceAll(sleepScript, `"`, `'`)).must(t)
	var object map[string]any
	if err := json.Unmarshal([]byte(made), &object); err != nil || object["name"] != "talks" {
		t.Fatalf("run shows %s (%v)", made, err)
	}
	if b := c.awaitAs(c.Alice, c.Alpha, object["uuid"].(string)); b.Name != "talks" {
		t.Errorf("the container is %+v", b)
	}
	out := c.openstackAs(clouds, "--os-cloud", "alice", "appcontainer", "exec", "talks", "echo", "executed").must(t)
	if !strings.Contains(out, "executed") {
		t.Errorf("exec prints %q", out)
	}
	out = c.openstackAs(clouds, "--os-cloud", "bob", "appcontainer", "list", "-f", "value", "-c", "name").must(t)
	if strings.TrimSpace(out) != "" {
		t.Errorf("bob lists %q", out)
	}
	if r := c.openstackAs(carol, "appcontainer", "create", "--name", "x", image); r.code == 0 || !strings.Contains(r.stderr, "403") {
		t.Errorf("carol creates: %+v", r)
	}
}

// openstackAs runs OpenStack's client with an environment.
func (c *keystoneCluster) openstackAs(env []string, args ...string) result {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openstack", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// The client keeps a cache in its home.
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "PYTHONWARNINGS=ignore", "no_proxy=127.0.0.1")
	cmd.Env = append(cmd.Env, env...)
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		c.Fatalf("openstack %v: %v", args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// awaitAs waits until a user's container runs.
func (c *keystoneCluster) awaitAs(u keystonetest.User, p keystonetest.Project, id string) *structs.ContainerBody {
	c.Helper()
	own := *c.cluster
	own.client = c.as(c.keystone.Token(c, u, p))
	return own.await(id, structs.ContainerRunning)
}

// client2015 makes the requests that python-magnumclient 0.2.1 was seen to make.
type client2015 struct {
	t     testing.TB
	root  string // of the endpoint, without /v1
	token string
}

// newClient2015 logs in at Keystone v3 and takes the public endpoint of type container, as that
// client does.
func (c *keystoneCluster) newClient2015(u keystonetest.User, p keystonetest.Project) *client2015 {
	c.Helper()
	var body any
	login := `{"auth":{"identity":{"methods":["password"],"password":{"user":{"password":"` + u.Password + `","name":"` + u.Name +
		`","domain":{"id":"default"}}}},"scope":{"project":{"domain":{"id":"default"},"name":"` + p.Name + `"}}}}`
	if err := json.Unmarshal([]byte(login), &body); err != nil {
		c.Fatal(err)
	}
	a, err := c.keystone.Do(http.MethodPost, "/auth/tokens", nil, body)
	if err != nil || a.Status != http.StatusCreated {
		c.Fatalf("login: %v, %+v", err, a)
	}
	var out struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, Region, URL string }
			}
		}
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		c.Fatal(err)
	}
	for _, s := range out.Token.Catalog {
		for _, e := range s.Endpoints {
			if s.Type == "container" && e.Interface == "public" && e.Region == c.region {
				return &client2015{t: c.TB, root: strings.TrimSuffix(e.URL, "/v1"), token: a.Header.Get("X-Subject-Token")}
			}
		}
	}
	c.Fatalf("the catalogue has no public endpoint in region %s: %s", c.region, a.Body)
	return nil
}

// call makes one request, checks the status, and returns the decoded body.
func (r *client2015) call(method, path, body string, status int) any {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.root+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", r.token)
	req.Header.Set("User-Agent", "python-magnumclient")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Content-Type", "application/octet-stream")
	if method != http.MethodDelete {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != status {
		r.t.Fatalf("%s %s %s: status %d, %s, want %d", method, path, body, resp.StatusCode, text, status)
	}
	if status == http.StatusNoContent {
		return nil
	}
	if media := resp.Header.Get("Content-Type"); !strings.HasPrefix(media, "application/json") {
		r.t.Errorf("%s %s: Content-Type %q: that client ignores the body", method, path, media)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		r.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return out
}

// check is a condition of a value whose text isn't known beforehand.
type check struct {
	name string
	ok   func(any) bool
}

var (
	anyUUID = check{"a UUID", func(v any) bool { s, ok := v.(string); return ok && len(s) == 36 && strings.Count(s, "-") == 4 }}
	aTime   = check{"a time as of 2015", isTime}
	maybe   = check{"a time as of 2015, or null", func(v any) bool { return v == nil || isTime(v) }}
	texts   = check{"a list of strings", func(v any) bool {
		list, ok := v.([]any)
		for _, one := range list {
			_, text := one.(string)
			ok = ok && text
		}
		return ok
	}}
	textOrNull = check{"a string or null", func(v any) bool { _, ok := v.(string); return ok || v == nil }}
)

func isTime(v any) bool {
	s, ok := v.(string)
	_, err := time.Parse("2006-01-02T15:04:05+00:00", s)
	return ok && err == nil
}

// holds checks values and types of the contract's fields. Others are not looked at.
func (r *client2015) holds(what string, got any, want map[string]any) map[string]any {
	r.t.Helper()
	object, ok := got.(map[string]any)
	if !ok {
		r.t.Fatalf("%s: got %v, not an object", what, got)
	}
	for field, value := range want {
		is, there := object[field]
		if condition, ok := value.(check); ok {
			if !there || !condition.ok(is) {
				r.t.Errorf("%s: %s is %#v, want %s", what, field, is, condition.name)
			}
		} else if !there || !reflect.DeepEqual(is, value) {
			r.t.Errorf("%s: %s is %#v, want %#v", what, field, is, value)
		}
	}
	return object
}

// links returns the links of an object.
func (r *client2015) links(noun string, uuid any) []any {
	return []any{
		map[string]any{"href": fmt.Sprintf("%s/v1/%s/%s", r.root, noun, uuid), "rel": "self"},
		map[string]any{"href": fmt.Sprintf("%s/%s/%s", r.root, noun, uuid), "rel": "bookmark"},
	}
}

// only returns the one object of a list whose field has the value.
func (r *client2015) only(what string, list any, plural, field, value string) any {
	r.t.Helper()
	object, _ := list.(map[string]any)
	all, ok := object[plural].([]any)
	if !ok {
		r.t.Fatalf("%s: got %v, want an object with a list %q", what, list, plural)
	}
	for _, one := range all {
		if o, ok := one.(map[string]any); ok && o[field] == value {
			return one
		}
	}
	r.t.Fatalf("%s: nothing has %s %q: %v", what, field, value, list)
	return nil
}

// TestKeystoneClientOf2015 replays the requests of python-magnumclient 0.2.1, after a login at
// Keystone v3.
func TestKeystoneClientOf2015(t *testing.T) {
	t.Parallel()
	c := newKeystoneCluster(t, keystonetest.Open(t), "")
	c.startAgent()
	r := c.newClient2015(c.Alice, c.Alpha)

	bay := r.bays()
	r.containers(c, bay)
	r.manifests(bay)

	// Another project's objects don't exist.
	bob := c.newClient2015(c.Bob, c.Beta)
	bob.refuses("GET", "/v1/bays/k8s1", "", 404, "Bay k8s1 could not be found.")
	bob.refuses("DELETE", "/v1/bays/k8s1", "", 404, "Bay k8s1 could not be found.")
	bob.refuses("POST", "/v1/containers", `{"name":"c1","image_id":"busybox","command":"x","bay_uuid":"`+bay+`"}`, 400, bay)
	if list := bob.call("GET", "/v1/bays", "", 200); !reflect.DeepEqual(list.(map[string]any)["bays"], []any{}) {
		t.Errorf("bob lists %v", list)
	}
	(&client2015{t: t, root: r.root, token: "tok123"}).refuses("GET", "/v1/bays", "", 401, "not valid")

	r.holds("bay-update", r.call("PATCH", "/v1/bays/k8s1", `[{"op":"replace","path":"/node_count","value":2}]`, 200),
		map[string]any{"uuid": bay, "name": "k8s1", "node_count": 2.0, "links": r.links("bays", bay)})
	r.call("DELETE", "/v1/bays/k8s1", "", 204)
	r.call("DELETE", "/v1/baymodels/bm", "", 204)
}

// refuses checks an error, which that client reads from a text within the text.
func (r *client2015) refuses(method, path, body string, status int, want string) {
	r.t.Helper()
	object, _ := r.call(method, path, body, status).(map[string]any)
	text, ok := object["error_message"].(string)
	var inner struct {
		Faultcode   string          `json:"faultcode"`
		Faultstring string          `json:"faultstring"`
		Debuginfo   json.RawMessage `json:"debuginfo"`
	}
	if !ok || json.Unmarshal([]byte(text), &inner) != nil || inner.Faultcode != "Client" || !strings.Contains(inner.Faultstring, want) {
		r.t.Errorf("%s %s: the error is %v, want %q", method, path, object, want)
	}
}

// bays makes a baymodel, a bay and a node. It returns the bay's UUID.
func (r *client2015) bays() string {
	r.t.Helper()
	model := map[string]any{"uuid": anyUUID, "name": "bm", "image_id": "img", "keypair_id": "kp", "external_network_id": "net",
		"coe":       "swarm",
		"flavor_id": "m1.medium", "master_flavor_id": nil, "fixed_network": nil, "dns_nameserver": "8.8.8.8", "docker_volume_size": 5.0,
		"ssh_authorized_key": nil, "apiserver_port": nil, "created_at": aTime, "updated_at": nil}
	made := r.holds("baymodel-create", r.call("POST", "/v1/baymodels", `{"name":"bm","flavor_id":"m1.medium","master_flavor_id":null,`+
		`"image_id":"img","keypair_id":"kp","external_network_id":"net","fixed_network":null,"dns_nameserver":"8.8.8.8",`+
		`"docker_volume_size":"5","ssh_authorized_key":null,"coe":"swarm"}`, 201), model)
	model["uuid"], model["links"] = made["uuid"], r.links("baymodels", made["uuid"])
	r.holds("baymodel-show", r.call("GET", "/v1/baymodels/bm", "", 200), model)
	r.holds("baymodel-list", r.only("baymodel-list", r.call("GET", "/v1/baymodels", "", 200), "baymodels", "name", "bm"),
		map[string]any{"uuid": made["uuid"], "image_id": "img", "coe": "swarm", "links": model["links"]})

	bay := map[string]any{"uuid": anyUUID, "name": "k8s1", "baymodel_id": made["uuid"], "node_count": 1.0, "bay_create_timeout": 5.0,
		"discovery_url": nil, "created_at": aTime, "node_addresses": texts, "api_address": textOrNull}
	created := r.holds("bay-create", r.call("POST", "/v1/bays", `{"name":"k8s1","baymodel_id":"`+made["uuid"].(string)+
		`","node_count":"1","discovery_url":null,"bay_create_timeout":"5"}`, 201), bay)
	bay["uuid"], bay["links"] = created["uuid"], r.links("bays", created["uuid"])
	bay["status"], bay["updated_at"] = "CREATE_COMPLETE", maybe
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		shown := r.call("GET", "/v1/bays/k8s1", "", 200).(map[string]any)
		if shown["status"] == "CREATE_COMPLETE" {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the bay is %v", shown)
		}
	}
	r.holds("bay-show", r.call("GET", "/v1/bays/k8s1", "", 200), bay)
	short := map[string]any{"uuid": bay["uuid"], "name": "k8s1", "baymodel_id": bay["baymodel_id"], "node_count": 1.0,
		"status": "CREATE_COMPLETE", "bay_create_timeout": 5.0, "links": bay["links"]}
	r.holds("bay-list", r.only("bay-list", r.call("GET", "/v1/bays", "", 200), "bays", "name", "k8s1"), short)
	page := r.call("GET", "/v1/bays/?limit=1", "", 200).(map[string]any)
	if next := fmt.Sprintf("%s/v1/bays?sort_key=id&sort_dir=asc&limit=1&marker=%s", r.root, bay["uuid"]); page["next"] != next {
		r.t.Errorf("the next page is %v, want %s", page["next"], next)
	}

	r.holds("node-create", r.call("POST", "/v1/nodes", `{"type":"virt","image_id":"img"}`, 201),
		map[string]any{"uuid": anyUUID, "type": "virt", "image_id": "img", "ironic_node_id": nil, "created_at": aTime, "updated_at": nil})
	r.only("node-list", r.call("GET", "/v1/nodes", "", 200), "nodes", "type", "virt")
	return bay["uuid"].(string)
}

// containers runs a container through its whole life.
func (r *client2015) containers(c *keystoneCluster, bay string) {
	r.t.Helper()
	want := map[string]any{"uuid": anyUUID, "name": "c1", "image_id": image, "command": "sleep 1000", "bay_uuid": bay, "status": textOrNull,
		"created_at": aTime, "updated_at": maybe}
	made := r.holds("container-create", r.call("POST", "/v1/containers",
		`{"name":"c1","image_id":"`+image+`","command":"sleep 1000","bay_uuid":"`+bay+`"}`, 201), want)
	c.cluster.client = c.as(r.token)
	c.await(made["uuid"].(string), structs.ContainerStopped)
	want["uuid"], want["status"], want["links"] = made["uuid"], "Stopped", r.links("containers", made["uuid"])
	r.holds("container-show", r.call("GET", "/v1/containers/c1", "", 200), want)
	list := r.call("GET", "/v1/containers", "", 200)
	r.holds("container-list", r.only("container-list", list, "containers", "name", "c1"), map[string]any{"uuid": made["uuid"],
		"bay_uuid": bay, "image_id": image, "command": "sleep 1000", "status": "Stopped", "links": want["links"]})
	for _, step := range []struct{ action, status string }{
		{"start", "Running"}, {"pause", "Paused"}, {"unpause", "Running"},
	} {
		if got := r.call("PUT", "/v1/containers/c1/"+step.action, "", 200); got != nil {
			r.t.Errorf("%s answers %v, want null", step.action, got)
		}
		c.await(made["uuid"].(string), structs.ContainerStatus(step.status))
	}
	r.holds("container-execute", r.call("PUT", "/v1/containers/c1/execute?command=echo+%C3%BC+%22x+y%22", "", 200),
		map[string]any{"output": "ü x y\n"})
	r.holds("container-logs", r.call("GET", "/v1/containers/c1/logs", "", 200), map[string]any{"output": ""})
	r.refuses("DELETE", "/v1/containers/c1", "", 409, "stop it first")
	for _, action := range []string{"reboot", "stop"} {
		if got := r.call("PUT", "/v1/containers/c1/"+action, "", 200); got != nil {
			r.t.Errorf("%s answers %v, want null", action, got)
		}
	}
	c.await(made["uuid"].(string), structs.ContainerStopped)
	r.call("DELETE", "/v1/containers/c1", "", 204)
	r.refuses("GET", "/v1/containers/c1", "", 404, "Container c1 could not be found.")
}

// manifests makes a pod, a service and an rc, whose fields are those of their manifests.
func (r *client2015) manifests(bay string) {
	r.t.Helper()
	container := `{"name":"main","image":"` + image + `","command":["sleep","1000"]}`
	for _, one := range []struct {
		noun, manifest string
		want           map[string]any
	}{
		{"pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p1","labels":{"a":"b"}},"spec":{"containers":[` + container + `]}}`,
			map[string]any{"name": "p1", "labels": map[string]any{"a": "b"}, "images": []any{image}, "status": textOrNull}},
		{"services", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s1"},"spec":{"selector":{"a":"b"},"ports":[{"port":80}]}}`,
			map[string]any{"name": "s1", "selector": map[string]any{"a": "b"}, "ip": textOrNull}},
		{"rcs", `{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"r1"},"spec":{"replicas":0,"selector":{"c":"d"},` +
			`"template":{"metadata":{"labels":{"c":"d"}},"spec":{"containers":[` + container + `]}}}}`,
			map[string]any{"name": "r1", "images": []any{image}, "replicas": 0.0}},
	} {
		text, err := json.Marshal(one.manifest)
		if err != nil {
			r.t.Fatal(err)
		}
		one.want["uuid"], one.want["bay_uuid"], one.want["created_at"], one.want["updated_at"] = anyUUID, bay, aTime, maybe
		made := r.holds(one.noun+" create", r.call("POST", "/v1/"+one.noun,
			`{"manifest_url":null,"bay_uuid":"`+bay+`","manifest":`+string(text)+`}`, 201), one.want)
		name := one.want["name"].(string)
		one.want["uuid"], one.want["links"] = made["uuid"], r.links(one.noun, made["uuid"])
		r.holds(one.noun+" show", r.call("GET", "/v1/"+one.noun+"/"+name, "", 200), one.want)
		r.only(one.noun+" list", r.call("GET", "/v1/"+one.noun, "", 200), one.noun, "name", name)
		r.holds(one.noun+" update", r.call("PATCH", "/v1/"+one.noun+"/"+name,
			`[{"op":"replace","path":"/manifest","value":`+string(text)+`}]`, 200), map[string]any{"uuid": made["uuid"], "name": name})
		r.call("DELETE", "/v1/"+one.noun+"/"+name, "", 204)
	}
	r.refuses("POST", "/v1/pods", `{"manifest_url":null,"bay_uuid":"`+bay+`"}`, 400, "manifest")
}
