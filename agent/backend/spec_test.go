package backend

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestSameImage(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"busybox", "busybox:latest", true},
		{"busybox", "docker.io/library/busybox", true},
		{"index.docker.io/library/busybox:1", "busybox:1", true},
		{"docker.io/me/x", "me/x:latest", true},
		{"127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", true},
		{"x@sha256:00", "x@sha256:00", true},
		{"busybox", "busybox:1", false},
		{"me/x", "x", false},
		{"127.0.0.1:5000/x", "x", false},
		{"x@sha256:00", "x", false},
	} {
		if got := SameImage(c.a, c.b); got != c.want || SameImage(c.b, c.a) != got {
			t.Errorf("SameImage(%q, %q) is %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// TestLabelsOfEarlierBuilds reads a container's labels and name from a build without
// kinds, and writes the same ones.
func TestLabelsOfEarlierBuilds(t *testing.T) {
	b, err := os.ReadFile("testdata/container.json")
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Name   string
		Labels map[string]string
	}
	if err := json.Unmarshal(b, &made); err != nil {
		t.Fatal(err)
	}
	want := structs.ContainerRef("c3d2e1f0-1234-4abc-8def-3f3e3d3c3b39", 5)
	ref, ok := RefOf(made.Labels)
	if ref != want || !ok || "/"+NameOf(ref) != made.Name {
		t.Errorf("it is taken for %s (%v), named %s, not %s", ref, ok, NameOf(ref), made.Name)
	}
	labels := map[string]string{}
	SetLabels(labels, ref, 0)
	if len(labels) != 2 || labels[LabelContainer] != made.Labels[LabelContainer] || labels[LabelEpoch] != made.Labels[LabelEpoch] {
		t.Errorf("it would get %v now", labels)
	}
}

func TestLabelsAreReadAsWritten(t *testing.T) {
	for ref, name := range map[structs.Ref]string{
		structs.ContainerRef("id", 3):                                "mg-id-3",
		{Kind: structs.WorkloadPod, ID: "id", Epoch: 3, Part: "web"}: "mg-pod-id-3-web",
		{Kind: structs.WorkloadPod, ID: "id", Epoch: 3}:              "mg-pod-id-3",
	} {
		labels := map[string]string{}
		SetLabels(labels, ref, 0)
		if got, ok := RefOf(labels); got != ref || !ok || AttemptOf(labels) != 0 {
			t.Errorf("%s reads as %s, %v", ref, got, ok)
		}
		if got := NameOf(ref); got != name {
			t.Errorf("%s is named %s, want %s", ref, got, name)
		}
	}
	for _, labels := range []map[string]string{
		nil,
		{LabelContainer: "id"},
		{LabelContainer: "id", LabelEpoch: "x"},
		{LabelEpoch: "1", LabelKind: "pod"},
		{LabelEpoch: "1", LabelWorkload: "id"},
		{LabelEpoch: "1", LabelWorkload: "id", LabelKind: string(structs.WorkloadContainer)},
	} {
		if ref, ok := RefOf(labels); ok {
			t.Errorf("%v name %s", labels, ref)
		}
	}
}

func TestLabelsOfAttempts(t *testing.T) {
	ref := structs.Ref{Kind: structs.WorkloadPod, ID: "id", Epoch: 3, Part: structs.PodInfra}
	labels := map[string]string{}
	SetLabels(labels, ref, 12)
	if got, ok := RefOf(labels); got != ref || !ok || AttemptOf(labels) != 12 {
		t.Errorf("attempt 12 of %s reads as %d of %s, %v", ref, AttemptOf(labels), got, ok)
	}
	req := CreateRequest{Ref: ref, Pod: &PodPart{Attempt: 12}}
	if got, want := req.EngineName(), "mg-pod-id-3-_infra-12"; got != want {
		t.Errorf("it is named %s, want %s", got, want)
	}
	if got := (&CreateRequest{Ref: structs.ContainerRef("id", 3)}).EngineName(); got != "mg-id-3" {
		t.Errorf("a container is named %s", got)
	}
	labels[LabelAttempt] = "x"
	if got := AttemptOf(labels); got != 0 {
		t.Errorf("a label that isn't a number reads as attempt %d", got)
	}
}

// TestLabelsOverThoseOfAnImage: an image may be a commit of another workload's container,
// whose labels the container gets, too.
func TestLabelsOverThoseOfAnImage(t *testing.T) {
	container, part := structs.ContainerRef("a", 3), structs.Ref{Kind: structs.WorkloadPod, ID: "b", Epoch: 5, Part: "web"}
	for _, c := range []struct {
		image, ref            structs.Ref
		imageAttempt, attempt uint64
	}{
		{container, part, 0, 2},
		{part, container, 2, 0},
		{part, structs.Ref{Kind: structs.WorkloadPod, ID: "c", Epoch: 1, Part: "log"}, 7, 1},
	} {
		labels := map[string]string{}
		SetLabels(labels, c.image, c.imageAttempt)
		SetLabels(labels, c.ref, c.attempt)
		if got, ok := RefOf(labels); got != c.ref || !ok || AttemptOf(labels) != c.attempt {
			t.Errorf("attempt %d of %s, made from an image of %s, reads as %d of %s, %v",
				c.attempt, c.ref, c.image, AttemptOf(labels), got, ok)
		}
	}
}

// TestSpecHashOfPods changes each field of a PodPart: all but those that a running
// container may differ in change the hash.
func TestSpecHashOfPods(t *testing.T) {
	spec := &structs.ContainerSpec{Image: "i"}
	hashOf := func(part *PodPart) string {
		req := CreateRequest{Spec: spec, Pod: part}
		return req.SpecHash()
	}
	if got := hashOf(nil); got != Hash(spec) {
		t.Errorf("the hash of a container is %s, want %s", got, Hash(spec))
	}
	for _, part := range []*PodPart{nil, {Attempt: 1}} { // what it is told of services changes while it runs
		plain, told := CreateRequest{Spec: spec, Pod: part}, CreateRequest{Spec: spec, Pod: part}
		told.Variables, told.Names = map[string]string{"WEB_SERVICE_HOST": "10.127.0.1"}, &Names{Search: []string{"p.svc.cluster.local"}}
		if plain.SpecHash() != told.SpecHash() {
			t.Errorf("services change the hash of %+v", part)
		}
	}
	seen := map[string]string{Hash(spec): "a container's"}
	bare := hashOf(&PodPart{})
	free := map[string]bool{"Attempt": true}
	group := int64(7)
	full := reflect.ValueOf(PodPart{
		Attempt: 3, Infra: "e1", HostAliases: []structs.HostAlias{{IP: "10.0.0.1", Names: []string{"db"}}},
		SharePID: true, StdinOnce: true,
		Mounts: []structs.PodMount{{Volume: "v", Path: "/v"}}, Volumes: []structs.PodVolume{{Name: "v"}},
		Security: structs.PodSecurity{ReadOnlyRoot: true}, FSGroup: &group,
	})
	for i := range full.NumField() {
		name, part := full.Type().Field(i).Name, new(PodPart)
		if full.Field(i).IsZero() {
			t.Fatalf("this test needs a value for %s", name)
		}
		reflect.ValueOf(part).Elem().Field(i).Set(full.Field(i))
		got := hashOf(part)
		if free[name] {
			if got != bare {
				t.Errorf("%s changes the hash", name)
			}
			continue
		}
		if other, taken := seen[got]; taken || got == bare {
			t.Errorf("with %s alone set, the hash is that of %q", name, other)
		}
		seen[got] = name
	}
	limited := *spec
	limited.Memory, limited.MilliCPU = 1<<20, 100
	req := CreateRequest{Spec: &limited, Pod: &PodPart{}}
	if req.SpecHash() != bare {
		t.Error("limits change the hash")
	}
}
