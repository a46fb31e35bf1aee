package rest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestPaging walks lists page by page in every order, and sees each object once.
func TestPaging(t *testing.T) {
	f := newFixture(t)
	for i := range 7 {
		f.do("POST", "/v1/baymodels", fmt.Sprintf(`{"name":"m%d","coe":"docker","image_id":"i%d"}`, i, i%2)).is(201)
	}
	for _, tt := range []struct{ query, want string }{
		{"", "m0 m1 m2 m3 m4 m5 m6"},
		{"sort_dir=desc", "m6 m5 m4 m3 m2 m1 m0"},
		{"sort_key=name", "m0 m1 m2 m3 m4 m5 m6"},
		{"sort_key=name&sort_dir=desc", "m6 m5 m4 m3 m2 m1 m0"},
		{"sort_key=image_id", "m0 m2 m4 m6 m1 m3 m5"},
		{"sort_key=image_id&sort_dir=desc", "m5 m3 m1 m6 m4 m2 m0"},
		{"sort_key=created_at", "m0 m1 m2 m3 m4 m5 m6"},
	} {
		for _, base := range []string{"/v1/baymodels", "/v1/baymodels/", "/baymodels", "/v1/baymodels/detail"} {
			if got := f.do("GET", base+"?"+tt.query, "").is(200).names("baymodels"); got != tt.want {
				t.Errorf("%s?%s: %s, want %s", base, tt.query, got, tt.want)
			}
			var got []string
			next := base + "?limit=3&" + tt.query
			for page := 0; next != "" && page < 5; page++ {
				r := f.do("GET", next, "").is(200)
				got = append(got, r.names("baymodels"))
				next, _ = r.object()["next"].(string)
				if (next == "") != (len(r.items("baymodels")) < 3) {
					t.Errorf("page of %d with next %q", len(r.items("baymodels")), next)
				}
				if next != "" {
					if wantPath := f.s.URL + "/v1/baymodels"; !strings.HasPrefix(next, wantPath+"?sort_key=") &&
						!strings.HasPrefix(next, wantPath+"/detail?sort_key=") {
						t.Errorf("next %q", next)
					}
					next = strings.TrimPrefix(next, f.s.URL)
				}
			}
			if all := strings.Join(got, " "); all != tt.want {
				t.Errorf("%s by pages: %s, want %s", tt.query, all, tt.want)
			}
		}
	}
	// A full page has next, even if no object follows.
	r := f.do("GET", "/v1/baymodels?limit=7", "").is(200)
	next, _ := r.object()["next"].(string)
	if next == "" {
		t.Fatal("a full page has no next")
	}
	r = f.do("GET", strings.TrimPrefix(next, f.s.URL), "").is(200)
	if string(r.body) != `{"baymodels":[]}` {
		t.Errorf("page after the last: %s", r.body)
	}
	if strings.Contains(string(f.do("GET", "/v1/baymodels?limit=5000", "").is(200).body), "next") {
		t.Error("a page that isn't full has a next")
	}
}

// TestLinksFollowHostHeader checks that links follow the Host header.
func TestLinksFollowHostHeader(t *testing.T) {
	f := newFixture(t)
	r := f.hosted("magnum.example:8080", "GET", "/v1/bays/b1")
	for _, want := range []string{"http://magnum.example:8080/v1/bays/" + f.bay, "http://magnum.example:8080/bays/" + f.bay} {
		if !strings.Contains(string(r.body), `"`+want+`"`) {
			t.Errorf("no link %s in %s", want, r.body)
		}
	}
	next := f.hosted("other:1", "GET", "/v1/bays?limit=1").object()["next"]
	if !strings.HasPrefix(fmt.Sprint(next), "http://other:1/v1/bays?") {
		t.Errorf("next %v", next)
	}
	// Bookmarks are links without /v1.
	f.do("GET", "/bays/"+f.bay, "").is(200)
	f.do("GET", "/containers/", "").is(200)
	if got := f.do("HEAD", "/v1/bays/b1", ""); got.status != 200 || len(got.body) != 0 {
		t.Errorf("HEAD: %d with %d bytes", got.status, len(got.body))
	}
}

// TestFilters checks the filters of lists.
func TestFilters(t *testing.T) {
	f := newFixture(t)
	f.container("web", `,"labels":{"tier":"web","a":"1"}`)
	f.container("db", `,"labels":{"tier":"db"}`)
	f.running("run")
	f.s.StartAgent(t, "host-2")
	other := f.do("POST", "/v1/bays?wait=1m", `{"name":"b2"}`).is(201).uuid()
	f.do("POST", "/v1/containers?wait=1m", `{"name":"far","image":"busybox","bay":"b2"}`).is(201)
	for query, want := range map[string]string{
		"name=web":                        "web",
		"name=nope":                       "",
		"status=running":                  "run",
		"status=Stopped":                  "web db far",
		"label=tier%3Dweb":                "web",
		"label=tier":                      "web db",
		"label=tier%3Dweb&label=a%3D1":    "web",
		"label=tier%3Dweb&label=a%3D2":    "",
		"bay=b2":                          "far",
		"bay=" + other:                    "far",
		"bay=b1&status=Stopped":           "web db",
		"host=host-2":                     "far",
		"host=" + f.agent.HostID:          "web db run",
		"host=nope":                       "",
		"label=tier&sort_dir=desc":        "db web",
		"label=tier&limit=1":              "web",
		"all_projects=true&sort_key=name": "db far run web",
		"status=Stopped&sort_key=bay_uuid&sort_key=id": "",
	} {
		r := f.do("GET", "/v1/containers?"+query, "")
		if strings.Count(query, "sort_key") > 1 {
			r.is(400)
			continue
		}
		if got := r.is(200).names("containers"); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	// A status that nothing can have is a slip, not an empty list.
	for list, one := range map[string]string{"containers": "Running", "pods": "Succeeded", "bays": "CREATE_COMPLETE", "hosts": "lost"} {
		f.do("GET", "/v1/"+list+"?status="+one, "").is(200)
		f.do("GET", "/v1/"+list+"?status="+strings.ToLower(one), "").is(200)
		for _, slip := range []string{"Runing", "Gone"} {
			if r := f.do("GET", "/v1/"+list+"?status="+slip, "").is(400); !strings.Contains(string(r.body), one) {
				t.Errorf("%s of status %q: %s", list, slip, r.body)
			}
		}
	}
	next := f.do("GET", "/v1/containers?label=tier&label=a&limit=1", "").is(200).object()["next"].(string)
	if u, err := url.Parse(next); err != nil || fmt.Sprint(u.Query()["label"]) != "[tier a]" {
		t.Errorf("next %q loses filters", next)
	}
	if got := f.do("GET", "/v1/hosts?bay=b2", "").is(200).names("hosts"); got != "host-2" {
		t.Errorf("hosts of b2: %q", got)
	}
	if got := f.do("GET", "/v1/hosts/detail?sort_key=name&sort_dir=desc", "").is(200).names("hosts"); got != "host-2 host-1" {
		t.Errorf("hosts %q", got)
	}
	if got := f.do("GET", "/v1/bays?status=CREATE_COMPLETE&sort_key=name", "").is(200).names("bays"); got != "b1 b2" {
		t.Errorf("bays %q", got)
	}
}

// TestNodesShowHosts checks that operators see hosts as nodes of 2015.
func TestNodesShowHosts(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	agent := s.StartAgent(t, "host-1")
	admin, member := newCaller(t, s).as("admin"), newCaller(t, s).as("alice")
	stored := member.do("POST", "/v1/nodes", `{"type":"bare","image_id":"img","ironic_node_id":"x"}`).is(201).uuid()
	list := admin.do("GET", "/v1/nodes", "").is(200).items("nodes")
	if len(list) != 2 || list[0]["uuid"] != agent.HostID || list[0]["type"] != "host" || list[1]["uuid"] != stored ||
		list[1]["type"] != "bare" {
		t.Errorf("operator's nodes %v", list)
	}
	if list = member.do("GET", "/v1/nodes/detail", "").is(200).items("nodes"); len(list) != 1 || list[0]["uuid"] != stored {
		t.Errorf("member's nodes %v", list)
	}
	if got := admin.do("GET", "/v1/nodes/"+agent.HostID, "").is(200).object()["name"]; got != "host-1" {
		t.Errorf("host as a node: %v", got)
	}
	member.do("GET", "/v1/nodes/"+agent.HostID, "").is(404)
	admin.do("DELETE", "/v1/nodes/"+agent.HostID, "").is(404) // hosts aren't deleted this way
	if got := member.do("PATCH", "/v1/nodes/"+stored,
		`[{"op":"replace","path":"/type","value":"virt"},{"op":"remove","path":"/image_id"}]`).is(200).object(); got["type"] != "virt" ||
		got["image_id"] != nil || got["updated_at"] == nil {
		t.Errorf("patched node %v", got)
	}
	member.do("DELETE", "/v1/nodes/"+stored, "").is(204)
	host := admin.do("GET", "/v1/hosts/host-1", "").is(200).object()
	if host["state"] != "ready" || host["cores"] != 4.0 || host["uuid"] != agent.HostID || host["bay_uuid"] != nil {
		t.Errorf("host %v", host)
	}
}

// TestUnusualNames checks names that need escapes or look like something else.
func TestUnusualNames(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"ünï-çødé", "with space", "日本語", "a/b", "%41", "a?b#c", "detail", "..", strings.Repeat("é", 255),
		structs.NewID() + "x", "{}", "<&>", "  "} {
		id := f.do("POST", "/v1/containers", toJSON(t, map[string]string{"name": name, "image": "busybox", "bay": f.bay})).is(201).uuid()
		if got := f.do("GET", "/v1/containers/"+id, "").is(200).object()["name"]; got != name {
			t.Errorf("name %q is shown as %q", name, got)
		}
		if name == "detail" || name == ".." {
			continue // in a path these are the list and another path
		}
		if got := f.do("GET", "/v1/containers/"+url.PathEscape(name), "").is(200).uuid(); got != id {
			t.Errorf("%q leads to %s, want %s", name, got, id)
		}
	}
	// Two objects may have the same name. A UUID in the request is used.
	id := structs.NewID()
	if got := f.do("POST", "/v1/bays", `{"name":"b1","uuid":"`+id+`"}`).is(201).uuid(); got != id {
		t.Errorf("uuid %s, want %s", got, id)
	}
	if got := f.do("GET", "/v1/bays/"+id, "").is(200).object()["name"]; got != "b1" {
		t.Errorf("name %v", got)
	}
	if got := f.do("POST", "/v1/containers", `{"name":null,"image":"busybox","bay":"`+f.bay+`"}`).is(201).object()["name"]; got == "" ||
		got == nil {
		t.Errorf("generated name %v", got)
	}
}

// TestLenientValues checks values in other JSON types, which the API of 2015 accepted.
func TestLenientValues(t *testing.T) {
	f := newFixture(t)
	got := f.do("POST", "/v1/bays", ` {"name":"x","node_count":"2","bay_create_timeout":"5","discovery_url":null,"labels":null,`+
		`"shared":"True","api_address":null,"coe":"swarm","placement":"binpack"} `).is(201).object()
	if got["node_count"] != 2.0 || got["bay_create_timeout"] != 5.0 || got["shared"] != true || got["coe"] != "swarm" ||
		got["placement"] != "binpack" {
		t.Errorf("bay %v", got)
	}
	c := f.do("POST", "/v1/containers?run=", `{"image_id":"busybox","bay":"b1","command":["echo","a b"],"entrypoint":"/bin/sh -c",`+
		`"memory":"512m","cpu":"0.5","ports":[{"container_port":"80"}],"tty":"true","stop_timeout":"3","environment":{"A":"b"},`+
		`"volumes":[{"name":"data","target":"/data"}],"restart_policy":"on-failure:3"}`).is(201).object()
	if fmt.Sprint(c["command"]) != "[echo a b]" || fmt.Sprint(c["entrypoint"]) != "[/bin/sh -c]" || c["memory"] != float64(512<<20) ||
		c["cpu"] != 0.5 || c["tty"] != true ||
		c["stop_timeout"] != 3.0 || fmt.Sprint(c["ports"]) != "[map[container_port:80 host_port:0 protocol:tcp]]" ||
		c["restart_policy"] != "on-failure:3" || fmt.Sprint(c["environment"]) != "map[A:b]" {
		t.Errorf("container %v", c)
	}
}

// hosted makes a request with another Host header.
func (c *caller) hosted(host, method, path string) *reply {
	c.t.Helper()
	return c.do(method, path, "", header{"Host", host})
}
