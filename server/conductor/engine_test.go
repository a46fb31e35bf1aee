package conductor

import (
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// engineOf returns an engine's identity.
func engineOf(id string) structs.EngineIdentity {
	return structs.EngineIdentity{ID: id, Root: "/var/lib/docker", Inode: 7, Born: time.Unix(1e9, 5).UTC(), Machine: "m1"}
}

// asHost returns a registration from an engine.
func asHost(id string, engine structs.EngineIdentity, found ...structs.LabelOwner) RegisterHost {
	return RegisterHost{
		HostRegister: structs.HostRegister{HostID: id, Name: "h-" + id[:8], Found: found,
			Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, EngineVersion: "20.10.24", Cores: 4, Memory: 4 << 30,
				Engine: engine}},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("secret of " + id),
	}
}

// TestHostKeepsItsEngine: an agent with another engine can't register as the host.
// Differences that occur with the same engine do no harm.
func TestHostKeepsItsEngine(t *testing.T) {
	was := engineOf("E1")
	for name, c := range map[string]struct {
		now     func(*structs.EngineIdentity)
		refused string // "" if it is admitted
	}{
		"the same":                      {func(*structs.EngineIdentity) {}, ""},
		"it can't read the directory":   {func(e *structs.EngineIdentity) { e.Inode, e.Born = 0, time.Time{} }, ""},
		"it reads no time of birth":     {func(e *structs.EngineIdentity) { e.Born = time.Time{} }, ""},
		"an agent that doesn't tell":    {func(e *structs.EngineIdentity) { *e = structs.EngineIdentity{} }, ""},
		"the machine has another id":    {func(e *structs.EngineIdentity) { e.Machine = "m2" }, ""},
		"another ID":                    {func(e *structs.EngineIdentity) { e.ID = "E2" }, "its ID is E2 and was E1, on the same machine"},
		"another ID of another machine": {func(e *structs.EngineIdentity) { e.ID, e.Machine = "E2", "m2" }, "on another machine"},
		"another directory": {func(e *structs.EngineIdentity) { e.Root = "/srv/docker" },
			"its directory is /srv/docker and was /var/lib/docker"},
		"another inode": {func(e *structs.EngineIdentity) { e.Inode++ }, "put back from a backup"},
		"born later":    {func(e *structs.EngineIdentity) { e.Born = e.Born.Add(1) }, "put back from a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			id, now := structs.NewID(), was
			must(h, asHost(id, was))
			c.now(&now)
			r := asHost(id, now)
			r.Fingerprint.EngineVersion = "28.0.1" // an upgrade
			if c.refused != "" {
				err := refuse(h, structs.CodeConflict, r)
				if e := err.(*structs.Error); e.Kind != structs.KindEngine || !strings.Contains(e.Msg, c.refused) ||
					!strings.Contains(e.Msg, "host-fence "+id) {
					t.Errorf("refused with %v", err)
				}
				return
			}
			must(h, r)
			// Known fields stay known, so that the next registration is compared with them.
			if got := h.store.Snapshot().Host(id).Fingerprint; got.Engine.ID != was.ID || got.Engine.Inode != was.Inode ||
				!got.Engine.Born.Equal(was.Born) || got.EngineVersion != "28.0.1" {
				t.Errorf("the row has %+v", got)
			}
			other := asHost(id, engineOf("E3"))
			refuse(h, structs.CodeConflict, other)
		})
	}
}

// TestHostWithoutEngineAcceptsTheFirst: the row was written before agents reported their
// engines.
func TestHostWithoutEngineAcceptsTheFirst(t *testing.T) {
	h := newHarness(t)
	id := structs.NewID()
	must(h, asHost(id, structs.EngineIdentity{}))
	must(h, asHost(id, engineOf("E1")))
	refuse(h, structs.CodeConflict, asHost(id, engineOf("E2")))
	must(h, asHost(id, engineOf("E1")))
}

// TestEngineBelongsToOneHost: of two hosts with one engine the second is refused while the
// first is not lost. Once it is lost, the first is refused.
func TestEngineBelongsToOneHost(t *testing.T) {
	h := newHarness(t)
	first, second, plain := structs.NewID(), structs.NewID(), structs.NewID()
	must(h, asHost(first, engineOf("E1")))
	lose := func(id string, state structs.HostState) {
		must(h, MarkHosts{Marks: []HostMark{{ID: id, State: state, Reason: "silent"}}})
	}
	for _, state := range []structs.HostState{structs.HostReady, structs.HostSuspect} {
		lose(first, state)
		if err := refuse(h, structs.CodeConflict, asHost(second, engineOf("E1"))); !strings.Contains(err.Error(), first) ||
			!strings.Contains(err.Error(), "one host of a cluster") {
			t.Errorf("while the first is %s the refusal is %v", state, err)
		}
	}
	// The engines of machines made from one image differ in the machine only.
	twin := engineOf("E1")
	twin.Machine = "m2"
	must(h, asHost(structs.NewID(), twin))
	unread := engineOf("E1")
	unread.Inode, unread.Born = 0, time.Time{}
	refuse(h, structs.CodeConflict, asHost(second, unread))

	// A known host whose engine wasn't recorded yet.
	must(h, asHost(plain, structs.EngineIdentity{}))
	refuse(h, structs.CodeConflict, asHost(plain, engineOf("E1")))

	lose(first, structs.HostLost)
	must(h, asHost(second, engineOf("E1")))
	refuse(h, structs.CodeConflict, asHost(first, engineOf("E1")))
	lose(second, structs.HostLost)
	must(h, asHost(first, engineOf("E1")))
	must(h, asHost(first, engineOf("E1"))) // a restart of its agent
}

// TestNewHostIsCheckedAgainstLabels: containers of another host of the cluster suggest that
// the agent has lost its host_id. They don't prove it.
func TestNewHostIsCheckedAgainstLabels(t *testing.T) {
	h := newHarness(t)
	cluster := h.store.Snapshot().Cluster().ClusterID
	old, fresh := structs.NewID(), structs.NewID()
	must(h, asHost(old, engineOf("E1")))
	must(h, MarkHosts{Marks: []HostMark{{ID: old, State: structs.HostLost, Reason: "silent"}}})
	left := structs.LabelOwner{ClusterID: cluster, HostID: old}

	err := refuse(h, structs.CodeConflict, asHost(fresh, engineOf("E1"), left))
	if e := err.(*structs.Error); e.Kind != structs.KindEngine {
		t.Errorf("its kind is %q", e.Kind)
	}
	for _, way := range []string{"write " + old + " into it", "label=magnum.host=" + old, "magnum host-fence " + old} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("it doesn't say %q: %v", way, err)
		}
	}
	// A host that isn't in the state can't be fenced.
	unknown := structs.LabelOwner{ClusterID: cluster, HostID: structs.NewID()}
	if err := refuse(h, structs.CodeConflict, asHost(fresh, engineOf("E1"), unknown)); strings.Contains(err.Error(), "host-fence") {
		t.Errorf("refused with %v", err)
	}
	// A known host is not a new one, whatever containers its engine has. A host with
	// containers of its own labels isn't either.
	must(h, asHost(old, engineOf("E1"), unknown))
	must(h, MarkHosts{Marks: []HostMark{{ID: old, State: structs.HostLost, Reason: "silent"}}})
	must(h, asHost(structs.NewID(), engineOf("E9"), structs.LabelOwner{ClusterID: structs.NewID(), HostID: old})) // another cluster's
	must(h, FenceHost{Caller: root, Ident: old})
	must(h, asHost(fresh, engineOf("E1"), left))
	if got := h.store.Snapshot().Host(old); got.State != structs.HostLost || !got.Fenced {
		t.Errorf("the old host is %s, fenced %v", got.State, got.Fenced)
	}
}

// TestEarlierSchemaHasNoEngines: a server that knows only an earlier schema would stop at
// an unknown field.
func TestEarlierSchemaHasNoEngines(t *testing.T) {
	h := newHarnessOf(t, structs.LeastSchema)
	id := structs.NewID()
	must(h, asHost(id, engineOf("E1")))
	h.bay(alice, "b", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, EngineID: "e1"})
	host := h.store.Snapshot().Host(id)
	must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: host.Registration, Seq: host.ReportSeq + 1,
		Copies: &structs.Copies{Count: 1, First: []structs.Copy{{EngineID: "e2"}}}}})
	host = h.store.Snapshot().Host(id)
	if host.Fingerprint.Engine.Known() || host.CopyCount != 0 || host.Copies != nil || h.container(c.ID).Observed.EngineID != "" {
		t.Errorf("the rows are %+v and %+v", host, h.container(c.ID))
	}
	must(h, asHost(id, engineOf("E2"))) // nothing to compare it with yet
	must(h, RaiseSchema{Schema: structs.SchemaEngines})
	must(h, asHost(id, engineOf("E1")))
	refuse(h, structs.CodeConflict, asHost(id, engineOf("E2")))
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, EngineID: "e1"})
	if got := h.container(c.ID).Observed.EngineID; got != "e1" {
		t.Errorf("then the row has %q", got)
	}
}

// TestEarlierSchemaHasNoRelays: as TestEarlierSchemaHasNoEngines, of what services need of
// hosts.
func TestEarlierSchemaHasNoRelays(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaEngines)
	id := structs.NewID()
	register := asHost(id, engineOf("E1"))
	register.Fingerprint.Relay = structs.Relay{Key: "k", Addr: "h:9514"}
	must(h, register)
	bay := h.bay(alice, "b", 1)
	if host := h.store.Snapshot().Host(id); host.Fingerprint.Relay != (structs.Relay{}) || host.BayIndex != 0 || host.BayID != bay.ID {
		t.Errorf("the row is %+v", host)
	}
	must(h, RaiseSchema{Schema: structs.SchemaPods})
	must(h, register)
	index := h.store.Index()
	must(h, DeleteBay{Caller: alice, Ident: bay.ID})
	h.settle()
	if host := h.store.Snapshot().Host(id); host.Fingerprint.Relay.Key != "k" || host.BayIndex <= index || host.BayID != "" {
		t.Errorf("then the row is %+v, after index %d", host, index)
	}
}
