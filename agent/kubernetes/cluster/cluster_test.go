package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// api is an API server that has pods only. It answers in JSON.
type api struct {
	*httptest.Server

	mu        sync.Mutex
	away      bool
	version   int
	pods      []string
	forbidden string   // the resource that may not be listed
	tooOld    bool     // the next watch of pods has to begin again
	calls     []string // but for lists and watches
	bodies    [][]byte // of calls
}

func newAPI(t *testing.T) *api {
	a := &api{version: 10, pods: []string{"a"}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() { a.CloseClientConnections(); a.Close() })
	return a
}

func (a *api) client(t *testing.T, allowed func() error) *Client {
	t.Helper()
	c, err := New(Config{Rest: &rest.Config{Host: a.URL}, Allowed: allowed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// set changes the API server.
func (a *api) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	away, version, pods, forbidden := a.away, a.version, slices.Clone(a.pods), a.forbidden
	a.mu.Unlock()
	if away {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	_, resource, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis"), "/api"), "v1/")
	query := r.URL.Query()
	switch {
	case r.URL.Path == "/readyz":
		fmt.Fprint(w, "ok")
	case resource == forbidden:
		answer(w, http.StatusForbidden, resource+` is forbidden: User "agent" cannot list resource "`+resource+`" at the cluster scope`)
	case r.Method == http.MethodGet && query.Get("sendInitialEvents") != "":
		answer(w, http.StatusBadRequest, "sendInitialEvents is unknown") // an API server of before
	case r.Method == http.MethodGet && query.Get("watch") != "":
		a.watch(w, r, resource)
	case r.Method == http.MethodGet && !strings.Contains(resource, "/"):
		list := map[string]any{"kind": kindOf(resource) + "List", "apiVersion": strings.Trim(groupOf(resource)+"/v1", "/"),
			"metadata": map[string]any{"resourceVersion": fmt.Sprint(version)}, "items": []any{}}
		if resource == "pods" {
			items := []any{}
			for _, name := range pods {
				meta := map[string]any{"name": name, "uid": name, "managedFields": []any{map[string]any{}}}
				items = append(items, map[string]any{"metadata": meta})
			}
			list["items"] = items
		}
		_ = json.NewEncoder(w).Encode(list)
	default:
		body, _ := io.ReadAll(r.Body)
		a.set(func() {
			a.calls = append(a.calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
			a.bodies = append(a.bodies, body)
		})
		answer(w, http.StatusNotFound, "there is nothing")
	}
}

func answer(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	reason := map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden}[code]
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: message})
}

func kindOf(resource string) string {
	return map[string]string{"pods": "Pod", "services": "Service", "replicationcontrollers": "ReplicationController",
		"namespaces": "Namespace", "nodes": "Node", "endpointslices": "EndpointSlice",
		"networkpolicies": "NetworkPolicy"}[resource]
}

func groupOf(resource string) string {
	return map[string]string{"endpointslices": "discovery.k8s.io", "networkpolicies": "networking.k8s.io"}[resource]
}

// watch holds a watch, or ends it as too old.
func (a *api) watch(w http.ResponseWriter, r *http.Request, resource string) {
	var old bool
	a.set(func() {
		if resource == "pods" {
			old, a.tooOld = a.tooOld, false
		}
	})
	w.WriteHeader(http.StatusOK)
	if old {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusGone,
			Reason: metav1.StatusReasonExpired, Message: "too old resource version"}})
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// sink notes what a Follow says.
type sink struct {
	said chan string
}

func (s *sink) Replace(kind Object, objects []Object, version string) {
	if _, ok := kind.(*corev1.Pod); !ok {
		return
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.GetName())
		if o.GetManagedFields() != nil {
			names = append(names, "with managed fields")
		}
	}
	s.said <- fmt.Sprintf("pods %v of %s", names, version)
}
func (s *sink) See(o Object)                   { s.said <- "see " + o.GetName() }
func (s *sink) Unsee(o Object)                 { s.said <- "unsee " + o.GetName() }
func (s *sink) Away(err error)                 { s.said <- "away" }
func (s *sink) Back()                          { s.said <- "back" }
func (s *sink) Trouble(kind Object, err error) { s.said <- "trouble: " + err.Error() }

// expect waits for what is said next.
func (s *sink) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.said:
		if got != want {
			t.Fatalf("said %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("nothing is said, want %q", want)
	}
}

// follow follows the API until the test ends.
func follow(t *testing.T, c *Client) *sink {
	s := &sink{said: make(chan string, 100)}
	var done sync.WaitGroup
	ctx := t.Context()
	done.Go(func() { c.Follow(ctx, "magnum.cluster=x", s) })
	t.Cleanup(done.Wait)
	return s
}

// TestWatchTooOld: a watch whose version the API has forgotten begins again with a list, which
// shows what was missed.
func TestWatchTooOld(t *testing.T) {
	a := newAPI(t)
	a.tooOld = true
	s := follow(t, a.client(t, nil))
	s.expect(t, "back")
	s.expect(t, "pods [a] of 10")
	a.set(func() { a.version, a.pods = 20, []string{"b"} })
	for {
		got := <-s.said
		if got == "pods [a] of 10" { // listed again before the change
			a.set(func() { a.tooOld = true })
			a.CloseClientConnections()
			continue
		}
		if got == "pods [b] of 20" {
			return
		}
		if got != "back" {
			t.Fatalf("said %q", got)
		}
	}
}

// TestMissingRight: an account that may not list a kind is told which right it lacks; the API
// isn't away.
func TestMissingRight(t *testing.T) {
	a := newAPI(t)
	a.forbidden = "networkpolicies"
	c := a.client(t, nil)
	s := follow(t, c)
	seen := map[string]bool{}
	for len(seen) < 3 {
		select {
		case text := <-s.said:
			seen[text] = true
		case <-time.After(time.Minute):
			t.Fatalf("only said: %v", seen)
		}
	}
	const want = "trouble: the agent's account lacks a right that the YAML that magnum ships gives: " +
		`networkpolicies is forbidden: User "agent" cannot list resource "networkpolicies" at the cluster scope`
	if !seen["back"] || !seen["pods [a] of 10"] || !seen[want] {
		t.Errorf("said %v", seen)
	}
}

// TestAwayAndBack: all watches begin again when an API that was away is back.
func TestAwayAndBack(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, nil)
	s := follow(t, c)
	s.expect(t, "back")
	s.expect(t, "pods [a] of 10")
	a.set(func() { a.away = true })
	c.Suspect()
	a.CloseClientConnections()
	s.expect(t, "away")
	a.set(func() { a.away, a.version, a.pods = false, 20, nil })
	s.expect(t, "back")
	s.expect(t, "pods [] of 20")
}

// TestRefusedWriteIsNotSent: reads are sent whoever is the active agent.
func TestRefusedWriteIsNotSent(t *testing.T) {
	a := newAPI(t)
	refusal := errors.New("the lease is over")
	c := a.client(t, func() error { return refusal })
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "web"}}
	_, created := c.Create(t.Context(), pod)
	_, updated := c.Update(t.Context(), pod)
	_, deleted := c.Delete(t.Context(), pod, Preconditions{UID: "u"})
	for what, err := range map[string]error{"create": created, "update": updated, "delete": deleted} {
		var refused *RefusedWrite
		if !errors.As(err, &refused) || !errors.Is(err, refusal) || Unanswered(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.Get(t.Context(), pod); err == nil || Unanswered(err) {
		t.Errorf("get: %v", err)
	}
	if len(a.calls) != 1 || !strings.HasPrefix(a.calls[0], "GET /api/v1/namespaces/n/pods/web") {
		t.Errorf("the API was called: %q", a.calls)
	}
	refusal = nil
	if _, err := c.Create(t.Context(), pod); err == nil || Unanswered(err) {
		t.Errorf("create: %v", err)
	}
	if want := "POST /api/v1/namespaces/n/pods application/vnd.kubernetes.protobuf"; a.calls[len(a.calls)-1] != want {
		t.Errorf("the call is %q, want %q", a.calls[len(a.calls)-1], want)
	}
}

// TestDeletePreconditions: a delete says which object it means.
func TestDeletePreconditions(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "web"}}
	_, _ = c.Delete(t.Context(), pod, Preconditions{UID: "u", ResourceVersion: "7", Grace: new(int64(3))})
	_, codecs := newScheme()
	o, _, err := codecs.UniversalDeserializer().Decode(a.bodies[0], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := o.(*metav1.DeleteOptions)
	if !ok || got.Preconditions == nil || *got.Preconditions.UID != types.UID("u") || *got.Preconditions.ResourceVersion != "7" ||
		*got.GracePeriodSeconds != 3 || *got.PropagationPolicy != metav1.DeletePropagationBackground {
		t.Errorf("the options are %+v", o)
	}
}

// TestCloseClosesConnections: one that hangs must not be used again, whatever wraps it.
func TestCloseClosesConnections(t *testing.T) {
	closed := make(chan struct{}, 10)
	a := &api{version: 10}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	a.Start()
	t.Cleanup(a.Server.Close)
	c := a.client(t, func() error { return nil })
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("the connection is not closed")
	}
}

// TestUnanswered: only a call that the API has not answered is one whose outcome is unknown.
func TestUnanswered(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, nil)
	if err := c.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	a.set(func() { a.away = true })
	if err := c.Ready(t.Context()); err == nil {
		t.Error("ready while it is away")
	}
	if _, err := c.Get(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}); !Unanswered(err) {
		t.Errorf("get: %v", err)
	}
}

// TestBrief: a reason that is reported has no port that changes with each try.
func TestBrief(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, nil)
	a.set(func() { a.away = true })
	if got := Brief(c.Ready(t.Context())); got != "EOF" {
		t.Errorf("the reason is %q", got)
	}
	a.Close()
	if got := Brief(c.Ready(t.Context())); got != "connection refused" {
		t.Errorf("the reason is %q", got)
	}
	if got := Brief(fmt.Errorf("asked: %w", context.DeadlineExceeded)); got != "it has not answered within 3s" {
		t.Errorf("the reason is %q", got)
	}
}

func TestFailedChecks(t *testing.T) {
	const body = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n"
	if got, want := failedChecks(body), "etcd failed: reason withheld"; got != want {
		t.Errorf("the failed checks are %q, want %q", got, want)
	}
}
