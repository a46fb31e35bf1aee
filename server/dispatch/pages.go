package dispatch

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// The bounds of the assignments in one answer. The agent asks for the rest.
const (
	pageSize  = 1000
	pageBytes = 4 << 20 // of manifests; the assignment that reaches it is in the page
)

// assign puts the assignments of the workloads into an answer. For an agent that can ask for the
// rest they are a page: those after p.After, in the order of their references. A workload keeps
// its place in that order whatever happens to it, so one that is there all the time is in some
// page. Index of the first page counts for all of them: what changes between two pages is in the
// next answer.
func (p *Poll) assign(work *structs.Work, snap *state.Snapshot, workloads iter.Seq[structs.Workload]) {
	if !p.Pages {
		for w := range workloads {
			work.Assignments = append(work.Assignments, assignmentOf(snap, w, p.HostID))
		}
		return
	}
	var all []structs.Workload
	for w := range workloads {
		if refKey(w) > p.After {
			all = append(all, w)
		}
	}
	if len(all) > pageSize || p.After != "" || hasManifests(snap, p.HostID) {
		slices.SortFunc(all, func(a, b structs.Workload) int { return cmp.Compare(refKey(a), refKey(b)) })
	}
	bytes := 0
	for i, w := range all {
		if i == pageSize || bytes >= pageBytes {
			work.More = refKey(all[i-1])
			return
		}
		a := assignmentOf(snap, w, p.HostID)
		switch {
		case a.Pod != nil:
			bytes += len(a.Pod.Manifest)
		case a.Object != nil:
			bytes += len(a.Object.Manifest)
		}
		work.Assignments = append(work.Assignments, a)
	}
}

// refKey returns what orders pages.
func refKey(w structs.Workload) string {
	ref := w.Ref()
	return strings.Join([]string{string(ref.Kind), ref.ID}, "/")
}

// hasManifests reports whether the host's assignments have manifests.
func hasManifests(snap *state.Snapshot, hostID string) bool {
	h := snap.Host(hostID)
	return h != nil && h.Fingerprint.Backend == structs.BackendKubernetes
}
