package endpoints

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// view is a View of rows in memory.
type view struct {
	rows map[string]structs.Row
	pods []*structs.Pod
}

func (v *view) Get(table structs.Table, id string) structs.Row { return v.rows[string(table)+"/"+id] }

func (v *view) InBay(bayID string) iter.Seq[structs.Workload] {
	return func(yield func(structs.Workload) bool) {
		if !yield(&structs.Container{Placement: structs.Placement{BayID: bayID, HostID: "h1"}}) {
			return
		}
		for _, p := range v.pods {
			if p.BayID == bayID && !yield(p) {
				return
			}
		}
	}
}

func (v *view) put(r structs.Row) { v.rows[string(r.Table())+"/"+r.Base().ID] = r }

// newView returns a view with the hosts h1, h2 and lost.
func newView() *view {
	v := &view{rows: make(map[string]structs.Row)}
	for _, id := range []string{"h1", "h2", "lost"} {
		h := &structs.Host{Meta: structs.Meta{ID: id}, State: structs.HostReady, BayID: "bay"}
		if id == "lost" {
			h.State = structs.HostLost
		}
		v.put(h)
	}
	return v
}

// pod adds a pod that runs and is ready, changed by the functions.
func (v *view) pod(name string, change ...func(*structs.Pod)) *structs.Pod {
	n := len(v.pods) + 1
	p := &structs.Pod{
		Meta: structs.Meta{ID: "id-" + name, Seq: uint64(n), ProjectID: "p"}, Name: name,
		Placement: structs.Placement{BayID: "bay", HostID: "h1", Desired: structs.DesiredRunning},
		Labels:    map[string]string{"app": "web", "tier": "front"},
		Spec: structs.PodSpec{Containers: []structs.PodContainer{{Name: "c", Ports: []structs.PodPort{
			{Name: "dns", Port: structs.Port{ContainerPort: 5353, Protocol: "udp"}},
			{Name: "http", Port: structs.Port{ContainerPort: 8080, Protocol: "tcp"}},
		}}}},
		Observed: structs.PodObserved{Seen: structs.Seen{Status: structs.ContainerRunning}, Address: fmt.Sprint("10.0.0.", n),
			Parts: []structs.PartObserved{{Name: "c", PartState: structs.PartState{State: structs.PartRunning}, Ready: true}}},
	}
	for _, f := range change {
		f(p)
	}
	v.pods = append(v.pods, p)
	return p
}

func service(id string, selector map[string]string, ports ...structs.ServicePort) *structs.Service {
	return &structs.Service{Meta: structs.Meta{ID: id, Seq: 100, ProjectID: "p"}, BayID: "bay",
		Spec: structs.ServiceSpec{Selector: selector, Ports: ports}}
}

var web = map[string]string{"app": "web"}

// show returns the names of the endpoints with their addresses and ports; + is ready.
func show(e *structs.Endpoints) string {
	var out []string
	for _, p := range e.Pods {
		text := fmt.Sprintf("%s@%s %s %v", p.Name, p.HostID, p.Address, p.Ports)
		if p.Ready {
			text += " +"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestOf: which pods a service leads to, and which of them get new connections.
func TestOf(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*structs.Pod)
		want    string
		matched int
	}{
		{"ready", func(*structs.Pod) {}, "a@h1 10.0.0.1 [8080 80] +", 1},
		{"unready", func(p *structs.Pod) { p.Observed.Parts[0].Ready = false }, "a@h1 10.0.0.1 [8080 80]", 1},
		{"another project's", func(p *structs.Pod) { p.ProjectID = "other" }, "", 0},
		{"in another bay", func(p *structs.Pod) { p.BayID = "other" }, "", 0},
		{"another label", func(p *structs.Pod) { p.Labels = map[string]string{"app": "db"} }, "", 0},
		{"no label", func(p *structs.Pod) { p.Labels = nil }, "", 0},
		{"deleted", func(p *structs.Pod) { p.Desired = structs.DesiredAbsent }, "", 0},
		{"stopped", func(p *structs.Pod) { p.Desired = structs.DesiredStopped }, "", 0},
		{"drained away", func(p *structs.Pod) { p.DrainStop = true }, "", 1},
		{"gone", func(p *structs.Pod) { p.Gone = true }, "", 0},
		{"waits", func(p *structs.Pod) { p.HostID = "" }, "", 1},
		{"no address yet", func(p *structs.Pod) { p.Observed.Address = "" }, "", 1},
		{"on a lost host", func(p *structs.Pod) { p.HostID = "lost" }, "", 1},
		{"unknown", func(p *structs.Pod) { p.Observed.Status = structs.ContainerUnknown }, "", 1},
		{"ended", func(p *structs.Pod) {
			p.Spec.RestartPolicy = structs.PodRestartNever
			p.Observed.Parts[0].State = structs.PartTerminated
		}, "", 0},
		{"no such port", func(p *structs.Pod) { p.Spec.Containers[0].Ports = p.Spec.Containers[0].Ports[:1] }, "a@h1 10.0.0.1 [0 80] +", 1},
		{"port of another protocol", func(p *structs.Pod) { p.Spec.Containers[0].Ports[1].Protocol = "udp" }, "a@h1 10.0.0.1 [0 80] +", 1},
		{"port in a second container", func(p *structs.Pod) {
			one := p.Spec.Containers[0]
			p.Spec.Containers = []structs.PodContainer{{Name: "c"}, {Name: "d", Ports: one.Ports}}
			p.Observed.Parts = append(p.Observed.Parts, p.Observed.Parts[0])
			p.Observed.Parts[1].Name = "d"
		}, "a@h1 10.0.0.1 [8080 80] +", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := newView()
			v.pod("a", test.change)
			s := service("s", web, structs.ServicePort{Port: 80, TargetName: "http", Protocol: "tcp"},
				structs.ServicePort{Port: 81, TargetPort: 80, Protocol: "tcp"})
			e := Of(v, s)
			if show(e) != test.want || e.Matched != test.matched {
				t.Errorf("endpoints are %q of %d, want %q of %d", show(e), e.Matched, test.want, test.matched)
			}
			if e.ID != "s" || e.Seq != 100 || e.ProjectID != "p" || e.BayID != "bay" {
				t.Errorf("the row is %+v", e)
			}
		})
	}
}

// TestEarlierPlacement: a pod that moves away from a draining host gets connections there
// until it is ready on the new host.
func TestEarlierPlacement(t *testing.T) {
	v := newView()
	p := v.pod("a")
	s := service("s", web, structs.ServicePort{Port: 80, TargetPort: 80, Protocol: "tcp"})
	before := Of(v, s)
	v.put(before)
	seen := p.Observed
	p.Forget()
	p.HostID, p.Priors = "h2", []structs.Prior{{HostID: "h1", Keep: true}}
	if got := show(Of(v, s)); got != show(before) {
		t.Errorf("while the earlier placement is kept: %q, want %q", got, show(before))
	}
	p.HostID = ""
	if got := show(Of(v, s)); got != show(before) {
		t.Errorf("while it waits for a host: %q, want %q", got, show(before))
	}
	p.HostID, p.Observed = "h2", seen
	p.Observed.Address, p.Observed.Parts = "10.0.0.9", []structs.PartObserved{{Name: "c", PartState: seen.Parts[0].PartState}}
	if got := show(Of(v, s)); got != show(before) {
		t.Errorf("while the new one is not ready: %q, want %q", got, show(before))
	}
	s.Spec.Ports = append(s.Spec.Ports, structs.ServicePort{Port: 81, TargetName: "http", Protocol: "tcp"})
	if got := show(Of(v, s)); got != "a@h1 10.0.0.1 [80 8080] +" {
		t.Errorf("after the service has changed: %q", got)
	}
	s.Spec.Ports = s.Spec.Ports[:1]
	p.HostID = "lost"
	if got := show(Of(v, s)); got != show(before) {
		t.Errorf("while the new host is lost: %q, want %q", got, show(before))
	}
	p.HostID = "h2"
	p.Forget()
	p.Priors[0].HostID = "lost"
	if got := show(Of(v, s)); got != "" {
		t.Errorf("an earlier placement elsewhere: %q", got)
	}
	p.Priors[0] = structs.Prior{HostID: "h1"}
	if got := show(Of(v, s)); got != "" {
		t.Errorf("an earlier placement that is to go: %q", got)
	}
	p.Observed = seen
	if got := show(Of(v, s)); got != "a@h2 10.0.0.1 [80] +" {
		t.Errorf("after the new placement runs: %q", got)
	}
}

// TestMany: a service leads to MaxEndpoints pods at most, the oldest ones, and counts the
// others.
func TestMany(t *testing.T) {
	v := newView()
	for i := range structs.MaxEndpoints + 5 {
		v.pod(fmt.Sprint("p", i))
	}
	e := Of(v, service("s", web))
	if len(e.Pods) != structs.MaxEndpoints || e.Matched != structs.MaxEndpoints+5 || e.Pods[structs.MaxEndpoints-1].Name != "p999" {
		t.Errorf("%d endpoints of %d", len(e.Pods), e.Matched)
	}
}

// TestBay: Bay has the same result for each service as Of, whatever the selectors are.
func TestBay(t *testing.T) {
	v := newView()
	for i := range 40 {
		v.pod(fmt.Sprint("p", i), func(p *structs.Pod) {
			p.ProjectID = []string{"p", "q"}[i%2]
			p.Labels = map[string]string{"app": fmt.Sprint("a", i%3), "tier": fmt.Sprint("t", i%4), "zone": "z"}
		})
	}
	var services []*structs.Service
	for i, selector := range []map[string]string{
		{"app": "a0"}, {"app": "a1", "tier": "t1"}, {"zone": "z"}, {"app": "none"}, nil, {"tier": "t2", "zone": "z"}, {"zone": "y"},
	} {
		for _, project := range []string{"p", "q"} {
			s := service(fmt.Sprint(project, i), selector)
			s.ProjectID = project
			services = append(services, s)
		}
	}
	n, some := 0, 0
	for s, e := range Bay(v, services) {
		want := Of(v, s)
		if s != services[n] || !Same(e, want) || e.ID != s.ID {
			t.Errorf("service %s: %q, want %q", s.ID, show(e), show(want))
		}
		n++
		some += len(e.Pods)
	}
	if n != len(services) || some < 40 {
		t.Errorf("%d services with %d endpoints", n, some)
	}
	for range Bay(v, nil) {
		t.Error("no service has endpoints")
	}
}

// TestSame: each field of an endpoint counts.
func TestSame(t *testing.T) {
	v := newView()
	v.pod("a")
	s := service("s", web, structs.ServicePort{Port: 80, TargetPort: 80, Protocol: "tcp"})
	a := Of(v, s)
	for i, change := range []func(*structs.Endpoints){
		func(e *structs.Endpoints) { e.Matched++ },
		func(e *structs.Endpoints) { e.BayID = "" },
		func(e *structs.Endpoints) { e.Pods = nil },
		func(e *structs.Endpoints) { e.Pods[0].PodID = "" },
		func(e *structs.Endpoints) { e.Pods[0].Name = "" },
		func(e *structs.Endpoints) { e.Pods[0].HostID = "" },
		func(e *structs.Endpoints) { e.Pods[0].Address = "" },
		func(e *structs.Endpoints) { e.Pods[0].Ports = []int{81} },
		func(e *structs.Endpoints) { e.Pods[0].Ready = false },
	} {
		b := *a
		b.Pods = slices.Clone(a.Pods)
		if !Same(a, &b) {
			t.Fatal("a copy differs")
		}
		if change(&b); Same(a, &b) {
			t.Errorf("change %d makes no difference", i)
		}
	}
}
