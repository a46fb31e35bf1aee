// Package schedule chooses hosts for workloads. It is called by the conductor
// while it decides, and is a pure function: no clock, no randomness, no I/O,
// no state of its own, so that every case is a line in testdata.
package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Host is a host of the bay as the scheduler sees it.
type Host = state.HostRoom

// Networks reports whether a host that has no room for another project's network has
// one that the workload can use. nil means that none has.
type Networks func(h *Host) bool

// filter is one reason why a workload can't run on a host.
type filter struct {
	lack string // completes "N of M hosts ..."
	pass func(h *Host, d *structs.Demand, networks Networks) bool
}

// filters are asked in this order; a host counts for the first that refuses it.
var filters = [...]filter{
	{"not ready", func(h *Host, _ *structs.Demand, _ Networks) bool { return h.Ready }},
	{"suspect", func(h *Host, _ *structs.Demand, _ Networks) bool { return !h.Suspect }},
	{"draining", func(h *Host, _ *structs.Demand, _ Networks) bool { return !h.Draining }},
	{"without the labels of constraints", func(h *Host, d *structs.Demand, _ Networks) bool {
		for k, v := range d.Constraints {
			if got, ok := h.Labels[k]; !ok || got != v {
				return false
			}
		}
		return true
	}},
	{"without the memory", func(h *Host, d *structs.Demand, _ Networks) bool {
		return d.Memory == 0 || d.Memory <= h.FreeMemory()
	}},
	{"without the cpu", func(h *Host, d *structs.Demand, _ Networks) bool {
		return d.MilliCPU == 0 || d.MilliCPU <= h.FreeMilliCPU()
	}},
	{"without room for another project's network", func(h *Host, _ *structs.Demand, networks Networks) bool {
		return !h.NetworksFull || networks != nil && networks(h)
	}},
	{"with a host port taken", func(h *Host, d *structs.Demand, _ Networks) bool {
		for _, p := range d.Ports {
			if p.HostPort != 0 && h.Used.HasPort(p.Protocol, p.HostPort) {
				return false
			}
		}
		return true
	}},
}

// refusals counts the hosts that each filter refuses.
type refusals [len(filters)]int

// fits reports whether the workload can run on the host, and counts the filter that
// refuses it.
func (r *refusals) fits(h *Host, d *structs.Demand, networks Networks) bool {
	for f := range filters {
		if !filters[f].pass(h, d, networks) {
			r[f]++
			return false
		}
	}
	return true
}

// Choose returns the ID of the host of the bay on which a workload of the demand is to
// run, or "" and the reason why there is none. It looks at the hosts in the order of
// the bay's strategy, up to the first that fits. The reason names no amounts that
// change with every placement, so that a waiting workload keeps it.
func Choose(rooms *state.Rooms, bay *structs.Bay, d structs.Demand, networks Networks) (id, reason string) {
	var refused refusals
	seen := 0
	for h := range rooms.Preferred(bay.ID, bay.Placement, d.Memory) {
		if refused.fits(h, &d, networks) {
			return h.ID, ""
		}
		seen++
	}
	n, open := rooms.Count(bay.ID)
	rest := rooms.Closed(bay.ID)
	if seen < open {
		refused, rest = refusals{}, rooms.All(bay.ID) // binpack has left out those without the memory
	}
	for h := range rest {
		refused.fits(h, &d, networks)
	}
	return "", explain(n, &refused, &d)
}

// ChooseAmong is Choose among some hosts, in any order. It looks at all of them.
func ChooseAmong(hosts []Host, d structs.Demand, strategy structs.PlacementStrategy, networks Networks) (id, reason string) {
	var refused refusals
	var best *Host
	for i := range hosts {
		h := &hosts[i]
		if refused.fits(h, &d, networks) && (best == nil || before(h, best, strategy)) {
			best = h
		}
	}
	if best != nil {
		return best.ID, ""
	}
	return "", explain(len(hosts), &refused, &d)
}

// before reports whether a is to be preferred to b. Ties go to the name, then
// the ID: every server would choose alike.
func before(a, b *Host, strategy structs.PlacementStrategy) bool {
	var order int
	if strategy == structs.PlacementBinpack {
		order = cmp.Or(
			cmp.Compare(a.FreeMemory(), b.FreeMemory()),
			cmp.Compare(a.FreeMilliCPU(), b.FreeMilliCPU()),
			cmp.Compare(b.Used.Workloads, a.Used.Workloads),
		)
	} else {
		order = cmp.Or(
			cmp.Compare(a.Used.Workloads, b.Used.Workloads),
			cmp.Compare(b.FreeMemory(), a.FreeMemory()),
			cmp.Compare(b.FreeMilliCPU(), a.FreeMilliCPU()),
		)
	}
	return cmp.Or(order, cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) < 0
}

// explain writes why none of n hosts will do.
func explain(n int, refused *refusals, d *structs.Demand) string {
	var why []string
	for f, count := range refused {
		if count > 0 {
			why = append(why, fmt.Sprintf("%d %s", count, filters[f].lack))
		}
	}
	return fmt.Sprintf("waits for a host with room for %s: of %d %s, %s", wants(d), n, plural(n, "host"), strings.Join(why, ", "))
}

// wants writes what a workload asks of its host.
func wants(d *structs.Demand) string {
	var parts []string
	if d.Memory > 0 {
		parts = append(parts, fmt.Sprintf("memory %d MiB", d.Memory>>20))
	}
	if d.MilliCPU > 0 {
		parts = append(parts, fmt.Sprintf("cpu %g", float64(d.MilliCPU)/1000))
	}
	for _, p := range d.Ports {
		if p.HostPort != 0 {
			parts = append(parts, fmt.Sprintf("port %d/%s", p.HostPort, p.Protocol))
		}
	}
	labels := make([]string, 0, len(d.Constraints))
	for k, v := range d.Constraints {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	parts = append(parts, labels...)
	if len(parts) == 0 {
		return "it"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
