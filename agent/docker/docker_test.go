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

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

func TestUserLabelsDoNotReplaceMagnums(t *testing.T) {
	spec := &structs.ContainerSpec{Labels: map[string]string{"magnum.cluster": "x", "magnum.anything": "x", "mine": "y"}}
	req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Ref: structs.ContainerRef("i", 2), ProjectID: "p",
		Spec: spec}
	labels := containerConfig(req).Labels
	if labels["magnum.cluster"] != "c" || labels["mine"] != "y" || labels["magnum.anything"] != "" || labels["magnum.epoch"] != "2" {
		t.Fatalf("labels are %v", labels)
	}
}

// TestLeaseIsLabelled: also if the image has the label, as a commit of a container with a
// lease has.
func TestLeaseIsLabelled(t *testing.T) {
	for kind, want := range map[structs.Exclusive]string{structs.ExclusiveNo: "", structs.ExclusiveYes: "",
		structs.ExclusiveLease: "lease"} {
		spec := &structs.ContainerSpec{Exclusive: kind, Labels: map[string]string{"magnum.exclusive": "lease"}}
		labels := containerConfig(backend.CreateRequest{Ref: structs.ContainerRef("i", 2), Spec: spec}).Labels
		if got, ok := labels["magnum.exclusive"]; got != want || !ok {
			t.Errorf("exclusive %q has the label %q, %v", kind, got, ok)
		}
		if e, ok := engine.EntryOf("e", labels); !ok || e.Lease != (want != "") {
			t.Errorf("exclusive %q is read as %+v", kind, e)
		}
	}
}

// TestEngineRestartsNothingExclusive: the engine would restart a container before the
// agent has asked a server.
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

// TestEndingEngineStartsNothing: an engine that ends closes its socket, but serves its open
// connections.
func TestEndingEngineStartsNothing(t *testing.T) {
	var starts atomic.Int32
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/start"):
			starts.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.URL.Path, "/json"):
			io.WriteString(w, `{"Id":"abc","State":{"Status":"exited"},"Config":{},"HostConfig":{}}`)
		}
	})}
	go server.Serve(l)
	defer server.Close()
	d, err := New(Config{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Start(t.Context(), "abc"); err != nil {
		t.Fatalf("start: %v", err)
	}
	if _, err := d.engine.Inspect(t.Context(), "abc"); err != nil {
		t.Fatalf("inspect: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.Inspect(t.Context(), "abc"); err != nil {
		t.Fatalf("the engine doesn't serve the connection that it has: %v", err)
	}
	if err := d.Start(t.Context(), "abc"); !errors.Is(err, backend.ErrAway) {
		t.Errorf("start gives %v, want %v", err, backend.ErrAway)
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("the engine was asked for %d starts, want 1", n)
	}
}
