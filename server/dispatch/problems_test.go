package dispatch

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestProblemsAreChecked(t *testing.T) {
	good := structs.ServiceProblem{ServiceID: structs.NewID(), HostID: structs.NewID(), Reason: "node port 30000 is taken"}
	many := make([]structs.ServiceProblem, structs.MaxServiceProblems+1)
	for what, c := range map[string]struct {
		list []structs.ServiceProblem
		ok   bool
	}{
		"none": {[]structs.ServiceProblem{}, true}, "some": {[]structs.ServiceProblem{good, {Reason: "x"}}, true},
		"many":     {many, false},
		"service":  {[]structs.ServiceProblem{{ServiceID: "x"}}, false},
		"host":     {[]structs.ServiceProblem{{HostID: "x"}}, false},
		"too long": {[]structs.ServiceProblem{{Reason: strings.Repeat("x", structs.MaxText+1)}}, false},
	} {
		err := checkReport(&structs.StatusReport{Problems: &c.list})
		if ok := err == nil; ok != c.ok || !ok && structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}
