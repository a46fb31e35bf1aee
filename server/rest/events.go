package rest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// mediaEvents is the media type of server-sent events.
const mediaEvents = "text/event-stream"

// defaultTick is how often a stream without events sends a tick, with the index at which
// its reader would go on.
const defaultTick = 30 * time.Second

// eventArgs are the query arguments of events.
var eventArgs = []wire.Arg{
	{Name: "index", Kind: wire.ArgInt,
		Doc: "Begin after this index: the resume of an event, or an X-Magnum-Index. Default: the present index."},
	{Name: "type", Kind: wire.ArgText, Doc: "Only events of containers, pods, bays or hosts: container, pod, bay or host."},
	{Name: "uuid", Kind: wire.ArgText, Doc: "Only events of this object."},
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "Events of all projects; for operators."},
}

// eventTypes are the types of events, by the table of the row.
var eventTypes = map[structs.Table]string{
	structs.TableContainers: structs.KindContainer, structs.TablePods: structs.KindPod,
	structs.TableBays: structs.KindBay, structs.TableHosts: structs.KindHost,
}

// eventFilter selects the events of a stream.
type eventFilter struct {
	project string // state.AllProjects for all projects
	hosts   bool   // also show hosts, which belong to no project
	kind    string // "" for every type
	id      string // "" for every object
}

func (f *eventFilter) shows(e *state.Event) bool {
	if e.Table == structs.TableHosts && !f.hosts ||
		e.Table != structs.TableHosts && f.project != state.AllProjects && f.project != e.ProjectID {
		return false
	}
	return (f.kind == "" || f.kind == eventTypes[e.Table]) && (f.id == "" || f.id == e.ID)
}

// events streams the events of the cluster.
type events struct {
	tick time.Duration // how often a stream without events sends a tick
}

func (ev events) routes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/events", Action: identity.EventList, Handle: ev.stream, Args: eventArgs,
			Summary: "Stream events: as JSON lines, or as server-sent events if the client accepts those",
			Gives: []wire.Answer{{Status: http.StatusOK, Body: structs.EventBody{}, Media: mediaLines},
				{Status: http.StatusOK, Body: structs.EventBody{}, Media: mediaEvents}}},
	}
}

// stream writes events as they come, until the client leaves.
func (ev events) stream(q *web.Request) error {
	filter := eventFilter{
		project: q.Caller().ProjectID, hosts: identity.May(q.Caller(), identity.SeeHosts),
		kind: q.Query.Text("type"), id: q.Query.Text("uuid"),
	}
	if q.Query.Bool("all_projects", false) {
		if err := identity.Check(q.Caller(), identity.AllProjects); err != nil {
			return err
		}
		filter.project = state.AllProjects
	}
	switch filter.kind {
	case "", structs.KindContainer, structs.KindPod, structs.KindBay, structs.KindHost:
	default:
		return structs.Invalid("type", filter.kind, "It must be one of container, pod, bay, host.")
	}
	if filter.id != "" && !structs.IsID(filter.id) {
		return structs.Invalid("uuid", filter.id, "It is not a UUID.")
	}
	index, err := eventIndex(q)
	if err != nil {
		return err
	}
	reader, err := q.Service.Events(q.Context(), index)
	if err != nil {
		return err
	}
	out := &eventWriter{q: q, tick: ev.tick, sse: strings.Contains(q.R.Header.Get("Accept"), mediaEvents), filter: filter, resume: index,
		names: q.Service.Snapshot}
	return out.run(reader)
}

// eventIndex returns the index after which the stream begins.
func eventIndex(q *web.Request) (uint64, error) {
	if last := q.R.Header.Get("Last-Event-ID"); last != "" { // a browser that reconnects
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			return 0, structs.Invalid("Last-Event-ID", last, "It is not a whole number.")
		}
		return n, nil
	}
	if q.Query.Has("index") {
		return uint64(q.Query.Int("index", 0)), nil
	}
	return q.Service.Index(), nil
}

// eventWriter writes a stream of events.
type eventWriter struct {
	q      *web.Request
	tick   time.Duration
	sse    bool
	filter eventFilter
	resume uint64                 // index at which a reader of everything written so far would go on
	names  func() *state.Snapshot // for the names of hosts
	buf    []byte
}

// eventBatch is how many events are read at a time.
const eventBatch = 64

func (w *eventWriter) run(reader *state.EventReader) error {
	w.q.W.Parked = true
	flush := http.NewResponseController(w.q.W).Flush
	media := mediaLines
	if w.sse {
		media = mediaEvents
	}
	w.q.W.Header().Set("Content-Type", media)
	w.q.W.Header().Set("Cache-Control", "no-store")
	w.q.W.WriteHeader(http.StatusOK)
	if err := flush(); err != nil { // the client sees that the stream is open
		return err
	}
	tick := time.NewTicker(w.tick)
	defer tick.Stop()
	batch := make([]state.Event, eventBatch)
	for {
		n, more, err := reader.Read(batch)
		if err != nil {
			return err // cuts the stream off; the client learns why when it reconnects
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
			case <-w.q.Context().Done():
				return nil
			case <-tick.C:
				if err := w.add(structs.EventBody{Event: "tick", Resume: w.resume}); err != nil {
					return err
				}
			}
		}
		if _, err := w.q.W.Write(w.buf); err != nil {
			return nil // the client has left
		}
		w.buf = w.buf[:0]
		if err := flush(); err != nil {
			return nil // the client has left
		}
	}
}

// write appends the events that the filter selects.
func (w *eventWriter) write(events []state.Event) error {
	for i := range events {
		e := &events[i]
		// A reader that is cut off within an entry has to read the whole entry again.
		if w.resume = e.Index; !e.Last {
			w.resume = e.Index - 1
		}
		if !w.filter.shows(e) {
			continue
		}
		body := structs.EventBody{
			Event: string(e.Kind), Type: eventTypes[e.Table], UUID: e.ID, Name: e.Name, Status: e.Status, Was: wire.OrNull(e.Was),
			Health: wire.OrNull(e.Health), StatusReason: wire.OrNull(e.Reason), ProjectID: wire.OrNull(e.ProjectID),
			At: structs.Time{Time: e.At}, Index: e.Index, Resume: w.resume,
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

// add appends one event to the buffer.
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
