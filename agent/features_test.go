package agent

import (
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestBackendWithoutOptionalInterfaces runs an agent on a backend that only runs
// workloads. Containers work as usual, and other requests are refused with the reason.
func TestBackendWithoutOptionalInterfaces(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := command(want("a", 1, structs.DesiredRunning), "sleep 600")
	s.assign(a)
	r := runAgent(t, t.TempDir(), struct{ backend.Backend }{fake}, func(c *Config) {
		c.ImageGCHigh, c.RemoveOnStop = 1, true
	}, s)
	s.is("a", structs.ContainerRunning)
	refuses := func(want error, offers ...structs.SessionOffer) {
		t.Helper()
		for _, o := range offers {
			if got := listen(t, s.offer(o)); got.last.Code != structs.CodeInvalid || got.last.Error != want.Error() {
				t.Errorf("%s ends with %+v, want %q", o.Kind, got.last, want)
			}
		}
	}
	refuses(errNoConsoles, logs(structs.NewID(), false), exec(structs.NewID(), false, "true"),
		kind(structs.SessionStats, nil), kind(structs.SessionTop, nil),
		kind(structs.SessionArchiveGet, func(o *structs.SessionOffer) { o.Path = "/tmp" }))
	refuses(errNoImages, hostKind(structs.SessionImageList, nil), hostKind(structs.SessionImageLoad, nil),
		hostKind(structs.SessionImagePrune, nil),
		hostKind(structs.SessionImagePull, func(o *structs.SessionOffer) { o.Image = "x:1" }))
	refuses(errNoVolumes, hostKind(structs.SessionVolumeList, nil),
		hostKind(structs.SessionVolumeDelete, func(o *structs.SessionOffer) { o.ProjectID, o.Volume = "p", "v" }))
	refuses(errNoCredentials, hostKind(structs.SessionCredential, func(o *structs.SessionOffer) { o.ProjectID = "p" }))
	// A pod is left alone: an agent with another backend may have run it.
	s.assign(wantPod("b"), next(a, structs.DesiredStopped))
	s.is("a", structs.ContainerStopped)
	if all := fake.Seen.Containers(); len(all) != 1 {
		t.Errorf("containers are %v", all)
	}
	r.stop() // stop fails if the containers can't be removed
	if left := fake.Seen.Containers(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}
