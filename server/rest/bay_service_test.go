package rest_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// serviceManifest returns a manifest of a service of the pods with the label app=NAME. spec is
// more of its spec, in YAML's flow style.
func serviceManifest(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %q, labels: {tier: x}}\nspec: {selector: {app: %[1]q}, %s}\n",
		name, spec)
}

// TestServiceLifeCycle follows a service from its creation to its deletion.
func TestServiceLifeCycle(t *testing.T) {
	f := newFixture(t)
	pod := f.pod("web")
	text := serviceManifest("web", "type: NodePort, ports: [{name: http, port: 80, targetPort: 8080}, "+
		"{name: dns, port: 53, protocol: UDP, nodePort: 30053}]")
	r := f.do("POST", "/v1/services", podOf(t, text, `,"bay_uuid":"b1"`)).is(201)
	made := r.object()
	id := made["uuid"].(string)
	if r.header.Get("Location") != f.s.URL+"/v1/services/"+id {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	r.holds(made, map[string]any{"name": "web", "bay_uuid": f.bay, "manifest": text, "manifest_url": nil, "ready": 1.0, "total": 1.0,
		"status": "Active", "status_reason": nil, "headless": false, "client_ip_timeout": 0.0, "ip": made["address"], "updated_at": nil})
	address, err := netip.ParseAddr(made["address"].(string))
	if err != nil || !netip.MustParsePrefix("10.127.0.0/16").Contains(address) {
		t.Errorf("address %v", made["address"])
	}
	node := made["node_ports"].([]any)
	if len(node) != 2 || node[0].(float64) < 30000 || node[0].(float64) > 32767 || node[1] != 30053.0 {
		t.Errorf("node ports %v", node)
	}
	if got, want := fmt.Sprint(made["ports"]), fmt.Sprintf("[map[name:http nodePort:%v port:80 protocol:TCP targetPort:8080] "+
		"map[name:dns nodePort:30053 port:53 protocol:UDP targetPort:53]]", node[0]); got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
	if got := fmt.Sprint(made["labels"], made["selector"]); got != "map[tier:x] map[app:web]" {
		t.Errorf("labels and selector: %s", got)
	}
	endpoint := map[string]any{"pod": "web", "pod_uuid": pod["uuid"], "host": "host-1", "address": "172.18.0.2",
		"ports": []any{8080.0, 53.0}, "ready": true}
	if got := made["endpoints"]; fmt.Sprint(got) != fmt.Sprint([]any{endpoint}) {
		t.Errorf("endpoints %v, want %v", got, endpoint)
	}

	brief := f.do("GET", "/v1/services", "").is(200).items("services")[0]
	exactly(t, brief, []string{"uuid", "name", "bay_uuid", "labels", "selector", "ip", "ports", "links"})
	detail := f.do("GET", "/v1/services/detail", "").is(200).items("services")[0]
	if detail["endpoints"] != nil || detail["manifest"] != nil || detail["ready"] != 1.0 {
		t.Errorf("in the list: %v", detail)
	}

	// The address stays, and the node port that the manifest leaves open.
	changed := serviceManifest("web", "type: NodePort, sessionAffinity: ClientIP, ports: [{name: http, port: 80, targetPort: app}, "+
		"{name: more, port: 81, nodePort: 30081}]")
	now := f.do("PATCH", "/v1/services/web", patchManifest(t, changed)).is(200).object()
	r.holds(now, map[string]any{"address": made["address"], "ip": made["address"], "node_ports": []any{node[0], 30081.0},
		"client_ip_timeout": 10800.0, "manifest": changed, "updated_at": anyTime})
	reason := fmt.Sprint(now["status_reason"])
	if !strings.HasPrefix(reason, "pod web has no TCP port with the name app, the targetPort of port 80,") {
		t.Errorf("status_reason %s", reason)
	}
	unchanged(t, f.s, "the same PATCH", func() { f.do("PATCH", "/v1/services/web", patchManifest(t, changed)).is(200) })
	now = f.do("PATCH", "/v1/services/web", patchManifest(t, serviceManifest("web", "ports: [{port: 80}]"))).is(200).object()
	r.holds(now, map[string]any{"address": made["address"], "node_ports": []any{}, "status_reason": nil})

	f.do("DELETE", "/v1/services/web", "").is(204)
	f.do("GET", "/v1/services/"+id, "").is(404).code("service.not_found")
	f.do("DELETE", "/v1/services/"+id, "").is(404)
	f.do("GET", "/v1/pods/web", "").is(200)
	checkNoService(t, f.s)
}

// checkNoService checks that nothing is left of services.
func checkNoService(t *testing.T, s *servertest.Server) {
	t.Helper()
	snap := s.Store.Snapshot()
	for _, table := range []structs.Table{structs.TableServices, structs.TableEndpoints} {
		for row := range snap.List(table, "*", 0) {
			t.Errorf("%s: row %s is left", table, row.Base().ID)
		}
	}
	for row := range snap.List(structs.TableManifests, "*", 0) {
		if strings.HasPrefix(row.Base().ID, "service/") {
			t.Errorf("manifest %s is left", row.Base().ID)
		}
	}
}

// TestServiceReasons: a service says why it leads nowhere.
func TestServiceReasons(t *testing.T) {
	ready := true
	f := newFixture(t, servertest.Parts(func(a structs.Assignment, seen *structs.Observed) []structs.PartReport {
		parts := servertest.ObeyParts(a, seen)
		for i := range parts {
			parts[i].Ready = ready
		}
		return parts
	}))
	reason := func(name, want string) {
		t.Helper()
		got := f.do("POST", "/v1/services", podOf(t, serviceManifest(name, "ports: [{port: 80}]"), "")).is(201).object()
		if text := fmt.Sprint(got["status_reason"]); !strings.Contains(text, want) || got["ready"] != 0.0 || got["endpoints"] == nil {
			t.Errorf("%s: %v, want %q", name, got, want)
		}
	}
	reason("none", "no pod of the project in the bay has the labels of the selector, app=none")
	large := strings.Replace(podManifest("waits", "x"), `"image":"x"`, `"image":"x","resources":{"requests":{"memory":"1Ti"}}`, 1)
	f.do("POST", "/v1/pods", podOf(t, large, "")).is(201)
	reason("waits", "1 of the project's pods in the bay have the labels of the selector, and none of them runs")
	ready = false
	f.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("unready", "x"), "")).is(201)
	reason("unready", "none of 1 pods is ready, such as unready")
}

// TestHeadlessService: it has no address, and no PATCH gives it one.
func TestHeadlessService(t *testing.T) {
	f := newFixture(t)
	r := f.do("POST", "/v1/services", podOf(t, serviceManifest("web", "clusterIP: None"), "")).is(201)
	r.holds(r.object(), map[string]any{"address": nil, "ip": nil, "headless": true, "ports": []any{}, "node_ports": []any{}})
	f.do("PATCH", "/v1/services/web", patchManifest(t, serviceManifest("web", "ports: [{port: 80}]"))).is(400).
		mentions("spec.clusterIP: the service has no address, and can't get one")
	f.do("POST", "/v1/services", podOf(t, serviceManifest("db", "ports: [{port: 80}]"), "")).is(201)
	f.do("PATCH", "/v1/services/db", patchManifest(t, serviceManifest("db", "clusterIP: None, ports: [{port: 80}]"))).is(400).
		mentions("and can't become headless")
}

// TestServiceFromKubectl: what "kubectl get -o yaml" prints is accepted, as a new service and
// as a change; the address in it is not.
func TestServiceFromKubectl(t *testing.T) {
	f := newFixture(t)
	text := `apiVersion: v1
kind: Service
metadata:
  creationTimestamp: "2026-01-02T03:04:05Z"
  name: web
  namespace: default
  resourceVersion: "123"
  uid: 9f1c5d2e-0a51-4f0e-8a3c-0d6f5f1c2b3a
spec:
  clusterIP: 10.96.12.34
  clusterIPs: [10.96.12.34]
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  ports: [{nodePort: 31000, port: 80, protocol: TCP, targetPort: 80}]
  selector: {app: web}
  sessionAffinity: None
  type: NodePort
status: {loadBalancer: {}}
`
	made := f.do("POST", "/v1/services", podOf(t, text, "")).is(201).object()
	if made["address"] == "10.96.12.34" || fmt.Sprint(made["node_ports"]) != "[31000]" {
		t.Errorf("service %v", made)
	}
	open := strings.ReplaceAll(text, "{nodePort: 31000, port: 80,", "{port: 80,")
	now := f.do("PATCH", "/v1/services/web", patchManifest(t, open)).is(200).object()
	if now["address"] != made["address"] || fmt.Sprint(now["node_ports"]) != "[31000]" {
		t.Errorf("after the PATCH: %v", now)
	}
	other := strings.NewReplacer("name: web", "name: web2", "  uid: 9f1c5d2e-0a51-4f0e-8a3c-0d6f5f1c2b3a\n", "", "31000",
		"31001").Replace(text)
	f.do("POST", "/v1/services", podOf(t, other, "")).is(400).mentions("spec.clusterIP")
}

func TestServiceRefusals(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(_ context.Context, url string) (string, error) {
		if strings.HasSuffix(url, "/bad") {
			return "", structs.Errorf(structs.CodeInvalid, "manifest_url %q: the server answered 404", url)
		}
		return serviceManifest("fetched", "ports: [{port: 80}]"), nil
	}), servertest.WithPools(services.Pools{NodePorts: services.PortRange{First: 30000, Last: 30009}})))
	node := func(name string, port int) string {
		return serviceManifest(name, fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", port))
	}
	web := f.do("POST", "/v1/services", podOf(t, node("web", 30001), "")).is(201).uuid()
	f.do("POST", "/v1/services", `{"manifest_url":"http://example.com/s"}`).is(201)
	container := f.do("POST", "/v1/containers?wait=10s",
		`{"name":"c","image":"x","ports":[{"container_port":80,"host_port":30002}]}`).is(201).uuid()
	patch := func(path string, value any) string {
		return `[{"op":"replace","path":"` + path + `","value":` + strings.TrimSpace(toJSON(t, value)) + `}]`
	}
	for _, tt := range []struct {
		method, path, body string
		status             int
		mentions           string
	}{
		{"POST", "/v1/services", `{}`, 400, "give a manifest, or a manifest_url"},
		{"POST", "/v1/services", podOf(t, "x", `,"manifest_url":"http://example.com/s"`), 400, "both given"},
		{"POST", "/v1/services", podOf(t, podManifest("web", "x"), ""), 400, "kind"},
		{"POST", "/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), ""), 409, "Bay b1 has a service web already"},
		{"POST", "/v1/services", podOf(t, serviceManifest("9", "ports: [{port: 80}]"), ""), 400, "metadata.name"},
		{"POST", "/v1/services", podOf(t, serviceManifest("n", "port: 80"), ""), 400, "spec.port"},
		{"POST", "/v1/services", podOf(t, node("n", 80), ""), 400,
			"spec.ports[0].nodePort: 80 not in 30000..30009, the operator's -node-port-range"},
		{"POST", "/v1/services", podOf(t, node("n", 30001), ""), 409,
			"spec.ports[0].nodePort: 30001/tcp is taken on a host of the bay, by service web (" + web + ")"},
		{"POST", "/v1/services", podOf(t, node("n", 30002), ""), 409, "by container c (" + container + ")"},
		{"POST", "/v1/services", podOf(t, serviceManifest("n", "ports: [{port: 80}]"), `,"bay":"nope"`), 400,
			"Bay nope could not be found."},
		{"POST", "/v1/services", podOf(t, serviceManifest("n", "ports: [{port: 80}]"), `,"ip":"10.127.0.1"`), 400, "ip"},
		{"POST", "/v1/services", podOf(t, serviceManifest("n", "ports: [{port: 80}]"), `,"bogus":3`), 400, "Unknown attribute"},
		{"POST", "/v1/services", podOf(t, serviceManifest("n", "ports: [{port: 80}]"), `,"uuid":"`+web+`"`), 409, "already exists"},
		{"POST", "/v1/services", `{"manifest_url":"http://example.com/bad"}`, 400, "the server answered 404"},
		{"PATCH", "/v1/services/web", patch("/name", "n"), 400, "'/name' is an internal attribute"},
		{"PATCH", "/v1/services/web", patch("/labels", "n"), 400, "'/labels' is an internal attribute"},
		{"PATCH", "/v1/services/web", patch("/selector", "n"), 400, "'/selector' is an internal attribute"},
		{"PATCH", "/v1/services/web", patch("/ports", "n"), 400, "'/ports' is an internal attribute"},
		{"PATCH", "/v1/services/web", patch("/ip", "n"), 400, "'/ip' is an internal attribute"},
		{"PATCH", "/v1/services/web", `[{"op":"remove","path":"/manifest"}]`, 400, "/manifest"},
		{"PATCH", "/v1/services/web", `[{"op":"remove","path":"/bay_uuid"}]`, 400, "/bay_uuid"},
		{"PATCH", "/v1/services/web", patch("/address", "10.127.0.1"), 400, "cannot change service property(ies) address"},
		{"PATCH", "/v1/services/web", patch("/manifest", "nothing"), 400, "manifest"},
		{"PATCH", "/v1/services/web", patch("/manifest", node("other", 30001)), 400,
			`metadata.name: "other" is not the service's name, "web"`},
		{"PATCH", "/v1/services/web", patch("/manifest", node("web", 30002)), 409, "by container c"},
		{"PATCH", "/v1/services/nope", patch("/manifest", node("nope", 30003)), 404, "nope"},
		{"PATCH", "/v1/services/web", patch("/manifest_url", "http://example.com/bad"), 400, "the server answered 404"},
		{"DELETE", "/v1/services/nope", "", 404, "nope"},
		{"GET", "/v1/services?status=x", "", 400, `Unknown argument: "status"`},
		{"GET", "/v1/services?sort_key=ports", "", 400, "sort_key"},
	} {
		unchanged(t, f.s, tt.method+" "+tt.path+" "+cut(tt.body), func() {
			f.do(tt.method, tt.path, tt.body).is(tt.status).mentions(tt.mentions)
		})
	}
	if s := f.do("GET", "/v1/services/fetched", "").is(200).object(); s["manifest_url"] != "http://example.com/s" {
		t.Errorf("the fetched one is %v", s)
	}
	for query, want := range map[string]int{"?name=web": 1, "?label=tier=x": 2, "?bay=b1": 2, "?label=tier=y": 0, "?sort_key=name": 2} {
		if got := len(f.do("GET", "/v1/services"+query, "").is(200).items("services")); got != want {
			t.Errorf("%s lists %d, not %d", query, got, want)
		}
	}
	// With the container its port is free.
	f.do("DELETE", "/v1/containers/c?force=true&wait=1m", "").is(204)
	f.do("PATCH", "/v1/services/web", patchManifest(t, node("web", 30002))).is(200)
}

// TestServicesAreNamedByTheirBay: a name is unique in a bay, and ambiguous if two bays have it.
func TestServicesAreNamedByTheirBay(t *testing.T) {
	f := newFixture(t)
	f.do("POST", "/v1/bays", `{"name":"b2"}`).is(201)
	body := func(bay string) string {
		return podOf(t, serviceManifest("web", "ports: [{port: 80}]"), `,"bay":"`+bay+`"`)
	}
	first := f.do("POST", "/v1/services", body("b1")).is(201).object()
	second := f.do("POST", "/v1/services", body("b2")).is(201).object()
	if first["address"] == second["address"] {
		t.Errorf("both have the address %v", first["address"])
	}
	f.do("POST", "/v1/services", body("b2")).is(409)
	f.do("GET", "/v1/services/web", "").is(409).mentions("Multiple services exist with same name")
	f.do("DELETE", "/v1/services/web", "").is(409)
	f.do("DELETE", "/v1/bays/b2?wait=1m", "").is(204)
	f.do("GET", fmt.Sprint("/v1/services/", second["uuid"]), "").is(404)
	f.do("DELETE", "/v1/services/web", "").is(204)
	checkNoService(t, f.s)
}

// TestServiceIsCreatedOnce: the same key makes one service, also if its manifest can't be
// fetched again. Without a name two are made.
func TestServiceIsCreatedOnce(t *testing.T) {
	fetched := false
	f := newFixtureOn(t, servertest.New(t, servertest.WithFetch(func(context.Context, string) (string, error) {
		if fetched {
			return "", structs.Errorf(structs.CodeInvalid, "the server of the manifest is gone")
		}
		fetched = true
		return serviceManifest("fetched", "ports: [{port: 80}]"), nil
	})))
	byURL := `{"manifest_url":"http://example.com/s"}`
	once := f.do("POST", "/v1/services", byURL, header{"Idempotency-Key", "url"}).is(201).uuid()
	if again := f.do("POST", "/v1/services", byURL, header{"Idempotency-Key", "url"}).is(201).uuid(); again != once {
		t.Errorf("%s and %s", once, again)
	}
	generated := podOf(t, strings.Replace(serviceManifest("web", "ports: [{port: 80}]"), `{name: "web"`, "{generateName: web-", 1), "")
	a, b := f.do("POST", "/v1/services", generated).is(201).object(), f.do("POST", "/v1/services", generated).is(201).object()
	if a["name"] == b["name"] || !strings.HasPrefix(a["name"].(string), "web-") {
		t.Errorf("names %v and %v", a["name"], b["name"])
	}
}

// TestServiceBlockingRead: a blocking read answers when the endpoints change, with an index
// from which the next one waits.
func TestServiceBlockingRead(t *testing.T) {
	f := newFixture(t)
	f.do("POST", "/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), "")).is(201)
	for i, path := range []string{"/v1/services/web", "/v1/services"} {
		index := f.do("GET", path, "").is(200).header.Get("X-Magnum-Index")
		answered := make(chan *reply, 1)
		go func() { answered <- f.raw("GET", path+"?wait=10s&index="+index, "") }()
		servertest.Eventually(t, "the read waits", func() bool { return f.s.REST.Parked() == 1 })
		pod := strings.Replace(podManifest("web", "x"), `"name":"web"`, `"generateName":"web-"`, 1)
		f.do("POST", "/v1/pods?wait=1m", podOf(t, pod, "")).is(201)
		r := <-answered
		if r.is(200); r.header.Get("X-Magnum-Index") == index {
			t.Errorf("%s: the answer is of index %s, as before", path, index)
		}
		servertest.Eventually(t, "the pod is an endpoint", func() bool {
			return f.do("GET", "/v1/services/web", "").is(200).object()["ready"] == float64(i+1)
		})
	}
}

// TestServiceRequestsOfClientOf2015 replays requests of the client of 2015, and checks the
// parts of the responses that the client needs.
func TestServiceRequestsOfClientOf2015(t *testing.T) {
	f := newFixture(t)
	if got := f.observe("GET", "/v1/services", "").is(200).items("services"); len(got) != 0 {
		t.Errorf("services %v", got)
	}
	short := []string{"uuid", "name", "bay_uuid", "labels", "selector", "ip", "ports", "links"}
	full := append(slices.Clone(short), "manifest", "manifest_url", "created_at", "updated_at", "status_reason", "address", "endpoints")
	text := `{"apiVersion":"v1beta3","kind":"Service","metadata":{"name":"s1","labels":{"tier":"x"}},` +
		`"spec":{"selector":{"app":"x"},"ports":[{"port":80,"targetPort":8080,"protocol":"TCP"}]}}`
	r := f.observe("POST", "/v1/services", toJSON(t, map[string]any{"manifest_url": nil, "bay_uuid": f.bay, "manifest": text})).is(201)
	s := r.object()
	r.shows(f, "services", s, full...)
	r.holds(s, map[string]any{"uuid": anyUUID, "name": "s1", "bay_uuid": f.bay, "labels": map[string]any{"tier": "x"},
		"selector": map[string]any{"app": "x"}, "ip": anyText, "manifest": text, "manifest_url": nil, "created_at": anyTime,
		"updated_at": nil,
		"ports":      []any{map[string]any{"name": nil, "port": 80.0, "targetPort": 8080.0, "protocol": "TCP", "nodePort": nil}}})
	f.observe("POST", "/v1/services", `{"manifest_url":null,"bay_uuid":"`+f.bay+`"}`).is(400) // of a file that doesn't exist
	r = f.observe("GET", "/v1/services", "").is(200)
	exactly(t, r.items("services")[0], short, "name")
	r.only(r.items("services")[0], f.observe("GET", "/v1/services/s1", "").is(200).object())
	changed := strings.Replace(text, "8080", "8081", 1)
	r = f.observe("PATCH", "/v1/services/s1", patchManifest(t, changed)).is(200)
	r.holds(r.object(), map[string]any{"ip": s["ip"], "manifest": changed, "updated_at": anyTime})
	f.observe("DELETE", "/v1/services/s1", "").is(204)
	f.observe("GET", "/v1/services/s1", "").is(404)
	links := f.observe("GET", "/v1/", "").is(200).object()["services"]
	if got := fmt.Sprint(links); !strings.Contains(got, f.s.URL+"/v1/services/") || !strings.Contains(got, f.s.URL+"/services/") {
		t.Errorf("links %v", links)
	}
}

// TestServiceShowsProblemsOfHosts: those of the service, and pairs of hosts that can't reach
// each other, with the hosts' names.
func TestServiceShowsProblemsOfHosts(t *testing.T) {
	f := newFixture(t)
	id := f.do("POST", "/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), "")).is(201).uuid()
	f.do("POST", "/v1/services", podOf(t, serviceManifest("other", "ports: [{port: 81}]"), "")).is(201)
	r := f.do("GET", "/v1/services/web", "").is(200)
	r.holds(r.object(), map[string]any{"problems": []any{}})
	report := toJSON(t, structs.StatusReport{Registration: 1, Seq: 1 << 40, Containers: []structs.ContainerReport{},
		Problems: &[]structs.ServiceProblem{{ServiceID: id, Reason: "node port 30000 is taken"},
			{HostID: f.agent.HostID, Reason: "host " + f.agent.HostID + " can't be reached"}}})
	f.raw("POST", "/v1/agent/hosts/"+f.agent.HostID+"/status", report, header{"Authorization", "Bearer " + f.agent.Secret}).is(200)
	apart := map[string]any{"host": "host-1", "peer": "host-1", "reason": "host host-1 can't be reached"}
	r = f.do("GET", "/v1/services/web", "").is(200)
	r.holds(r.object(), map[string]any{"problems": []any{
		map[string]any{"host": "host-1", "peer": nil, "reason": "node port 30000 is taken"}, apart}})
	r = f.do("GET", "/v1/services/other", "").is(200)
	r.holds(r.object(), map[string]any{"problems": []any{apart}})
	r = f.do("GET", "/v1/hosts/host-1", "").is(200)
	r.holds(r.object(), map[string]any{"service_problems": []any{
		map[string]any{"service_uuid": id, "host_uuid": "", "reason": "node port 30000 is taken"},
		map[string]any{"service_uuid": "", "host_uuid": f.agent.HostID, "reason": "host host-1 can't be reached"}}})
}
