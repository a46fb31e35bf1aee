package conductor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

func TestCreatePlacesInTheSameEntry(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	before := h.proposer.entries
	c := h.create(alice, "", structs.ContainerSpec{})
	if h.proposer.entries != before+1 {
		t.Errorf("create took %d entries, want 1", h.proposer.entries-before)
	}
	c = h.container(c.ID)
	if c.HostID != host || c.Epoch != 1 || c.Generation != 1 || c.Status() != structs.ContainerCreating || c.Name == "" {
		t.Errorf("got %+v", c)
	}
	if c.ProjectID != "p1" || c.UserID != "alice" {
		t.Errorf("owner is %s/%s", c.ProjectID, c.UserID)
	}
}

func TestCreateChoosesTheBay(t *testing.T) {
	h := newHarness(t)
	err := refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice})
	if !strings.Contains(err.Error(), "bay-create") {
		t.Errorf("%v names no way out", err)
	}
	a := h.bay(alice, "a", 1)
	if c := h.create(alice, "", structs.ContainerSpec{}); c.BayID != a.ID {
		t.Error("the only bay was not taken")
	}
	h.bay(alice, "b", 1)
	err = refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice})
	if !strings.Contains(err.Error(), a.ID) {
		t.Errorf("%v does not list the candidates", err)
	}
	refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice, Bay: "nope"})
	refuse(h, structs.CodeInvalid, CreateContainer{Caller: bob, Bay: a.ID}) // another project's
	k := must(h, CreateBay{Caller: alice, Name: "k", COE: "kubernetes", NodeCount: 1, Placement: structs.PlacementSpread})
	refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice, Bay: k.ID})
	must(h, DeleteBay{Caller: alice, Ident: a.ID})
	refuse(h, structs.CodeConflict, CreateContainer{Caller: alice, Bay: a.ID})
	h.bay(alice, "b", 1)
	refuse(h, structs.CodeConflict, CreateContainer{Caller: alice, Bay: "b"}) // ambiguous
}

func TestSharedBay(t *testing.T) {
	h := newHarness(t)
	b := must(h, CreateBay{Caller: root, Name: "default", NodeCount: 1, Placement: structs.PlacementSpread, Shared: true})
	if c := h.create(bob, "default", structs.ContainerSpec{}); c.BayID != b.ID {
		t.Error("a shared bay is not found by name")
	}
	h.create(bob, "", structs.ContainerSpec{})
	refuse(h, structs.CodeForbidden, DeleteBay{Caller: bob, Ident: b.ID})
	refuse(h, structs.CodeForbidden, PatchBay{Caller: bob, Ident: b.ID, NodeCount: 2})
}

func TestProjectsDontSeeEachOther(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	for _, ident := range []string{c.ID, c.Name} {
		refuse(h, structs.CodeNotFound, ActOnContainer{Caller: bob, Ident: ident, Action: ActionStop})
		refuse(h, structs.CodeNotFound, DeleteContainer{Caller: bob, Ident: ident, Force: true})
		refuse(h, structs.CodeNotFound, PatchContainer{Caller: bob, Ident: ident})
	}
	must(h, ActOnContainer{Caller: root, Ident: c.ID, Action: ActionStop}) // an operator may act on it
}

func TestReservationsNeverExceedAHost(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	first := h.create(alice, "", structs.ContainerSpec{Memory: 3 << 30,
		Ports: []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "tcp"}}})
	for name, spec := range map[string]structs.ContainerSpec{
		"memory": {Memory: 2 << 30},
		"cpu":    {MilliCPU: 4001},
		"port":   {Ports: []structs.Port{{ContainerPort: 8080, HostPort: 80, Protocol: "tcp"}}},
		"zone":   {Constraints: map[string]string{"zone": "b"}},
	} {
		c := h.container(h.create(alice, "", spec).ID)
		if c.HostID != "" || !strings.Contains(c.StatusReason(), name) || c.Status() != structs.ContainerCreating {
			t.Errorf("%s: placed on %q with reason %q", name, c.HostID, c.StatusReason())
		}
	}
	udp := h.create(alice, "", structs.ContainerSpec{Ports: []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "udp"}}})
	if h.container(udp.ID).HostID == "" {
		t.Error("port 80/udp is free, and the container waits")
	}
	used := h.store.Snapshot().Usage(host)
	if used.Memory != 3<<30 {
		t.Errorf("%d bytes are reserved", used.Memory)
	}
	// Room appears: the containers that waited for it are placed, the others keep waiting.
	must(h, DeleteContainer{Caller: alice, Ident: first.ID, Force: true})
	h.report(first.ID, structs.Observed{Status: structs.ContainerGone})
	h.settle()
	placed := 0
	for w := range h.store.Snapshot().OnHost(host) {
		if p := w.Place(); p.PlaceReason != "" {
			t.Errorf("placed, but it still has the reason %q", p.PlaceReason)
		}
		placed++
	}
	if placed != 3 { // memory, port, udp
		t.Errorf("%d containers are placed, want 3", placed)
	}
}

func TestOneBatchDoesNotOverfillAHost(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	// All are decided in one scratch view before any is applied.
	tx := scratch.New(h.store.Snapshot(), h.clock)
	for range 5 {
		tx.Begin()
		if _, err := (CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i", Memory: 1 << 30}}).decide(tx); err != nil {
			t.Fatal(err)
		}
	}
	placed := 0
	for _, c := range tx.Changes() {
		if c.Row.(*structs.Container).HostID == host {
			placed++
		}
	}
	if placed != 4 || tx.Reserved.Used(host).Memory != 4<<30 {
		t.Errorf("%d placed, %d bytes reserved", placed, tx.Reserved.Used(host).Memory)
	}
}

func TestActions(t *testing.T) {
	for _, tc := range []struct {
		action Action
		status structs.ContainerStatus
		ran    bool // it has been started before
		want   structs.Desired
		idle   bool
		code   structs.Code
	}{
		{action: ActionStart, status: structs.ContainerStopped, want: structs.DesiredRunning},
		{action: ActionStart, status: structs.ContainerRunning, ran: true, want: structs.DesiredRunning, idle: true},
		{action: ActionStart, status: structs.ContainerStopped, ran: true, want: structs.DesiredRunning},
		{action: ActionStart, status: structs.ContainerPaused, ran: true, code: structs.CodeConflict},
		{action: ActionStart, status: structs.ContainerError, ran: true, want: structs.DesiredRunning},
		{action: ActionStop, status: structs.ContainerRunning, ran: true, want: structs.DesiredStopped},
		{action: ActionStop, status: structs.ContainerPaused, ran: true, want: structs.DesiredStopped},
		{action: ActionStop, status: structs.ContainerStopped, idle: true, want: structs.DesiredCreated},
		{action: ActionStop, status: structs.ContainerStopped, ran: true, want: structs.DesiredStopped}, // its restart policy may start it
		{action: ActionStop, status: structs.ContainerError, ran: true, want: structs.DesiredStopped},
		{action: ActionReboot, status: structs.ContainerRunning, ran: true, want: structs.DesiredRunning},
		{action: ActionReboot, status: structs.ContainerStopped, ran: true, want: structs.DesiredRunning},
		{action: ActionReboot, status: structs.ContainerPaused, ran: true, code: structs.CodeConflict},
		{action: ActionPause, status: structs.ContainerRunning, ran: true, want: structs.DesiredPaused},
		{action: ActionPause, status: structs.ContainerStopped, code: structs.CodeConflict},
		{action: ActionPause, status: structs.ContainerPaused, ran: true, code: structs.CodeConflict},
		{action: ActionUnpause, status: structs.ContainerPaused, ran: true, want: structs.DesiredRunning},
		{action: ActionUnpause, status: structs.ContainerRunning, ran: true, code: structs.CodeConflict},
		{action: "dance", status: structs.ContainerRunning, ran: true, code: structs.CodeConflict},
	} {
		t.Run(fmt.Sprintf("%s %s", tc.action, tc.status), func(t *testing.T) {
			h := newHarness(t)
			h.host("h1", nil)
			h.bay(alice, "web", 1)
			c := must(h, CreateContainer{Caller: alice, Run: tc.ran, Spec: structs.ContainerSpec{Image: "i"}})
			h.report(c.ID, structs.Observed{Status: tc.status})
			r := ActOnContainer{Caller: alice, Ident: c.ID, Action: tc.action}
			if tc.code != "" {
				refuse(h, tc.code, r)
				return
			}
			must(h, r)
			now := h.container(c.ID)
			if now.Desired != tc.want || (now.Generation == c.Generation) != tc.idle {
				t.Errorf("desired %s generation %d", now.Desired, now.Generation)
			}
			if (now.RebootGeneration == now.Generation) != (tc.action == ActionReboot) {
				t.Errorf("reboot generation %d of %d", now.RebootGeneration, now.Generation)
			}
			starts := c.StartGeneration
			if !tc.idle && (tc.action == ActionStart || tc.action == ActionReboot || tc.action == ActionUnpause) {
				starts = now.Generation
			}
			if now.StartGeneration != starts || structs.AssignmentOf(now, now.HostID).StartGeneration != starts {
				t.Errorf("start generation %d of %d, want %d", now.StartGeneration, now.Generation, starts)
			}
		})
	}
}

func TestActionsInFlightStartFromWhatIsWanted(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionPause}) // it is still Creating
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionUnpause})
	if now := h.container(c.ID); now.Desired != structs.DesiredRunning || now.Generation != 3 {
		t.Errorf("%+v", now)
	}
}

func TestDelete(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
	refuse(h, structs.CodeConflict, DeleteContainer{Caller: alice, Ident: c.ID})
	must(h, DeleteContainer{Caller: alice, Ident: c.ID, Stop: true})
	now := h.container(c.ID)
	if now.Status() != structs.ContainerDeleting || now.Force {
		t.Fatalf("%+v", now)
	}
	refuse(h, structs.CodeConflict, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
	if again := must(h, DeleteContainer{Caller: alice, Ident: c.ID}); again.Generation != now.Generation {
		t.Error("a second delete is a second attempt")
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerError, Failed: true})
	if again := must(h, DeleteContainer{Caller: alice, Ident: c.ID}); again.Generation != now.Generation+1 {
		t.Error("a failed delete is not tried again")
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
	if h.container(c.ID) != nil {
		t.Error("the host has reported Gone, but the row is still there")
	}
	refuse(h, structs.CodeNotFound, DeleteContainer{Caller: alice, Ident: c.ID})

	waiting := must(h, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i", Memory: 1 << 40}})
	must(h, DeleteContainer{Caller: alice, Ident: waiting.ID})
	if h.container(waiting.ID) != nil {
		t.Error("no host had it, but the row is still there")
	}
	waiting = must(h, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i", Memory: 1 << 40}})
	must(h, ActOnContainer{Caller: alice, Ident: waiting.ID, Action: ActionStart})
	must(h, DeleteContainer{Caller: alice, Ident: waiting.ID})
	if h.container(waiting.ID) != nil {
		t.Error("it was desired running, no host had it, but the row is still there")
	}

	pulled := h.create(alice, "", structs.ContainerSpec{})
	h.report(pulled.ID, structs.Observed{Status: structs.ContainerCreating, Reason: "pulling"})
	must(h, DeleteContainer{Caller: alice, Ident: pulled.ID})
	if now := h.container(pulled.ID); now.Status() != structs.ContainerDeleting {
		t.Errorf("deleted while its image was pulled: %+v", now)
	}
}

func TestContainerRemovedFromItsHost(t *testing.T) {
	for _, policy := range []string{structs.RestartNo, structs.RestartAlways} {
		h := newHarness(t)
		host := h.host("h1", nil)
		h.bay(alice, "web", 1)
		c := h.create(alice, "", structs.ContainerSpec{Memory: 3 << 30, RestartPolicy: structs.RestartPolicy{Name: policy}})
		h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
		h.report(c.ID, structs.Observed{Status: structs.ContainerGone, Reason: "removed"})
		now := h.container(c.ID)
		if policy == structs.RestartNo {
			if now.Epoch != 1 || now.Status() != structs.ContainerError || !strings.Contains(now.StatusReason(), "removed") {
				t.Errorf("%s: %+v", policy, now)
			}
			must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
			now = h.container(c.ID)
		}
		if now.Epoch != 2 || now.HostID != host || now.Gone || now.Observed.Generation != 0 {
			t.Errorf("%s: not placed recreated: %+v", policy, now)
		}
		if used := h.store.Snapshot().Usage(host); used.Memory != 3<<30 || used.Workloads != 1 {
			t.Errorf("%s: %+v reserved", policy, used)
		}
		// Observations under the old epoch no longer count.
		hostRow := h.store.Snapshot().Host(host)
		must(h, ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: 1, Seq: hostRow.ReportSeq + 1,
			Containers: []structs.ContainerReport{{ContainerID: c.ID, Epoch: 1,
				Observed: structs.Observed{Status: structs.ContainerRunning, Generation: 9}}}}})
		if now = h.container(c.ID); now.Observed.Generation != 0 {
			t.Errorf("%s: a report of an old epoch was taken", policy)
		}
	}
}

// TestVolumesKeepTheirHost: a container that was removed from its host is created again
// where there is room. With a named volume it is created again only on the volume's host.
func TestVolumesKeepTheirHost(t *testing.T) {
	for _, tc := range []struct {
		name  string
		mount structs.Mount
		moves bool
	}{
		{"none", structs.Mount{}, true},
		{"tmpfs", structs.Mount{Target: "/t", Type: structs.MountTmpfs}, true},
		{"volume", structs.Mount{Name: "data", Target: "/data", Type: structs.MountVolume}, false},
	} {
		for _, policy := range []string{structs.RestartNo, structs.RestartAlways} {
			h := newHarness(t)
			home := h.host("h1", nil)
			bay := h.bay(alice, "web", 2)
			spec := structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: policy}}
			if tc.mount.Target != "" {
				spec.Volumes = []structs.Mount{tc.mount}
			}
			c := h.create(alice, "", spec)
			h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
			other := h.host("h2", nil)
			h.settle()
			if h.bayNow(bay.ID).Status != structs.BayCreated {
				t.Fatalf("%+v", h.bayNow(bay.ID))
			}
			must(h, DrainHost{Caller: root, Ident: home, Draining: true})
			h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
			if policy == structs.RestartNo {
				must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
			}
			now := h.container(c.ID)
			if tc.moves {
				if now.HostID != other || now.Epoch != 2 {
					t.Errorf("%s, %s: not placed on the host that has room: %+v", tc.name, policy, now)
				}
				continue
			}
			reason := now.StatusReason()
			if now.HostID != home || now.Epoch != 1 || !now.Gone || now.Status() != structs.ContainerError ||
				!strings.Contains(reason, "volume data is on host h1") || !strings.Contains(reason, "1 draining") ||
				!strings.Contains(reason, "start it again") {
				t.Errorf("%s, %s: %q, %+v", tc.name, policy, reason, now)
			}
			must(h, DrainHost{Caller: root, Ident: home})
			must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
			if now := h.container(c.ID); now.HostID != home || now.Epoch != 2 || now.Gone || now.PlaceReason != "" {
				t.Errorf("%s, %s: not created again on its host: %+v", tc.name, policy, now)
			}
		}
	}
}

func TestAutoRemove(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{AutoRemove: true})
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped}) // created, but not started yet
	if h.container(c.ID).Desired != structs.DesiredRunning {
		t.Fatal("removed before it ran")
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped, FinishedAt: h.clock})
	if h.container(c.ID).Desired != structs.DesiredAbsent {
		t.Error("its process has exited, but the container stays")
	}
}

func TestIdempotencyKey(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	r := CreateContainer{Caller: alice, Once: Once{Key: "k", BodyHash: "hash"}, Spec: structs.ContainerSpec{Image: "i"}}
	first := must(h, r)
	if again := must(h, r); again.ID != first.ID {
		t.Error("a retry created a second container")
	}
	other := r
	other.Once.BodyHash = "other"
	refuse(h, structs.CodeConflict, other)
	theirs := r
	theirs.Caller = bob
	h.bay(bob, "b", 1)
	if must(h, theirs).ID == first.ID {
		t.Error("the keys of two projects collide")
	}
	must(h, DeleteContainer{Caller: alice, Ident: first.ID})
	refuse(h, structs.CodeConflict, r)
	must(h, ExpireKeys{IDs: []string{"p1/k", "p1/none"}})
	if must(h, r).ID == first.ID {
		t.Error("the key has expired, but it returned its object")
	}
}

func TestUUIDFromThePost(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	id := structs.NewID()
	must(h, CreateContainer{Caller: alice, UUID: id, Spec: structs.ContainerSpec{Image: "i"}})
	refuse(h, structs.CodeConflict, CreateContainer{Caller: alice, UUID: id, Spec: structs.ContainerSpec{Image: "i"}})
}

func TestTimeNeverGoesBack(t *testing.T) {
	h := newHarness(t)
	first := h.bay(alice, "a", 1)
	h.clock = h.clock.Add(-time.Hour)
	if second := h.bay(alice, "b", 1); second.CreatedAt.Before(first.CreatedAt) {
		t.Errorf("%v is before %v", second.CreatedAt, first.CreatedAt)
	}
}

// TestRetriedDeleteSparesANewContainer: a retried delete by name doesn't delete a container
// that was created since under that name.
func TestRetriedDeleteSparesANewContainer(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	create := func() *structs.Container {
		return must(h, CreateContainer{Caller: alice, Name: "job", Spec: structs.ContainerSpec{Image: "i"}})
	}
	remove := DeleteContainer{Caller: alice, Ident: "job"}
	create()
	known := h.store.Index()
	must(h, remove)
	refuse(h, structs.CodeNotFound, RetryAfterUnknown[*structs.Container]{remove, known})
	second := create()
	if err := refuse(h, structs.CodeUnavailable, RetryAfterUnknown[*structs.Container]{remove, known}); !errors.Is(err, ErrUnknown) {
		t.Errorf("the outcome is not unknown: %v", err)
	}
	// A new request of the user deletes the new container.
	if gone := must(h, RetryAfterUnknown[*structs.Container]{remove, h.store.Index()}); gone.ID != second.ID {
		t.Errorf("deleted %s, not %s", gone.ID, second.ID)
	}
}

// TestEpochsAfterARestore: placements between the save and the restore had epochs that the
// restored state doesn't know. None of these epochs is used again.
func TestEpochsAfterARestore(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{Image: "i"})
	cluster := *h.store.Snapshot().Cluster()
	cluster.Incarnation = 3 // as the restore writes it
	if err := h.store.Apply(h.store.Index()+1, []structs.Change{{Table: structs.TableCluster, ID: cluster.ID, Version: cluster.ModifyIndex,
		Row: &cluster}}); err != nil {
		t.Fatal(err)
	}
	if now := h.container(c.ID); now.Epoch != 1 {
		t.Errorf("what is placed is of epoch %d", now.Epoch)
	}
	for want := uint64(3<<32 + 1); want < 3<<32+3; want++ {
		if now := must(h, RebuildContainer{Caller: alice, Ident: c.ID}); now.Epoch != want {
			t.Errorf("rebuilt it is of epoch %d, want %d", now.Epoch, want)
		}
	}
	if placed := h.create(alice, "", structs.ContainerSpec{Image: "i"}); placed.Epoch != 3<<32+1 {
		t.Errorf("a new one is of epoch %d", placed.Epoch)
	}
}
