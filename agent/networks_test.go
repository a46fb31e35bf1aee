package agent

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestHostWithoutANetworkLeft: the container is refused, so that it is placed
// elsewhere, and the host reports when it has room again.
func TestHostWithoutANetworkLeft(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	fake.Outside.LimitNetworks(1)
	a, b := want("a", 1, structs.DesiredRunning), want("b", 1, structs.DesiredRunning)
	b.ProjectID = "other"
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	full := func() *bool { // the last report
		var last *bool
		for _, r := range s.reports {
			if r.NetworksFull != nil {
				last = r.NetworksFull
			}
		}
		return last
	}
	s.assign(b)
	s.eventually("b is refused", func() bool {
		reported := s.reported["b"]
		return reported.Refused && reported.Failed && reported.Reason != "" && full() != nil && *full()
	})
	if s.reported["a"].Refused {
		t.Error("the one that runs is refused, too")
	}
	// The servers take b away and remove a, whose network makes room.
	b.Desired, a.Desired, a.Generation = structs.DesiredAbsent, structs.DesiredAbsent, 2
	s.assign(a, b)
	s.eventually("b is gone", func() bool { return s.reported["b"].Status == structs.ContainerGone })
	s.eventually("there is room again", func() bool { return !*full() })
	b.Desired, b.Epoch = structs.DesiredRunning, 2
	s.assign(b)
	s.is("b", structs.ContainerRunning)
}

// TestNetworksGoWithTheBay: networks stay after their last container, and are removed
// once the host leaves its bay.
func TestNetworksGoWithTheBay(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	bay := "b1"
	s.bay = &bay
	dir := t.TempDir()
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	r := runAgent(t, dir, fake, nil, s)
	s.is("a", structs.ContainerRunning)
	a.Desired, a.Generation = structs.DesiredAbsent, 2
	s.assign(a)
	s.is("a", structs.ContainerGone)
	r.stop()
	// The agent knows its bay after a restart.
	r = runAgent(t, dir, fake, nil, s)
	polls := s.polled()
	s.eventually("the agent follows", func() bool { return len(s.polls) > polls+1 })
	if n := fake.Seen.Networks(); n != 1 {
		t.Fatalf("%d networks while the host is in its bay, want the one that is kept", n)
	}
	s.change(func() { s.bay = new(string) })
	s.eventually("the network has gone", func() bool { return fake.Seen.Networks() == 0 })
	r.stop()
}

func TestServerAddrs(t *testing.T) {
	s := &serverAddrs{list: func() []string {
		return []string{"http://10.1.2.3:9511", "https://[::1]:9511", "http://[::ffff:10.1.2.4]:9511", "http://localhost:9511", "://"}
	}}
	got := s.addrs()
	for _, want := range []string{"10.1.2.3", "::1", "10.1.2.4", "127.0.0.1"} {
		if !slices.Contains(got, netip.MustParseAddr(want)) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
}
