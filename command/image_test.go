package command

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

const imagesJSON = `{"images":[{"id":"sha256:01","names":["busybox:1","busybox:latest"],"size":1572864,"in_use":true,"created_at":null,` +
	`"pulled_at":null,"used_at":null,"host":"h1","host_uuid":"u1","bay_uuid":null}],` +
	`"errors":[{"host":"h2","host_uuid":"u2","code":"unavailable","message":"the host is \u001b[31mlost"}]}`

func TestImageList(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/images", 200, imagesJSON)
	s := newShell(t, f)
	r := s.run("image-list", "-bay", "b", "-host", "h", "-name", "n", "-all-projects", "-consistent")
	want := `+------+---------------------------+------+--------+
| host | names                     | size | in_use |
+------+---------------------------+------+--------+
| h1   | busybox:1, busybox:latest | 1.5m | true   |
+------+---------------------------+------+--------+
`
	if r.code != 0 || r.stdout != want || r.stderr != "Host h2 is left out: the host is \\x1b[31mlost\n" {
		t.Errorf("%+v, want\n%s", r, want)
	}
	if asked := f.requests(); asked[0] != "GET /v1/images?all_projects=true&bay=b&consistent=true&host=h&name=n" {
		t.Errorf("asked %q", asked)
	}
	if r := s.run("image-list", "-wide"); !strings.Contains(r.stdout, "sha256:01") {
		t.Errorf("%+v", r)
	}
	if r := s.run("image-list", "-json"); !strings.HasPrefix(r.stdout, `[{"id":"sha256:01",`) {
		t.Errorf("%+v", r)
	}
	if r := s.run("image-list", "-format", `{{.host}} {{join .names ","}} {{.size}}`); r.stdout != "h1 busybox:1,busybox:latest 1572864\n" {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/images", 200, `{"images":null}`)
	if r := s.run("image-list", "-json"); r.code != 0 || r.stdout != "[]\n" {
		t.Errorf("%+v", r)
	}
}

func TestImagePull(t *testing.T) {
	f := newFakeAPI(t)
	lines := []string{
		`{"host":"h1","host_uuid":"u1","result":"progress","code":"","message":"pulling a: 1 of 2 layers","images":[],"size":0}`,
		`{"host":"h1","host_uuid":"u1","result":"success","code":"","message":null,"images":["a"],"size":0}`,
		`{"host":"h2","host_uuid":"u2","result":"error","code":"not_found","message":"no such host","images":[],"size":0}`,
	}
	send := func(n, m int) {
		f.handle("POST /v1/images", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "application/x-ndjson" {
				t.Errorf("accepts %q", r.Header.Get("Accept"))
			}
			io.WriteString(w, strings.Join(lines[n:m], "\n")+"\n")
		})
	}
	s := newShell(t, f)
	send(0, 2)
	r := s.run("image-pull", "a")
	if r.code != 0 || !strings.Contains(r.stdout, "| h1   | success | a      |") || r.stderr != "h1: pulling a: 1 of 2 layers\n" {
		t.Errorf("%+v", r)
	}
	send(0, 3)
	if r := s.run("image-pull", "-bay", "b", "a"); r.code != 1 || !strings.Contains(r.stdout, "| h2   | error   |") ||
		!strings.HasSuffix(r.stderr, "Pull on host h2 failed: no such host\n") {
		t.Errorf("%+v", r)
	}
	send(2, 3)
	s.stdin = strings.NewReader("s3cret\n")
	if r := s.run("image-pull", "-host", "h2", "-registry-username", "joe", "-registry-password-stdin", "-debug", "a"); r.code != 1 ||
		r.stdout != "" || strings.Contains(r.stderr, "s3cret") {
		t.Errorf("%+v", r)
	}
	asked := f.requests()
	want := `POST /v1/images {"image":"a","bay_uuid":"","bay":"","host":"h2","registry":{"username":"joe","password":"s3cret"}}`
	if asked[len(asked)-1] != want {
		t.Errorf("asked %s, want %s", asked[len(asked)-1], want)
	}
	f.answer("POST /v1/images", 400, `{"errors":[{"code":"bay.invalid","hint":"choose","detail":"there are 2 bays: a, b"}]}`)
	if r := s.run("image-pull", "a"); r.code != 1 || !strings.Contains(r.stderr, "Choose one with -bay.") {
		t.Errorf("%+v", r)
	}
	f.handle("POST /v1/images", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, lines[0]+"\n"+lines[1][:10])
	})
	if r := s.run("image-pull", "a"); r.code != 1 || !strings.Contains(r.stderr, "broke off") {
		t.Errorf("%+v", r)
	}
}

func TestImageLoad(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("PUT /v1/images/load", 200,
		`{"results":[{"host":"h1","host_uuid":"u1","result":"success","code":"","message":null,"images":["a:1","b:1"],"size":0}]}`)
	dir := t.TempDir()
	file, huge := filepath.Join(dir, "images.tar"), filepath.Join(dir, "huge.tar")
	if err := os.WriteFile(file, []byte("a tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, structs.MaxImageFile+1); err != nil { // a sparse file
		t.Fatal(err)
	}
	s := newShell(t, f)
	for _, line := range [][]string{{file}, {"-i", file}, {"-input", file, "-bay", "b"}, {"-host", "h"}, {"-"}} {
		s.stdin = strings.NewReader("a tar")
		r := s.run(append([]string{"image-load"}, line...)...)
		asked := f.requests()
		if r.code != 0 || !strings.Contains(r.stdout, "| h1   | success | a:1, b:1 |") ||
			!strings.HasPrefix(asked[len(asked)-1], "PUT /v1/images/load") || !strings.HasSuffix(asked[len(asked)-1], " a tar") {
			t.Errorf("%q: %+v, asked %q", line, r, asked[len(asked)-1])
		}
	}
	before := len(f.requests())
	for want, line := range map[string][]string{
		"is a directory": {dir}, "no such file": {filepath.Join(dir, "none")}, "more than 10 GiB": {huge},
	} {
		if r := s.run(append([]string{"image-load"}, line...)...); r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: %+v", line, r)
		}
	}
	if len(f.requests()) != before {
		t.Error("an invalid archive was sent")
	}
	f.answer("PUT /v1/images/load", 413, `{"errors":[{"code":"too_large","detail":"the archive is larger than 5 bytes"}]}`)
	if r := s.run("image-load", file); r.code != 1 || !strings.Contains(r.stderr, "larger than 5 bytes (HTTP 413)") {
		t.Errorf("%+v", r)
	}
}

func TestImagePrune(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("PUT /v1/images/prune", 200,
		`{"results":[{"host":"h1","host_uuid":"u1","result":"success","code":"","message":null,"images":["a:1"],"size":1048576}]}`)
	s := newShell(t, f)
	for line, want := range map[string]string{"-all": "?all=true", "-bay b": "?bay=b", "-host h": "?host=h"} {
		r := s.run(append([]string{"image-prune"}, strings.Fields(line)...)...)
		asked := f.requests()
		if r.code != 0 || !strings.Contains(r.stdout, "| h1   | success | a:1    | 1.0m |") ||
			asked[len(asked)-1] != "PUT /v1/images/prune"+want {
			t.Errorf("%s: %+v, asked %q", line, r, asked[len(asked)-1])
		}
	}
}

func TestVolumes(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/volumes", 200,
		`{"volumes":[{"name":"data","project_id":"p","created_at":null,"used_by":["web1"],"host":"h1","host_uuid":"u1",`+
			`"bay_uuid":null}],"errors":[]}`)
	f.answer("DELETE /v1/volumes/data", 204, "")
	f.answer("DELETE /v1/volumes/busy", 409,
		`{"errors":[{"code":"volume.conflict","detail":"Volume busy on host h1 is used by container web1: delete that first"}]}`)
	f.answer("DELETE /v1/volumes/none", 404, `{"errors":[{"code":"volume.not_found","detail":"Volume none could not be found."}]}`)
	s := newShell(t, f)
	if r := s.run("volume-list"); r.code != 0 || !strings.Contains(r.stdout, "| data | h1   | web1    |") || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if r := s.run("volume-delete", "-host", "h1", "-project", "p", "-bay", "b", "data"); r.code != 0 || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	if asked := f.requests(); asked[1] != "DELETE /v1/volumes/data?bay=b&host=h1&project_id=p" {
		t.Errorf("asked %q", asked)
	}
	want := "Delete for volume busy failed: Volume busy on host h1 is used by container web1: delete that first (HTTP 409)\n" +
		"Delete for volume none failed: Volume none could not be found. (HTTP 404)\n\"magnum volume-list\" lists them.\n"
	if r := s.run("volume-delete", "busy", "data", "none"); r.code != 1 || r.stderr != want {
		t.Errorf("%+v, want %q", r, want)
	}
}

func TestImageAndVolumeUsageErrors(t *testing.T) {
	s := newShell(t, newFakeAPI(t))
	for line, want := range map[string]string{
		"image-pull": "IMAGE is missing", "image-pull a b": "one argument too many", "image-list x": "one argument too many",
		"image-load a b": "one argument too many", "image-load -i a b": "leave out one", "image-prune": "give -bay, -host or -all",
		"image-prune x": "one argument too many",
		"volume-delete": "VOLUME is missing", "volume-list -format x": "no template",
		"image-pull -registry-server r a": "-registry-username is missing",
		"pull a":                          "did you mean image-pull?", "images": "did you mean image-list?", "volume rm": "did you mean",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}
