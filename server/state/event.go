package state

import (
	"sort"
	"sync"
	"time"

	"github.com/stackforge/magnum/structs"
)

// EventKind says what became of a row.
type EventKind string

// The event kinds.
const (
	EventCreated EventKind = "created"
	EventUpdated EventKind = "updated" // its status is another
	EventDeleted EventKind = "deleted"
)

// Event is something that an entry did to a workload, bay or host. Events are
// no part of the state: each server keeps the last ones that it has applied.
type Event struct {
	Index     uint64 // of the entry
	Last      bool   // no other event of the entry follows
	Kind      EventKind
	Table     structs.Table // bays, hosts, or of a kind of workload
	ID        string
	ProjectID string
	Name      string
	Status    string // after it; of a deletion, the last one
	Was       string // before it, "" for a creation
	Health    string // of a workload
	Reason    string
	HostID    string    // of a workload, "" while it has none
	At        time.Time // when it happened, as far as the row says so; zero if it doesn't
}

// maxEvents is how many events a server keeps: about a megabyte of them.
const maxEvents = 4096

// events is the ring of a store. The zero value is empty and ready.
type events struct {
	mu    sync.Mutex
	ring  []Event
	next  uint64        // number of the next event, from 0 on; it stands at next % maxEvents
	lost  uint64        // events that made room for newer ones
	floor uint64        // events of entries up to this index may be missing
	wake  chan struct{} // closed with the next event; nil while nobody waits
}

// record adds what the steps of an entry come to.
func (e *events) record(index uint64, steps []*step) {
	last := -1
	for i, st := range steps {
		if st.tells() {
			last = i
		}
	}
	if last < 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, st := range steps[:last+1] {
		if ev, ok := st.event(); ok {
			ev.Index, ev.Last = index, i == last
			e.add(ev)
		}
	}
	if e.wake != nil {
		close(e.wake)
		e.wake = nil
	}
}

func (e *events) add(ev Event) {
	if len(e.ring) < maxEvents {
		e.ring = append(e.ring, ev)
	} else {
		old := &e.ring[e.next%maxEvents]
		e.floor = old.Index
		e.lost++
		*old = ev
	}
	e.next++
}

// reset forgets all: the state is another from now on.
func (e *events) reset(index uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// Readers stand at numbers, which go on and never come back.
	e.next += maxEvents - e.next%maxEvents
	e.ring, e.floor = nil, index
	if e.wake != nil {
		close(e.wake)
		e.wake = nil
	}
}

// first returns the number of the oldest event that is kept. The caller holds
// mu.
func (e *events) first() uint64 { return e.next - uint64(len(e.ring)) }

// EventsDropped returns how many events made room for newer ones.
func (s *Store) EventsDropped() uint64 {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	return s.events.lost
}

// EventReader reads the events of a store in their order. One goroutine uses it.
type EventReader struct {
	e    *events
	next uint64 // number of the next event to read
}

// Events returns a reader of the events of all entries after the index. The
// error is CodeGone if not all of them are kept any more.
func (s *Store) Events(index uint64) (*EventReader, error) {
	e := &s.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if index < e.floor {
		return nil, errEventsGone(index, e.floor)
	}
	first := e.first()
	n := sort.Search(len(e.ring), func(i int) bool { return e.at(first+uint64(i)).Index > index })
	return &EventReader{e: e, next: first + uint64(n)}, nil
}

// at returns the event of a number that is kept. The caller holds mu.
func (e *events) at(n uint64) *Event {
	return &e.ring[n%maxEvents]
}

func errEventsGone(index, floor uint64) error {
	return structs.Errorf(structs.CodeGone, "events from index %d on are no longer kept, only those after %d: list the objects, and go on from the X-Magnum-Index of that answer", index, floor)
}

// Read fills buf with the events that are there and returns how many. If there
// are none, more is closed when there may be. The error is CodeGone if the
// reader was too slow, so that it has missed some.
func (r *EventReader) Read(buf []Event) (n int, more <-chan struct{}, err error) {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.first(); r.next < first {
		return 0, nil, structs.Errorf(structs.CodeGone, "events are no longer kept: they came faster than they were read, or the state was restored")
	}
	for n < len(buf) && r.next < e.next {
		buf[n] = *e.at(r.next)
		n++
		r.next++
	}
	if n == 0 {
		if e.wake == nil {
			e.wake = make(chan struct{})
		}
		more = e.wake
	}
	return n, more, nil
}

// tells reports whether the step is an event.
func (st *step) tells() bool {
	if st.table != structs.TableBays && st.table != structs.TableHosts && !isPlaced(st.table) {
		return false
	}
	if st.old == nil || st.row == nil || st.fresh {
		return st.old != nil || st.row != nil
	}
	return statusOf(st.old.row) != statusOf(st.row)
}

// StatusDiffers reports whether the rows of one object differ in what events tell
// of.
func StatusDiffers(before, after structs.Row) bool { return statusOf(before) != statusOf(after) }

// status is what of a row is told when it changes.
type status struct{ word, health string }

func statusOf(row structs.Row) status {
	switch r := row.(type) {
	case structs.Workload:
		return status{string(structs.StatusOf(r)), r.Seen().Health}
	case *structs.Bay:
		return status{word: string(r.Status)}
	case *structs.Host:
		if r.Draining && r.State == structs.HostReady {
			return status{word: "draining"}
		}
		return status{word: string(r.State)}
	}
	return status{}
}

// event returns what the step is to be told as.
func (st *step) event() (Event, bool) {
	if !st.tells() {
		return Event{}, false
	}
	ev := Event{Kind: EventUpdated, Table: st.table, ID: st.id}
	row := st.row
	switch {
	case row == nil:
		ev.Kind, row = EventDeleted, st.old.row
	case st.old == nil || st.fresh:
		ev.Kind = EventCreated
	}
	if st.old != nil && ev.Kind != EventCreated {
		ev.Was = statusOf(st.old.row).word
	}
	now := statusOf(row)
	ev.ProjectID, ev.Status, ev.Health = row.Base().ProjectID, now.word, now.health
	ev.Name = structs.NameOf(row)
	switch ev.Kind {
	case EventCreated:
		ev.At = row.Base().CreatedAt
	case EventUpdated:
		ev.At = row.Base().StatusAt
	}
	switch r := row.(type) {
	case structs.Workload:
		ev.Reason, ev.HostID = structs.StatusReasonOf(r), r.Place().HostID
		if ev.Kind == EventUpdated && ev.Status != ev.Was {
			// The engine knows better, unless it is of a start long ago.
			again := ev.Was == string(structs.ContainerPaused) || ev.Was == string(structs.ContainerUnknown)
			switch seen := r.Seen(); {
			case now.word == string(structs.ContainerRunning) && !again && !seen.StartedAt.IsZero():
				ev.At = seen.StartedAt
			case now.word == string(structs.ContainerStopped) && !again && !seen.FinishedAt.IsZero():
				ev.At = seen.FinishedAt
			}
		}
	case *structs.Bay:
		ev.Reason = r.StatusReason
	case *structs.Host:
		ev.Reason = r.StateReason
	}
	return ev, true
}
