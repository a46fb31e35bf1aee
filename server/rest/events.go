package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// mediaEvents is the type of server-sent events.
const mediaEvents = "text/event-stream"

// defaultTick is how often a stream without events says that it lives, and where
// its reader would go on.
const defaultTick = 30 * time.Second

// eventArgs are the query arguments of events.
var eventArgs = []wire.Arg{
	{Name: "index", Kind: wire.ArgInt, Doc: "Begin with what came after it: the resume of an event, or an X-Magnum-Index. Default: with what comes from now on."},
	{Name: "type", Kind: wire.ArgText, Doc: "Only events of containers, bays or hosts: container, bay or host."},
	{Name: "uuid", Kind: wire.ArgText, Doc: "Only events of this object."},
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "Events of all projects; for operators."},
}

// eventTypes are the words for the tables whose rows have events.
var eventTypes = map[structs.Table]string{
	structs.TableContainers: structs.KindContainer, structs.TableBays: structs.KindBay, structs.TableHosts: structs.KindHost,
}

// eventFilter says which events a stream shows.
type eventFilter struct {
	project string // state.AllProjects for every one
	hosts   bool   // hosts, too, which belong to no project
	kind    string // "" for every type
	id      string // "" for every object
}

func (f *eventFilter) shows(e *state.Event) bool {
	if e.Table == structs.TableHosts && !f.hosts || e.Table != structs.TableHosts && f.project != state.AllProjects && f.project != e.ProjectID {
		return false
	}
	return (f.kind == "" || f.kind == eventTypes[e.Table]) && (f.id == "" || f.id == e.ID)
}

// streamEvents writes events as they come, until the reader leaves.
func streamEvents(q *request) error {
	filter := eventFilter{
		project: q.caller().ProjectID, hosts: identity.May(q.caller(), identity.SeeHosts),
		kind: q.query.Text("type"), id: q.query.Text("uuid"),
	}
	if q.query.Bool("all_projects", false) {
		if err := identity.Check(q.caller(), identity.AllProjects); err != nil {
			return err
		}
		filter.project = state.AllProjects
	}
	switch filter.kind {
	case "", structs.KindContainer, structs.KindBay, structs.KindHost:
	default:
		return wire.Invalid("type", filter.kind, "It is one of container, bay, host.")
	}
	if filter.id != "" && !structs.IsID(filter.id) {
		return wire.Invalid("uuid", filter.id, "It is not a UUID.")
	}
	index, err := q.eventIndex()
	if err != nil {
		return err
	}
	if err := q.reach(index); err != nil {
		return err
	}
	reader, err := q.Store.Events(index)
	if err != nil {
		return err
	}
	out := &eventWriter{request: q, sse: strings.Contains(q.r.Header.Get("Accept"), mediaEvents), filter: filter, resume: index, names: q.Store.Snapshot}
	return out.run(reader)
}

// eventIndex returns the index after which the stream begins.
func (q *request) eventIndex() (uint64, error) {
	if last := q.r.Header.Get("Last-Event-ID"); last != "" { // a browser that comes back
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			return 0, wire.Invalid("Last-Event-ID", last, "It is not a whole number.")
		}
		return n, nil
	}
	if q.query.Has("index") {
		return uint64(q.query.Int("index", 0)), nil
	}
	return q.Store.Index(), nil
}

// reach waits for this server's state to come to an index from which events are
// asked for. CodeGone if there is no such index: going on from there, a reader
// would be sent back.
func (q *request) reach(index uint64) error {
	if index <= q.Store.Index() {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), q.Hold)
	defer cancel()
	newest, err := q.Cluster.ReadIndex(ctx)
	if err == nil && index > newest {
		return structs.Errorf(structs.CodeGone, "index %d is beyond all that has happened, which is index %d: it is not of this cluster's; list the objects, and go on from the X-Magnum-Index of that answer", index, newest)
	}
	if q.Store.WaitIndex(ctx, index) != nil {
		return structs.Errorf(structs.CodeUnavailable, "this server is at index %d and the request wants %d: try again in a second, or ask another server", q.Store.Index(), index)
	}
	return nil
}

// eventWriter writes a stream of events.
type eventWriter struct {
	*request
	sse    bool
	filter eventFilter
	resume uint64                 // where a reader of all that was written would go on
	names  func() *state.Snapshot // for the names of hosts
	buf    []byte
}

// eventBatch is how many events are read at a time.
const eventBatch = 64

func (w *eventWriter) run(reader *state.EventReader) error {
	w.w.parked = true
	flush := http.NewResponseController(w.w).Flush
	media := mediaLines
	if w.sse {
		media = mediaEvents
	}
	w.w.Header().Set("Content-Type", media)
	w.w.Header().Set("Cache-Control", "no-store")
	w.w.WriteHeader(http.StatusOK)
	if err := flush(); err != nil { // its reader sees that it is open
		return err
	}
	tick := time.NewTicker(w.EventTick)
	defer tick.Stop()
	batch := make([]state.Event, eventBatch)
	for {
		n, more, err := reader.Read(batch)
		if err != nil {
			return err // cuts the stream off; who comes back is told why
		}
		if n > 0 {
			if err := w.write(batch[:n]); err != nil {
				return err
			}
			if len(w.buf) == 0 {
				continue
			}
		} else {
			select {
			case <-more:
				continue
			case <-w.r.Context().Done():
				return nil
			case <-tick.C:
				if err := w.add(structs.EventBody{Event: "tick", Resume: w.resume}); err != nil {
					return err
				}
			}
		}
		if _, err := w.w.Write(w.buf); err != nil {
			return nil // its reader has left
		}
		w.buf = w.buf[:0]
		if err := flush(); err != nil {
			return nil // likewise
		}
	}
}

// write adds the events that are shown.
func (w *eventWriter) write(events []state.Event) error {
	for i := range events {
		e := &events[i]
		// Who is cut off within an entry has to see all of it again.
		if w.resume = e.Index; !e.Last {
			w.resume = e.Index - 1
		}
		if !w.filter.shows(e) {
			continue
		}
		body := structs.EventBody{
			Event: string(e.Kind), Type: eventTypes[e.Table], UUID: e.ID, Name: e.Name, Status: e.Status, Was: wire.OrNull(e.Was),
			Health: wire.OrNull(e.Health), StatusReason: wire.OrNull(e.Reason), ProjectID: wire.OrNull(e.ProjectID), At: structs.Time{Time: e.At}, Index: e.Index, Resume: w.resume,
		}
		if h := w.names().Host(e.HostID); h != nil {
			body.Host = wire.OrNull(h.Name)
		}
		if err := w.add(body); err != nil {
			return err
		}
	}
	return nil
}

// add appends one event to what is to be written.
func (w *eventWriter) add(body structs.EventBody) error {
	line, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if w.sse {
		w.buf = append(w.buf, "id: "+strconv.FormatUint(body.Resume, 10)+"\nevent: "+body.Event+"\ndata: "...)
		w.buf = append(w.buf, line...)
		w.buf = append(w.buf, "\n\n"...)
		return nil
	}
	w.buf = append(append(w.buf, line...), '\n')
	return nil
}
