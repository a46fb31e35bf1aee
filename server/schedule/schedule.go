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
type Host struct {
	ID       string
	Name     string
	Ready    bool // not lost
	Suspect  bool // silent, but not given up
	Draining bool
	Labels   map[string]string
	Memory   int64        // bytes that it has
	MilliCPU int64        // thousandths of cores that it has
	Used     *state.Usage // what is reserved on it

	NoNetwork bool // it has no network for the workload's project, and no room for another one
}

// HostOf returns the scheduler's view of a host and what is reserved on it.
func HostOf(h *structs.Host, used *state.Usage) Host {
	return Host{
		ID: h.ID, Name: h.Name, Ready: h.State != structs.HostLost, Suspect: h.State == structs.HostSuspect, Draining: h.Draining, Labels: h.AllLabels(),
		Memory: h.Fingerprint.Memory, MilliCPU: int64(h.Fingerprint.Cores) * 1000, Used: used,
	}
}

// filter is one reason why a workload can't run on a host.
type filter struct {
	lack string // completes "N of M hosts ..."
	pass func(h *Host, d *structs.Demand) bool
}

// filters are asked in this order; a host counts for the first that refuses it.
var filters = []filter{
	{"not ready", func(h *Host, _ *structs.Demand) bool { return h.Ready }},
	{"suspect", func(h *Host, _ *structs.Demand) bool { return !h.Suspect }},
	{"draining", func(h *Host, _ *structs.Demand) bool { return !h.Draining }},
	{"without the labels of constraints", func(h *Host, d *structs.Demand) bool {
		for k, v := range d.Constraints {
			if got, ok := h.Labels[k]; !ok || got != v {
				return false
			}
		}
		return true
	}},
	{"without the memory", func(h *Host, d *structs.Demand) bool {
		return d.Memory == 0 || h.Used.Memory+d.Memory <= h.Memory
	}},
	{"without the cpu", func(h *Host, d *structs.Demand) bool {
		return d.MilliCPU == 0 || h.Used.MilliCPU+d.MilliCPU <= h.MilliCPU
	}},
	{"without room for another project's network", func(h *Host, _ *structs.Demand) bool { return !h.NoNetwork }},
	{"with a host port taken", func(h *Host, d *structs.Demand) bool {
		for _, p := range d.Ports {
			if p.HostPort != 0 && h.Used.HasPort(p.Protocol, p.HostPort) {
				return false
			}
		}
		return true
	}},
}

// Choose returns the ID of the host on which a workload of the demand is to
// run, or "" and the reason why there is none. The order of hosts doesn't
// matter. The reason names no amounts that change with every placement, so
// that a waiting workload keeps it.
func Choose(hosts []Host, d structs.Demand, strategy structs.PlacementStrategy) (id, reason string) {
	refused := make([]int, len(filters))
	var best *Host
next:
	for i := range hosts {
		h := &hosts[i]
		for f := range filters {
			if !filters[f].pass(h, &d) {
				refused[f]++
				continue next
			}
		}
		if best == nil || before(h, best, strategy) {
			best = h
		}
	}
	if best != nil {
		return best.ID, ""
	}
	return "", explain(len(hosts), refused, &d)
}

// before reports whether a is to be preferred to b. Ties go to the name, then
// the ID: every server would choose alike.
func before(a, b *Host, strategy structs.PlacementStrategy) bool {
	var order int
	if strategy == structs.PlacementBinpack {
		order = cmp.Or(
			cmp.Compare(a.Memory-a.Used.Memory, b.Memory-b.Used.Memory),
			cmp.Compare(a.MilliCPU-a.Used.MilliCPU, b.MilliCPU-b.Used.MilliCPU),
			cmp.Compare(b.Used.Workloads, a.Used.Workloads),
		)
	} else {
		order = cmp.Or(
			cmp.Compare(a.Used.Workloads, b.Used.Workloads),
			cmp.Compare(b.Memory-b.Used.Memory, a.Memory-a.Used.Memory),
			cmp.Compare(b.MilliCPU-b.Used.MilliCPU, a.MilliCPU-a.Used.MilliCPU),
		)
	}
	return cmp.Or(order, cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) < 0
}

// explain writes why none of n hosts will do.
func explain(n int, refused []int, d *structs.Demand) string {
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
