package structs

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzSpecReachesTheAgent: each spec that the API accepts is read by the agent
// as it was meant.
func FuzzSpecReachesTheAgent(f *testing.F) {
	for _, body := range []string{
		`{"image":"a","healthcheck":{"test":[]}}`, `{"image":"a","healthcheck":{"test":"x","interval":1}}`, `{"image":"a","healthcheck":{"interval":1}}`,
		`{"image":"a","healthcheck":{"test":""}}`, `{"image":"a","command":"","entrypoint":[],"environment":{"a":"\ud800"}}`, `{"image":"a","command":[],"exclusive":"lease"}`,
		`{"image":"a","memory":"512m","cpu":0.5,"stop_timeout":"0","log_max_size":"1m","registry":{"username":"u","password":"p"},"restart_policy":"on-failure:3"}`,
		`{"image":"a","ports":[{"container_port":80}],"volumes":[{"name":"v","target":"/x"},{"type":"tmpfs","target":"/y","size":5}],"labels":{"a":""}}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var r ContainerRequest
		if json.Unmarshal([]byte(body), &r) != nil {
			return
		}
		spec, err := r.Spec()
		if err != nil {
			return
		}
		c := &Container{Meta: Meta{ID: NewID()}, Spec: spec, Placement: Placement{Epoch: 1, Generation: 1}}
		if h := spec.Healthcheck; h != nil && len(h.Test.Args) == 0 {
			// As rows have it that were read from the log: they don't tell an
			// empty list from none.
			c.Spec.Healthcheck = &Healthcheck{Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries, StartPeriod: h.StartPeriod}
		}
		sent, err := json.Marshal(Work{Assignments: []Assignment{AssignmentOf(c, "h")}})
		if err != nil {
			t.Fatal(err)
		}
		var w Work
		if err := json.Unmarshal(sent, &w); err != nil || len(w.Assignments) != 1 || w.Assignments[0].Unreadable != "" {
			t.Fatalf("%s\nthe agent is sent %s\nand reads %+v, %v", body, sent, w, err)
		}
		// The credentials go beside the spec.
		if got := w.Assignments[0].Registry; !reflect.DeepEqual(got, spec.Registry) {
			t.Fatalf("%s\nhas credentials %+v\nwhich arrive as %+v", body, spec.Registry, got)
		}
		spec.Registry = nil
		if got := *w.Assignments[0].Spec; !reflect.DeepEqual(got, spec) {
			t.Fatalf("%s\nmeans %+v\nand arrives as %+v", body, spec, got)
		}
	})
}

// TestUnreadableAssignments: each is read as far as it can be.
func TestUnreadableAssignments(t *testing.T) {
	const answer = `{"cluster_id":"c","index":7,"full":true,"confirmed":true,"assignments":[
		{"container_id":"a","epoch":1,"generation":2,"desired":"running","spec":{"Image":"x"}},
		{"container_id":"b","epoch":1,"generation":2,"desired":"stopped","stop_timeout":3,"spec":{"Image":5}},
		{"container_id":"c","epoch":1,"generation":2,"desired":"absent","stop_timeout":"soon","spec":{"Image":"x"}}]}`
	var w Work
	if err := json.Unmarshal([]byte(answer), &w); err != nil {
		t.Fatal(err)
	}
	if w.ClusterID != "c" || w.Index != 7 || !w.Full || !w.Confirmed || len(w.Assignments) != 3 {
		t.Fatalf("%+v", w)
	}
	for i, want := range []Assignment{
		{ContainerID: "a", Epoch: 1, Generation: 2, Desired: DesiredRunning, Spec: &ContainerSpec{Image: "x"}},
		{ContainerID: "b", Epoch: 1, Generation: 2, Desired: DesiredStopped, StopTimeout: 3},
		{ContainerID: "c", Epoch: 1, Generation: 2, Desired: DesiredAbsent},
	} {
		got := w.Assignments[i]
		if (got.Unreadable == "") != (i == 0) {
			t.Errorf("%s is unreadable because %q", got.ContainerID, got.Unreadable)
		}
		if got.Unreadable = ""; !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, want %+v", got, want)
		}
	}
	// An answer that doesn't say of which container it speaks is no word on
	// what isn't wanted.
	if err := json.Unmarshal([]byte(strings.Replace(answer, `"container_id":"b"`, `"container_id":5`, 1)), &w); err != nil || w.Confirmed || len(w.Assignments) != 2 {
		t.Errorf("%v: %+v", err, w)
	}
}
