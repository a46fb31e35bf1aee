package conductor

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// breakEncoding breaks the encoding of one value: that of containers with a terminal.
func (h *harness) breakEncoding() {
	h.store.BreakEncoder = func(row structs.Row, encoded []byte) {
		c, ok := row.(*structs.Container)
		if !ok || !c.Spec.TTY {
			return
		}
		at := strings.Index(string(encoded), "TTY\xc3")
		encoded[at+3] = 0xc1 // not a value in msgpack
	}
}

func TestUnreadableRequestIsRefused(t *testing.T) {
	h := newHarness(t)
	h.breakEncoding()
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	entries := h.proposer.entries
	err := refuse(h, structs.CodeInternal, CreateContainer{Caller: alice, Spec: structs.ContainerSpec{Image: "i", TTY: true}})
	var told *structs.Error
	if !errors.As(err, &told) || strings.Contains(told.Msg, "msgpack") {
		t.Errorf("the user has %q", told.Msg)
	}
	if h.proposer.entries != entries {
		t.Error("it was proposed")
	}
	for range 3 { // the loop continues
		h.create(alice, "", structs.ContainerSpec{})
	}
}

// TestUnreadableRequestFailsNoOtherOfItsBatch: the other requests of the batch are carried
// out, and a request that is refused anyway is refused for its own reason.
func TestUnreadableRequestFailsNoOtherOfItsBatch(t *testing.T) {
	h := newHarness(t)
	h.breakEncoding()
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	var wg sync.WaitGroup
	do := func(what string, want structs.Code, f func() error) {
		wg.Go(func() {
			if err := f(); structs.CodeOf(err) != want {
				t.Errorf("%s: %v, want code %q", what, err, want)
			}
		})
	}
	create := func(name string, tty bool) func() error {
		return func() error {
			_, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice, Name: name,
				Spec: structs.ContainerSpec{Image: "i", TTY: tty}})
			return err
		}
	}
	do("the first", "", create("first", false))
	<-started
	waiting := 0
	next := func(what string, want structs.Code, f func() error) {
		do(what, want, f)
		waiting++
		h.queued(waiting) // in this order
	}
	next("before", "", create("before", false))
	next("the poison", structs.CodeInternal, create("poison", true))
	next("between", "", create("between", false))
	next("another poison", structs.CodeInternal, create("poison", true))
	next("one for nothing", structs.CodeNotFound, func() error {
		_, err := Do(context.Background(), h.Conductor, DeleteBay{Caller: alice, Ident: "nope"})
		return err
	})
	next("after", "", func() error {
		name := "renamed" // it sees what the batch has created before
		_, err := Do(context.Background(), h.Conductor, PatchContainer{Caller: alice, Ident: "between", Name: &name})
		return err
	})
	release()
	wg.Wait()
	names := map[string]int{}
	for w := range h.store.Snapshot().InBay(h.bayNamed("web").ID) {
		names[structs.NameOf(w)]++
	}
	if len(names) != 3 || names["first"] != 1 || names["before"] != 1 || names["renamed"] != 1 {
		t.Errorf("there are %v", names)
	}
	h.create(alice, "", structs.ContainerSpec{})
}

// TestUnreadableRequestWithALostLeadership: requests before the lost commit are carried
// out, the outcome of the one that was being committed is unknown, and later ones are not
// carried out.
func TestUnreadableRequestWithALostLeadership(t *testing.T) {
	h := newHarness(t)
	h.breakEncoding()
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	answers := make([]chan error, 4)
	for i := range answers {
		answers[i] = make(chan error, 1)
		go func() {
			_, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice,
				Spec: structs.ContainerSpec{Image: "i", TTY: i == 2}})
			answers[i] <- err
		}()
		if i == 0 {
			<-started
		} else {
			h.queued(i)
		}
	}
	hold := h.proposer.before
	h.proposer.before = func(data []byte) error {
		if err := hold(data); err != nil {
			return err
		}
		if h.proposer.entries >= 5 { // the cluster, the lineage, the bay, the first, the second
			return errors.New("leadership lost")
		}
		return nil
	}
	release()
	if err := <-answers[0]; err != nil {
		t.Error(err)
	}
	if err := <-answers[1]; err != nil {
		t.Error(err)
	}
	if err := <-answers[2]; structs.CodeOf(err) != structs.CodeInternal {
		t.Error(err)
	}
	if err := <-answers[3]; !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if err := <-h.ended; err == nil {
		t.Error("the loop continues")
	} else {
		h.ended <- err
	}
}
