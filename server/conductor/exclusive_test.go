package conductor

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestExclusiveOnALostHost(t *testing.T) {
	setup := func(t *testing.T, kind structs.Exclusive) (*harness, *structs.Container) {
		h := newHarness(t)
		h.host("a", nil)
		h.host("b", nil)
		h.bay(alice, "bay", 2)
		c := h.running(always(func(s *structs.ContainerSpec) { s.Exclusive = kind }))
		h.mark(structs.HostLost, c.HostID)
		return h, c
	}
	t.Run("lease", func(t *testing.T) {
		h, c := setup(t, structs.ExclusiveLease)
		if now := h.container(c.ID); now.HostID == c.HostID || now.Epoch != 2 {
			t.Errorf("not placed recreated: %q", now.StatusReason())
		}
	})
	t.Run("until fenced", func(t *testing.T) {
		h, c := setup(t, structs.ExclusiveYes)
		if now := h.container(c.ID); now.HostID != c.HostID || !strings.Contains(now.StatusReason(), "magnum host-fence") {
			t.Fatalf("on %s: %q", now.HostID, now.StatusReason())
		}
		must(h, FenceHost{Caller: root, Ident: c.HostID})
		h.settle()
		now := h.container(c.ID)
		if now.HostID == c.HostID || now.Epoch != 2 || len(now.Priors) != 1 || now.Priors[0].Keep {
			t.Fatalf("not placed recreated: %+v", now)
		}
		h.mark(structs.HostReady, c.HostID)
		if want, ok := h.assignedOn(c.HostID, c.ID); !ok || want.Desired != structs.DesiredAbsent || want.Epoch != 1 {
			t.Errorf("the old host has %+v", want)
		}
	})
	t.Run("until the host is back", func(t *testing.T) {
		h, c := setup(t, structs.ExclusiveYes)
		h.mark(structs.HostReady, c.HostID)
		h.report(c.ID, stopped)
		if want, ok := h.assignedOn(c.HostID, c.ID); !ok || want.Desired != structs.DesiredRunning || want.Epoch != 1 {
			t.Errorf("the host has %+v", want)
		}
	})
	t.Run("not for strangers", func(t *testing.T) {
		h, _ := setup(t, structs.ExclusiveYes)
		refuse(h, structs.CodeNotFound, FenceHost{Caller: root, Ident: structs.NewID()})
		refuse(h, structs.CodeNotFound, ReleaseHost{Caller: root, Ident: structs.NewID()})
	})
}
