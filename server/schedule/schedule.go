// Package schedule chooses hosts for workloads. The conductor calls it in its decisions.
// It is a pure function, without clock, randomness, I/O or state of its own, so that every
// case can be a line in testdata.
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

// Facts are what decides besides the hosts and the demand. nil means the zero Facts.
type Facts struct {
	// Network reports whether a host without room for another project's network has a
	// network that the workload can use. nil means that no host has one.
	Network func(h *Host) bool
	// NodePort reports whether a service has the port, on every host of the bay. nil means
	// that no service has one.
	NodePort func(protocol string, port int) bool
}

func (f *Facts) network(h *Host) bool { return f != nil && f.Network != nil && f.Network(h) }

func (f *Facts) nodePort(p *structs.Port) bool {
	return p.HostPort != 0 && f != nil && f.NodePort != nil && f.NodePort(p.Protocol, p.HostPort)
}

// filter is one reason why a workload can't run on a host.
type filter struct {
	failure string // completes "of N hosts, M ..."
	pass    func(h *Host, d *structs.Demand, facts *Facts) bool
}

// filters run in this order. A refused host counts for the first filter that refuses it.
var filters = [...]filter{
	{"not ready", func(h *Host, _ *structs.Demand, _ *Facts) bool { return h.Ready }},
	{"suspect", func(h *Host, _ *structs.Demand, _ *Facts) bool { return !h.Suspect }},
	{"draining", func(h *Host, _ *structs.Demand, _ *Facts) bool { return !h.Draining }},
	{"with an agent that is too old for it and is to be upgraded", func(h *Host, d *structs.Demand, _ *Facts) bool {
		return d.Kind == "" || slices.Contains(h.Kinds, d.Kind)
	}},
	{"without the labels of constraints", func(h *Host, d *structs.Demand, _ *Facts) bool {
		for k, v := range d.Constraints {
			if got, ok := h.Labels[k]; !ok || got != v {
				return false
			}
		}
		return true
	}},
	{"without the memory", func(h *Host, d *structs.Demand, _ *Facts) bool {
		return d.Memory == 0 || d.Memory <= h.FreeMemory()
	}},
	{"without the cpu", func(h *Host, d *structs.Demand, _ *Facts) bool {
		return d.MilliCPU == 0 || d.MilliCPU <= h.FreeMilliCPU()
	}},
	{"without room for another project's network", func(h *Host, _ *structs.Demand, facts *Facts) bool {
		return !h.NetworksFull || facts.network(h)
	}},
	{"with a host port taken", func(h *Host, d *structs.Demand, _ *Facts) bool {
		for _, p := range d.Ports {
			if p.HostPort != 0 && h.Used.HasPort(p.Protocol, p.HostPort) {
				return false
			}
		}
		return true
	}},
	{"with the host port taken by a service", func(_ *Host, d *structs.Demand, facts *Facts) bool {
		for i := range d.Ports {
			if facts.nodePort(&d.Ports[i]) {
				return false
			}
		}
		return true
	}},
}

// refusals has the number of hosts refused by each filter.
type refusals [len(filters)]int

// fits reports whether the workload can run on the host. If it can't, fits counts the
// first filter that refuses the host.
func (r *refusals) fits(h *Host, d *structs.Demand, facts *Facts) bool {
	for f := range filters {
		if !filters[f].pass(h, d, facts) {
			r[f]++
			return false
		}
	}
	return true
}

// Choose returns the ID of the host in the bay for a workload with the demand, or "" and
// the reason why no host fits. It tries the hosts in the order of the bay's strategy and
// takes the first that fits. The reason has no amounts that change with every placement,
// so that the reason of a waiting workload rarely changes.
func Choose(rooms *state.Rooms, bay *structs.Bay, d structs.Demand, facts *Facts) (id, reason string) {
	var refused refusals
	tried := 0
	for h := range rooms.Preferred(bay.ID, bay.Placement, d.Memory) {
		if refused.fits(h, &d, facts) {
			return h.ID, ""
		}
		tried++
	}
	n, open := rooms.Count(bay.ID)
	rest := rooms.Closed(bay.ID)
	if tried < open { // with binpack, Preferred leaves out hosts without the memory
		refused, rest = refusals{}, rooms.All(bay.ID)
	}
	for h := range rest {
		refused.fits(h, &d, facts)
	}
	return "", explain(n, &refused, &d)
}

// ChooseAmong is Choose among the hosts given, whose order doesn't matter. It tries all of
// them.
func ChooseAmong(hosts []Host, d structs.Demand, strategy structs.PlacementStrategy, facts *Facts) (id, reason string) {
	return ChooseApart(hosts, nil, d, strategy, facts)
}

// ChooseApart is ChooseAmong for one of several copies: it prefers the hosts with the fewest
// other copies, and among those the strategy decides. copies has their numbers by host.
func ChooseApart(
	hosts []Host, copies map[string]int, d structs.Demand, strategy structs.PlacementStrategy, facts *Facts,
) (id, reason string) {
	var refused refusals
	var best *Host
	for i := range hosts {
		h := &hosts[i]
		if !refused.fits(h, &d, facts) {
			continue
		}
		if best == nil || copies[h.ID] < copies[best.ID] || copies[h.ID] == copies[best.ID] && before(h, best, strategy) {
			best = h
		}
	}
	if best != nil {
		return best.ID, ""
	}
	return "", explain(len(hosts), &refused, &d)
}

// before reports whether the strategy prefers a to b. Ties are broken by name, then ID, so
// that the choice is deterministic.
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

// explain returns the reason why none of n hosts fits.
func explain(n int, refused *refusals, d *structs.Demand) string {
	var why []string
	for f, count := range refused {
		if count > 0 {
			why = append(why, fmt.Sprintf("%d %s", count, filters[f].failure))
		}
	}
	return fmt.Sprintf("waits for a host with room for %s: of %d %s, %s", wants(d), n, plural(n, "host"), strings.Join(why, ", "))
}

// wants describes a demand in a reason.
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
