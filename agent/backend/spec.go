package backend

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// The labels of magnum's containers. Users can't set labels that begin with
// LabelPrefix. A container that is a workload by itself has LabelContainer. A part of a
// workload of another kind has LabelKind, LabelWorkload and LabelPart instead, and an empty
// LabelContainer, so that agents that know only containers leave it alone.
const (
	LabelPrefix    = "magnum."
	LabelCluster   = "magnum.cluster"   // Owner.ClusterID
	LabelHost      = "magnum.host"      // Owner.HostID
	LabelContainer = "magnum.container" // Ref.ID of a container
	LabelKind      = "magnum.kind"      // Ref.Kind of any other workload
	LabelWorkload  = "magnum.workload"  // Ref.ID of any other workload
	LabelPart      = "magnum.part"      // Ref.Part of any other workload
	LabelEpoch     = "magnum.epoch"     // Ref.Epoch, decimal
	LabelAttempt   = "magnum.attempt"   // Entry.Attempt, decimal, of a part of a pod
	LabelSpec      = "magnum.spec"      // Hash of the spec
	LabelExclusive = "magnum.exclusive" // LabelLease if the container runs only under a lease, else empty; earlier builds did not write it
	LabelProject   = "magnum.project"
	LabelName      = "magnum.name" // the user's name of the workload at the creation
)

// LabelLease is the value of LabelExclusive on a container that runs only under a lease.
const LabelLease = string(structs.ExclusiveLease)

// SetLabels adds the labels of a reference and of an attempt; an attempt of 0 has none. A
// container also gets those labels of its image that it doesn't set itself, and the image
// may be a commit of another workload's container: so LabelContainer is set to "" for the
// other kinds.
func SetLabels(labels map[string]string, ref structs.Ref, attempt uint64) {
	labels[LabelEpoch] = strconv.FormatUint(ref.Epoch, 10)
	if ref.Kind == structs.WorkloadContainer {
		labels[LabelContainer] = ref.ID
		return
	}
	labels[LabelContainer] = ""
	labels[LabelKind], labels[LabelWorkload], labels[LabelPart] = string(ref.Kind), ref.ID, ref.Part
	if attempt != 0 {
		labels[LabelAttempt] = strconv.FormatUint(attempt, 10)
	}
}

// AttemptOf reads the attempt that SetLabels has written; 0 if there is none.
func AttemptOf(labels map[string]string) uint64 {
	if labels[LabelContainer] != "" {
		return 0 // it is the image's
	}
	attempt, err := strconv.ParseUint(labels[LabelAttempt], 10, 64)
	if err != nil {
		return 0
	}
	return attempt
}

// RefOf reads the labels that SetLabels or an earlier build has written; ok is false if
// they name no workload.
func RefOf(labels map[string]string) (ref structs.Ref, ok bool) {
	epoch, err := strconv.ParseUint(labels[LabelEpoch], 10, 64)
	if err != nil {
		return ref, false
	}
	if id := labels[LabelContainer]; id != "" {
		return structs.ContainerRef(id, epoch), true
	}
	ref = structs.Ref{Kind: structs.WorkloadKind(labels[LabelKind]), ID: labels[LabelWorkload], Epoch: epoch, Part: labels[LabelPart]}
	if ref.Kind == "" || ref.Kind == structs.WorkloadContainer || ref.ID == "" {
		return structs.Ref{}, false
	}
	return ref, true
}

// NameOf returns the engine's name of the container of a reference without attempts.
// AttemptName is that of a part of a pod.
func NameOf(ref structs.Ref) string {
	name := "mg-"
	if ref.Kind != structs.WorkloadContainer {
		name += string(ref.Kind) + "-"
	}
	name += fmt.Sprintf("%s-%d", ref.ID, ref.Epoch)
	if ref.Part != "" {
		name += "-" + ref.Part
	}
	return name
}

// AttemptName returns the engine's name of an attempt of a part of a pod; it is NameOf if
// the attempt is 0.
func AttemptName(ref structs.Ref, attempt uint64) string {
	if attempt == 0 {
		return NameOf(ref)
	}
	return fmt.Sprintf("%s-%d", NameOf(ref), attempt)
}

// Hash returns the hash of a spec: structs.SpecHash.
func Hash(spec *structs.ContainerSpec) string { return structs.SpecHash(spec) }

// SameImage reports whether two references, as users write them, name one image: "busybox"
// is "docker.io/library/busybox:latest".
func SameImage(a, b string) bool { return fullImage(a) == fullImage(b) }

// fullImage completes a reference as far as the comparison needs it.
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
