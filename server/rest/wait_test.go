package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// later runs a request in the background.
func later(do func() *reply) <-chan *reply {
	done := make(chan *reply, 1)
	go func() { done <- do() }()
	return done
}

// parked checks that the request isn't answered soon.
func parked(t *testing.T, r <-chan *reply) {
	t.Helper()
	select {
	case got := <-r:
		t.Fatalf("%s: answered %d at once: %s", got.what, got.status, got.body)
	case <-time.After(30 * time.Millisecond):
	}
}

// soon returns the response, which has to come soon.
func soon(t *testing.T, r <-chan *reply) *reply {
	t.Helper()
	select {
	case got := <-r:
		return got
	case <-time.After(time.Minute):
		t.Fatal("no answer")
		return nil
	}
}

// TestBlockingReads checks that reads with an index wait for a change of the object or list
// that they read, and for no other change.
func TestBlockingReads(t *testing.T) {
	f := newFixture(t)
	a, b := f.container("a", ""), f.container("b", "")
	get := func(path string) func() *reply {
		return func() *reply { return f.do("GET", path, "") }
	}
	now := f.do("GET", "/v1/containers/a", "").is(200).index()
	object := later(get(fmt.Sprintf("/v1/containers/a?index=%d&wait=30s", now)))
	list := later(get(fmt.Sprintf("/v1/bays?index=%d&wait=30s", now)))
	parked(t, object)
	f.do("PUT", "/v1/containers/b/start", "").is(200)
	parked(t, object)
	f.do("PUT", "/v1/containers/a/start", "").is(200)
	if r := soon(t, object).is(200); r.index() <= now {
		t.Errorf("index %d after a change since %d", r.index(), now)
	}
	parked(t, list)
	f.do("POST", "/v1/bays", `{"name":"new"}`).is(201)
	if got := soon(t, list).is(200).names("bays"); got != "b1 new" {
		t.Errorf("bays %q", got)
	}

	// An object that has changed already is answered at once, also for index 0.
	for _, index := range []uint64{0, now - 1} {
		start := time.Now()
		f.do("GET", fmt.Sprintf("/v1/containers?index=%d&wait=2m", index), "").is(200)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("index %d took %v", index, took)
		}
	}
	// After the wait the response has the present state.
	r := f.do("GET", fmt.Sprintf("/v1/containers/%s?index=%d&wait=20ms", b, f.s.Store.Index()+1000), "").is(200)
	if r.object()["status"] != "Running" {
		t.Errorf("container %s", r.body)
	}
	// A deletion ends a read of the object and of the list.
	object = later(get(fmt.Sprintf("/v1/containers/%s?index=%d&wait=30s", a, f.s.Store.Index()+1000)))
	parked(t, object)
	f.do("DELETE", "/v1/containers/a?force=true", "").is(204)
	soon(t, object).is(404).says("Container " + a + " could not be found.")
	now = f.do("GET", "/v1/containers", "").is(200).index()
	list = later(get(fmt.Sprintf("/v1/containers/detail?index=%d", now)))
	parked(t, list)
	f.do("DELETE", "/v1/containers/b?force=true", "").is(204)
	soon(t, list).is(200)
}

// TestParkedReadsReleaseResources checks that the resources of a blocking read are released
// when its client leaves.
func TestParkedReadsReleaseResources(t *testing.T) {
	f := newFixture(t)
	f.container("a", "")
	httpClient.CloseIdleConnections()
	base := runtime.NumGoroutine()
	ctx, leave := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	const n = 50
	for i := range n {
		path := "/v1/containers/a"
		if i%2 == 0 {
			path = "/v1/containers"
		}
		clients.Go(func() {
			r, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s%s?index=%d&wait=60s", f.s.URL, path, f.s.Store.Index()+1000),
				nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := httpClient.Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("answered %d", resp.StatusCode)
			}
		})
	}
	servertest.Eventually(t, "all are parked", func() bool { return runtime.NumGoroutine() >= base+3*n })
	leave()
	clients.Wait()
	servertest.Eventually(t, "nothing is left", func() bool {
		httpClient.CloseIdleConnections()
		return runtime.NumGoroutine() <= base+5
	})
}

// TestReadsAreNotOlderThanSeen checks the default and the consistent read.
func TestReadsAreNotOlderThanSeen(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithHold(time.Second)))
	for tries := 1; ; tries++ { // a busy machine may take longer than the hold, but not each time
		ahead := f.s.Store.Index() + 2
		seen := header{"X-Magnum-Index", fmt.Sprint(ahead)}
		waiting := later(func() *reply { return f.do("GET", "/v1/baymodels", "", seen) })
		parked(t, waiting)
		for range 2 {
			f.do("POST", "/v1/baymodels", `{"name":"m","coe":"docker"}`).is(201)
		}
		r := soon(t, waiting)
		if r.status != 200 && tries < 10 {
			continue
		}
		if r.is(200); r.index() < ahead {
			t.Errorf("answered from index %d, seen %d", r.index(), ahead)
		}
		break
	}
	far := header{"X-Magnum-Index", "1000000"}
	f.do("GET", "/v1/baymodels", "", far).is(503).mentions("this server is at index", "wants 1000000").code("unavailable")
	f.do("GET", "/v1/baymodels?stale", "", far).is(200)
	f.do("GET", "/v1/baymodels?consistent", "").is(200)
	f.do("GET", "/v1/bays/b1?consistent=true", "").is(200)
	state := f.do("GET", "/v1/operator/state?consistent", "").is(200)
	snap := f.s.Store.Snapshot()
	if got := state.object(); got["hash"] != fmt.Sprintf("%016x", snap.Hash()) || got["index"] != float64(snap.Index()) ||
		state.index() != snap.Index() ||
		got["schema"] != float64(structs.SchemaVersion) || got["schema_understood"] != float64(structs.SchemaVersion) {
		t.Errorf("state %v, store at %d, %016x", got, snap.Index(), snap.Hash())
	}
}

// TestWaitForResult checks the responses to actions, creates and deletes that succeed, that
// fail, and that take too long.
func TestWaitForResult(t *testing.T) {
	var mu sync.Mutex
	behave := servertest.Obey
	set := func(f func(structs.Assignment) *structs.Observed) {
		mu.Lock()
		defer mu.Unlock()
		behave = f
	}
	s := servertest.New(t, servertest.WithPatience(2*time.Second)) // for actions that fail on a busy machine
	f := newFixtureOn(t, s, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		mu.Lock()
		defer mu.Unlock()
		return behave(a)
	}))
	silent := func(structs.Assignment) *structs.Observed { return nil }
	failing := func(a structs.Assignment) *structs.Observed {
		return &structs.Observed{Status: structs.ContainerError, Generation: a.Generation, Failed: true, Reason: "no such image: busybox"}
	}
	settled := func(name, status string) {
		t.Helper()
		servertest.Eventually(t, name+" is "+status, func() bool {
			return f.do("GET", "/v1/containers/"+name, "").object()["status"] == status
		})
	}

	f.container("c", "")
	// The actions succeed.
	if got := string(f.do("PUT", "/v1/containers/c/start", "").is(200).body); got != "null" {
		t.Errorf("start answers %q", got)
	}
	if got := f.do("GET", "/v1/containers/c", "").object()["status"]; got != "Running" {
		t.Errorf("after start: %v", got)
	}
	f.do("PUT", "/v1/containers/c/start?wait=1s", "").is(200) // the container runs already

	// The action takes too long: 200 as if it were done, or 202 with the object if the
	// request has wait.
	set(silent)
	if got := string(f.do("PUT", "/v1/containers/c/stop", "").is(200).body); got != "null" {
		t.Errorf("stop answers %q", got)
	}
	if got := f.do("PUT", "/v1/containers/c/stop?wait=10ms", "").is(202).object()["status"]; got != "Running" {
		t.Errorf("202 shows %v", got)
	}
	f.do("PUT", "/v1/containers/c/stop?wait=0", "").is(202)
	f.do("POST", "/v1/containers?wait=10ms", `{"name":"slow","image":"busybox","bay":"b1"}`).is(202)
	f.do("DELETE", "/v1/containers/slow", "").is(204)
	if got := f.do("DELETE", "/v1/containers/slow?wait=10ms", "").is(202).object()["status"]; got != "Deleting" {
		t.Errorf("202 shows %v", got)
	}
	f.do("PUT", "/v1/containers/slow/start", "").is(409).says("Container slow is being deleted")

	// The action fails: 500 with the reason. The container remains and can be examined.
	set(failing)
	f.do("PUT", "/v1/containers/c/reboot", "").is(500).says("Container c: no such image: busybox").code("container.internal")
	r := f.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"bad","image":"busybox","bay":"b1"}`).is(500)
	r.says("Container bad: no such image: busybox")
	if !strings.Contains(r.header.Get("Location"), "/v1/containers/") {
		t.Errorf("Location %q", r.header.Get("Location"))
	}
	if got := f.do("GET", "/v1/containers/bad", "").is(200).object(); got["status"] != "Error" ||
		got["status_reason"] != "no such image: busybox" {
		t.Errorf("container %v", got)
	}
	// A stop of a container that doesn't run succeeds, whatever failed before. The host
	// gets it, because it might try the start again.
	set(servertest.Obey)
	f.do("PUT", "/v1/containers/bad/stop", "").is(200)
	set(failing)
	f.do("DELETE", "/v1/containers/bad", "").is(500)

	set(servertest.Obey)
	f.container("d", "")
	f.do("DELETE", "/v1/containers/d?wait=1m", "").is(204)
	f.do("GET", "/v1/containers/d", "").is(404)
	settled("c", "Error")

	// A bay is answered at once, or with wait when it has its hosts.
	f.do("POST", "/v1/bays", `{"name":"b2"}`).is(201)
	f.do("POST", "/v1/bays?wait=10ms", `{"name":"b3"}`).is(202)
	f.do("DELETE", "/v1/bays/b3?wait=1m", "").is(204)
	s.StartAgent(t, "host-2")
	servertest.Eventually(t, "b2 has a host", func() bool {
		return f.do("GET", "/v1/bays/b2", "").object()["status"] == "CREATE_COMPLETE"
	})
	f.do("PATCH", "/v1/bays/b2?wait=10ms", `[{"op":"replace","path":"/node_count","value":2}]`).is(202)
	f.do("PATCH", "/v1/bays/b2", `[{"op":"add","path":"/name","value":"b2"}]`).is(200) // no change
}

// TestIdempotencyKey checks that a repeated POST makes one object.
func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	key := header{"Idempotency-Key", "ключ-1"}
	body := `{"name":"once","image":"busybox","bay":"b1"}`
	first := f.do("POST", "/v1/containers", body, key).is(201)
	again := f.do("POST", "/v1/containers", body, key).is(201)
	slash := f.do("POST", "/containers/", body, key).is(201) // the same path in another form
	if first.uuid() != again.uuid() || slash.uuid() != first.uuid() {
		t.Errorf("objects %s, %s and %s", first.uuid(), again.uuid(), slash.uuid())
	}
	if n := len(f.do("GET", "/v1/containers?name=once", "").items("containers")); n != 1 {
		t.Errorf("%d objects", n)
	}
	servertest.Eventually(t, "its host has it", func() bool {
		return f.do("GET", "/v1/containers/once", "").object()["status"] == "Stopped"
	})
	const reused = `Idempotency-Key "ключ-1" was used for another request in the last 10m0s: use a new key`
	unchanged(t, f.s, "a key with another request", func() {
		f.do("POST", "/v1/containers", body+" ", key).is(409).says(reused)
		f.do("POST", "/v1/containers?run=true", body, key).is(409).says(reused)
		f.do("POST", "/v1/bays", `{}`, key).is(409)
	})
	for _, path := range []string{"/v1/bays", "/v1/nodes"} {
		k := header{"Idempotency-Key", path}
		if a, b := f.do("POST", path, "{}", k).is(201).uuid(), f.do("POST", path, "{}", k).is(201).uuid(); a != b {
			t.Errorf("%s: %s and %s", path, a, b)
		}
	}
	f.do("DELETE", "/v1/containers/once", "").is(204)
	f.do("POST", "/v1/containers", body, key).is(409).mentions("has been deleted: use a new key")
	f.do("POST", "/v1/baymodels", `{"coe":"docker"}`, header{"Idempotency-Key", strings.Repeat("ü", 255)}).is(201)
}

// TestIdempotencyKeyIsMinted checks that a POST without a key gets one if the server has
// others, and none if it has no others that could repeat the request.
func TestIdempotencyKeyIsMinted(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, func(c *rest.Config) { c.Peers = &forwards{} }))
	keys := func() (n int) {
		for range f.s.Store.Snapshot().List(structs.TableIdempotency, state.AllProjects, 0) {
			n++
		}
		return n
	}
	before := keys()
	f.do("POST", "/v1/bays", `{"name":"alone"}`).is(201)
	if n := keys() - before; n != 0 {
		t.Errorf("%d keys are kept by a server that is alone", n)
	}
	f.s.Log.Others.Store(true)
	f.do("POST", "/v1/bays", `{"name":"one-of-three"}`).is(201)
	if n := keys() - before; n != 1 {
		t.Errorf("%d keys are kept by one of several", n)
	}
}

// TestWritesWaitForLeader checks that writes wait for a leader, and for how long.
func TestWritesWaitForLeader(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithHold(2*time.Second)))
	id := f.container("c", "")
	f.s.StopLeading()
	write := later(func() *reply { return f.do("POST", "/v1/bays", `{"name":"held"}`) })
	act := later(func() *reply { return f.do("PUT", "/v1/containers/"+id+"/start", "") })
	parked(t, write)
	parked(t, act)
	f.do("GET", "/v1/bays", "").is(200) // reads need none
	f.s.StartLeading(t)
	soon(t, write).is(201)
	soon(t, act).is(200)
}

func TestWritesFailAfterHold(t *testing.T) {
	f := newFixtureOn(t, servertest.New(t, servertest.WithHold(50*time.Millisecond)))
	f.s.StopLeading()
	unchanged(t, f.s, "writes without a leader", func() {
		f.do("POST", "/v1/bays", `{}`).is(503).code("no_leader")
		f.do("DELETE", "/v1/bays/b1", "").is(503)
		f.do("PATCH", "/v1/bays/b1", `[{"op":"replace","path":"/node_count","value":2}]`).is(503)
	})
}

// TestRetriesAfterUnknownOutcome checks that a write whose outcome is unknown is repeated
// only if that is safe, and creates one object.
func TestRetriesAfterUnknownOutcome(t *testing.T) {
	for _, fault := range []servertest.Fault{servertest.LoseBefore, servertest.LoseAfter} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			f := newFixtureOn(t, servertest.New(t, servertest.WithHold(5*time.Second), servertest.WithPatience(50*time.Millisecond)))
			id := f.running("c")
			f.agent.Stop() // its reports would be hit by the faults
			again := func(do func() *reply) *reply {
				t.Helper()
				f.s.Log.Break(fault)
				r := later(do)
				servertest.Eventually(t, "the fault has struck", func() bool { return !f.s.Leading() })
				f.s.StopLeading()
				f.s.StartLeading(t)
				return soon(t, r)
			}
			again(func() *reply { return f.do("POST", "/v1/bays", `{"name":"new"}`) }).is(201)
			if n := len(f.do("GET", "/v1/bays?name=new", "").items("bays")); n != 1 {
				t.Errorf("%d bays", n)
			}
			again(func() *reply {
				return f.do("POST", "/v1/baymodels", `{"name":"m","coe":"docker"}`, header{"Idempotency-Key", "k"})
			}).is(201)
			if n := len(f.do("GET", "/v1/baymodels?name=m", "").items("baymodels")); n != 1 {
				t.Errorf("%d baymodels", n)
			}
			again(func() *reply { return f.do("DELETE", "/v1/baymodels/m", "") }).is(204)
			own := structs.NewID()
			again(func() *reply {
				return f.do("POST", "/v1/baymodels",
					`{"uuid":"`+own+`","coe":"docker"}`)
			}).is(map[servertest.Fault]int{servertest.LoseBefore: 201, servertest.LoseAfter: 503}[fault])
			f.do("GET", "/v1/baymodels/"+own, "").is(200)
			// The container's records show the action.
			again(func() *reply { return f.do("PUT", "/v1/containers/"+id+"/stop", "") }).is(200)
			again(func() *reply { return f.do("PUT", "/v1/containers/"+id+"/reboot", "") }).is(200)
			actions := 0
			for _, a := range f.do("GET", "/v1/containers/"+id+"/actions", "").items("actions") {
				if name := fmt.Sprint(a["action"]); name == "stop" || name == "reboot" {
					actions++
				}
			}
			if actions != 2 {
				t.Errorf("%d actions were carried out, want 2", actions)
			}
			// A change of fields isn't repeated: somebody else's change may have come in
			// between, and would be undone.
			again(func() *reply {
				return f.do("PATCH", "/v1/containers/"+id, `[{"op":"replace","path":"/name","value":"d"}]`)
			}).is(503).mentions("may or may not have been carried out")
		})
	}
}
