package replicas

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// pods returns pods from a text with one word for each: revision a or b, state, and host, such
// as "a:ready:h1". States: waiting (without a host), pending, unready, ready and lost. A number
// behind the host is that of restarts. The names are p1, p2 and so on, the youngest last.
func pods(t *testing.T, text string) (all []*structs.Pod) {
	t.Helper()
	for i, word := range strings.Fields(text) {
		part := strings.Split(word, ":")
		p := &structs.Pod{Meta: structs.Meta{ID: fmt.Sprint(i + 1), Seq: uint64(i + 1)}, Name: fmt.Sprint("p", i+1), Revision: part[0],
			Spec: structs.PodSpec{RestartPolicy: structs.PodRestartAlways, Containers: []structs.PodContainer{{Name: "web"}}}}
		p.Desired, p.HostID = structs.DesiredRunning, "h1"
		if len(part) > 2 {
			p.HostID = part[2]
		}
		seen := structs.PartObserved{Name: "web", PartState: structs.PartState{State: structs.PartRunning}}
		if len(part) > 3 {
			if _, err := fmt.Sscan(part[3], &seen.Restarts); err != nil {
				t.Fatal(err)
			}
		}
		p.Observed.Status = structs.ContainerRunning
		switch part[1] {
		case "waiting":
			p.HostID, p.PlaceReason, p.Observed.Status = "", "waits for a host with room for it", ""
		case "pending":
			p.Observed.Status = structs.ContainerCreating
		case "lost":
			p.Observed.Status, p.Observed.Reason = structs.ContainerUnknown, "host h1 is lost"
		case "ready":
			seen.Ready = true
		case "unready":
		default:
			t.Fatalf("no state %q", part[1])
		}
		if part[1] != "waiting" {
			p.Observed.Parts = []structs.PartObserved{seen}
		}
		all = append(all, p)
	}
	return all
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		name   string
		n      int
		have   string // the present revision is b
		create int
		gone   string // in this order
		reason string // contains it
	}{
		{"none yet", 3, "", 3, "", ""},
		{"one is missing", 3, "b:ready b:ready", 1, "", ""},
		{"all are there", 2, "b:ready b:ready", 0, "", ""},
		{"not ready yet", 2, "b:ready b:pending", 0, "", "waits for pod p2 to be ready: container web runs and is not ready"},
		{"no room", 1, "b:waiting", 0, "", "waits for a host with room"},
		{"a host is lost", 2, "b:ready b:lost", 0, "", "waits for pod p2 to be ready: host h1 is lost"},
		{"to zero", 0, "b:ready b:ready", 0, "p2 p1", ""},
		{"zero", 0, "", 0, "", ""},

		{"without a host first", 1, "b:ready b:waiting b:pending", 0, "p2 p3", ""},
		{"pending, then lost, then not ready", 1, "b:unready b:lost b:pending b:ready", 0, "p3 p2 p1", ""},
		{"an older one that is not ready before a ready one", 1, "b:unready b:ready", 0, "p1", ""},
		{"from the host with the most", 2, "b:ready:h1 b:ready:h1 b:ready:h2", 0, "p2", ""},
		{"evenly from the hosts", 2, "b:ready:h1 b:ready:h1 b:ready:h1 b:ready:h2 b:ready:h2 b:ready:h2", 0, "p6 p3 p5 p2", ""},
		{"the most restarts", 1, "b:ready:h1:3 b:ready:h1:1", 0, "p1", ""},
		{"the youngest", 1, "b:ready b:ready", 0, "p2", ""},

		{"rolling: one more first", 2, "a:ready a:ready", 1, "", "rolling update: 0 of 2 pods"},
		{"rolling: it waits", 2, "a:ready a:ready b:pending", 0, "",
			"rolling update: 1 of 2 pods are of the new template; waits for pod p3 to be ready: container web runs"},
		{"rolling: one old goes, the next comes", 2, "a:ready a:ready b:ready", 1, "p2", ""},
		{"rolling: the last old goes", 2, "a:ready b:ready b:ready", 0, "p1", ""},
		{"rolling: the last new is not ready", 2, "a:ready b:ready b:unready", 0, "", "waits for pod p3"},
		{"rolling of one", 1, "a:ready", 1, "", ""},
		{"rolling of one: both", 1, "a:ready b:unready", 0, "", ""},
		{"rolling of one: the old goes", 1, "a:ready b:ready", 0, "p1", ""},
		{"rolling: never ready, and an old one fails too", 3, "a:ready a:ready a:unready b:unready", 0, "", "waits for pod p4"},
		{"rolling: an old one that isn't ready goes first", 3, "a:ready a:unready a:ready b:ready", 1, "p2", ""},
		{"rolling back", 3, "b:ready b:ready b:ready a:unready", 0, "p4", ""},
		{"rolling on from one that failed", 3, "a:ready a:ready a:ready c:unready", 1, "p4", ""},
		{"rolling to zero", 0, "a:ready b:unready", 0, "p1 p2", ""},
		{"rolling with fewer", 2, "a:ready a:ready a:ready a:ready b:unready", 0, "p4 p3", ""},
		{"rolling with more", 4, "a:ready a:ready b:unready", 2, "", ""},
		{"rolling: new ones beyond the wanted", 1, "a:ready b:ready b:ready", 0, "p1 p3", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rc := &structs.RC{Replicas: test.n, Revision: "b", Generation: 7}
			have := pods(t, test.have)
			plan := Decide(rc, have)
			var gone []string
			for _, p := range plan.Delete {
				gone = append(gone, p.Name)
			}
			if got := strings.Join(gone, " "); plan.Create != test.create || got != test.gone {
				t.Errorf("create %d, delete %q, not %d and %q", plan.Create, got, test.create, test.gone)
			}
			if !strings.Contains(plan.Observed.Reason, test.reason) || test.reason == "" && plan.Create+len(gone) == 0 &&
				!strings.Contains(test.have, "unready") && plan.Observed.Reason != "" {
				t.Errorf("the reason is %q, not %q", plan.Observed.Reason, test.reason)
			}
			if o := plan.Observed; o.Current != len(have) || o.Generation != 7 || o.Ready != strings.Count(test.have, ":ready") ||
				o.Updated != strings.Count(test.have, "b:") {
				t.Errorf("counted: %+v", o)
			}
		})
	}
}

// TestRollingUpdates carries out plans for every number of replicas. Each new pod becomes ready
// one plan later. There are never fewer ready pods than wanted, and never more than one pod too
// many.
func TestRollingUpdates(t *testing.T) {
	for n := range 8 {
		have := pods(t, strings.Repeat("a:ready ", n))
		rc := &structs.RC{Replicas: n, Revision: "b"}
		for round := 0; ; round++ {
			if round > 4*n+4 {
				t.Fatalf("%d replicas: the update does not end", n)
			}
			plan := Decide(rc, have)
			ready := plan.Observed.Ready
			for _, p := range plan.Delete {
				if p.Ready() {
					ready--
				}
				have = slices.DeleteFunc(have, func(q *structs.Pod) bool { return p == q })
			}
			fresh := pods(t, strings.Repeat("b:ready ", plan.Create))
			if ready < n || len(have)+len(fresh) > n+1 {
				t.Fatalf("%d replicas: %d are ready, and there are %d", n, ready, len(have)+len(fresh))
			}
			if plan.Create == 0 && len(plan.Delete) == 0 {
				if plan.Observed.Updated != n || plan.Observed.Current != n {
					t.Fatalf("%d replicas: it ends with %+v", n, plan.Observed)
				}
				break
			}
			have = append(have, fresh...)
		}
	}
}
