package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// mirror makes the files below a directory equal to those of another one. Existing
// directories are kept, not created again.
func mirror(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) || d == nil || d.IsDir() {
			return nil
		}
		return os.Remove(path)
	})
	if err == nil {
		err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), 0o700)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), b, 0o600)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withAgent runs an agent with an in-memory engine until the test ends.
func (c *threeServers) withAgent(t *testing.T, fake *backendtest.Fake) {
	t.Helper()
	conf := agent.Config{DataDir: t.TempDir(), Name: "host-1", JoinToken: "join-token-of-the-tests", Backend: fake,
		Logger: hclog.NewNullLogger()}
	for _, m := range c.members {
		conf.Servers = append(conf.Servers, m.running().URL())
	}
	a, err := agent.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
}

// run creates a running container.
func (c *threeServers) run(t *testing.T, uuid, name string) *structs.ContainerBody {
	t.Helper()
	client := c.leader().client(t)
	request := &structs.ContainerRequest{UUID: uuid, Name: &name, Image: backendtest.Sleeper().Image}
	request.RestartPolicy.Name = structs.RestartAlways
	body, _, err := client.Containers().Create(t.Context(), request, api.CreateOptions{Run: true})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return body
}

func (c *threeServers) awaitStatus(t *testing.T, uuid string, want structs.ContainerStatus) {
	t.Helper()
	c.eventually(fmt.Sprintf("%s is %s", uuid, want), func() bool {
		row := c.leader().running().store.Snapshot().Container(uuid)
		return row != nil && row.Status() == want && row.Done()
	})
}

// quarantine returns the UUIDs in the quarantine of the only host, once the host's
// agent has reported all workloads.
func (c *threeServers) quarantine(t *testing.T) (uuids []string) {
	t.Helper()
	snap := c.leader().running().store.Snapshot()
	for row := range snap.List(structs.TableHosts, "", 0) {
		for _, page := range snap.Quarantine(row.Base().ID) {
			if page.Pending {
				return nil
			}
			for _, k := range page.Kept {
				if k.SpecHash != "" {
					uuids = append(uuids, k.ContainerID)
				}
			}
		}
	}
	slices.Sort(uuids)
	return uuids
}

// TestOlderDataQuarantinesNewerContainers: the data of all servers is copied,
// containers are created, and the copies are put back. The host keeps the containers
// that the servers no longer know and still follows the servers. host-adopt ends the
// quarantine either way.
func TestOlderDataQuarantinesNewerContainers(t *testing.T) {
	c := newThreeServers(t, oneLeader)
	fake := backendtest.NewFake()
	c.withAgent(t, fake)
	c.eventually("the host is there", func() bool { return c.leader().running().store.Snapshot().Hosts() == 1 })
	if _, _, err := c.leader().client(t).Bays().Create(t.Context(), &structs.BayRequest{Name: new("bay"), NodeCount: new(1)},
		api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	kept := c.run(t, "", "kept")
	c.awaitStatus(t, kept.UUID, structs.ContainerRunning)

	c.awaitSameState()
	halt(t, c.members...)
	backups := make([]string, len(c.members))
	for i, m := range c.members {
		backups[i] = t.TempDir()
		mirror(t, m.config.DataDir, backups[i])
	}
	for _, m := range c.members {
		m.start(t)
	}
	var later []string
	for n := range 12 {
		later = append(later, c.run(t, "", fmt.Sprint("later-", n)).UUID)
	}
	for _, id := range later {
		c.awaitStatus(t, id, structs.ContainerRunning)
	}
	slices.Sort(later)
	before := c.leader().running().store.Index()

	halt(t, c.members...)
	for i, m := range c.members {
		mirror(t, backups[i], m.config.DataDir)
		m.config.DataDirMoved = true // otherwise each refuses to start from a copy
	}
	for _, m := range c.members {
		m.start(t)
	}
	c.eventually("all that was made later is in quarantine", func() bool { return slices.Equal(c.quarantine(t), later) })
	if after := c.leader().running().store.Index(); after >= before {
		t.Errorf("the servers are at index %d, and were at %d: this shows nothing of an agent that is ahead", after, before)
	}
	untouched := func() {
		t.Helper()
		if n := len(fake.Seen.Containers()); n < len(later)+1 {
			t.Errorf("%d containers are left", n)
		}
		for _, id := range append([]string{kept.UUID}, later...) {
			ref := structs.ContainerRef(id, 1)
			if fake.Seen.Starts(ref) != 1 || fake.Seen.Stops(ref) != 0 {
				t.Errorf("%s was started %d and stopped %d times", id, fake.Seen.Starts(ref), fake.Seen.Stops(ref))
			}
		}
	}
	untouched()

	// The host follows the servers, and keeps the other containers.
	fresh := c.run(t, "", "fresh")
	c.awaitStatus(t, fresh.UUID, structs.ContainerRunning)
	c.awaitStatus(t, kept.UUID, structs.ContainerRunning)
	untouched()

	client := c.leader().client(t)
	h, _, err := client.Hosts().Get(t.Context(), "host-1", api.QueryOptions{Consistent: true})
	if err != nil || len(h.Quarantine) != len(later) || h.Quarantine[0].Name == nil {
		t.Fatalf("host-show: %v, %+v", err, h)
	}
	// A container whose row is restored is kept without a restart; the others are removed.
	again := later[0]
	name := ""
	for _, k := range h.Quarantine {
		if k.ContainerUUID == again {
			name = *k.Name
		}
	}
	if _, _, err := client.Hosts().Adopt(t.Context(), "host-1", again, false); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("kept without a row: %v", err)
	}
	c.run(t, again, name)
	if _, _, err := client.Hosts().Adopt(t.Context(), "host-1", again, false); err != nil {
		t.Errorf("keep: %v", err)
	}
	c.awaitStatus(t, again, structs.ContainerRunning)
	for _, id := range later[1:] {
		if _, _, err := client.Hosts().Adopt(t.Context(), "host-1", id, true); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	c.eventually("the quarantine is empty", func() bool {
		h, _, err := client.Hosts().Get(t.Context(), "host-1", api.QueryOptions{})
		return err == nil && len(h.Quarantine) == 0
	})
	ref := structs.ContainerRef(again, 1)
	if n := len(fake.Seen.Containers()); n != 3 || fake.Seen.Starts(ref) != 1 || fake.Seen.Stops(ref) != 0 {
		t.Errorf("%d containers are left; the one that is kept was started %d and stopped %d times", n, fake.Seen.Starts(ref),
			fake.Seen.Stops(ref))
	}
	c.awaitSameState()
}
