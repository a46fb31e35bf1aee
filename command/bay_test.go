package command

import (
	"net/http"
	"strings"
	"testing"
)

func bayJSON(status, reason string) string {
	return `{"uuid":"b1","name":"web","baymodel_id":null,"node_count":3,"status":"` + status + `","links":[],"status_reason":"` + reason +
		`"}`
}

func TestBayCreateWaitsForItsHosts(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/bays", 201, bayJSON("CREATE_IN_PROGRESS", "0 of 3 hosts"))
	f.answer("GET /v1/bays/b1", 200, bayJSON("CREATE_IN_PROGRESS", "0 of 3 hosts"), bayJSON("CREATE_IN_PROGRESS", "2 of 3 hosts"),
		bayJSON("CREATE_COMPLETE", ""))
	r := newShell(t, f).run("bay-create", "--name", "web", "--node-count", "3", "--baymodel", "small", "--timeout", "5", "-label", "zone=a",
		"-placement", "binpack", "-shared", "--discovery-url", "http://x")
	if r.code != 0 || !strings.Contains(r.stdout, "| status        | CREATE_COMPLETE |") || strings.Contains(r.stdout, "links") {
		t.Errorf("code %d, stdout\n%s", r.code, r.stdout)
	}
	want := "web: CREATE_IN_PROGRESS: 0 of 3 hosts\nweb: CREATE_IN_PROGRESS: 2 of 3 hosts\nweb: CREATE_COMPLETE\n"
	if r.stderr != want {
		t.Errorf("progress %q, want %q", r.stderr, want)
	}
	asked := f.requests()
	body := `POST /v1/bays {"name":"web","baymodel_id":"small","node_count":3,"discovery_url":"http://x","bay_create_timeout":5,` +
		`"labels":{"zone":"a"},"placement":"binpack","shared":true}`
	if asked[0] != body || asked[1] != "GET /v1/bays/b1" || asked[2] != "GET /v1/bays/b1?index=1&wait=30s" {
		t.Errorf("asked %q", asked)
	}
}

func TestBayCreateResults(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/bays", 201, bayJSON("CREATE_IN_PROGRESS", "0 of 3 hosts"))
	f.answer("GET /v1/bays/b1", 200, bayJSON("CREATE_IN_PROGRESS", "0 of 3 hosts"))
	s := newShell(t, f)
	if r := s.run("bay-create", "-detach"); r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "CREATE_IN_PROGRESS") ||
		len(f.requests()) != 1 {
		t.Errorf("-detach: %+v, asked %q", r, f.requests())
	}
	if r := s.givesUp(`ERROR: bay web is still CREATE_IN_PROGRESS after WAIT: 0 of 3 hosts. It goes on without you: see `+
		`"magnum bay-show b1"`,
		"bay-create", "-wait", "WAIT"); r.stdout != "" {
		t.Errorf("-wait: %+v", r)
	}
	f.answer("GET /v1/bays/b1", 200, bayJSON("CREATE_FAILED", "no hosts in 5 minutes"))
	if r := s.run("bay-create"); r.code != 1 || !strings.Contains(r.stderr, "ERROR: bay web: CREATE_FAILED: no hosts in 5 minutes.") {
		t.Errorf("CREATE_FAILED: %+v", r)
	}
	f.answer("GET /v1/bays/b1", 404, `{"errors":[{"code":"bay.not_found","detail":"Bay b1 could not be found."}]}`)
	if r := s.run("bay-create"); r.code != 1 || !strings.Contains(r.stderr, "could not be found. (HTTP 404)") {
		t.Errorf("deleted meanwhile: %+v", r)
	}
}

func TestWaitRetriesWhileServerIsAway(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/bays", 201, bayJSON("CREATE_IN_PROGRESS", ""))
	n := 0
	f.handle("GET /v1/bays/b1", func(w http.ResponseWriter, _ *http.Request) {
		n++
		switch n {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(503)
		default:
			w.Write([]byte(bayJSON("CREATE_COMPLETE", "")))
		}
	})
	r := newShell(t, f).run("bay-create")
	if r.code != 0 || !strings.Contains(r.stderr, "the server does not answer; trying again\n") {
		t.Errorf("%+v", r)
	}
}

func TestBayUpdate(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("PATCH /v1/bays/web", 200, bayJSON("UPDATE_COMPLETE", ""))
	s := newShell(t, f)
	for line, want := range map[string]string{
		"replace node_count=3":         `[{"op":"replace","path":"/node_count","value":3}]`,
		"add name=foo /discovery=h?a=": `[{"op":"add","path":"/name","value":"foo"},{"op":"add","path":"/discovery","value":"h?a="}]`,
		"remove name labels/x":         `[{"op":"remove","path":"/name"},{"op":"remove","path":"/labels/x"}]`,
		"replace shared=false":         `[{"op":"replace","path":"/shared","value":false}]`,
	} {
		r := s.run(append([]string{"bay-update", "web"}, strings.Fields(line)...)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != "PATCH /v1/bays/web "+want {
			t.Errorf("%s: %+v, asked %s", line, r, asked[len(asked)-1])
		}
	}
}

func TestBayDeleteContinuesAfterFailure(t *testing.T) {
	f := newFakeAPI(t)
	gone := `{"errors":[{"code":"bay.not_found","detail":"Bay x could not be found."}]}`
	f.answer("GET /v1/bays/x", 404, gone)
	f.answer("GET /v1/bays/web", 200, bayJSON("CREATE_COMPLETE", ""))
	f.answer("DELETE /v1/bays/b1", 204, "")
	f.answer("DELETE /v1/bays/web", 204, "")
	n := 0
	f.handle("GET /v1/bays/b1", func(w http.ResponseWriter, _ *http.Request) {
		if n++; n < 3 {
			w.Write([]byte(bayJSON("DELETE_IN_PROGRESS", "2 containers left")))
			return
		}
		w.WriteHeader(404)
		w.Write([]byte(gone))
	})
	s := newShell(t, f)
	r := s.run("bay-delete", "x", "web")
	want := "web: DELETE_IN_PROGRESS: 2 containers left\nDelete for bay x failed: Bay x could not be found. (HTTP 404)\n\"magnum " +
		"bay-list\" lists them.\n"
	if r.code != 1 || r.stdout != "" || r.stderr != want {
		t.Errorf("code %d, %q, want 1 and %q", r.code, r.stderr, want)
	}
	if n != 3 {
		t.Errorf("the bay was read %d times, want until it is gone: 3", n)
	}
	if r := s.run("bay-delete", "-detach", "web"); r.code != 0 || r.stderr != "" {
		t.Errorf("-detach: %+v", r)
	}
	f.answer("GET /v1/bays/b1", 200, bayJSON("DELETE_IN_PROGRESS", "1 container left"))
	s.givesUp("it is still DELETE_IN_PROGRESS after WAIT: 1 container left", "bay-delete", "web", "-wait", "WAIT")
}

func TestBayModelAndNodeCreate(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/baymodels", 201, `{"uuid":"m1","name":"bm","links":[]}`)
	f.answer("POST /v1/nodes", 201, `{"uuid":"n1","type":"virt"}`)
	f.answer("DELETE /v1/baymodels/a", 204, "")
	f.answer("DELETE /v1/baymodels/b", 400, `{"errors":[{"code":"invalid","detail":"Baymodel b is used by a bay."}]}`)
	s := newShell(t, f)
	r := s.run("baymodel-create", "--name", "bm", "--image-id", "img", "--keypair-id", "kp", "--external-network-id", "net", "--coe",
		"swarm",
		"--dns-nameserver", "8.8.8.8", "--flavor-id", "m1.medium", "--docker-volume-size", "5")
	if r.code != 0 || !strings.Contains(r.stdout, "| uuid     | m1    |") {
		t.Errorf("baymodel-create: %+v", r)
	}
	r = s.run("node-create", "--type", "virt", "--image-id", "img")
	if r.code != 0 || !strings.Contains(r.stdout, "| type     | virt  |") {
		t.Errorf("node-create: %+v", r)
	}
	asked := f.requests()
	if asked[0] != `POST /v1/baymodels {"name":"bm","coe":"swarm","image_id":"img","flavor_id":"m1.medium","keypair_id":"kp",`+
		`"external_network_id":"net","dns_nameserver":"8.8.8.8","docker_volume_size":5}` ||
		asked[1] != `POST /v1/nodes {"type":"virt","image_id":"img"}` {
		t.Errorf("asked %q", asked)
	}
	r = s.run("baymodel-delete", "b", "a")
	if r.code != 1 || r.stderr != "Delete for baymodel b failed: Baymodel b is used by a bay. (HTTP 400)\n" {
		t.Errorf("baymodel-delete: %+v", r)
	}
}
