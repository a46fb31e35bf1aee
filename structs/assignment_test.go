package structs

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestUnreadableAssignments reads as much of each assignment as possible.
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
	// An answer with an assignment that names no container isn't confirmed: it doesn't
	// say which containers are not desired.
	if err := json.Unmarshal([]byte(strings.Replace(answer, `"container_id":"b"`, `"container_id":5`, 1)), &w); err != nil ||
		w.Confirmed || len(w.Assignments) != 2 {
		t.Errorf("%v: %+v", err, w)
	}
}
