package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/structs"
)

// fullPod returns a report of a pod with the most parts and ports, and with texts that are
// longer than what is sent.
func fullPod(id, text string) report {
	r := report{Ref: structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1}}
	code := 137
	name, digest := strings.Repeat("n", 63), "sha256:"+strings.Repeat("f", 64)
	end := structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonRunError, Message: text, ExitCode: &code,
		StartedAt: time.Now(), FinishedAt: time.Now()}
	o := structs.Observed{Status: structs.ContainerRunning, Reason: text, Generation: 1 << 60, Failed: true, ExitCode: &code,
		StartedAt: time.Now(), FinishedAt: time.Now(), RestartCount: 1 << 30, Memory: 1 << 50, MilliCPU: 1 << 30, EngineID: digest}
	for range 100 {
		r.parts = append(r.parts, seenPart{name, o, podShown{state: end, last: end, ready: true, started: true, imageID: digest}})
	}
	for range structs.MaxPorts {
		r.parts[0].Ports = append(r.parts[0].Ports, structs.Port{HostPort: 65535, ContainerPort: 65535,
			Protocol: "tcp"})
	}
	r.Observed = whole(r.parts)
	return r
}

// TestReportsFitIntoABody: whatever processes print, servers take the reports of all
// workloads.
func TestReportsFitIntoABody(t *testing.T) {
	for name, text := range map[string]string{
		"html": strings.Repeat("<", 8000), "control": strings.Repeat("\x01", 8000), "plain": strings.Repeat("a", 8000),
		"separator": strings.Repeat("\u2028", 3000), "invalid": strings.Repeat("\xff\x00", 4000) + strings.Repeat("&", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			r := newReporter(hclog.NewNullLogger(), nil)
			const pods, small = 4, 300
			for i := range pods {
				r.observe(fullPod(fmt.Sprint("pod-", i), text), func() {})
			}
			for i := range small {
				r.observe(report{Ref: structs.ContainerRef(fmt.Sprint("c-", i), 1), Observed: structs.Observed{Reason: text}}, func() {})
			}
			seen := make(map[string]bool)
			for {
				report, taken, ok := r.next()
				if !ok {
					break
				}
				b, err := json.Marshal(report)
				if err != nil || len(b) > structs.MaxBody*3/4 {
					t.Fatalf("a report of %d workloads has %d bytes, %v", len(report.Containers), len(b), err)
				}
				if len(taken) != len(report.Containers) {
					t.Errorf("%d of %d are noted as taken", len(taken), len(report.Containers))
				}
				for _, c := range report.Containers {
					seen[c.Ref().ID] = true
					for _, p := range c.Parts {
						if len(p.Reason) < 200 || len(p.State.Message) < 200 || len(p.Last.Message) < 200 {
							t.Fatalf("too little is left of the texts: %+v", p)
						}
					}
				}
			}
			if len(seen) != pods+small {
				t.Errorf("%d workloads are reported", len(seen))
			}
		})
	}
}

// TestTextsOfFewParts: a pod of a few containers has its texts as long as ever.
func TestTextsOfFewParts(t *testing.T) {
	r := fullPod("a", strings.Repeat("<", 8000))
	r.parts = r.parts[:20]
	if got := len(r.wire().Parts[19].State.Message); got != maxPartText {
		t.Errorf("%d bytes are left of a text", got)
	}
}

// TestProblemsAreReported: what isn't served is reported once, and again under each
// registration.
func TestProblemsAreReported(t *testing.T) {
	r := newReporter(hclog.NewNullLogger(), nil)
	next := func() *[]structs.ServiceProblem {
		report, _, ok := r.next()
		if ok && report.Containers == nil {
			t.Error("containers is null")
		}
		return report.Problems
	}
	many := make([]datapath.Problem, structs.MaxServiceProblems+1)
	many[0] = datapath.Problem{ServiceID: "s", HostID: "h", Reason: strings.Repeat("x", 2*maxPartText)}
	r.setProblems(many)
	got := next()
	if got == nil || len(*got) != structs.MaxServiceProblems || (*got)[0].ServiceID != "s" || (*got)[0].HostID != "h" ||
		len((*got)[0].Reason) > maxPartText {
		t.Errorf("reported %+v", got)
	}
	if again := next(); again != nil {
		t.Error("reported twice")
	}
	r.restore(structs.StatusReport{Problems: got}, nil)
	if next() == nil {
		t.Error("not reported after a report that was lost")
	}
	r.register(2)
	if next() == nil {
		t.Error("not reported under another registration")
	}
	r.setProblems(nil)
	if got := next(); got == nil || *got == nil || len(*got) != 0 {
		t.Errorf("with none left: %+v", got)
	}
	r.register(3)
	if next() != nil {
		t.Error("none are reported")
	}
}
