package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

func TestDrainIsForcedAtItsDeadline(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		host, patient := d.host(t), d.host(t)
		forced := func(id string) bool { return d.config.Store.Snapshot().Host(id).DrainForce }
		do(t, d, conductor.DrainHost{Caller: operator, Ident: patient, Draining: true})
		do(t, d, conductor.DrainHost{Caller: operator, Ident: host, Draining: true, Deadline: time.Minute})
		d.pass(50*time.Second, host, patient)
		if forced(host) {
			t.Fatal("forced too early")
		}
		do(t, d, conductor.DrainHost{Caller: operator, Ident: host, Draining: true, Deadline: 2 * time.Minute}) // a new deadline
		d.pass(110*time.Second, host, patient)
		if forced(host) {
			t.Fatal("forced at the first deadline")
		}
		d.pass(15*time.Second, host, patient)
		if !forced(host) || forced(patient) {
			t.Errorf("forced: %v and %v", forced(host), forced(patient))
		}
	})
}

// A new leader restarts the deadline: clocks of two machines are never compared.
func TestNewLeaderRestartsDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.host(t)
		do(t, d, conductor.DrainHost{Caller: operator, Ident: host, Draining: true, Deadline: time.Minute})
		time.Sleep(time.Hour)
		stop := d.leads(t)
		defer stop()
		d.pass(50*time.Second, host)
		if d.config.Store.Snapshot().Host(host).DrainForce {
			t.Error("forced by the wall clock")
		}
		d.pass(15*time.Second, host)
		if !d.config.Store.Snapshot().Host(host).DrainForce {
			t.Error("never forced")
		}
	})
}

// moved is a workload that moves away from a draining host, and its earlier placement.
type moved struct {
	d    *Dispatch
	row  structs.Workload
	from string // host of the earlier placement
}

// moved writes a container, or a pod, that moves from one host to the other. Nothing is
// reported of the new placement.
func (d *Dispatch) moved(t *testing.T, hosts []string, bay *structs.Bay, kind structs.WorkloadKind) *moved {
	t.Helper()
	meta := structs.Meta{ID: structs.NewID(), Seq: 900 + d.config.Store.Index(), ProjectID: "p"}
	place := structs.Placement{BayID: bay.ID, HostID: hosts[1], Epoch: 2, Desired: structs.DesiredRunning, Generation: 1,
		Priors: []structs.Prior{{HostID: hosts[0], Epoch: 1, Generation: 1, Keep: true}}}
	m := &moved{d: d, from: hosts[0]}
	if m.row = structs.Workload(&structs.Container{Meta: meta, Placement: place}); kind == structs.WorkloadPod {
		m.row = &structs.Pod{Meta: meta, Placement: place, Spec: structs.PodSpec{Containers: []structs.PodContainer{{Name: "c"}}}}
	}
	d.write(t, false, m.row)
	return m
}

// reports has the new host report the workload.
func (m *moved) reports(t *testing.T, status structs.ContainerStatus) {
	t.Helper()
	host := m.d.config.Store.Snapshot().Host(m.row.Place().HostID)
	r := structs.ReportOf(m.row.Ref())
	r.Observed = structs.Observed{Status: status, Generation: 1, Health: "starting"}
	do(t, m.d, conductor.ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{Registration: host.Registration,
		Seq: host.ReportSeq + 1, Containers: []structs.ContainerReport{r}}})
}

// kept checks whether the earlier placement runs on.
func (m *moved) kept(t *testing.T, want bool) {
	t.Helper()
	w := m.d.config.Store.Snapshot().Workload(m.row.Ref().Kind, m.row.Base().ID)
	a := structs.AssignmentOf(w, m.from)
	if runs := a.Desired == structs.DesiredRunning; a.Epoch != 1 || runs != want {
		t.Fatalf("the earlier placement, of epoch %d, is to be %s", a.Epoch, a.Desired)
	}
}

// TestMovesEndInTime: a new placement that runs and doesn't become ready keeps the earlier one
// for a minute and the time that its checks allow it to start, from when it runs.
func TestMovesEndInTime(t *testing.T) {
	for _, kind := range []structs.WorkloadKind{structs.WorkloadContainer, structs.WorkloadPod} {
		t.Run(string(kind), func(t *testing.T) {
			leading(t, func(t *testing.T, d *Dispatch) {
				bay, hosts := d.inBay(t, "b", 2)
				m := d.moved(t, hosts, bay, kind)
				m.reports(t, structs.ContainerCreating)
				d.pass(time.Hour, hosts...) // its image is pulled
				m.kept(t, true)
				m.reports(t, structs.ContainerRunning)
				d.pass(50*time.Second, hosts...)
				m.reports(t, structs.ContainerStopped) // it is about to be restarted
				d.pass(5*time.Second, hosts...)
				m.kept(t, true)
				d.pass(10*time.Second, hosts...)
				m.kept(t, false)
			})
		})
	}
	t.Run("slow start", func(t *testing.T) {
		leading(t, func(t *testing.T, d *Dispatch) {
			bay, hosts := d.inBay(t, "b", 2)
			m := d.moved(t, hosts, bay, structs.WorkloadPod)
			slow := m.row.Copy().(*structs.Pod)
			slow.Spec.Containers = []structs.PodContainer{{Name: "c", Startup: &structs.Probe{Period: 10, Failure: 30}}}
			d.write(t, false, slow)
			m.reports(t, structs.ContainerRunning)
			d.pass(350*time.Second, hosts...)
			m.kept(t, true)
			d.pass(15*time.Second, hosts...)
			m.kept(t, false)
		})
	})
	t.Run("moved again", func(t *testing.T) {
		leading(t, func(t *testing.T, d *Dispatch) {
			bay, hosts := d.inBay(t, "b", 3)
			m := d.moved(t, hosts, bay, structs.WorkloadContainer)
			m.reports(t, structs.ContainerRunning)
			d.pass(50*time.Second, hosts...)
			m.row = d.config.Store.Snapshot().Container(m.row.Base().ID).Copy()
			p := m.row.Place()
			p.HostID, p.Epoch = hosts[2], 3
			m.row.Forget()
			d.write(t, false, m.row)
			m.reports(t, structs.ContainerRunning)
			d.pass(50*time.Second, hosts...)
			m.kept(t, true)
			d.pass(15*time.Second, hosts...)
			m.kept(t, false)
		})
	})
	t.Run("new leader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDispatch(t)
			bay, hosts := d.inBay(t, "b", 2)
			m := d.moved(t, hosts, bay, structs.WorkloadContainer)
			m.reports(t, structs.ContainerRunning)
			time.Sleep(time.Hour)
			stop := d.leads(t)
			defer stop()
			d.pass(50*time.Second, hosts...)
			m.kept(t, true)
			d.pass(15*time.Second, hosts...)
			m.kept(t, false)
		})
	})
}

// TestManyMovesEnd: those that one entry has no room for end with the next look.
func TestManyMovesEnd(t *testing.T) {
	leading(t, func(t *testing.T, d *Dispatch) {
		bay, hosts := d.inBay(t, "b", 2)
		var all []*moved
		for range structs.MaxChanges + 7 {
			m := d.moved(t, hosts, bay, structs.WorkloadContainer)
			m.reports(t, structs.ContainerRunning)
			all = append(all, m)
		}
		d.pass(65*time.Second, hosts...)
		for _, m := range all {
			m.kept(t, false)
		}
	})
}
