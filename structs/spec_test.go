package structs

import (
	"encoding/json"
	"strings"
	"testing"
)

func specOf(t *testing.T, body string) (ContainerSpec, error) {
	t.Helper()
	var r ContainerRequest
	if err := json.Unmarshal([]byte(body), &r); CodeOf(err) == CodeInvalid {
		return ContainerSpec{}, err // the field's type can't hold the number
	} else if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r.Spec()
}

func TestSpec(t *testing.T) {
	s, err := specOf(t, `{"image":"busybox","command":"sh -c 'a b'","memory":536870912,"cpu":0.5,"restart_policy":"on-failure:3",
		"ports":[{"container_port":80,"host_port":8080}],"volumes":[{"name":"data","target":"/data"},
		{"type":"tmpfs","target":"/tmp"}],"stop_timeout":0}`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Memory != 512<<20 || s.MilliCPU != 500 || s.RestartPolicy != (RestartPolicy{Name: RestartOnFailure, MaxRetries: 3}) ||
		s.StopSeconds() != 0 ||
		len(s.Command) != 3 || s.Ports[0].Protocol != "tcp" || s.Volumes[0].Type != MountVolume || s.PullPolicy != PullIfNotPresent {
		t.Errorf("%+v", s)
	}
	if s, err = specOf(t, `{"image_id":"busybox","image":"busybox"}`); err != nil || s.StopSeconds() != DefaultStopTimeout ||
		s.RestartPolicy.Name != RestartNo {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestSpecRefusals checks that the refusal for every limit names the field.
func TestSpecRefusals(t *testing.T) {
	long, third := strings.Repeat("x", MaxText+1), strings.Repeat("x", MaxEnvironment/3)
	for body, field := range map[string]string{
		`{}`:                                           "image_id",
		`{"image":"a","image_id":"b"}`:                 "image_id",
		`{"image":"a b"}`:                              "image_id",
		`{"image":"` + long + `"}`:                     "image_id",
		`{"image":"UPPER:tag:tag"}`:                    "image_id \"UPPER:tag:tag\"",
		`{"image":"a","workdir":"here"}`:               "workdir",
		`{"image":"a","workdir":"/` + long + `"}`:      "workdir",
		`{"image":"a","hostname":"-x"}`:                "hostname",
		`{"image":"a","hostname":"a_b"}`:               "hostname",
		`{"image":"a","hostname":"` + long[:64] + `"}`: "hostname",
		`{"image":"a","user":"` + long + `"}`:          "user",
		`{"image":"a","user":"a\u0000"}`:               "user",
		`{"image":"a","command":["` + strings.Repeat("x", MaxCommand+1) + `"]}`:                                 "command",
		`{"image":"a","entrypoint":["` + strings.Repeat("x", MaxCommand+1) + `"]}`:                              "entrypoint",
		`{"image":"a","environment":{"":"x"}}`:                                                                  "environment",
		`{"image":"a","environment":{"a=b":"x"}}`:                                                               "environment",
		`{"image":"a","environment":{"a":"\u0000"}}`:                                                            "environment",
		`{"image":"a","environment":{"a":"` + strings.Repeat("x", MaxVariable-1) + `"}}`:                        "environment: \"a\"",
		`{"image":"a","environment":{"a":"` + third + `","b":"` + third + `","c":"` + third + `"}}`:             "environment: 2621",
		`{"image":"a","labels":{"":"x"}}`:                                                                       "labels",
		`{"image":"a","labels":{"magnum.host":"x"}}`:                                                            "labels",
		`{"image":"a","labels":{"a":"` + long + `"}}`:                                                           "labels",
		`{"image":"a","constraints":{"":"x"}}`:                                                                  "constraints",
		`{"image":"a","memory":1}`:                                                                              "memory",
		`{"image":"a","memory":2199023255552000}`:                                                               "memory",
		`{"image":"a","cpu":-1}`:                                                                                "cpu",
		`{"image":"a","cpu":0.0001}`:                                                                            "cpu",
		`{"image":"a","cpu":1e9}`:                                                                               "cpu",
		`{"image":"a","stop_timeout":-1}`:                                                                       "stop_timeout",
		`{"image":"a","stop_timeout":3601}`:                                                                     "stop_timeout",
		`{"image":"a","log_max_size":1}`:                                                                        "log_max_size",
		`{"image":"a","log_max_size":2147483648}`:                                                               "log_max_size",
		`{"image":"a","restart_policy":"sometimes"}`:                                                            "restart_policy",
		`{"image":"a","restart_policy":"on-failure:x"}`:                                                         "restart_policy",
		`{"image":"a","restart_policy":"on-failure:0"}`:                                                         "restart_policy",
		`{"image":"a","restart_policy":"always:3"}`:                                                             "restart_policy",
		`{"image":"a","restart_policy":"always","auto_remove":true}`:                                            "auto_remove",
		`{"image":"a","image_pull_policy":"perhaps"}`:                                                           "image_pull_policy",
		`{"image":"a","ports":[{"container_port":0}]}`:                                                          "ports[0].container_port",
		`{"image":"a","ports":[{"container_port":65536}]}`:                                                      "ports[0].container_port",
		`{"image":"a","ports":[{"container_port":1,"host_port":-1}]}`:                                           "ports[0].host_port",
		`{"image":"a","ports":[{"container_port":1,"protocol":"sctp"}]}`:                                        "ports[0].protocol",
		`{"image":"a","ports":[{"container_port":1,"host_port":80},{"container_port":2,"host_port":80}]}`:       "ports[1].host_port",
		`{"image":"a","ports":[` + strings.Repeat(`{"container_port":1},`, MaxPorts) + `{"container_port":1}]}`: "ports",
		`{"image":"a","volumes":[{"name":"/etc","target":"/x"}]}`:                                               "volumes[0].name",
		`{"image":"a","volumes":[{"name":"","target":"/x"}]}`:                                                   "volumes[0].name",
		`{"image":"a","volumes":[{"name":"v","target":"x"}]}`:                                                   "volumes[0].target",
		`{"image":"a","volumes":[{"name":"v","target":"/"}]}`:                                                   "volumes[0].target",
		`{"image":"a","volumes":[{"name":"v","target":"/a/.."}]}`:                                               "volumes[0].target",
		`{"image":"a","volumes":[{"name":"v","target":"/sys/fs/cgroup"}]}`:                                      "volumes[0].target",
		`{"image":"a","volumes":[{"target":"/etc/hosts","type":"tmpfs"}]}`:                                      "volumes[0].target",
		`{"image":"a","volumes":[{"name":"v","target":"/a:/b"}]}`:                                               "volumes[0].target",
		`{"image":"a","volumes":[{"name":"v","target":"/x","size":5}]}`:                                         "volumes[0].size",
		`{"image":"a","volumes":[{"name":"v","target":"/x","type":"bind"}]}`:                                    "volumes[0].type",
		`{"image":"a","volumes":[{"name":"v","target":"/x","type":"tmpfs"}]}`:                                   "volumes[0].name",
		`{"image":"a","volumes":[{"target":"/x","type":"tmpfs","size":-5}]}`:                                    "volumes[0].size",
		`{"image":"a","volumes":[{"name":"v","target":"/x"},{"name":"w","target":"/x/"}]}`:                      "volumes[1].target",
		`{"image":"a","healthcheck":{"test":["` + strings.Repeat("x", MaxCommand+1) + `"]}}`:                    "healthcheck.test",
		`{"image":"a","healthcheck":{}}`:                                                                        "healthcheck.test",
		`{"image":"a","healthcheck":{"interval":1}}`:                                                            "healthcheck.test",
		`{"image":"a","healthcheck":{"test":null}}`:                                                             "healthcheck.test",
		`{"image":"a","healthcheck":{"test":""}}`:                                                               "healthcheck.test",
		`{"image":"a","healthcheck":{"test":" "}}`:                                                              "healthcheck.test",
		`{"image":"a","healthcheck":{"test":[""]}}`:                                                             "healthcheck.test",
		`{"image":"a","healthcheck":{"test":"x","interval":-1}}`:                                                "healthcheck.interval",
		`{"image":"a","healthcheck":{"test":"x","timeout":86401}}`:                                              "healthcheck.timeout",
		`{"image":"a","healthcheck":{"test":"x","start_period":-1}}`:                                            "healthcheck.start_period",
		`{"image":"a","healthcheck":{"test":"x","retries":1001}}`:                                               "healthcheck.retries",
		`{"image":"a","registry":{"username":"u"}}`:                                                             "registry",
		`{"image":"a","registry":{"password":"p"}}`:                                                             "registry",
		`{"image":"a","registry":{"username":"` + long + `","password":"p"}}`:                                   "registry.username",
		`{"image":"a","registry":{"username":"u","password":"` + long + `"}}`:                                   "registry.password",
		`{"image":"a","registry":{"username":"u","password":"p","server":"a b"}}`:                               "registry.server",
	} {
		_, err := specOf(t, body)
		if CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), field) {
			t.Errorf("%.80s: got %v, want an invalid %s", body, err, field)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, strings.Repeat("ü", 255): true, "a b/c": true, "": false, strings.Repeat("x", 256): false, strings.Repeat("ü",
			256): false, "a\x00": false, "\xff": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	for _, p := range []string{"/proc", "/proc/", "/proc/x", "//proc", "/a/../proc/self", "/sys", "/sys/kernel", "/dev", "/dev/null",
		"/dev/pts/0", "/dev/./stdin", "/etc/hosts", "/etc/hosts/x", "/etc/hostname", "/etc/resolv.conf"} {
		if why := CheckTarget(p); !strings.Contains(why, "choose another path") {
			t.Errorf("of %s it says %q", p, why)
		}
	}
	for _, p := range []string{"", "/", "/.", "/a/..", "a", "./a", "/a:b", "/a\x00", "/" + strings.Repeat("a", MaxText)} {
		if why := CheckTarget(p); !strings.Contains(why, "is not an absolute path below /") {
			t.Errorf("of %.20q it says %q", p, why)
		}
	}
	for _, p := range []string{"/a", "/process", "/system", "/dev/shm", "/dev/shm/a", "/dev/hugepages", "/dev/mqueue", "/devices", "/etc",
		"/etc/hosts.d", "/etc/hosts2", "/a/proc", "/var/run"} {
		if why := CheckTarget(p); why != "" {
			t.Errorf("of %s it says %q", p, why)
		}
	}
}
