package conductor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// decided decides a request in the batch, as the loop does.
func decided[T any](t *scratch.Tx, r Request[T]) (T, error) {
	c := &call{ctx: context.Background(), decide: func(t *scratch.Tx) (any, error) { return r.decide(t) }}
	decideCall(t, c)
	result, _ := c.result.(T)
	return result, c.err
}

// Lookups that are cached for one request of a batch are repeated once another request has
// written, or has been undone.
func TestBatchSeesBaysThatItCreatesAndDeletes(t *testing.T) {
	h := newHarness(t)
	batch := scratch.New(h.store.Snapshot(), h.clock)
	create := func() (*structs.Container, error) {
		return decided(batch, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i"}})
	}
	if _, err := create(); err == nil || !strings.Contains(err.Error(), "no bay") {
		t.Fatalf("without a bay: %v", err)
	}
	bay := func(caller structs.Caller, name string, shared bool) *structs.Bay {
		t.Helper()
		b, err := decided(batch, CreateBay{Caller: caller, Name: name, NodeCount: 1, Shared: shared, Placement: structs.PlacementSpread})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bay(bob, "bobs", false)
	if _, err := create(); err == nil || !strings.Contains(err.Error(), "no bay") {
		t.Fatalf("with another project's bay: %v", err)
	}
	shared := bay(root, "shared", true)
	if c, err := create(); err != nil || c.BayID != shared.ID {
		t.Fatalf("with a shared bay: %+v, %v", c, err)
	}
	own := bay(alice, "own", false)
	if _, err := create(); err == nil || !strings.Contains(err.Error(), "2 bays") {
		t.Fatalf("with a bay of its own beside: %v", err)
	}
	batch.Begin()
	batch.Remove(own)
	if c, err := decidedWithin(batch, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i"}}); err != nil ||
		c.BayID != shared.ID {
		t.Fatalf("once that is gone: %+v, %v", c, err)
	}
	batch.Rollback()
	if _, err := create(); err == nil || !strings.Contains(err.Error(), "2 bays") {
		t.Fatalf("once its removal is undone: %v", err)
	}
}

// decidedWithin decides a request as a part of the current one.
func decidedWithin[T any](t *scratch.Tx, r Request[T]) (T, error) { return r.decide(t) }

func TestBatchSeesHostsThatItDrains(t *testing.T) {
	h := newHarness(t)
	one, two := h.host("h1", nil), h.host("h2", nil)
	bay := h.bay(root, "bay", 2)
	h.settle()
	batch := scratch.New(h.store.Snapshot(), h.clock)
	place := func() string {
		t.Helper()
		c, err := decided(batch, CreateContainer{Caller: root, Bay: bay.ID, Spec: structs.ContainerSpec{Image: "i"}})
		if err != nil {
			t.Fatal(err)
		}
		return c.HostID
	}
	if a, b := place(), place(); a == b || a == "" || b == "" {
		t.Fatalf("two containers went to %q and %q: the second doesn't see what the first uses", a, b)
	}
	drain := func(id string, draining bool) {
		changed := *scratch.Row[structs.Host](batch, id)
		changed.Draining = draining
		batch.Begin()
		batch.Put(&changed)
	}
	drain(one, true)
	for range 3 {
		if got := place(); got != two {
			t.Fatalf("placed on %q, not on %q, the host that isn't draining", got, two)
		}
	}
	drain(two, true)
	batch.Rollback()
	if got := place(); got != two {
		t.Fatalf("placed on %q, not on %q, whose draining is undone", got, two)
	}
}

// oneAfterAnother is a request that decides several requests in one batch.
type oneAfterAnother []func(t *scratch.Tx) error

func (r oneAfterAnother) decide(t *scratch.Tx) (struct{}, error) {
	for _, decide := range r {
		if err := decide(t); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func and[T any](r Request[T]) func(t *scratch.Tx) error {
	return func(t *scratch.Tx) error {
		_, err := r.decide(t)
		return err
	}
}

// An object that a batch deletes and creates again under the same UUID is another object: a
// retried delete leaves it alone.
func TestDeleteAndCreateInOneBatch(t *testing.T) {
	h := newHarness(t)
	id := structs.NewID()
	create := CreateRow[structs.Node, *structs.Node]{Caller: alice, UUID: id, Row: structs.Node{Type: "first"}}
	remove := DeleteRow[structs.Node, *structs.Node]{Caller: alice, Ident: id}
	first := must(h, create)
	known := h.store.Index()

	second := create
	second.Row.Type = "second"
	third := PatchRow[structs.Node, *structs.Node]{Caller: alice, Ident: id,
		Apply: func(n structs.Node) (structs.Node, error) { n.Type = "third"; return n, nil }}
	must(h, oneAfterAnother{and(remove), and(second), and(third)})
	now, _ := h.store.Snapshot().Get(structs.TableNodes, id).(*structs.Node)
	if now == nil || now.Type != "third" || now.CreateIndex <= known || now.Seq == first.Seq {
		t.Fatalf("there is %+v; the first one was %+v", now, first)
	}
	if err := refuse(h, structs.CodeUnavailable, RetryAfterUnknown[*structs.Node]{remove, known}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a retried delete: %v", err)
	}

	// A change doesn't recreate a row, and changes that cancel out write nothing.
	made := now.CreateIndex
	must(h, oneAfterAnother{and(third), and(third)})
	if now = h.store.Snapshot().Get(structs.TableNodes, id).(*structs.Node); now.CreateIndex != made {
		t.Errorf("a change recreated the row")
	}
	must(h, oneAfterAnother{and(remove), and(second), and(remove)})
	if left := h.store.Snapshot().Get(structs.TableNodes, id); left != nil {
		t.Errorf("there is %+v", left)
	}
	must(h, oneAfterAnother{and(second), and(remove), and(create)})
	if now = h.store.Snapshot().Get(structs.TableNodes, id).(*structs.Node); now.Type != "first" {
		t.Errorf("there is %+v", now)
	}
}
