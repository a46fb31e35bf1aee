package conductor

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// hold makes the next proposal wait until release is called. started is closed when that
// proposal has arrived.
func (h *harness) hold() (started chan struct{}, release func()) {
	started, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.proposer.before = func([]byte) error {
		once.Do(func() { close(started) })
		<-gate
		return nil
	}
	return started, sync.OnceFunc(func() { close(gate) })
}

// queued waits until n calls are in the queue.
func (h *harness) queued(n int) {
	h.Helper()
	for deadline := time.Now().Add(time.Minute); len(h.queue) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("%d calls are queued, want %d", len(h.queue), n)
		}
	}
}

func TestNextBatchGathersWhileOneIsCommitted(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	var wg sync.WaitGroup
	create := func() {
		defer wg.Done()
		if _, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice,
			Spec: structs.ContainerSpec{Image: "i"}}); err != nil {
			t.Error(err)
		}
	}
	wg.Add(1)
	go create()
	<-started
	for range 50 {
		wg.Add(1)
		go create()
	}
	h.queued(50)
	before := h.proposer.entries
	release()
	wg.Wait()
	if got := h.proposer.entries - before; got != 2 {
		t.Errorf("51 creates took %d entries, want 2", got)
	}
}

func TestRefusalsWaitForTheBatch(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	created, refused := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i"}})
		created <- err
	}()
	<-started
	go func() {
		_, err := Do(context.Background(), h.Conductor, DeleteBay{Caller: alice, Ident: "nope"})
		refused <- err
	}()
	h.queued(1)
	select {
	case err := <-refused:
		t.Errorf("a refusal was answered before the entry ahead of it was applied: %v", err)
	default:
	}
	release()
	if err := <-created; err != nil {
		t.Error(err)
	}
	if err := <-refused; structs.CodeOf(err) != structs.CodeNotFound {
		t.Error(err)
	}
}

func TestFailedEntryEndsTheRun(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	h.proposer.before = func([]byte) error { return errors.New("leadership lost") }
	_, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i"}})
	if structs.CodeOf(err) != structs.CodeNoLeader || !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if err := <-h.ended; err == nil {
		t.Error("Lead went on after a failed entry")
	} else {
		h.ended <- err
	}
	_, err = Do(context.Background(), h.Conductor, DeleteBay{Caller: alice, Ident: "web"})
	if structs.CodeOf(err) != structs.CodeNoLeader || errors.Is(err, ErrUnknown) {
		t.Errorf("after the end: %v", err)
	}
}

func TestReadOnlyBatchVerifiesLeadership(t *testing.T) {
	h := newHarness(t)
	h.proposer.verify = func() error { return errors.New("deposed") }
	_, err := Do(context.Background(), h.Conductor, DeleteBay{Caller: alice, Ident: "nope"})
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a deposed leader answered %v", err)
	}
	h.ended <- <-h.ended
}

func TestFullQueueRefusesReportsFirst(t *testing.T) {
	h := newHarness(t)
	started, release := h.hold()
	defer release()
	answers := make(chan error, structs.MaxQueue+2)
	ask := func(n int, r Request[ReportProgress]) {
		for range n {
			go func() {
				_, err := Do(context.Background(), h.Conductor, r)
				answers <- err
			}()
		}
	}
	go Do(context.Background(), h.Conductor, CreateBay{Caller: alice, Name: "b", NodeCount: 1})
	<-started
	ask(structs.MaxQueue*3/4, ReportStatus{HostID: "h"})
	h.queued(structs.MaxQueue * 3 / 4)
	if _, err := Do(context.Background(), h.Conductor, ReportStatus{HostID: "h"}); structs.CodeOf(err) != structs.CodeRateLimited {
		t.Errorf("one report too many: %v", err)
	}
	for range structs.MaxQueue / 4 {
		go func() {
			_, err := Do(context.Background(), h.Conductor, DeleteBay{Caller: alice, Ident: "nope"})
			answers <- err
		}()
	}
	h.queued(structs.MaxQueue)
	if _, err := Do(context.Background(), h.Conductor, DeleteBay{Caller: alice,
		Ident: "nope"}); structs.CodeOf(err) != structs.CodeRateLimited {
		t.Errorf("one request too many: %v", err)
	}
	release()
	for range structs.MaxQueue {
		if err := <-answers; structs.CodeOf(err) != structs.CodeNotFound {
			t.Fatal(err)
		}
	}
}

func TestEntriesAreBounded(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	big := structs.ContainerSpec{Image: "i", Environment: map[string]string{"BIG": string(make([]byte, 200<<10))}}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice, Spec: big}); err != nil {
				t.Error(err)
			}
		}()
		if i == 0 {
			<-started
		}
	}
	h.queued(9)
	before := h.proposer.entries
	release()
	wg.Wait()
	if got := h.proposer.entries - before; got != 4 { // 1 + 3 of 3: the third passes the 512 KiB
		t.Errorf("10 creates of 200 KiB took %d entries, want 4", got)
	}
}

func TestClientThatLeftIsNotServed(t *testing.T) {
	h := newHarness(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Do(ctx, h.Conductor, CreateBay{Caller: alice, Name: "b", NodeCount: 1}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Error(err)
	}
	for range h.store.Snapshot().List(structs.TableBays, state.AllProjects, 0) {
		t.Error("the request was carried out")
	}
}

func TestRollbackRestoresTheView(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	b := h.bay(alice, "web", 1)
	kept := h.create(alice, "", structs.ContainerSpec{Memory: 1 << 30})
	tx := scratch.New(h.store.Snapshot(), h.clock)
	tx.Begin()
	if _, err := (CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i", Memory: 1 << 30}}).decide(tx); err != nil {
		t.Fatal(err)
	}
	nextSeq := func() uint64 {
		tx.Begin()
		defer tx.Rollback()
		return tx.Meta(alice, "").Seq
	}
	want, size, seq := len(tx.Changes()), tx.Size(), nextSeq()
	tx.Begin()
	c := *scratch.Row[structs.Container](tx, kept.ID)
	c.Spec.Memory = 2 << 30
	tx.Assign(&c)
	c2 := c
	c2.HostID = ""
	tx.Assign(&c2)
	tx.Remove(tx.Get(structs.TableBays, b.ID))
	tx.Meta(alice, "")
	tx.Rollback()
	if len(tx.Changes()) != want || tx.Size() != size || nextSeq() != seq {
		t.Errorf("%d changes, size %d, seq %d; want %d, %d, %d", len(tx.Changes()), tx.Size(), nextSeq(), want, size, seq)
	}
	if used := tx.Reserved.Used(host); used.Memory != 2<<30 || used.Workloads != 2 {
		t.Errorf("%+v", used)
	}
	if scratch.Row[structs.Bay](tx, b.ID) == nil || scratch.Row[structs.Container](tx, kept.ID).Spec.Memory != 1<<30 {
		t.Error("a write is left")
	}
}
