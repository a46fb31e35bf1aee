package structs

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestContainerReportsKeepTheirJSON checks that reports of containers have the JSON of
// earlier builds.
func TestContainerReportsKeepTheirJSON(t *testing.T) {
	ref := ContainerRef("a", 3)
	report := ReportOf(ref)
	report.Status = ContainerRunning
	kept := QuarantinedOf(ref)
	for want, v := range map[string]any{
		`{"container_id":"a","epoch":3,"status":"Running","generation":0}`: report,
		`{"container_id":"a","epoch":3}`:                                   QuarantineRefOf(ref),
		`{"container_id":"a","epoch":3} `:                                  kept,
	} {
		if b, err := json.Marshal(v); err != nil || string(b) != strings.TrimSpace(want) {
			t.Errorf("%T is %s, %v; was %s", v, b, err, want)
		}
	}
	var read ContainerReport
	if err := json.Unmarshal([]byte(`{"container_id":"a","epoch":3,"status":"Running","generation":0}`), &read); err != nil ||
		read.Ref() != ref || !reflect.DeepEqual(read, report) {
		t.Errorf("it reads as %+v, %v", read, err)
	}
}

// TestReportsOfOtherKindsNameTheirKind also checks their parts.
func TestReportsOfOtherKindsNameTheirKind(t *testing.T) {
	ref := Ref{Kind: WorkloadPod, ID: "p", Epoch: 2}
	report := ReportOf(ref)
	report.Status, report.Parts = ContainerError, []PartReport{
		{Part: "web", Observed: Observed{Status: ContainerRunning}},
		{Part: "log", Observed: Observed{Status: ContainerError, Reason: "why"}},
	}
	b, err := json.Marshal(report)
	want := `{"kind":"pod","id":"p","container_id":"","epoch":2,"status":"Error","generation":0,"parts":[` +
		`{"part":"web","status":"Running","generation":0},{"part":"log","status":"Error","reason":"why","generation":0}]}`
	if err != nil || string(b) != want {
		t.Fatalf("%s, %v; want %s", b, err, want)
	}
	var read ContainerReport
	if err := json.Unmarshal(b, &read); err != nil || read.Ref() != ref || !reflect.DeepEqual(read, report) {
		t.Errorf("it reads as %+v, %v", read, err)
	}
	kept, name := QuarantinedOf(ref), QuarantineRefOf(ref)
	if kept.Ref() != ref || name.Ref() != ref || kept.ContainerID != "" || name.ContainerID != "" {
		t.Errorf("in quarantine it is %+v, %+v", kept, name)
	}
}
