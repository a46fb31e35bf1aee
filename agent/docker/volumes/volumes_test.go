package volumes

import (
	"testing"

	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
)

// TestLabelsTellVolumesOfOneNameApart: also volumes of two clusters.
func TestLabelsTellVolumesOfOneNameApart(t *testing.T) {
	one, two := Key{Cluster: "c", Project: "a", Name: "b-c"}, Key{Cluster: "c", Project: "a-b", Name: "c"}
	if one.EngineName() != two.EngineName() {
		t.Fatalf("the names are %s and %s: the test is about one", one.EngineName(), two.EngineName())
	}
	v := volume.Volume{Name: one.EngineName(),
		Labels: map[string]string{backend.LabelCluster: "c", backend.LabelProject: "a", Label: "b-c"}}
	other := one
	other.Cluster = "d"
	if !one.is(v) || two.is(v) || other.is(v) {
		t.Errorf("it is taken for the first %v, the second %v, another cluster's %v", one.is(v), two.is(v), other.is(v))
	}
	if !other.isEarlier(v) || two.isEarlier(v) {
		t.Error("without a cluster it is not the one of its project and name")
	}
}
