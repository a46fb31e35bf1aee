package dispatch

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestTextOfAClusterIsCut: what a cluster says doesn't make a report invalid, nor a row large.
func TestTextOfAClusterIsCut(t *testing.T) {
	long := strings.Repeat("x\x1b\n", structs.MaxText)
	r := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: structs.NewID(), Epoch: 1})
	r.Status = structs.ContainerRunning
	r.Pod = &structs.PodReport{Phase: "made-up", Node: long, NodeIP: long, Found: &structs.FoundPod{Spec: &structs.PodSpec{
		Containers: []structs.PodContainer{{Name: long, Image: long}}}}}
	for range 100 {
		r.Pod.Conditions = append(r.Pod.Conditions, structs.Condition{Type: long, Status: long, Reason: long, Message: long})
	}
	endpoints := make([]structs.Endpoint, structs.MaxEndpoints+1)
	endpoints[0] = structs.Endpoint{Name: long, Address: long, PodID: long, Ports: make([]int, 1000)}
	o := structs.ReportOf(structs.Ref{Kind: structs.WorkloadObject, ID: "service/" + structs.NewID(), Epoch: 1})
	o.Status = structs.ContainerRunning
	o.Object = &structs.ObjectReport{Service: &structs.ServiceReport{Address: long, Ports: make([]structs.ServicePort, 1000),
		Endpoints: endpoints}, RC: &structs.RCReport{RCObserved: structs.RCObserved{Reason: long}}}
	report := &structs.StatusReport{Containers: []structs.ContainerReport{r, o}}
	if err := checkReport(report); err != nil {
		t.Fatal(err)
	}
	p, c := report.Containers[0].Pod, report.Containers[0].Pod.Conditions
	if p.Phase != "" || len(p.Node) > structs.MaxName || strings.Contains(p.Node, "\n") || len(c) != structs.MaxConditions ||
		len(c[0].Type) > structs.MaxName || len(c[0].Message) > structs.MaxText || strings.Contains(c[0].Message, "\x1b") ||
		len(p.Found.Spec.Containers[0].Image) > structs.MaxText {
		t.Errorf("the pod's report is %d conditions, %.40q", len(c), p.Node)
	}
	s := report.Containers[1].Object.Service
	if len(s.Endpoints) != structs.MaxEndpoints || len(s.Ports) > structs.MaxPorts || len(s.Endpoints[0].Name) > structs.MaxName ||
		len(s.Endpoints[0].Ports) > structs.MaxPorts || len(s.Address) > structs.MaxName ||
		len(report.Containers[1].Object.RC.Reason) > structs.MaxText {
		t.Errorf("the service's report has %d endpoints", len(s.Endpoints))
	}
}
