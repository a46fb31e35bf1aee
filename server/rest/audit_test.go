package rest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/audit"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// auditLog records the events of a server.
type auditLog struct {
	mu     sync.Mutex
	full   bool // nothing may be begun
	events []audit.Event
	begun  int
}

func (l *auditLog) Begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return structs.Errorf(structs.CodeNoSpace, "Nothing was changed: the audit log is full.")
	}
	l.begun++
	return nil
}

func (l *auditLog) End(e *audit.Event) {
	l.Refused(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun--
}

func (l *auditLog) Refused(e *audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *e)
}

func (l *auditLog) setFull(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// of returns the events of a response.
func (l *auditLog) of(r *reply) (found []audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.RequestID == r.header.Get("X-Openstack-Request-Id") {
			found = append(found, e)
		}
	}
	return found
}

// one returns the only event of a response.
func (l *auditLog) one(t *testing.T, r *reply) audit.Event {
	t.Helper()
	found := l.of(r)
	if len(found) != 1 {
		t.Fatalf("%s left %d lines", r.what, len(found))
	}
	return found[0]
}

// readSessions are the GET requests that leave a line.
var readSessions = []string{"/execute/ws", "/attach/ws", "/forward/ws", "/archive", "/v1/operator/snapshot", "/v1/terminals/:sid"}

// TestEveryWriteLeavesOneLine tries every route with every kind of caller. As many lines as
// requests are left by each write and each session, by a read only if the policy refuses
// it, and by agents none.
func TestEveryWriteLeavesOneLine(t *testing.T) {
	var mu sync.Mutex
	requests := make(map[string]int)
	observe := func(method, route string) func(int, time.Duration) {
		return func(status int, _ time.Duration) {
			session := slices.ContainsFunc(readSessions, func(end string) bool { return strings.HasSuffix(route, end) })
			read := method == "GET" && !session && status != http.StatusForbidden
			if strings.HasPrefix(route, "/v1/agent/") || method == "other" || read {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			requests[fmt.Sprint(method, " ", route, " ", status)]++
		}
	}
	log := &auditLog{}
	s := servertest.New(t, servertest.WithAuth(tokens), servertest.WithAudit(log), servertest.WithObserve(observe))
	walkRoutes(t, s, func(name string) string { return name })
	lines := func() map[string]int {
		log.mu.Lock()
		defer log.mu.Unlock()
		left := make(map[string]int)
		for _, e := range log.events {
			left[fmt.Sprint(e.Method, " ", e.Route, " ", e.Status)]++
		}
		return left
	}
	same := func() bool { // a request is observed after its answer
		mu.Lock()
		defer mu.Unlock()
		return maps.Equal(lines(), requests)
	}
	for end := time.Now().Add(time.Minute); !same() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	left := lines()
	for key, n := range requests {
		if left[key] != n {
			t.Errorf("%s: %d lines of %d requests", key, left[key], n)
		}
	}
	for key, n := range left {
		if requests[key] == 0 {
			t.Errorf("%s: %d lines, and there should be none", key, n)
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	seen := make(map[string]bool)
	for _, e := range log.events {
		if seen[e.RequestID] {
			t.Errorf("%s %s has two lines", e.Method, e.Route)
		}
		seen[e.RequestID] = true
		if known := e.Caller.UserID != ""; known == (e.Status == http.StatusUnauthorized) && e.Route != "/v1/operator/bootstrap" &&
			e.Route != "/v1/terminals/:sid" {
			t.Errorf("%s %s: status %d and caller %q", e.Method, e.Route, e.Status, e.Caller.UserID)
		}
	}
	if log.begun != 0 {
		t.Errorf("%d requests have begun and left no line", log.begun)
	}
}

// TestLinesOfRequests checks what lines say.
func TestLinesOfRequests(t *testing.T) {
	log := &auditLog{}
	s := servertest.New(t, servertest.WithAuth(tokens), servertest.WithAudit(log))
	s.StartAgent(t, "host-1", servertest.Serve(serveText))
	alice := newCaller(t, s).as("alice")
	type want struct {
		outcome                         audit.Outcome
		code                            structs.Code
		user, kind, id, name, ofProject string
		reads                           bool
	}
	check := func(r *reply, action string, w want) {
		t.Helper()
		e := log.one(t, r)
		got := want{e.Outcome, e.Code, e.Caller.UserID, e.Target.Kind, e.Target.ID, e.Target.Name, e.Target.ProjectID, e.Reads}
		if e.Action != action || got != w || e.Status != r.status || e.Address != "127.0.0.1" || !strings.HasPrefix(e.Agent, "Go-http") {
			t.Errorf("%s left the line %+v", r.what, e)
		}
	}
	r := alice.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	bay := r.uuid()
	check(r, "bay:create", want{audit.Success, "", "alice", "bay", bay, "b1", "p1", false})
	r = alice.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c1","image":"busybox","bay":"b1","environment":{"A":"b"}}`).is(201)
	c := r.uuid()
	check(r, "container:create", want{audit.Success, "", "alice", "container", c, "c1", "p1", false})
	mine := want{audit.Success, "", "alice", "container", c, "c1", "p1", false}
	check(alice.do("PUT", "/v1/containers/c1/execute?command=ls", "").is(200), "container:execute", mine)
	shows := mine
	shows.reads = true
	check(alice.do("GET", "/v1/containers/c1/archive?path=/", "").is(200), "container:get_archive", shows)
	check(alice.do("GET", "/v1/containers/c1/logs?follow=true", "").is(200), "container:logs", shows)
	if got := log.of(alice.do("GET", "/v1/containers/c1/logs", "").is(200)); len(got) != 0 {
		t.Errorf("logs without follow left %+v", got)
	}
	// An operator acts on the object of another project.
	root := mine
	root.user = "root"
	check(alice.as("admin").do("PUT", "/v1/containers/"+c+"/stop", "").is(200), "container:stop", root)
	check(alice.do("DELETE", "/v1/containers/c1?wait=1m", "").is(204), "container:delete", mine)
	check(alice.do("DELETE", "/v1/containers/c1", "").is(404), "container:delete",
		want{audit.Failure, structs.CodeNotFound, "alice", "container", "c1", "", "", false})
	// What the policy refuses, and what has no credential.
	check(alice.as("reader").do("DELETE", "/v1/bays/b1", "").is(403), "bay:delete",
		want{audit.Failure, structs.CodeForbidden, "rita", "bay", bay, "b1", "p1", false})
	check(alice.do("GET", "/v1/hosts", "").is(403), "host:get_all",
		want{audit.Failure, structs.CodeForbidden, "alice", "host", "", "", "", true})
	check(alice.as("wrong").do("POST", "/v1/bays", `{}`).is(401), "bay:create",
		want{audit.Failure, structs.CodeUnauthenticated, "", "bay", "", "", "", false})
	for _, path := range []string{"/v1/bays", "/v1/bogus"} {
		if got := log.of(alice.as("wrong").do("GET", path, "").is(401)); len(got) != 0 {
			t.Errorf("GET %s without a token left %+v", path, got)
		}
	}
}

// TestTargetsWithoutRows checks the lines of actions on objects that hosts have.
func TestTargetsWithoutRows(t *testing.T) {
	log := &auditLog{}
	s := servertest.New(t, servertest.WithAuth(tokens), servertest.WithAudit(log))
	s.StartAgent(t, "host-1", servertest.Serve(serveText))
	alice, admin := newCaller(t, s).as("alice"), newCaller(t, s).as("admin")
	alice.do("POST", "/v1/bays?wait=5s", `{"name":"b1"}`).is(201)
	pull := `{"image":"registry.example.org/web:1","bay":"b1"}`
	loaded := alice.do("PUT", "/v1/images/load?bay=b1", "").is(200)
	var results structs.HostResultsBody
	if err := json.Unmarshal(loaded.body, &results); err != nil {
		t.Fatal(err)
	}
	images := ""
	for _, r := range results.Results {
		images += strings.Join(r.Images, " ")
	}
	for _, tt := range []struct {
		r    *reply
		want audit.Target
	}{
		{alice.do("POST", "/v1/images", pull).is(200), audit.Target{Kind: "image", ID: "registry.example.org/web:1"}},
		{alice.do("POST", "/v1/images", pull, header{"Accept", "application/x-ndjson"}).is(200),
			audit.Target{Kind: "image", ID: "registry.example.org/web:1"}},
		{loaded, audit.Target{Kind: "image", ID: images}},
		{alice.do("DELETE", "/v1/volumes/data", "").is(204), audit.Target{Kind: "volume", ID: "data", ProjectID: "p1"}},
		{admin.do("DELETE", "/v1/volumes/data?project_id=p2", ""), audit.Target{Kind: "volume", ID: "data", ProjectID: "p2"}},
	} {
		if e := log.one(t, tt.r); e.Target != tt.want {
			t.Errorf("%s: target %+v, want %+v", tt.r.what, e.Target, tt.want)
		}
	}
	if images == "" {
		t.Error("no image was loaded, so that the test shows nothing")
	}
}

// TestFullAuditLog refuses writes and sessions before anything is done, and no reads.
func TestFullAuditLog(t *testing.T) {
	log := &auditLog{}
	s := servertest.New(t, servertest.WithAuth(tokens), servertest.WithAudit(log))
	s.StartAgent(t, "host-1", servertest.Serve(serveText))
	alice := newCaller(t, s).as("alice")
	bay := alice.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201).uuid()
	c := alice.do("POST", "/v1/containers?run=true&wait=1m", `{"image":"busybox","bay":"b1"}`).is(201).uuid()
	log.setFull(true)
	unchanged(t, s, "a full audit log", func() {
		for _, write := range []string{"POST /v1/bays", "DELETE /v1/bays/" + bay, "PUT /v1/containers/" + c + "/stop",
			"PUT /v1/containers/" + c + "/execute?command=ls", "GET /v1/containers/" + c + "/archive?path=/"} {
			method, path, _ := strings.Cut(write, " ")
			body := ""
			if method == "POST" {
				body = "{}"
			}
			if e := log.one(t, alice.do(method, path, body).is(507)); e.Code != structs.CodeNoSpace {
				t.Errorf("%s: %+v", write, e)
			}
		}
	})
	alice.do("GET", "/v1/bays/b1", "").is(200)
	alice.as("reader").do("POST", "/v1/bays", "{}").is(403)
	log.setFull(false)
	alice.do("PUT", "/v1/containers/"+c+"/stop", "").is(200)
}
