package conductor

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// direct is a proposer that applies entries to the store at once, as the log of a single
// server would. Tests may hook into it.
type direct struct {
	store   *state.Store
	entries int
	largest int                     // bytes of the largest entry
	before  func(data []byte) error // if it returns an error, the proposal fails with it
	verify  func() error
}

func (d *direct) Propose(_ context.Context, data []byte) (uint64, error) {
	if d.before != nil {
		if err := d.before(data); err != nil {
			return 0, err
		}
	}
	e, err := state.DecodeEntry(data)
	if err != nil {
		return 0, err
	}
	d.entries++
	d.largest = max(d.largest, len(data))
	index := d.store.Index() + 1
	return index, d.store.Apply(index, e.Changes)
}

func (d *direct) VerifyLeader(context.Context) error {
	if d.verify != nil {
		return d.verify()
	}
	return nil
}

// harness is a leading conductor with a store of its own.
type harness struct {
	*testing.T
	*Conductor
	proposer *direct
	clock    time.Time
	ended    chan error
}

func newHarness(t *testing.T) *harness { return newHarnessOf(t, structs.SchemaVersion) }

// newHarnessOf is newHarness for a cluster that uses the schema.
func newHarnessOf(t *testing.T, schema int) *harness {
	t.Helper()
	h := newHarnessOn(t, state.New())
	must(h, InitCluster{ClusterID: structs.NewID(), JoinTokenHash: structs.HashSecret("join"), Schema: schema})
	must(h, ExpireKeys{}) // writes the leadership's lineage, so that tests count only their own entries
	return h
}

// newHarnessOn is newHarness on an existing state.
func newHarnessOn(t *testing.T, store *state.Store) *harness {
	t.Helper()
	h := &harness{T: t, proposer: &direct{store: store}, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	h.Conductor = New(Config{Store: store, Proposer: h.proposer, Logger: hclog.NewNullLogger(), Now: func() time.Time { return h.clock }})
	h.lead()
	return h
}

// lead starts the loop, which ends with the test.
func (h *harness) lead() {
	ctx, cancel := context.WithCancel(context.Background())
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.Lead(ctx, 1) }()
	h.Cleanup(func() {
		cancel()
		<-h.ended
	})
	for deadline := time.Now().Add(time.Minute); ; {
		h.mu.RLock()
		leading := h.leading
		h.mu.RUnlock()
		if leading {
			return
		}
		if time.Now().After(deadline) {
			h.Fatal("the conductor does not lead")
		}
		time.Sleep(time.Millisecond)
	}
}

func must[T any](h *harness, r Request[T]) T {
	h.Helper()
	result, err := Do(context.Background(), h.Conductor, r)
	if err != nil {
		h.Fatalf("%T: %v", r, err)
	}
	return result
}

// refuse fails the test unless the request is refused with the code and leaves no change.
func refuse[T any](h *harness, code structs.Code, r Request[T]) error {
	h.Helper()
	index, hash := h.store.Index(), h.store.Hash()
	_, err := Do(context.Background(), h.Conductor, r)
	if structs.CodeOf(err) != code {
		h.Fatalf("%T: got error %v, want code %s", r, err, code)
	}
	if h.store.Index() != index || h.store.Hash() != hash {
		h.Fatalf("%T was refused and changed the state", r)
	}
	return err
}

var (
	alice = structs.Caller{ProjectID: "p1", UserID: "alice", Roles: []structs.Role{structs.RoleMember}}
	bob   = structs.Caller{ProjectID: "p2", UserID: "bob", Roles: []structs.Role{structs.RoleMember}}
	root  = structs.Caller{ProjectID: "ops", UserID: "root", Roles: []structs.Role{structs.RoleAdmin}}
)

// host registers a host with 4 cores and 4 GiB.
func (h *harness) host(name string, labels map[string]string) string {
	h.Helper()
	id := structs.NewID()
	h.register(id, name, labels)
	return id
}

func (h *harness) register(id, name string, labels map[string]string) structs.HostRegistered {
	h.Helper()
	return must(h, RegisterHost{
		HostRegister: structs.HostRegister{HostID: id, Name: name, Fingerprint: structs.Fingerprint{
			Backend: structs.BackendDocker, Cores: 4, Memory: 4 << 30, Labels: labels, Kinds: []structs.WorkloadKind{structs.WorkloadPod},
		}},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("secret of " + name),
	})
}

func (h *harness) bay(caller structs.Caller, name string, nodes int) *structs.Bay {
	h.Helper()
	return must(h, CreateBay{Caller: caller, Name: name, NodeCount: nodes, Placement: structs.PlacementSpread})
}

func (h *harness) create(caller structs.Caller, bay string, spec structs.ContainerSpec) *structs.Container {
	h.Helper()
	if spec.Image == "" {
		spec.Image = "busybox"
	}
	if spec.RestartPolicy.Name == "" {
		spec.RestartPolicy.Name = structs.RestartNo
	}
	return must(h, CreateContainer{Caller: caller, Bay: bay, Run: true, Spec: spec})
}

// report reports an observation of the container, as its host.
func (h *harness) report(id string, seen structs.Observed) {
	h.Helper()
	c := h.container(id)
	host := h.store.Snapshot().Host(c.HostID)
	if seen.Generation == 0 {
		seen.Generation = c.Generation
	}
	must(h, ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{
		Registration: host.Registration, Seq: host.ReportSeq + 1,
		Containers: []structs.ContainerReport{{ContainerID: id, Epoch: c.Epoch, Observed: seen}},
	}})
}

// settle carries out all steps.
func (h *harness) settle() {
	h.Helper()
	for range 1000 {
		if !must(h, Settle{}) {
			return
		}
	}
	h.Fatal("settling does not end")
}

// container returns the row in the state, nil if there is none.
func (h *harness) container(id string) *structs.Container { return h.store.Snapshot().Container(id) }

func (h *harness) bayNow(id string) *structs.Bay { return h.store.Snapshot().Bay(id) }

func (h *harness) bayNamed(name string) *structs.Bay {
	h.Helper()
	found, err := Lookup(h.store.Snapshot(), root, structs.KindBay, name)
	if err == nil {
		return found.(*structs.Bay)
	}
	for b := range scratch.Typed[*structs.Bay](h.store.Snapshot().List(structs.TableBays, state.AllProjects, 0)) {
		if b.Name == name {
			return b
		}
	}
	h.Fatalf("there is no bay %s", name)
	return nil
}

// edit is a request that writes what the function does.
type edit func(*scratch.Tx)

func (e edit) decide(t *scratch.Tx) (struct{}, error) {
	e(t)
	return struct{}{}, nil
}

// write has the function write to the state.
func (h *harness) write(f func(*scratch.Tx)) {
	h.Helper()
	must(h, edit(f))
}
