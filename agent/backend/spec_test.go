package backend

import (
	"encoding/json"
	"os"
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
	SetLabels(labels, ref)
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
		SetLabels(labels, ref)
		if got, ok := RefOf(labels); got != ref || !ok {
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
