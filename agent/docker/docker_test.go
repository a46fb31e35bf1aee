package docker

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

func TestScopeName(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"default", "a-b", "A.b_c", "", "a b", "-a", "../x", "ü", "a/b", "a:b"} {
		name := scopeName(id)
		for i := range len(name) {
			if c := name[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
				t.Errorf("scopeName(%q) is %q, which the engine refuses", id, name)
			}
		}
		if other, dup := seen[name]; dup {
			t.Errorf("projects %q and %q share %q", id, other, name)
		}
		seen[name] = id
	}
}

func TestUserLabelsCantPose(t *testing.T) {
	spec := &structs.ContainerSpec{Labels: map[string]string{"magnum.cluster": "x", "magnum.anything": "x", "mine": "y"}}
	req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Ref: structs.ContainerRef("i", 2), ProjectID: "p", Spec: spec}
	labels := containerConfig(req).Labels
	if labels["magnum.cluster"] != "c" || labels["mine"] != "y" || labels["magnum.anything"] != "" || labels["magnum.epoch"] != "2" {
		t.Fatalf("labels are %v", labels)
	}
}

// TestLeaseIsLabelled: also where the image has the label, as a commit of a container
// with a lease does.
func TestLeaseIsLabelled(t *testing.T) {
	for kind, want := range map[structs.Exclusive]string{structs.ExclusiveNo: "", structs.ExclusiveYes: "", structs.ExclusiveLease: "lease"} {
		spec := &structs.ContainerSpec{Exclusive: kind, Labels: map[string]string{"magnum.exclusive": "lease"}}
		labels := containerConfig(backend.CreateRequest{Ref: structs.ContainerRef("i", 2), Spec: spec}).Labels
		if got, ok := labels["magnum.exclusive"]; got != want || !ok {
			t.Errorf("exclusive %q has the label %q, %v", kind, got, ok)
		}
		if e, ok := entryOf("e", labels); !ok || e.Lease != (want != "") {
			t.Errorf("exclusive %q is read as %+v", kind, e)
		}
	}
}

// What the engine starts by itself it starts before the agent has asked anyone.
func TestEngineRestartsNothingExclusive(t *testing.T) {
	for policy, want := range map[string]container.RestartPolicyMode{
		structs.RestartNo: container.RestartPolicyDisabled, structs.RestartOnFailure: container.RestartPolicyOnFailure,
		structs.RestartAlways: container.RestartPolicyUnlessStopped, structs.RestartUnlessStopped: container.RestartPolicyUnlessStopped,
	} {
		spec := &structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: policy}}
		if got := restartPolicy(spec); got.Name != want {
			t.Errorf("%s is %s", policy, got.Name)
		}
		for _, kind := range []structs.Exclusive{structs.ExclusiveYes, structs.ExclusiveLease} {
			if spec.Exclusive = kind; restartPolicy(spec).Name != container.RestartPolicyDisabled {
				t.Errorf("%s of an exclusive container is %s", policy, restartPolicy(spec).Name)
			}
		}
	}
}

func TestPullFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error // nil: worth another attempt
	}{
		{errors.New(`Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`), nil},
		{errors.New(`Get "http://127.0.0.1:5001/v2/": dial tcp 127.0.0.1:5001: connect: connection refused`), nil},
		{errors.New("toomanyrequests: You have reached your pull rate limit"), nil},
		{errors.New("received unexpected HTTP status: 503 Service Unavailable"), nil},
		{errors.New("net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"), nil},
		{errdefs.ErrNotFound.WithMessage("manifest for x:1 not found: manifest unknown: manifest unknown"), backend.ErrNoImage},
		{errdefs.ErrNotFound.WithMessage("pull access denied for x, repository does not exist or may require 'docker login'"), backend.ErrNoImage},
		{errors.New("unauthorized: authentication required"), backend.ErrNoImage},
		{errors.New("no matching manifest for linux/amd64 in the manifest list entries"), backend.ErrNoImage},
		{errors.New("invalid reference format: repository name (X) must be lowercase"), backend.ErrInvalid},
	} {
		got := pullFailure(pullKey{ref: "x:1"}, c.err)
		if c.want == nil && got != nil || c.want != nil && !errors.Is(got, c.want) {
			t.Errorf("pullFailure(%q) is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{errors.New("Error response from daemon: driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated"), backend.ErrPortTaken},
		{errors.New("listen tcp4 0.0.0.0:80: bind: address already in use"), backend.ErrPortTaken},
		{errors.New("Error response from daemon: failed to update store for object type *libnetwork.endpoint: open : no such file or directory"), backend.ErrAway},
		{errdefs.ErrNotFound.WithMessage("Error response from daemon: No such container: x"), backend.ErrNotFound},
		{errdefs.ErrNotFound.WithMessage("Error response from daemon: No such image: x"), backend.ErrNoImage},
		{errdefs.ErrConflict.WithMessage("Error response from daemon: Container x is not running"), backend.ErrNotRunning},
		{errdefs.ErrInvalidArgument.WithMessage("Error response from daemon: Minimum memory limit allowed is 6MB"), backend.ErrInvalid},
	} {
		got := failure(c.err)
		if !errors.Is(got, c.want) {
			t.Errorf("failure(%q) is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	for _, conf := range []Config{{Parallel: -1}, {Parallel: 257}, {Host: "nonsense"}} {
		if _, err := New(conf); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("New(%+v) gives %v, want CodeInvalid", conf, err)
		}
	}
}

func TestPortsOfBothFamilies(t *testing.T) {
	bound := nat.PortMap{
		"80/tcp":   {{HostIP: "0.0.0.0", HostPort: "32769"}, {HostIP: "::", HostPort: "32770"}},
		"443/tcp":  {{HostIP: "0.0.0.0", HostPort: "32771"}, {HostIP: "::", HostPort: "32771"}},
		"53/udp":   {{HostIP: "::", HostPort: "32768"}},
		"8080/tcp": {{HostPort: "9000"}, {HostPort: "9001"}},
		"90/tcp":   nil, // exposed only
	}
	want := []structs.Port{
		{ContainerPort: 53, HostPort: 32768, Protocol: "udp"},
		{ContainerPort: 80, HostPort: 32769, Protocol: "tcp"},
		{ContainerPort: 443, HostPort: 32771, Protocol: "tcp"},
		{ContainerPort: 8080, HostPort: 9000, Protocol: "tcp"},
		{ContainerPort: 8080, HostPort: 9001, Protocol: "tcp"},
	}
	if got := portsOf(bound); !slices.Equal(got, want) {
		t.Errorf("ports are %v, want %v", got, want)
	}
}

// TestEndingEngineStartsNothing: an engine that ends closes its socket, and
// goes on serving the connections that it has.
func TestEndingEngineStartsNothing(t *testing.T) {
	var starts atomic.Int32
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/start"):
			starts.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.URL.Path, "/json"):
			io.WriteString(w, `{"Id":"abc","State":{"Status":"exited"},"Config":{},"HostConfig":{}}`)
		}
	})}
	go engine.Serve(l)
	defer engine.Close()
	d, err := New(Config{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Start(t.Context(), "abc"); err != nil {
		t.Fatalf("start: %v", err)
	}
	if _, err := d.inspect(t.Context(), "abc"); err != nil {
		t.Fatalf("inspect: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.inspect(t.Context(), "abc"); err != nil {
		t.Fatalf("the engine doesn't serve the connection that it has: %v", err)
	}
	if err := d.Start(t.Context(), "abc"); !errors.Is(err, backend.ErrAway) {
		t.Errorf("start gives %v, want %v", err, backend.ErrAway)
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("the engine was asked for %d starts, want 1", n)
	}
}

// TestNoProgram tells a program that isn't there from what else keeps one from
// being executed.
func TestNoProgram(t *testing.T) {
	for text, want := range map[string]bool{
		`OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`:                   true,
		`OCI runtime exec failed: exec failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory: unknown`:               true,
		`OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("/nope") set in config.json failed: no such file or directory`: false,
		`OCI runtime exec failed: exec failed: unable to start container process: exec: "/etc": permission denied: unknown`:                                    false,
		`unable to find user nope: no matching entries in passwd file`:                                                                                         false,
		`ls: /nope: No such file or directory`: false,
	} {
		b := &beginning{w: io.Discard}
		for _, c := range []byte(text) {
			_, _ = b.Write([]byte{c})
		}
		if b.noProgram() != want {
			t.Errorf("%q: %v", text, !want)
		}
		if _, _ = b.Write(make([]byte, 5000)); len(b.text) != 1024 {
			t.Errorf("%d bytes are kept", len(b.text))
		}
	}
}
