package hosts

import (
	"strings"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Free takes the host out of its bay. What the projects of the bay have left on it has to be
// removed before another project gets it.
func Free(t *scratch.Tx, h *structs.Host) {
	host := *h
	bay := scratch.Row[structs.Bay](t, h.BayID)
	host.BayID, host.BayIndex = "", t.Base.Index()
	if bay != nil && bay.Backend() == structs.BackendDocker && h.Separate && known(t) {
		host.Cleanings++
		host.Cleaning = &structs.Cleaning{Epoch: host.Cleanings, ProjectID: bay.ProjectID, Shared: bay.Shared, Since: t.Now}
	}
	t.Put(&host)
}

// MayClaim reports whether the bay may claim the free host: a Docker host, ready, with the
// bay's labels, and clean unless it was last the same project's.
func MayClaim(h *structs.Host, b *structs.Bay) bool {
	if h.State != structs.HostReady || h.Draining || h.Fingerprint.Backend != b.Backend() || !HasLabels(h, b.Labels) {
		return false
	}
	c := h.Cleaning
	return c == nil || c.Shared == b.Shared && (c.Shared || c.ProjectID == b.ProjectID)
}

// Claim returns the host as one of the bay. The caller writes it.
func Claim(t *scratch.Tx, h *structs.Host, b *structs.Bay) *structs.Host {
	host := *h
	host.BayID, host.BayIndex, host.Cleaning = b.ID, t.Base.Index(), nil
	return &host
}

// HasLabels reports whether the host has all of the labels.
func HasLabels(h *structs.Host, labels map[string]string) bool {
	all := h.AllLabels()
	for k, v := range labels {
		if got, ok := all[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// maxReason bounds the reason of a failed cleaning, in bytes.
const maxReason = 512

// TakeReport takes over in host, a copy that the caller writes, how its agent has carried
// out an order to clean it. r is nil if the agent says nothing.
func TakeReport(t *scratch.Tx, host *structs.Host, r *structs.CleanReport) {
	if r == nil || host.Cleaning == nil || host.Cleaning.Epoch != r.Epoch {
		return // of an earlier cleaning, or a bay of the same project has claimed the host meanwhile
	}
	if r.Error == "" {
		host.Cleaning, host.CleanedAt = nil, t.Now
		return
	}
	c := *host.Cleaning
	c.Attempts++
	c.Reason = strings.ToValidUTF8(r.Error[:min(len(r.Error), maxReason)], "")
	host.Cleaning = &c
}
