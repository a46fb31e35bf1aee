package state

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// eventsAfter returns the events after the index in short form.
func eventsAfter(t *testing.T, s *Store, index uint64) string {
	t.Helper()
	r, err := s.Events(index)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, r)
}

func read(t *testing.T, r *EventReader) string {
	t.Helper()
	var out []string
	buf := make([]Event, 3) // sometimes smaller than the number of events
	for {
		n, _, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return strings.Join(out, ", ")
		}
		for _, e := range buf[:n] {
			text := fmt.Sprintf("%d %s %s %s>%s", e.Index, e.Kind, e.Name, e.Was, e.Status)
			if e.Last {
				text += "."
			}
			out = append(out, text)
		}
	}
}

func TestEvents(t *testing.T) {
	s := New()
	apply := func(changes ...structs.Change) uint64 {
		t.Helper()
		index := s.Index() + 1
		if err := s.Apply(index, changes); err != nil {
			t.Fatal(err)
		}
		return index
	}
	container := func(id string, status structs.ContainerStatus) *structs.Container {
		c := &structs.Container{Meta: structs.Meta{ID: id, ProjectID: "p"}, Name: id,
			Placement: structs.Placement{Desired: structs.DesiredRunning}}
		c.Observed.Status = status
		return c
	}
	bay := &structs.Bay{Meta: structs.Meta{ID: "b", ProjectID: "p"}, Name: "b", Status: structs.BayCreating}
	apply(put(bay, 0), put(container("c", ""), 0))
	apply(put(&structs.Node{Meta: structs.Meta{ID: "n"}}, 0))
	apply(put(container("c", structs.ContainerRunning), 1))
	same := container("c", structs.ContainerRunning)
	same.Observed.RestartCount = 7
	apply(put(same, 3))
	sick := container("c", structs.ContainerRunning)
	sick.Observed.Health = "unhealthy"
	apply(put(sick, 4))
	apply(structs.Change{Table: structs.TableContainers, ID: "c", Version: 5},
		put(&structs.Host{Meta: structs.Meta{ID: "h"}, Name: "h", State: structs.HostReady}, 0))
	const all = "1 created b >CREATE_IN_PROGRESS, 1 created c >Creating., 3 updated c Creating>Running., 5 updated c Running>Running., " +
		"6 deleted c Running>Running, 6 created h >ready."
	if got := eventsAfter(t, s, 0); got != all {
		t.Errorf("events\n%s, want\n%s", got, all)
	}
	if got := eventsAfter(t, s, 3); got != all[strings.Index(all, "5 "):] {
		t.Errorf("after 3: %s", got)
	}
	// A reader at the end is woken by the next event.
	r, err := s.Events(s.Index())
	if err != nil {
		t.Fatal(err)
	}
	_, more, _ := r.Read(make([]Event, 1))
	select {
	case <-more:
		t.Fatal("woken for nothing")
	default:
	}
	apply(put(container("d", ""), 0))
	<-more
	if got := read(t, r); got != "7 created d >Creating." {
		t.Errorf("then %s", got)
	}
}

// TestReaderLearnsOfMissedEvents: a reader that has missed events gets an error.
func TestReaderLearnsOfMissedEvents(t *testing.T) {
	s := New()
	slow, err := s.Events(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(maxEvents + 10) {
		id := fmt.Sprint(i)
		if err := s.Apply(i+1, []structs.Change{put(&structs.Container{Meta: structs.Meta{ID: id, Seq: i + 1}, Name: id}, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	for index, want := range map[uint64]structs.Code{0: structs.CodeGone, 9: structs.CodeGone, 10: "", 5000: ""} {
		if _, err := s.Events(index); structs.CodeOf(err) != want {
			t.Errorf("after %d: %v", index, err)
		}
	}
	if got := eventsAfter(t, s, maxEvents+9); got != fmt.Sprintf("%d created %d >Creating.", maxEvents+10, maxEvents+9) {
		t.Errorf("the last one: %s", got)
	}
	if _, _, err := slow.Read(make([]Event, 1)); structs.CodeOf(err) != structs.CodeGone {
		t.Errorf("a reader that was too slow: %v", err)
	}
	if n := s.EventsDropped(); n != 10 {
		t.Errorf("%d events were dropped, want 10", n)
	}
	// A restored state has no events.
	stream := persisted(t, s)
	other := restored(t, stream)
	if _, err := other.Events(maxEvents + 9); structs.CodeOf(err) != structs.CodeGone {
		t.Errorf("before the restored state: %v", err)
	}
	if got := eventsAfter(t, other, maxEvents+10); got != "" {
		t.Errorf("a restored state has events: %s", got)
	}
	at, err := s.Events(maxEvents + 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(strings.NewReader(string(stream))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := at.Read(make([]Event, 1)); structs.CodeOf(err) != structs.CodeGone {
		t.Errorf("a reader over a restore: %v", err)
	}
}
