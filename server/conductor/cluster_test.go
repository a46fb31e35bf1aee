package conductor

import (
	"slices"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestRemovedServersAreRemembered(t *testing.T) {
	h := newHarness(t)
	first := structs.NewID()
	must(h, RemoveServer{ID: first})
	if c := must(h, RemoveServer{ID: first}); !slices.Equal(c.Removed, []string{first}) {
		t.Errorf("removed twice: %v", c.Removed)
	}
	last := ""
	for range structs.MaxRemoved {
		last = structs.NewID()
		must(h, RemoveServer{ID: last})
	}
	c := h.store.Snapshot().Cluster()
	if len(c.Removed) != structs.MaxRemoved || slices.Contains(c.Removed, first) || !slices.Contains(c.Removed, last) {
		t.Errorf("%d are remembered, the oldest among them: %v", len(c.Removed), slices.Contains(c.Removed, first))
	}
}

// TestAgentOfAnotherClusterIsRefused: an admitted agent that doesn't follow this cluster
// would still count as ready.
func TestAgentOfAnotherClusterIsRefused(t *testing.T) {
	h := newHarness(t)
	cluster := h.store.Snapshot().Cluster()
	register := func(follows structs.Following) RegisterHost {
		return RegisterHost{
			HostRegister: structs.HostRegister{HostID: structs.NewID(), Name: "h",
				Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker}, Follows: follows},
			TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("secret"),
		}
	}
	for name, f := range map[string]structs.Following{
		"another cluster":         {ClusterID: structs.NewID()},
		"another, which it may":   {ClusterID: structs.NewID(), Restore: true},
		"a later state, cut back": {ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation + 1, Restore: true},
	} {
		r := register(f)
		refuse(h, structs.CodeForbidden, r)
		if h.store.Snapshot().Host(r.HostID) != nil {
			t.Errorf("a host that follows %s is in the state", name)
		}
	}
	must(h, register(structs.Following{}))
	again := register(structs.Following{ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation})
	again.Name = "h2"
	must(h, again)
}

// TestUnknownRegistrationSupersedesNoAgent: after a restore into another cluster, a host's
// last registration belongs to an unknown instance.
func TestUnknownRegistrationSupersedesNoAgent(t *testing.T) {
	mine := structs.HostRegister{Instance: structs.NewID(), Registration: 3}
	if Superseded(&structs.Host{Registration: 1 << 20}, mine) {
		t.Error("an agent is refused because of an unknown instance")
	}
	if !Superseded(&structs.Host{Registration: 4, Instance: structs.NewID()}, mine) {
		t.Error("a superseded agent is admitted")
	}
}

// TestInitCluster: the first leader creates the row, and later leaders add what is missing.
// Only a given token replaces an existing one.
func TestInitCluster(t *testing.T) {
	h := newHarness(t)
	was := h.store.Snapshot().Cluster()
	if was == nil {
		t.Fatal("the harness has no cluster")
	}
	now := must(h, InitCluster{ClusterID: "another", JoinTokenHash: "hash", PeerSecret: "secret"})
	if now.ClusterID != was.ClusterID || now.JoinTokenHash != was.JoinTokenHash || now.PeerSecret != "secret" {
		t.Errorf("%+v became %+v", was, now)
	}
	index := h.store.Index()
	if again := must(h, InitCluster{JoinTokenHash: "hash", PeerSecret: "later"}); again.PeerSecret != "secret" || h.store.Index() != index {
		t.Errorf("what was complete became %+v at %d", again, h.store.Index())
	}
	if now = must(h, InitCluster{JoinTokenHash: "hash", Replace: true}); now.JoinTokenHash != "hash" || now.PeerSecret != "secret" {
		t.Errorf("with a token that was given it is %+v", now)
	}
	for _, tt := range [][2]time.Duration{{time.Minute, time.Minute}, {time.Second, time.Minute}, {0, time.Minute},
		{time.Hour, time.Hour}} {
		if now = must(h, InitCluster{HostLostAfter: tt[0]}); now.HostLostAfter != tt[1] {
			t.Errorf("with %v it is %v, not %v", tt[0], now.HostLostAfter, tt[1])
		}
	}
	if now = must(h, InitCluster{Replace: true}); now.JoinTokenHash != "hash" {
		t.Errorf("without one the hash is %q", now.JoinTokenHash)
	}
}

// TestRaiseSchema: the schema is never lowered, and only later entries use the new one.
func TestRaiseSchema(t *testing.T) {
	h := newHarnessOf(t, structs.LeastSchema)
	if got := h.store.Snapshot().Cluster().SchemaInUse(); got != structs.LeastSchema {
		t.Fatalf("a new cluster uses schema %d", got)
	}
	raised := structs.LeastSchema + 1
	h.clock = h.clock.Add(time.Hour)
	for _, tt := range []struct{ raise, want int }{{0, structs.LeastSchema}, {structs.LeastSchema, structs.LeastSchema}, {raised, raised},
		{structs.LeastSchema, raised}, {-1, raised}} {
		before := h.store.Snapshot().Cluster().SchemaInUse()
		index := h.store.Index()
		if got := must(h, RaiseSchema{Schema: tt.raise}); got.SchemaInUse() != tt.want ||
			h.store.Snapshot().Cluster().SchemaInUse() != tt.want {
			t.Errorf("raised to %d it is %d, want %d", tt.raise, got.SchemaInUse(), tt.want)
		}
		if before == tt.want && h.store.Index() != index {
			t.Errorf("raised to %d: a row was written without a change", tt.raise)
		}
		must(h, ExpireKeys{}) // the first batch of a schema that has lineages writes one
	}
	other := newHarnessOf(t, structs.LeastSchema)
	if got := must(other, InitCluster{Schema: raised}); got.Schema != raised || !got.UpdatedAt.Equal(other.clock) {
		t.Errorf("the next leader raises it to %d", got.Schema)
	}
	if got := must(other, InitCluster{Schema: structs.LeastSchema}); got.Schema != raised {
		t.Errorf("a leader with an earlier schema lowers it to %d", got.Schema)
	}
	// Servers that have restored an earlier snapshot learn the last time from this write.
	if got := h.store.Snapshot().LastTime(); !got.Equal(h.clock) {
		t.Errorf("the last time is %v, not %v", got, h.clock)
	}
}
