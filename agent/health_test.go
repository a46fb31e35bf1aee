package agent

import (
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestHealthIsTold(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Healthcheck = &structs.Healthcheck{Test: structs.Command{Text: "exit 0"}, Interval: 5}
		h.assign(a)
		for _, want := range []string{"starting", "healthy"} {
			if r := h.settled(a, structs.ContainerRunning); r.Health != want {
				h.Fatalf("health told is %q, want %q", r.Health, want)
			}
			h.after(6 * time.Second)
		}
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		if r := h.settled(a, structs.ContainerStopped); r.Health != "" {
			h.Fatalf("health of a stopped one is %q", r.Health)
		}
	})
}
