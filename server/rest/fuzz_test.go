package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// ask makes a request without a network.
func ask(t testing.TB, s *servertest.Server, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	path, query, _ := strings.Cut(target, "?")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.URL.RawQuery = query
	w := httptest.NewRecorder()
	s.REST.ServeHTTP(w, r)
	return w
}

// orderly checks that a response isn't a failure of the server, and that a refusal has
// changed nothing.
func orderly(t *testing.T, s *servertest.Server, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	before := s.Store.Hash()
	w := ask(t, s, method, target, body)
	if w.Code >= 500 || w.Code/100 == 3 {
		t.Fatalf("%s %s %q: status %d: %s", method, target, body, w.Code, w.Body)
	}
	if w.Code != http.StatusNoContent && !json.Valid(w.Body.Bytes()) {
		t.Fatalf("%s %s %q: the answer is no JSON: %s", method, target, body, w.Body)
	}
	if w.Code >= 400 && s.Store.Hash() != before {
		t.Fatalf("%s %s %q: refused with %d, and the state has changed", method, target, body, w.Code)
	}
	return w
}

// FuzzJSON posts bodies. Each one creates an object or is refused.
func FuzzJSON(f *testing.F) {
	nouns := []string{"bays", "baymodels", "nodes", "containers"}
	for i, bodies := range [][]string{
		{`{"name":"k8s1","baymodel_id":null,"node_count":"2","discovery_url":null,"bay_create_timeout":"5"}`,
			`{"labels":{"a":"b"},"shared":true,"placement":"binpack"}`, `{"node_count":1e3}`, `{"node_count":99999999999999999999}`},
		{`{"name":"bm","flavor_id":"m1.medium","image_id":"img","dns_nameserver":"8.8.8.8","docker_volume_size":"5","coe":"swarm"}`,
			`{"coe":"docker","apiserver_port":8080}`},
		{`{"type":"virt","image_id":"img"}`, `{"uuid":"00000000-0000-4000-8000-000000000000"}`},
		{`{"name":"c1","image_id":"busybox:latest","command":"sleep 100","bay_uuid":"b1"}`,
			`{"image":"a","bay":"b1","command":["a"],"ports":[{"container_port":80}],"volumes":[{"name":"v","target":"/x","size":0}],` +
				`"memory":"512m","cpu":0.5,"restart_policy":"on-failure:3","environment":{"A":"b"},"stop_timeout":"0","tty":"true"}`,
			`{"image":"a","bay":"b1","memory":1e400,"cpu":"nan"}`, `{"image":"a","bay":"b1","name":"\ud800\u0000"}`},
	} {
		for _, body := range append(bodies, "", "{", "null", "[]", `{"a":`+strings.Repeat("[", 100), `{"name":"x","name":"y"}`, "{}{}") {
			f.Add(byte(i), body)
		}
	}
	s := servertest.New(f)
	ask(f, s, "POST", "/v1/bays", `{"name":"b1"}`)
	f.Fuzz(func(t *testing.T, noun byte, body string) {
		path := "/v1/" + nouns[int(noun)%len(nouns)]
		w := orderly(t, s, "POST", path, body)
		if w.Code != http.StatusCreated {
			return
		}
		var made struct{ UUID string }
		if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || !structs.IsID(made.UUID) {
			t.Fatalf("%s: made %q (%v)", body, made.UUID, err)
		}
		if w := orderly(t, s, "GET", path+"/"+made.UUID, ""); w.Code != http.StatusOK {
			t.Fatalf("%s: made, and shown with %d", body, w.Code)
		}
		query := ""
		if path == "/v1/bays" {
			query = "?wait=10s" // the row is deleted a moment later
		}
		if w := orderly(t, s, "DELETE", path+"/"+made.UUID+query, ""); w.Code != http.StatusNoContent {
			t.Fatalf("%s: made, and deleted with %d", body, w.Code)
		}
	})
}

// FuzzPatch patches objects of every kind. Each PATCH is carried out or refused.
func FuzzPatch(f *testing.F) {
	s := servertest.New(f)
	var paths []string
	for noun, body := range map[string]string{"bays": `{"name":"b1"}`, "baymodels": `{"coe":"docker"}`, "nodes": `{}`, "containers": ""} {
		if noun == "containers" {
			continue
		}
		paths = append(paths, "/v1/"+noun+"/"+uuidOf(f, ask(f, s, "POST", "/v1/"+noun, body)))
	}
	paths = append(paths, "/v1/containers/"+uuidOf(f, ask(f, s, "POST", "/v1/containers", `{"image":"a","bay":"b1"}`)))
	for i := range paths {
		for _, body := range []string{
			`[{"op":"replace","path":"/node_count","value":3}]`,
			`[{"op":"add","path":"/name","value":"foo"},{"op":"add","path":"/discovery_url","value":"http://x"}]`,
			`[{"op":"remove","path":"/name"}]`, `[{"op":"replace","path":"/command","value":["a","b"]}]`,
			`[{"op":"add","path":"/labels/x","value":"y"}]`,
			`[{"op":"replace","path":"/docker_volume_size","value":"7"}]`, `[]`, `[{}]`, `[null]`, `{}`, `[{"op":"test","path":"/a"}]`,
			`[{"op":"add","path":"/uuid/0","value":{}}]`, "",
		} {
			f.Add(byte(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, at byte, body string) {
		path := paths[int(at)%len(paths)]
		w := orderly(t, s, "PATCH", path, body)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Fatalf("%s %q: status %d: %s", path, body, w.Code, w.Body)
		}
		if uuidOf(t, orderly(t, s, "GET", path, "")) != path[strings.LastIndexByte(path, '/')+1:] {
			t.Fatalf("%s %q: another uuid", path, body)
		}
	})
}

func uuidOf(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var made struct{ UUID string }
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || !structs.IsID(made.UUID) {
		t.Fatalf("no object: %d %s", w.Code, w.Body)
	}
	return made.UUID
}

// FuzzQuery reads lists with random queries. Each one gets a page or is refused.
func FuzzQuery(f *testing.F) {
	s := servertest.New(f)
	var last string
	for range 5 {
		last = uuidOf(f, ask(f, s, "POST", "/v1/baymodels", `{"coe":"docker"}`))
	}
	ask(f, s, "POST", "/v1/bays", `{"name":"b1"}`)
	for i, query := range []string{
		"limit=3", "limit=2&marker=" + last + "&sort_key=name&sort_dir=desc", "limit=0", "limit=-1", "limit=9223372036854775808",
		"marker=x",
		"sort_key=id&sort_dir=asc&limit=2&marker=" + last, "label=a%3Db&label=c", "status=Running&bay=b1&host=x", "all_projects=False",
		"a=%zz", "a;b", "limit=1&limit=2",
		"stale", "consistent=true", "index=0&wait=0", "name=%00", "name=%ff",
	} {
		f.Add(byte(i), query)
	}
	nouns := []string{"baymodels", "bays", "nodes", "hosts", "containers", "baymodels/detail", "containers/detail"}
	f.Fuzz(func(t *testing.T, noun byte, query string) {
		if values, err := url.ParseQuery(query); err == nil && (values.Has("index") || values.Has("wait")) {
			query = "wait=0&" + strings.ReplaceAll(query, "wait", "x") // it must not park
		}
		path := "/v1/" + nouns[int(noun)%len(nouns)]
		w := orderly(t, s, "GET", path+"?"+query, "")
		if w.Code != http.StatusOK {
			return
		}
		var page struct{ Next string }
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		if page.Next == "" {
			return
		}
		next, err := url.Parse(page.Next)
		if err != nil {
			t.Fatalf("%s: next %q: %v", query, page.Next, err)
		}
		if w := orderly(t, s, "GET", next.RequestURI(), ""); w.Code != http.StatusOK {
			t.Fatalf("%s: next %q answers %d: %s", query, page.Next, w.Code, w.Body)
		}
	})
}

// FuzzPath shows objects with random identifiers.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/v1/bays/x", "/v1/bays/%2F", "//", "/v1//bays", "/v1/containers/%C3%BC/logs", "/v1/containers/../bays",
		"/v1/bays/detail/", "/%", "/v1/agent/hosts/x/work", "/v1/bays/:id"} {
		f.Add(path)
	}
	s := servertest.New(f)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(path, "/") {
			return
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			r := httptest.NewRequest(method, "/", nil)
			r.URL = u
			w := httptest.NewRecorder()
			s.REST.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code/100 == 3 {
				t.Fatalf("%s %s: status %d: %s", method, path, w.Code, w.Body)
			}
		}
	})
}
