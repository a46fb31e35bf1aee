package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// stream is a stream of events that a test reads.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	c     *caller
}

func (c *caller) events(t *testing.T, query string, headers ...header) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", c.s.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", c.token)
	for _, h := range headers {
		r.Header.Set(h.name, h.value)
	}
	resp, err := httpClient.Do(r) // comes before the first event does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %d", query, resp.StatusCode)
	}
	timer := time.AfterFunc(time.Minute, cancel) // a test that waits for nothing ends
	t.Cleanup(func() { timer.Stop() })
	return &stream{t, bufio.NewScanner(resp.Body), c}
}

// next returns the next event, after checking it against the OpenAPI document.
func (s *stream) next() structs.EventBody {
	s.t.Helper()
	if !s.lines.Scan() {
		s.t.Fatalf("the stream has ended: %v", s.lines.Err())
	}
	var e structs.EventBody
	if err := json.Unmarshal(s.lines.Bytes(), &e); err != nil {
		s.t.Fatalf("%q: %v", s.lines.Text(), err)
	}
	var value any
	_ = json.Unmarshal(s.lines.Bytes(), &value)
	s.c.do("GET", "/v1", "") // reads the document
	if err := s.c.spec.check("event", value, map[string]any{"$ref": "#/components/schemas/EventBody"}); err != nil {
		s.t.Errorf("%s: %v", s.lines.Text(), err)
	}
	return e
}

// until reads events up to the given one, and returns them in short form.
func (s *stream) until(last string) string {
	s.t.Helper()
	var all []string
	for {
		e := s.next()
		text := fmt.Sprintf("%s %s %s %s", e.Event, e.Type, e.Name, e.Status)
		if all = append(all, text); text == last {
			return strings.Join(all, ", ")
		}
	}
}

func TestEvents(t *testing.T) {
	f := newFixture(t)
	live := f.events(t, "?type=container")
	start := f.s.Store.Index()
	id := f.running("c")
	f.do("PUT", "/v1/containers/c/stop", "").is(200)
	f.do("DELETE", "/v1/containers/c", "").is(204)
	const all = "created container c Creating, updated container c Running, updated container c Stopped, updated container c Deleting, " +
		"deleted container c Deleting"
	if got := live.until("deleted container c Deleting"); got != all {
		t.Errorf("events %s, want %s", got, all)
	}
	// The same events come from the ring, beginning after any event.
	for from, want := start, strings.Split(all, ", "); len(want) > 0; want = want[1:] {
		s := f.events(t, fmt.Sprintf("?type=container&index=%d", from))
		e := s.next()
		if got := fmt.Sprintf("%s %s %s %s", e.Event, e.Type, e.Name, e.Status); got != want[0] || e.UUID != id || e.Index <= from {
			t.Errorf("after %d: %+v, want %s", from, e, want[0])
		}
		from = e.Resume
	}
	if e := f.events(t, "?index=0&uuid="+f.bay).next(); e.Event != "created" || e.Type != "bay" || e.Name != "b1" || e.At.IsZero() {
		t.Errorf("%+v", e)
	}
	if e := f.events(t, fmt.Sprintf("?index=%d&type=container", start)).next(); e.Host == nil || *e.Host != "host-1" {
		t.Errorf("%+v", e)
	}
	f.do("GET", "/v1/events?index=x", "").is(400)
	f.do("GET", "/v1/events?uuid=c", "").is(400).says("Invalid input for field/attribute uuid. Value: 'c'. It is not a UUID.")
	f.do("GET", "/v1/events?index=88888", "").is(410).code("gone")
	f.do("GET", "/v1/events", "", header{"Last-Event-ID", "88888"}).is(410).code("gone")
	f.do("GET", "/v1/events?type=node", "").is(400)
	f.do("GET", "/v1/events", "", header{"Last-Event-ID", "x"}).is(400)
}

// TestEventsHaveTimes checks that each change of a status has a time, also if the engine
// reports none.
func TestEventsHaveTimes(t *testing.T) {
	f := newFixture(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		seen := servertest.Obey(a)
		if seen.Generation == 3 {
			seen.Status, seen.Reason = structs.ContainerError, "broken"
		}
		return seen
	}))
	started := time.Now().Add(-time.Second)
	f.running("c")
	f.do("PUT", "/v1/containers/c/pause", "").is(200)
	f.do("PUT", "/v1/containers/c/unpause", "")
	host := f.do("GET", "/v1/hosts", "").is(200).object()["hosts"].([]any)[0].(map[string]any)["uuid"].(string)
	f.do("PUT", "/v1/hosts/"+host+"/drain", "").is(200)
	s := f.events(t, "?index=0")
	for {
		e := s.next()
		if e.At.IsZero() || e.At.After(time.Now()) {
			t.Errorf("%s of %s %s, which is %s: at %v", e.Event, e.Type, e.Name, e.Status, e.At)
		}
		if e.Type == structs.KindContainer && e.At.Before(started) && e.Status != "Running" {
			t.Errorf("%s %s: at %v", e.Name, e.Status, e.At)
		}
		if e.Status == "draining" {
			break
		}
	}
}

func TestServerSentEvents(t *testing.T) {
	f := newFixture(t)
	f.running("c")
	sse := header{"Accept", "text/event-stream"}
	s := f.events(t, "?index=0&type=container", sse)
	read := func(s *stream) (id, event string) {
		t.Helper()
		for s.lines.Scan() && s.lines.Text() != "" {
			name, value, _ := strings.Cut(s.lines.Text(), ": ")
			switch name {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				var e structs.EventBody
				if err := json.Unmarshal([]byte(value), &e); err != nil || fmt.Sprint(e.Resume) != id || e.Event != event {
					t.Errorf("%s %s: %s", id, event, value)
				}
			default:
				t.Errorf("line %q", s.lines.Text())
			}
		}
		return id, event
	}
	id, event := read(s)
	if event != "created" {
		t.Errorf("event %q", event)
	}
	if _, event := read(f.events(t, "?index=0&type=container", sse, header{"Last-Event-ID", id})); event != "updated" {
		t.Errorf("after the first comes %q", event)
	}
}

func TestEventTicks(t *testing.T) {
	s := servertest.New(t, servertest.WithEventTick(5*time.Millisecond))
	c := newCaller(t, s)
	before := s.Store.Index()
	stream := c.events(t, "")
	if e := stream.next(); e.Event != "tick" || e.Resume < before || e.Resume > s.Store.Index() {
		t.Errorf("%+v, the index was %d, and is %d", e, before, s.Store.Index())
	}
	// Events that aren't shown also move resume.
	c.do("POST", "/v1/bays", `{}`).is(201)
	other := c.events(t, "?index=0&type=container")
	if e := other.next(); e.Event != "tick" || e.Resume == 0 {
		t.Errorf("%+v", e)
	}
}

// TestEventsVisibleToCaller checks which events callers with different roles see.
func TestEventsVisibleToCaller(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	c := newCaller(t, s)
	c.as("alice").do("POST", "/v1/bays", `{"name":"hers"}`).is(201)
	c.as("mallory").do("POST", "/v1/bays", `{"name":"his"}`).is(201)
	for who, want := range map[string]string{
		"mallory": "created bay his CREATE_IN_PROGRESS",
		"admin":   "created host host-1 ready, created bay hers CREATE_COMPLETE",
		"reader":  "created bay hers CREATE_COMPLETE",
	} {
		all := strings.Split(want, ", ")
		if got := c.as(who).events(t, "?index=0").until(all[len(all)-1]); got != want {
			t.Errorf("%s sees %s, want %s", who, got, want)
		}
	}
	got := c.as("admin").events(t, "?index=0&all_projects=true").until("created bay his CREATE_IN_PROGRESS")
	if !strings.Contains(got, "bay hers") {
		t.Errorf("all projects: %s", got)
	}
	c.as("alice").do("GET", "/v1/events?all_projects=true", "").is(403)
}

func TestEventsNoLongerKept(t *testing.T) {
	f := newFixture(t)
	// This is the state of a server that has started from a snapshot.
	r, w := io.Pipe()
	go func() { w.CloseWithError(f.s.Store.Persist(w)) }()
	if err := f.s.Store.Restore(r); err != nil {
		t.Fatal(err)
	}
	f.do("GET", "/v1/events?index=0", "").is(410).code("gone")
	f.do("GET", "/v1/events", "", header{"Last-Event-ID", "1"}).is(410)
}
