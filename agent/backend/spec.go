package backend

import (
	"fmt"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// The labels that every container of magnum carries. Users can't set labels
// that begin with LabelPrefix.
const (
	LabelPrefix    = "magnum."
	LabelCluster   = "magnum.cluster"   // Owner.ClusterID
	LabelHost      = "magnum.host"      // Owner.HostID
	LabelContainer = "magnum.container" // Ref.ContainerID
	LabelEpoch     = "magnum.epoch"     // Ref.Epoch, decimal
	LabelSpec      = "magnum.spec"      // Hash of the spec
	LabelProject   = "magnum.project"
	LabelName      = "magnum.name" // the user's name of the container when it was created
)

// Name is the name that the engine's container of a Ref has.
func (r Ref) Name() string { return fmt.Sprintf("mg-%s-%d", r.ContainerID, r.Epoch) }

// Hash identifies a spec: structs.SpecHash.
func Hash(spec *structs.ContainerSpec) string { return structs.SpecHash(spec) }

// SameImage reports whether two references as users write them name one image:
// "busybox" is "docker.io/library/busybox:latest".
func SameImage(a, b string) bool { return fullImage(a) == fullImage(b) }

// fullImage writes a reference out as far as the comparison needs it.
func fullImage(ref string) string {
	for _, prefix := range []string{"docker.io/", "index.docker.io/"} {
		ref = strings.TrimPrefix(ref, prefix)
	}
	ref = strings.TrimPrefix(ref, "library/")
	if last := ref[strings.LastIndex(ref, "/")+1:]; !strings.ContainsAny(last, ":@") {
		ref += ":latest"
	}
	return ref
}
