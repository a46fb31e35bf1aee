package state

import (
	"sort"
	"sync"
	"time"

	"github.com/stackforge/magnum/structs"
)

// EventKind is what happened to a row.
type EventKind string

// The event kinds.
const (
	EventCreated EventKind = "created"
	EventUpdated EventKind = "updated" // its status has changed
	EventDeleted EventKind = "deleted"
)

// Event is a change of a workload, bay or host. Events are not part of the state: each
// server keeps the last ones that it has applied.
type Event struct {
	Index     uint64 // of the entry
	Last      bool   // the last event of the entry
	Kind      EventKind
	Table     structs.Table // bays, hosts, or the table of a kind of workload
	ID        string
	ProjectID string
	Name      string
	Status    string // after the event; of a deletion, the last status
	Was       string // before the event; "" for a creation
	Health    string // of a workload
	Reason    string
	HostID    string    // of a workload; "" while it has none
	At        time.Time // when it happened, if the row says so; zero if not
}

// maxEvents is the number of events that a server keeps, about a megabyte.
const maxEvents = 4096

// events is the ring buffer of a store's events. The zero value is empty and ready.
type events struct {
	mu    sync.Mutex
	ring  []Event
	next  uint64        // number of the next event, starting at 0; its place is next % maxEvents
	lost  uint64        // number of events that newer ones have replaced
	floor uint64        // events of entries up to this index may be missing
	wake  chan struct{} // closed by the next event; nil while no reader waits
}

// record adds the events of an entry's steps.
func (e *events) record(index uint64, steps []*step) {
	last := -1
	for i, st := range steps {
		if st.isEvent() {
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

// reset drops all events, because the state is replaced.
func (e *events) reset(index uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// Readers keep event numbers, which are never used again.
	e.next += maxEvents - e.next%maxEvents
	e.ring, e.floor = nil, index
	if e.wake != nil {
		close(e.wake)
		e.wake = nil
	}
}

// first returns the number of the oldest kept event. The caller holds mu.
func (e *events) first() uint64 { return e.next - uint64(len(e.ring)) }

// EventsDropped returns the number of events that newer ones have replaced.
func (s *Store) EventsDropped() uint64 {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	return s.events.lost
}

// EventReader reads the events of a store in order. It must be used by one goroutine.
type EventReader struct {
	e    *events
	next uint64 // number of the next event to read
}

// Events returns a reader of the events of all entries after the index. The error is
// CodeGone if some of them are no longer kept.
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

// at returns the kept event with the number. The caller holds mu.
func (e *events) at(n uint64) *Event {
	return &e.ring[n%maxEvents]
}

func errEventsGone(index, floor uint64) error {
	return structs.Errorf(structs.CodeGone,
		"events from index %d on are no longer kept, only those after %d: list the objects, and continue from the X-Magnum-Index of "+
			"that answer", index, floor)
}

// Read fills buf with the available events and returns their number. If there are none,
// more is closed when there may be. The error is CodeGone if the reader was too slow and
// has missed events.
func (r *EventReader) Read(buf []Event) (n int, more <-chan struct{}, err error) {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.first(); r.next < first {
		return 0, nil, structs.Errorf(structs.CodeGone,
			"events are no longer kept: they came faster than they were read, or the state was restored")
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

// isEvent reports whether the step is an event.
func (st *step) isEvent() bool {
	if st.table != structs.TableBays && st.table != structs.TableHosts && !isPlaced(st.table) || st.table == structs.TableObjects {
		return false // an Object is a part of its service or replication controller
	}
	if st.old == nil || st.row == nil || st.fresh {
		return st.old != nil || st.row != nil
	}
	return statusOf(st.old.row) != statusOf(st.row)
}

// StatusDiffers reports whether two rows of an object differ in their status for events.
func StatusDiffers(before, after structs.Row) bool { return statusOf(before) != statusOf(after) }

// status is the part of a row whose change is an event.
type status struct{ word, health string }

func statusOf(row structs.Row) status {
	switch r := row.(type) {
	case *structs.Pod:
		return status{string(r.Status()), r.Seen().Health}
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

// event returns the event of the step, if it is one.
func (st *step) event() (Event, bool) {
	if !st.isEvent() {
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
			// The engine's time is more precise, unless it is that of an earlier start.
			again := ev.Was == string(structs.ContainerPaused) || ev.Was == string(structs.ContainerUnknown)
			switch seen := r.Seen(); {
			case now.word == string(structs.ContainerRunning) && !again && !seen.StartedAt.IsZero():
				ev.At = seen.StartedAt
			case ended(now.word) && !again && !seen.FinishedAt.IsZero():
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

// ended reports whether the status says that a workload's processes have ended.
func ended(word string) bool {
	switch word {
	case string(structs.ContainerStopped), string(structs.PodSucceeded), string(structs.PodFailed):
		return true
	}
	return false
}
