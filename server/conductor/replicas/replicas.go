// Package replicas decides which pods a replication controller creates and deletes. The
// conductor's step "keep replicas" calls it. It is a pure function, without clock,
// randomness, I/O or state of its own.
package replicas

import (
	"cmp"
	"slices"

	"github.com/stackforge/magnum/structs"
)

// Plan is what has to change now. What follows from it is decided when it is done.
type Plan struct {
	Create int            // pods to create
	Delete []*structs.Pod // in this order
	// Observed is what is counted. It is complete only if nothing is to be created or deleted.
	Observed structs.RCObserved
}

// Decide compares the wanted pods with those that count for the replication controller:
// they have not ended, and none is being deleted.
//
// Pods of an earlier revision are replaced one by one: there is one pod more than wanted,
// and a pod that is ready goes only while as many as wanted are ready. So a template whose
// pods never become ready stops the update, and all other pods stay.
func Decide(rc *structs.RC, pods []*structs.Pod) Plan {
	var old, updated []*candidate
	ready, updatedReady := 0, 0
	for _, p := range pods {
		c := &candidate{pod: p, ready: p.Ready(), phase: p.Phase(), restarts: p.Restarts()}
		if c.ready {
			ready++
		}
		switch {
		case p.Revision != rc.Revision:
			old = append(old, c)
		case c.ready:
			updatedReady++
			fallthrough
		default:
			updated = append(updated, c)
		}
	}
	n := rc.Replicas
	plan := Plan{Observed: structs.RCObserved{Generation: rc.Generation, Current: len(pods), Ready: ready, Updated: len(updated),
		Reason: reason(n, old, updated)}}
	onHost := make(map[string]int)
	for _, p := range pods {
		onHost[p.HostID]++
	}
	// Pods that are not ready and were made of an earlier template go first, because they
	// are missed least. But the pods that the present template still owes count as missing.
	spare := len(pods) - n - (len(updated) - updatedReady)
	var readyOld, unreadyOld []*candidate
	for _, c := range old {
		if c.ready {
			readyOld = append(readyOld, c)
		} else {
			unreadyOld = append(unreadyOld, c)
		}
	}
	plan.Delete = pick(plan.Delete, unreadyOld, min(spare, len(unreadyOld)), onHost)
	plan.Delete = pick(plan.Delete, readyOld, min(ready-n, spare-len(plan.Delete), len(readyOld)), onHost)
	plan.Delete = pick(plan.Delete, updated, len(updated)-n, onHost)

	most := n
	if len(old) > 0 && n > 0 {
		most++
	}
	plan.Create = max(0, min(n-len(updated), most-(len(pods)-len(plan.Delete))))
	return plan
}

// candidate is a pod with what decides whether it is deleted before another.
type candidate struct {
	pod      *structs.Pod
	ready    bool
	phase    structs.PodPhase
	restarts int
}

// pick appends n of the candidates, those first that are missed least. onHost has the number
// of the pods on each host, and is kept up to date.
func pick(picked []*structs.Pod, from []*candidate, n int, onHost map[string]int) []*structs.Pod {
	from = slices.Clone(from)
	for ; n > 0; n-- {
		first := slices.MinFunc(from, func(a, b *candidate) int { return compare(a, b, onHost) })
		from = slices.DeleteFunc(from, func(c *candidate) bool { return c == first })
		onHost[first.pod.HostID]--
		picked = append(picked, first.pod)
	}
	return picked
}

// compare orders pods as Kubernetes does when there are too many: those without a host
// first, then those that have not been started, or whose host is lost, those that are not
// ready, those on the hosts with the most, those restarted most, and the youngest.
func compare(a, b *candidate, onHost map[string]int) int {
	return cmp.Or(
		cmp.Compare(placed(a), placed(b)),
		cmp.Compare(order(a.phase), order(b.phase)),
		cmp.Compare(number(a.ready), number(b.ready)),
		cmp.Compare(onHost[b.pod.HostID], onHost[a.pod.HostID]),
		cmp.Compare(b.restarts, a.restarts),
		cmp.Compare(b.pod.Seq, a.pod.Seq),
	)
}

func placed(c *candidate) int { return number(c.pod.HostID != "") }

func order(p structs.PodPhase) int {
	return slices.Index([]structs.PodPhase{structs.PodPending, structs.PodUnknown, structs.PodRunning}, p)
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reason says what is not as wanted; "" if all is.
func reason(n int, old, updated []*candidate) string {
	for _, list := range [][]*candidate{updated, old} {
		for _, c := range list {
			if !c.ready {
				return structs.RCReason(n, len(updated), len(old), c.pod)
			}
		}
	}
	return structs.RCReason(n, len(updated), len(old), nil)
}
