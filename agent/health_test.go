package agent

import (
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestHealthIsReported(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Healthcheck = &structs.Healthcheck{Test: structs.Command{Text: "exit 0"}, Interval: 5}
		h.assign(a)
		for _, want := range []string{"starting", "healthy"} {
			if r := h.completed(a, structs.ContainerRunning); r.Health != want {
				h.Fatalf("health reported is %q, want %q", r.Health, want)
			}
			h.after(6 * time.Second)
		}
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		if r := h.completed(a, structs.ContainerStopped); r.Health != "" {
			h.Fatalf("health of a stopped one is %q", r.Health)
		}
	})
}
