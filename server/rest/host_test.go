package rest_test

import (
	"fmt"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestDrain checks that a draining host keeps its containers and gets no new ones, and that
// a waiting container is placed after the drain.
func TestDrain(t *testing.T) {
	f := newFixture(t)
	f.running("before")
	if body := f.do("PUT", "/v1/hosts/host-1/drain", "").is(200).object(); body["draining"] != true || body["state"] != "ready" {
		t.Errorf("%v", body)
	}
	at := f.s.Store.Index()
	f.do("PUT", "/v1/hosts/host-1/drain", "").is(200)
	if f.s.Store.Index() != at {
		t.Error("draining twice has written something")
	}
	if got := f.do("GET", "/v1/containers/before", "").object()["status"]; got != "Running" {
		t.Errorf("what ran is %v", got)
	}
	late := f.do("POST", "/v1/containers?run=true&wait=50ms", `{"name":"late","image":"x"}`).is(202).object()
	if late["host"] != nil || late["status_reason"] != "waits for a host with room for it: of 1 host, 1 draining" {
		t.Errorf("%v", late)
	}
	f.s.StartAgent(t, "host-2")
	f.do("PUT", "/v1/hosts/host-2/drain", "").is(200)
	if got := f.do("POST", "/v1/bays", `{"name":"other"}`).is(201).object()["status"]; got != "CREATE_IN_PROGRESS" {
		t.Errorf("a bay of a draining host is %v", got)
	}
	f.do("PUT", "/v1/hosts/host-1/undrain", "").is(200)
	f.do("PUT", "/v1/hosts/host-2/undrain", "").is(200)
	servertest.Eventually(t, "what has waited goes on", func() bool {
		return f.do("GET", "/v1/containers/late", "").object()["status"] == "Running" &&
			f.do("GET", "/v1/bays/other", "").object()["status"] == "CREATE_COMPLETE"
	})
	f.do("PUT", "/v1/hosts/nope/drain", "").is(404)
}

// TestOperatorLabels checks that operators' labels override the agent's for constraints and
// bays, and survive a registration.
func TestOperatorLabels(t *testing.T) {
	s := servertest.New(t)
	s.StartAgent(t, "host-1", servertest.Fingerprint(structs.Fingerprint{Backend: structs.BackendDocker, Cores: 1, Memory: 1 << 30,
		Labels: map[string]string{"zone": "a", "disk": "hdd"}}))
	c := newCaller(t, s)
	body := c.do("PATCH", "/v1/hosts/host-1",
		`[{"op":"add","path":"/labels/zone","value":"b"},{"op":"add","path":"/labels/rack","value":"7"}]`).is(200).object()
	if fmt.Sprint(body["labels"]) != "map[disk:hdd rack:7 zone:b]" || fmt.Sprint(body["operator_labels"]) != "map[rack:7 zone:b]" {
		t.Errorf("%v", body)
	}
	if got := c.do("GET", "/v1/hosts?label=zone=b", "").is(200).names("hosts"); got != "host-1" {
		t.Errorf("hosts %q", got)
	}
	if got := c.do("POST", "/v1/bays", `{"labels":{"zone":"a"}}`).is(201).object()["status"]; got != "CREATE_IN_PROGRESS" {
		t.Errorf("a bay of the agent's label is %v", got)
	}
	bay := c.do("POST", "/v1/bays?wait=1m", `{"labels":{"zone":"b"}}`).is(201).uuid()
	c.do("POST", "/v1/containers?wait=1m", `{"image":"x","bay":"`+bay+`","constraints":{"rack":"7","disk":"hdd"}}`).is(201)
	body = c.do("PATCH", "/v1/hosts/host-1", `[{"op":"remove","path":"/labels/rack"},{"op":"replace","path":"/labels",`+
		`"value":{"a.b/c":"d"}}]`).is(200).object()
	if fmt.Sprint(body["labels"]) != "map[a.b/c:d disk:hdd zone:a]" {
		t.Errorf("%v", body)
	}
	c.do("PATCH", "/v1/hosts/host-1", `[{"op":"remove","path":"/labels"}]`).is(200)
	for ops, want := range map[string]int{
		`[{"op":"remove","path":"/labels/zone"}]`:               400, // the agent set this label
		`[{"op":"add","path":"/name","value":"x"}]`:             400,
		`[{"op":"add","path":"/draining","value":true}]`:        400,
		`[{"op":"add","path":"/labels/x","value":1}]`:           400,
		`[{"op":"replace","path":"/labels","value":{"":"x"}}]`:  400,
		`[{"op":"replace","path":"/labels","value":["x","y"]}]`: 400,
		`{"labels":{}}`: 400,
	} {
		unchanged(t, s, ops, func() { c.do("PATCH", "/v1/hosts/host-1", ops).is(want) })
	}
	c.do("PATCH", "/v1/hosts/nope", `[]`).is(404)
}
