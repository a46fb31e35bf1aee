package command

import (
	"strings"
	"testing"
)

const (
	web = `{"uuid":"22222222-0000-4000-8000-000000000002","name":"web","bay_uuid":"b1","image_id":"nginx","command":null,` +
		`"status":"Running","links":[{"href":"http://h/v1/containers/2","rel":"self"}],` +
		`"status_reason":null,"host":"h1","addresses":["10.0.0.2"],"ports":[{"container_port":80,"host_port":8080,"protocol":"tcp"}],` +
		`"exit_code":null,"environment":{"A":"1"},"memory":536870912}`
	db = `{"uuid":"11111111-0000-4000-8000-000000000001","name":null,"bay_uuid":"b1","image_id":"pg","command":["sh","-c","x"],` +
		`"status":"Creating","links":[],"status_reason":"no host fits:\nmemory"}`
)

func TestLists(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers", 200, `{"containers":[`+web+`,`+db+`]}`)
	f.answer("GET /v1/containers/detail", 200, `{"containers":[`+web+`,`+db+`]}`)
	f.answer("GET /v1/bays", 200, `{"bays":[{"uuid":"b1","name":"k8s1","node_count":2,"status":"CREATE_COMPLETE","bay_create_timeout":0,`+
		`"links":[]}]}`)
	f.answer("GET /v1/baymodels", 200, `{"baymodels":[]}`)
	f.answer("GET /v1/baymodels/detail", 200, `{"baymodels":[]}`)
	f.answer("GET /v1/nodes", 200, `{"nodes":[{"uuid":"n1","type":"virt","image_id":null}]}`)
	f.answer("GET /v1/hosts/detail", 200, `{"hosts":[{"uuid":"h1","name":"alpha","state":"ready","backend":"docker","containers":3}]}`)
	s := newShell(t, f)
	var all strings.Builder
	for _, line := range []string{
		"bay-list", "baymodel-list", "node-list", "host-list", "container-list", "container-list -wide", "container-list -q",
		"container-list -sort-key created_at", "container-list -json", "container-list -format json",
		"container-list -format {{.name}}={{.status}}", "baymodel-list -json", "baymodel-list -q",
	} {
		r := s.run(strings.Fields(line)...)
		all.WriteString("$ magnum " + line + "\n" + r.stdout + r.stderr)
		if r.code != 0 {
			t.Errorf("%s: code %d, %s", line, r.code, r.stderr)
		}
	}
	golden(t, "lists", all.String())
}

func TestListSendsFiltersAndPaging(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers", 200, `{"containers":[]}`)
	r := newShell(t, f).run("container-list", "-name", "web", "-status=Running", "-bay", "b1", "-host", "h", "-label", "a=b", "-label",
		"c=d",
		"-limit", "5", "-marker", "m", "-sort-key", "name", "-sort-dir", "desc", "-all-projects", "-consistent", "-stale")
	want := "GET /v1/containers?all_projects=true&bay=b1&consistent=true&host=h&label=a%3Db&label=c%3Dd&limit=5&marker=m&name=web&" +
		"sort_dir=desc&sort_key=name&stale=true&status=Running"
	if got := f.requests(); r.code != 0 || len(got) != 1 || got[0] != want {
		t.Errorf("code %d, %s, asked %q\nwant %q", r.code, r.stderr, got, want)
	}
}

func TestShow(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/web", 200, web)
	f.answer("GET /v1/containers/db", 200, db)
	s := newShell(t, f)
	var all strings.Builder
	for _, line := range []string{
		"container-show web", "container-show db", "container-show --json web", "container-show web -format json",
		"container-show web -format {{.name}}:{{.memory}}:{{(index$.ports$0).host_port}}:{{.command}}",
		"container-show -format {{json$.ports}}{{upper$.name}}{{join$.addresses$\",\"}}{{if$gt$.memory$1000}}big{{end}} web",
	} {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "$", " ")
		}
		r := s.run(args...)
		all.WriteString("$ magnum " + strings.Join(args, " ") + "\n" + r.stdout + r.stderr)
		if r.code != 0 {
			t.Errorf("%s: code %d, %s", line, r.code, r.stderr)
		}
	}
	golden(t, "show", all.String())
	if r := s.run("container-show", "-json", "web"); r.stdout != web+"\n" {
		t.Errorf("-json prints %s", r.stdout)
	}
}

func TestFormatErrors(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/web", 200, web)
	s := newShell(t, f)
	for _, tt := range []struct {
		args  []string
		want  string
		asked bool
	}{
		{[]string{"-format", "{{.name"}, "-format:", false},
		{[]string{"-format", "yaml"}, "neither table nor json", false},
		{[]string{"-format", "table", "-json"}, "exclude each other", false},
		{[]string{"-format", "{{.nope}}"}, "the fields are uuid, name", true},
	} {
		before := len(f.requests())
		r := s.run(append([]string{"container-show", "web"}, tt.args...)...)
		if r.code != 2 || !strings.Contains(r.stderr, tt.want) || (len(f.requests()) > before) != tt.asked {
			t.Errorf("%q: code %d, %q, want 2 and %q; asked the server %v", tt.args, r.code, r.stderr, tt.want, len(f.requests()) > before)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	s := newShell(t, newFakeAPI(t))
	for line, want := range map[string]string{
		"bay-list x":                "one argument too many",
		"bay-show":                  "BAY is missing",
		"bay-show a b":              "one argument too many",
		"host-show":                 "HOST is missing",
		"bay-delete":                "BAY is missing",
		"baymodel-delete":           "BAYMODEL is missing",
		"container-start":           "CONTAINER is missing",
		"container-delete":          "CONTAINER is missing",
		"container-logs":            "CONTAINER is missing",
		"container-execute":         "CONTAINER is missing",
		"container-execute c1":      "COMMAND is missing",
		"container-run":             "IMAGE is missing",
		"bay-update web replace":    "PATH=VALUE is missing",
		"bay-update web mend a=b":   "is not add, replace or remove",
		"bay-update web add a":      "has no value",
		"bay-update web remove =":   "has no path",
		"baymodel-create -name x":   "flag -coe is missing",
		"completion":                "the shell's name",
		"completion csh":            "must be one of the shells",
		"status x":                  "one argument too many",
		"node-create x":             "one argument too many",
		"bay-create x":              "one argument too many",
		"bay-create -node-count 0":  "is below 1",
		"bay-create -label =x":      "has no key",
		"container-logs -tail x c1": "must be a number of lines or all",
		"container-stop -wait x c1": "is not a duration",
	} {
		r := s.run(strings.Fields(line)...)
		if r.code != 2 || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "Usage: magnum "+strings.Fields(line)[0]) {
			t.Errorf("%s: code %d, %q, want 2, %q and the usage", line, r.code, r.stderr, want)
		}
	}
}
