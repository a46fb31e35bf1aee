package scratch

import (
	"iter"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// copyKey names the pods that a replication controller has made of one template.
type copyKey struct{ owner, revision string }

// copyOf returns what the pod is a copy of, and the host that it counts for. ok is false for
// a pod that doesn't count: it has no owner or no host, or is being deleted.
func copyOf(row structs.Row) (key copyKey, hostID string, ok bool) {
	p, _ := row.(*structs.Pod)
	if p == nil || p.Owner == "" || p.HostID == "" || p.Desired == structs.DesiredAbsent {
		return copyKey{}, "", false
	}
	return copyKey{p.Owner, p.Revision}, p.HostID, true
}

// Copies returns how many pods of the owner and the revision of p each host has, without p
// itself; nil if p has no owner. The pods are counted once per batch.
func (r *Reservations) Copies(p *structs.Pod) map[string]int {
	if p.Owner == "" {
		return nil
	}
	key := copyKey{p.Owner, p.Revision}
	counts, ok := r.copies[key]
	if !ok {
		counts = make(map[string]int)
		for w := range r.t.InBay(p.BayID) {
			if k, hostID, ok := copyOf(w); ok && k == key {
				counts[hostID]++
			}
		}
		r.copies[key] = counts
	}
	own, hostID, ok := copyOf(r.t.Get(structs.TablePods, p.ID))
	if !ok || own != key {
		return counts
	}
	others := make(map[string]int, len(counts))
	for host, n := range counts {
		others[host] = n
	}
	others[hostID]--
	return others
}

// countCopy adds n to the count that a pod is in, if it was asked for.
func (r *Reservations) countCopy(row structs.Row, n int) {
	if key, hostID, ok := copyOf(row); ok && r.copies[key] != nil {
		r.copies[key][hostID] += n
	}
}

// RCs returns all replication controllers in creation order.
func RCs(t *Tx) iter.Seq[*structs.RC] {
	return Typed[*structs.RC](t.overlay(t.Base.List(structs.TableRCs, state.AllProjects, 0), func(structs.Row) bool { return true },
		structs.TableRCs))
}

// RCsInBay returns the replication controllers of a bay.
func RCsInBay(t *Tx, bayID string) iter.Seq[*structs.RC] {
	return Typed[*structs.RC](t.overlay(Rows(state.RCsInBay(t.Base, bayID)), func(r structs.Row) bool {
		return r.(*structs.RC).BayID == bayID
	}, structs.TableRCs))
}
