package zun

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

func TestVersionHeaderSelectsDialect(t *testing.T) {
	for said, want := range map[string]string{
		"": "", "container 1.12": "container 1.12", "container latest": "container 1.40", "container 1.99": "container 1.40",
		"compute 2.1, container 1.7": "container 1.7", "compute 2.1": "", "container 2.0": "", "container 1.0": "", "container": "",
		"container 1.x": "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(headerVersion, said)
		answer := http.Header{}
		if got := asked(r, answer); got != (want != "") || answer.Get(headerVersion) != want || (answer.Get("Vary") != "") != got {
			t.Errorf("%q: asked %v, answered %v", said, got, answer)
		}
	}
}

func TestNoneArgumentsAreDropped(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "a=1": "a=1", "a=None": "", "a=None&b=x": "b=x", "a=None&a=x": "a=x", "b=None;": "b=None;",
		"all_tenants=1": "all_projects=1", "all_tenants=None": "", "all_projects=0&all_tenants=1": "all_projects=0&all_tenants=1",
	} {
		if got := translate(raw); got != want {
			t.Errorf("%q becomes %q, want %q", raw, got, want)
		}
	}
}

func TestMemoryIsInMiB(t *testing.T) {
	for in, want := range map[string]int64{`"512"`: 512 << 20, `512`: 512 << 20, `"512m"`: 512 << 20, `"1g"`: 1 << 30, `"0"`: 0} {
		var n memory
		if err := json.Unmarshal([]byte(in), &n); err != nil || int64(n) != want {
			t.Errorf("%s: %d %v, want %d", in, n, err, want)
		}
	}
	for _, in := range []string{`"x"`, `-1`, `""`} {
		var n memory
		if err := n.UnmarshalJSON([]byte(in)); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %d %v", in, n, err)
		}
	}
}

// TestUnsupportedFieldsAreRefused checks that unsupported fields are refused, and that the
// others are translated.
func TestUnsupportedFieldsAreRefused(t *testing.T) {
	for body, says := range map[string]string{
		`{"nets":[{"network":"n"}]}`: "nets is not supported", `{"security_groups":["s"]}`: "security_groups is not supported",
		`{"runtime":"kata"}`: "runtime is not supported",
		`{"disk":5}`:         "disk is not supported", `{"availability_zone":"z"}`: "availability_zone is not supported",
		`{"auto_heal":true}`: "auto_heal is not supported",
		`{"registry":"r"}`:   "registry is not supported", `{"host":"h"}`: "host is not supported",
		`{"privileged":"true"}`:     "privileged containers are not allowed",
		`{"image_driver":"glance"}`: "image_driver", `{"mounts":[{"source":"v","size":"1"}]}`: "mounts[0]",
		`{"healthcheck":{"cmd":""}}`: "healthcheck.cmd",
	} {
		var r createRequest
		if err := createShape.Decode([]byte(body), &r); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if _, err := r.request(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", body, err, says)
		}
	}
	var r createRequest
	if err := createShape.Decode([]byte(`{"image":"busybox","command":[],"runtime":"runc","disk":0,"hints":{"bay":"b","zone":"x"},`+
		`"restart_policy":{"Name":"on-failure","MaximumRetryCount":"3"},"exposed_ports":{"80/tcp":{}},"mounts":[{"source":"v",`+
		`"destination":"/v"}],"interactive":"True"}`), &r); err != nil {
		t.Fatal(err)
	}
	got, err := r.request()
	want := &structs.ContainerRequest{
		Image: "busybox", Bay: "b", ContainerSpec: structs.ContainerSpec{
			Constraints:   map[string]string{"zone": "x"},
			RestartPolicy: structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: 3}, Stdin: true,
			Ports: []structs.Port{{ContainerPort: 80, Protocol: "tcp"}}, Volumes: []structs.Mount{{Name: "v", Target: "/v"}},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v (%v), not %+v", got, err, want)
	}
}

func TestReadArchive(t *testing.T) {
	var archive service.Archive
	defer archive.Close()
	if err := readArchive(strings.NewReader(" { \"data\" : \"aGVsbG8=\" } \n"), &archive); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(archive.Reader()); err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
	for _, body := range []string{"", "{}", `{"data":"aGVsbG8="`, `{"data":"aGVsbG8=","x":1}`, `{"data":"aGVsbG8="}x`, `{"data":"a b"}`,
		`{"data":aGVsbG8=}`, `{"data":"aGVs`} {
		var archive service.Archive
		if err := readArchive(strings.NewReader(body), &archive); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%q: %v", body, err)
		}
		archive.Close()
	}
}
