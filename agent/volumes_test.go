package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// volumesOf returns the names of a cluster's volumes on the engine.
func volumesOf(t *testing.T, fake *backendtest.Fake, cluster string) string {
	t.Helper()
	list, err := fake.ListVolumes(t.Context(), cluster, "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestEarlierVolumesAreClaimedOnce: by the agent of an existing host, however long the
// engine is away; never by that of a new host.
func TestEarlierVolumesAreClaimedOnce(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	runningHost(t, s, fake, dir)
	// The data directory is that of an earlier agent.
	if err := os.Remove(filepath.Join(dir, fileVolumes)); err != nil {
		t.Fatal(err)
	}
	fake.Outside.AddVolume("p", "data")

	other := newFakeServer(t)
	other.cluster = "c2"
	r := runAgent(t, t.TempDir(), fake, nil, other)
	other.eventually("the other cluster's agent works", func() bool { return len(other.polls) > 0 })
	r.stop()
	if got := volumesOf(t, fake, "c2"); got != "" {
		t.Fatalf("a new agent has claimed %s", got)
	}

	fake.Fault = func(op string, _ structs.Ref) error {
		if op == "volume claim" {
			return &backend.Failure{Reason: backend.ErrAway, Msg: "away"}
		}
		return nil
	}
	s.mu.Lock()
	polls := len(s.polls)
	s.mu.Unlock()
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("registered", func() bool { return len(s.registers) == 2 })
	r.stop()
	if len(s.polls) != polls {
		t.Error("it works before the volumes are claimed")
	}
	fake.Fault = nil
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("it works", func() bool { return len(s.polls) > polls })
	r.stop()
	if got := volumesOf(t, fake, "c1"); got != "data" {
		t.Fatalf("it has claimed %q", got)
	}

	// Later volumes without a cluster are not claimed.
	fake.Outside.AddVolume("p", "late")
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("it works again", func() bool { return len(s.registers) == 4 && s.polls[len(s.polls)-1].registration == "4" })
	r.stop()
	if got := volumesOf(t, fake, "c1"); got != "data" {
		t.Fatalf("it has claimed %q", got)
	}
}

// TestSessionsSeeTheirClustersVolumes: a user's list and delete reach no other
// cluster's volumes.
func TestSessionsSeeTheirClustersVolumes(t *testing.T) {
	s, fake := newFakeServer(t), fakeEngine("E1")
	spec := backendtest.Sleeper()
	spec.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: "data", Target: "/data"}}
	add := func(cluster, id string) {
		owner := backend.Owner{ClusterID: cluster, HostID: structs.NewID()}
		fake.Outside.Add(backend.CreateRequest{Owner: owner, Ref: structs.ContainerRef(id, 1), ProjectID: "p", Spec: spec})
		fake.Outside.Remove(structs.ContainerRef(id, 1))
	}
	add("another", "x")
	r := runAgent(t, t.TempDir(), fake, nil, s)
	s.eventually("registered", func() bool { return len(s.polls) > 0 })
	list := func(sid string) string {
		t.Helper()
		return listen(t, s.offer(structs.SessionOffer{SID: sid, Kind: structs.SessionVolumeList, ProjectID: "p"})).stdout
	}
	if got := list("1"); strings.Contains(got, "data") {
		t.Errorf("listed is %s", got)
	}
	gone := listen(t, s.offer(structs.SessionOffer{SID: "2", Kind: structs.SessionVolumeDelete, ProjectID: "p", Volume: "data"}))
	if gone.last.Error == "" || volumesOf(t, fake, "another") != "data" {
		t.Errorf("a delete says %+v, and the other cluster has %q", gone.last, volumesOf(t, fake, "another"))
	}
	add("c1", "y")
	if got := list("3"); strings.Count(got, `"data"`) != 1 {
		t.Errorf("listed is %s", got)
	}
	r.stop()
}
