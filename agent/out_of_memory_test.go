package agent

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stackforge/magnum/structs"
)

// TestOutOfMemoryIsToldLate: an engine may tell after the end of a process why the kernel has
// killed it.
func TestOutOfMemoryIsToldLate(t *testing.T) {
	inHost(t, func(h *host) {
		a, pod := want("a", 1, structs.DesiredRunning), wantPod("p", noInit, policy(structs.PodRestartNever))
		h.assign(a)
		h.upPod(pod)
		h.fake.Outside.Kill(ref(a))
		h.fake.Outside.Kill(of(pod, "web"))
		synctest.Wait()
		if r := h.expect(a, structs.ContainerStopped, false); !strings.Contains(r.Reason, "signal 9") {
			t.Errorf("the container is %+v", r.Observed)
		}
		if s := h.part(pod, "web").State; s.Reason != structs.ReasonError {
			t.Errorf("web is %+v", s)
		}
		h.fake.Outside.ChildOutOfMemory(ref(a))
		h.fake.Outside.ChildOutOfMemory(of(pod, "web"))
		synctest.Wait()
		if r := h.expect(a, structs.ContainerStopped, false); !strings.Contains(r.Reason, "more than its memory limit") {
			t.Errorf("the container is %+v", r.Observed)
		}
		if s := h.part(pod, "web").State; s.Reason != structs.ReasonOOMKilled || s.ExitCode == nil || *s.ExitCode != 137 {
			t.Errorf("web is %+v", s)
		}
	})
}
