package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/server/conductor"
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
