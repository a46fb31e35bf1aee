package conductor

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestDeleteHost(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "web", structs.ContainerSpec{})
	says := func(err error, want string) {
		t.Helper()
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal is %q and lacks %q", err, want)
		}
	}
	remove := DeleteHost{Caller: root, Ident: "h1"}
	says(refuse(h, structs.CodeConflict, remove), "host-drain "+id)
	must(h, DrainHost{Caller: root, Ident: id, Draining: true})
	says(refuse(h, structs.CodeConflict, remove), "still has 1 containers")
	h.mark(structs.HostSuspect, id)
	says(refuse(h, structs.CodeConflict, remove), "still has 1 containers")
	h.mark(structs.HostLost, id)
	h.settle()
	says(refuse(h, structs.CodeConflict, remove), "host-fence "+id)
	must(h, FenceHost{Caller: root, Ident: id})
	h.settle()
	says(refuse(h, structs.CodeConflict, remove), "delete them with -force")
	must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
	if gone := must(h, remove); gone.ID != id || h.store.Snapshot().Host(id) != nil {
		t.Fatalf("host %s is still there", gone.ID)
	}
	h.settle()
	refuse(h, structs.CodeNotFound, remove)

	// Its name is free, and its bay takes another host.
	other := h.host("h1", nil)
	h.settle()
	if bay := h.bayNamed("web"); h.store.Snapshot().Host(other).BayID != bay.ID {
		t.Errorf("the bay is %+v", bay)
	}
	// A drained host is deleted once it is empty.
	must(h, DrainHost{Caller: root, Ident: other, Draining: true})
	must(h, DeleteHost{Caller: root, Ident: other})
}

// TestDeleteHostWithEarlierPlacements: what moved off a lost host doesn't keep it, nor is it
// kept by it.
func TestDeleteHostWithEarlierPlacements(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	h.bay(alice, "web", 2)
	c := h.create(alice, "web", structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}})
	h.host("h2", nil)
	h.settle()
	h.mark(structs.HostLost, id)
	h.settle()
	if p := h.container(c.ID); p.HostID == id || p.PriorOn(id) == nil {
		t.Fatalf("the container is at %+v", p.Placement)
	}
	must(h, DeleteHost{Caller: root, Ident: id})
	h.settle()
	if p := h.container(c.ID); p.PriorOn(id) != nil || p.HostID == "" {
		t.Errorf("the container is at %+v", p.Placement)
	}
	if used := h.store.Snapshot().Usage(id); used.Workloads != 0 {
		t.Errorf("%+v is reserved on a host that doesn't exist", used)
	}
}

// TestDeletedHostIsNotAdmittedAgain: neither a running agent nor a restarted one is, whether
// it has a join token or not. A new host with that data is.
func TestDeletedHostIsNotAdmittedAgain(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	must(h, DrainHost{Caller: root, Ident: id, Draining: true})
	must(h, DeleteHost{Caller: root, Ident: id})
	cluster := h.store.Snapshot().Cluster()
	r := RegisterHost{HostRegister: structs.HostRegister{HostID: id, Name: "h1", Registration: 1,
		Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker}, Follows: structs.Following{ClusterID: cluster.ClusterID}},
		SecretHash: structs.HashSecret("secret of h1"), TokenHash: structs.HashSecret("join")}
	restarted := r
	restarted.Registration, restarted.Follows.Index, restarted.Follows.Lineage = 0, h.store.Index(), h.newest()
	for _, r := range []RegisterHost{r, restarted} {
		for _, token := range []string{"join", "wrong", ""} {
			r.TokenHash = structs.HashSecret(token)
			err := refuse(h, structs.CodeForbidden, r)
			if e := new(structs.Error); !asError(err, &e) || e.Hint != structs.HintDeleted || !strings.Contains(e.Msg, "host_id") {
				t.Errorf("the refusal is %v", err)
			}
		}
	}
	r.HostID, r.Registration = structs.NewID(), 0
	must(h, r)
}

func asError(err error, e **structs.Error) bool {
	got, ok := err.(*structs.Error)
	*e = got
	return ok
}

func TestHostNamesAreUnique(t *testing.T) {
	h := newHarness(t)
	first := h.host("h1", nil)
	h.host("h2", nil)
	register := func(id, name, secret string) RegisterHost {
		return RegisterHost{HostRegister: structs.HostRegister{HostID: id, Name: name,
			Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker}},
			TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret(secret)}
	}
	if err := refuse(h, structs.CodeConflict, register(structs.NewID(), "h1", "x")); !strings.Contains(err.Error(), "-name") {
		t.Errorf("the refusal is %v", err)
	}
	refuse(h, structs.CodeConflict, register(first, "h2", "secret of h1")) // renamed
	must(h, register(first, "h1", "secret of h1"))                         // itself
	must(h, register(first, "h3", "secret of h1"))
	must(h, register(structs.NewID(), "h1", "x")) // the name is free
	h.mark(structs.HostSuspect, first)
	refuse(h, structs.CodeConflict, register(structs.NewID(), "h3", "x"))
	h.mark(structs.HostLost, first)
	must(h, register(structs.NewID(), "h3", "x"))
	refuse(h, structs.CodeConflict, register(first, "h3", "secret of h1")) // it has lost its name
	must(h, register(first, "h4", "secret of h1"))
}

// TestLabelsThatCount: an agent's claims lead no bay to its host unless the servers trust it.
func TestLabelsThatCount(t *testing.T) {
	h := newHarness(t)
	register := func(id, name string, claimed bool, token string) RegisterHost {
		return RegisterHost{HostRegister: structs.HostRegister{HostID: id, Name: name, Fingerprint: structs.Fingerprint{
			Backend: structs.BackendDocker, Labels: map[string]string{"zone": "a", "own": "x"}}},
			TokenID: token, TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("s"), Claimed: claimed}
	}
	labels := func(id string) map[string]string { return h.store.Snapshot().Host(id).AllLabels() }
	claimer := structs.NewID()
	must(h, register(claimer, "h1", true, ""))
	bay := must(h, CreateBay{Caller: alice, Name: "b", NodeCount: 1, Labels: map[string]string{"zone": "a"}})
	if bay.Status != structs.BayCreating || len(labels(claimer)) != 0 {
		t.Fatalf("a claim is taken for a label: %+v, %v", bay, labels(claimer))
	}
	must(h, LabelHost{Caller: root, Ident: "h1", Apply: func(map[string]string) (map[string]string, error) {
		return map[string]string{"zone": "a"}, nil
	}})
	h.settle()
	if h.store.Snapshot().Host(claimer).BayID != bay.ID {
		t.Error("an operator's label doesn't count")
	}
	token := must(h, CreateToken{Caller: root, UUID: structs.NewID(), Token: structs.Token{Name: "rack", Hash: structs.HashSecret("join"), Join: true,
		MaxHosts: 2, Labels: map[string]string{"zone": "b"}}})
	granted := structs.NewID()
	must(h, register(granted, "h2", true, token.ID))
	if l := labels(granted); l["zone"] != "b" || len(l) != 1 {
		t.Errorf("the labels are %v", l)
	}
	must(h, register(granted, "h2", false, token.ID)) // the servers trust agents now
	if l := labels(granted); l["zone"] != "b" || l["own"] != "x" {
		t.Errorf("the labels are %v", l)
	}
	third := structs.NewID()
	must(h, register(third, "h3", true, token.ID))
	if err := refuse(h, structs.CodeForbidden, register(structs.NewID(), "h4", true, token.ID)); !strings.Contains(err.Error(), "admits 2 hosts") {
		t.Errorf("the refusal is %v", err)
	}
	must(h, register(third, "h3", true, token.ID)) // it is one of them
	must(h, DrainHost{Caller: root, Ident: third, Draining: true})
	must(h, DeleteHost{Caller: root, Ident: third})
	must(h, register(structs.NewID(), "h4", true, token.ID))
}

// TestHostsOfEarlierSchemas: nothing is written that a server may not know.
func TestHostsOfEarlierSchemas(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaHosts-1)
	refuse(h, structs.CodeUnavailable, CreateToken{Caller: root, UUID: structs.NewID(), Token: structs.Token{Hash: "h", Join: true, MaxHosts: 1}})
	id := structs.NewID()
	must(h, RegisterHost{HostRegister: structs.HostRegister{HostID: id, Name: "h", Fingerprint: structs.Fingerprint{
		Backend: structs.BackendDocker, Labels: map[string]string{"zone": "a"}}},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("s"), Claimed: true})
	if host := h.store.Snapshot().Host(id); host.Claimed || host.AllLabels()["zone"] != "a" {
		t.Errorf("the host is %+v", host)
	}
}
