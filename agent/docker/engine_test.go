//go:build engine

package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/agent/docker/images"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

func TestMain(m *testing.M) {
	if err := dockertest.EnsureImage(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := dockertest.RemoveNetworks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func onEngine(t testing.TB) *Docker {
	t.Helper()
	d, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.engine.Negotiate(t.Context()); err != nil { // tests call the engine's client, too
		t.Fatal(err)
	}
	return d
}

func TestEngine(t *testing.T) {
	d := onEngine(t)
	backendtest.Suite(t, d)
	if f, err := d.Fingerprint(t.Context()); err != nil || f.Backend != structs.BackendDocker {
		t.Fatalf("the backend is %q, %v", f.Backend, err)
	}
}

// made creates a container in a project of its own and removes it at the end.
func made(t testing.TB, d *Docker, projectID string, spec *structs.ContainerSpec) (*backend.Container, backend.CreateRequest) {
	t.Helper()
	return madeBy(t, d, backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}, projectID, spec)
}

// madeBy is made with an owner.
func madeBy(t testing.TB, d *Docker, owner backend.Owner, projectID string, spec *structs.ContainerSpec) (*backend.Container,
	backend.CreateRequest) {
	t.Helper()
	req := backend.CreateRequest{
		Owner: owner,
		Ref:   structs.ContainerRef(structs.NewID(), 1), ProjectID: projectID, Name: "it", Spec: spec,
	}
	c, err := d.Create(t.Context(), req, func(string) {})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), c.EngineID); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return c, req
}

func TestSpecReachesTheEngine(t *testing.T) {
	d, project := onEngine(t), structs.NewID()
	stop := 3
	spec := &structs.ContainerSpec{
		Image: dockertest.Image, Command: []string{"sleep", "600"}, Environment: map[string]string{"B": "2", "A": "1"},
		Labels: map[string]string{"mine": "y"}, Workdir: "/tmp", User: "1000", Memory: 32 << 20, MilliCPU: 500,
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}, StopTimeout: &stop, TTY: true, Stdin: true, LogMaxSize: 1 << 20,
		Volumes: []structs.Mount{{Name: "data", Target: "/data"}, {Target: "/scratch", Size: 1 << 20}},
	}
	c, req := made(t, d, project, spec)
	t.Cleanup(func() {
		// Volumes outlive containers; this one is the test's.
		if err := d.Remove(context.Background(), c.EngineID); err != nil {
			t.Error(err)
		}
		if err := d.engine.Client.VolumeRemove(context.Background(),
			volumes.Key{Cluster: req.ClusterID, Project: project, Name: "data"}.EngineName(), false); err != nil {
			t.Error(err)
		}
	})
	raw, err := d.engine.Inspect(t.Context(), backend.NameOf(req.Ref))
	if err != nil {
		t.Fatal(err)
	}
	h, conf := raw.HostConfig, raw.Config
	for what, ok := range map[string]bool{
		"memory":   h.Memory == 32<<20 && h.MemorySwap == 32<<20,
		"cpu":      h.NanoCPUs == 5e8,
		"policy":   h.RestartPolicy.Name == container.RestartPolicyUnlessStopped,
		"log":      h.LogConfig.Type == "json-file" && h.LogConfig.Config["max-size"] == "1048576" && h.LogConfig.Config["max-file"] == "3",
		"stop":     conf.StopTimeout != nil && *conf.StopTimeout == 3,
		"hostname": conf.Hostname == req.ID,
		"env":      strings.Contains(strings.Join(conf.Env, " "), "A=1 B=2"),
		"tty":      conf.Tty && conf.OpenStdin,
		"user":     conf.User == "1000" && conf.WorkingDir == "/tmp",
		"label":    conf.Labels["mine"] == "y" && conf.Labels[backend.LabelHost] == req.HostID,
		"network":  string(h.NetworkMode) == networks.Name(networks.Key{Cluster: req.ClusterID, Project: project}),
		"mounts":   len(h.Mounts) == 2 && h.Mounts[0].Source == "mg-"+req.ClusterID[:8]+"-"+project+"-data",
	} {
		if !ok {
			t.Errorf("%s is not as asked for: %+v %+v", what, h, conf)
		}
	}
}

func TestNetworkComesAndGoesWithItsProject(t *testing.T) {
	d, project, owner := onEngine(t), structs.NewID(), backend.Owner{ClusterID: "c", HostID: "h"}
	var wait sync.WaitGroup
	ids := make(chan string, 6)
	for range 6 {
		wait.Go(func() {
			req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: structs.NewID()},
				Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: project, Spec: backendtest.Sleeper()}
			c, err := d.Create(t.Context(), req, func(string) {})
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			ids <- c.EngineID
		})
	}
	wait.Wait()
	close(ids)
	count := func() (n int) {
		all, err := d.engine.Client.NetworkList(t.Context(), network.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, net := range all {
			if net.Name == networks.Name(networks.Key{Cluster: "c", Project: project}) {
				n++
			}
		}
		return n
	}
	if n := count(); n != 1 {
		t.Fatalf("%d networks after six creates at once, want 1", n)
	}
	for id := range ids {
		if err := d.TidyNetworks(t.Context(), owner, true); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != 1 {
			t.Fatalf("%d networks while containers are left, want 1", n)
		}
		if err := d.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != 1 {
		t.Fatalf("%d networks after the last removal, want the one that is kept", n)
	}
	if err := d.TidyNetworks(t.Context(), owner, true); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Fatalf("%d networks after all were tidied up, want 0", n)
	}
}

func TestFailedCreateLeavesNoNetwork(t *testing.T) {
	d := onEngine(t)
	spec := backendtest.Sleeper()
	spec.Image, spec.PullPolicy = "magnum-test/none:1", structs.PullNever
	req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Ref: structs.ContainerRef(structs.NewID(), 1),
		ProjectID: structs.NewID(), Spec: spec}
	if _, err := d.Create(t.Context(), req, func(string) {}); !errors.Is(err, backend.ErrNoImage) {
		t.Fatalf("create: %v", err)
	}
	if _, err := d.engine.Client.NetworkInspect(t.Context(), networks.Name(networks.Key{Cluster: "c", Project: req.ProjectID}),
		network.InspectOptions{}); err == nil {
		t.Fatal("the project's network is left")
	}
}

func TestRemovedNetworkIsMadeAgain(t *testing.T) {
	d, project := onEngine(t), structs.NewID()
	c, req := made(t, d, project, backendtest.Sleeper())
	if err := d.engine.Client.NetworkRemove(t.Context(),
		networks.Name(networks.Key{Cluster: req.ClusterID, Project: project})); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatalf("start without its network: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	d, project := onEngine(t), structs.NewID()
	spec := backendtest.Sleeper()
	spec.Ports = []structs.Port{{ContainerPort: 80, Protocol: "tcp"}}
	first, _ := made(t, d, project, spec)
	if err := d.Start(t.Context(), first.EngineID); err != nil {
		t.Fatal(err)
	}
	now, err := d.Inspect(t.Context(), first.EngineID)
	if err != nil || len(now.Ports) != 1 {
		t.Fatalf("ports are %v, %v", now.Ports, err)
	}
	again := backendtest.Sleeper()
	again.Ports = now.Ports
	second, _ := made(t, d, project, again)
	if err := d.Start(t.Context(), second.EngineID); !errors.Is(err, backend.ErrPortTaken) {
		t.Fatalf("start on a taken port gives %v", err)
	}
}

func TestContainerOfAnotherWithTheNameIsLeftAlone(t *testing.T) {
	d := onEngine(t)
	ref := structs.ContainerRef(structs.NewID(), 1)
	foreign, err := d.engine.Client.ContainerCreate(t.Context(), &container.Config{Image: dockertest.Image}, nil, nil, nil,
		backend.NameOf(ref))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.engine.Client.ContainerRemove(context.Background(), foreign.ID, container.RemoveOptions{Force: true})
	})
	req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: structs.NewID()}, Ref: ref, ProjectID: structs.NewID(),
		Spec: backendtest.Sleeper()}
	_, err = d.Create(t.Context(), req, func(string) {})
	if !errors.Is(err, backend.ErrNameTaken) || !strings.Contains(err.Error(), backend.NameOf(ref)) {
		t.Fatalf("create under a taken name gives %v", err)
	}
	if _, err := d.engine.Inspect(t.Context(), foreign.ID); err != nil {
		t.Fatalf("the other container: %v", err)
	}
}

// nowhere returns a request for an image in a registry where nothing listens.
func nowhere() backend.CreateRequest {
	spec := backendtest.Sleeper()
	spec.Image = "127.0.0.1:1/none-" + structs.NewID() + ":1"
	return backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: structs.NewID()},
		Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: structs.NewID(), Spec: spec}
}

// TestRegistryAway: the registry is asked a few times, once for all who wait, and the pull
// fails soon.
func TestRegistryAway(t *testing.T) {
	d, req := onEngine(t), nowhere()
	began := time.Now()
	var mu sync.Mutex
	said := make(map[string]bool)
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			mine := req
			mine.ID = structs.NewID()
			_, err := d.Create(t.Context(), mine, func(s string) {
				mu.Lock()
				defer mu.Unlock()
				said[s] = true
			})
			if !errors.Is(err, backend.ErrNoImage) || !strings.Contains(err.Error(), req.Spec.Image) ||
				!strings.Contains(err.Error(), "registry can be reached") {
				t.Errorf("create ends with %v", err)
			}
		})
	}
	wait.Wait()
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the answer took %s", took)
	}
	if len(said) != images.Attempts { // the first sentence, and one for each failure but the last
		t.Errorf("%d different sentences for one fetch, want %d: %v", len(said), images.Attempts, said)
	}
	if n := d.Images.(*images.Images).Pulling(); n != 0 {
		t.Errorf("%d pulls are left", n)
	}
}

func TestPullEndsWithItsLastWaiter(t *testing.T) {
	d, req := onEngine(t), nowhere()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.Create(ctx, req, func(s string) {
		if strings.Contains(s, "attempt 1 failed") {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("create ends with %v", err)
	}
	if n := d.Images.(*images.Images).Pulling(); n != 0 {
		t.Errorf("%d pulls are left", n)
	}
}

// TestImageLoadedMeanwhile: an image that somebody tags while its registry is away serves
// the create in progress, and is reported as an event.
func TestImageLoadedMeanwhile(t *testing.T) {
	d, req := onEngine(t), nowhere()
	t.Cleanup(func() {
		_, _ = d.engine.Client.ImageRemove(context.Background(), req.Spec.Image, image.RemoveOptions{})
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	came := make(chan struct{}, 1)
	ready := make(chan struct{})
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		_ = d.Events(ctx, req.Owner, func() { close(ready) }, func(e backend.Event) {
			if e.Kind == backend.EventImage && backend.SameImage(e.Image, req.Spec.Image) {
				came <- struct{}{}
				cancel()
			}
		})
	})
	<-ready
	var once sync.Once
	c, err := d.Create(t.Context(), req, func(s string) {
		if strings.Contains(s, "attempt 1 failed") {
			once.Do(func() {
				if err := d.engine.Client.ImageTag(t.Context(), dockertest.Image, req.Spec.Image); err != nil {
					t.Error(err)
				}
			})
		}
	})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := d.Remove(t.Context(), c.EngineID); err != nil {
		t.Error(err)
	}
	<-ctx.Done()
	select {
	case <-came:
	default:
		t.Error("no event told of the image")
	}
}

func TestCommandOfALeftSessionEnds(t *testing.T) {
	d := onEngine(t)
	c, _ := made(t, d, structs.NewID(), backendtest.Sleeper())
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Exec(ctx, c.EngineID, structs.ExecRequest{Command: []string{"sh", "-c", "echo on; sleep 4242"}},
		backend.ExecStreams{Stdout: onWrite(cancel), Stderr: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("exec ends with %v", err)
	}
	var out bytes.Buffer
	if _, err := d.Exec(t.Context(), c.EngineID, structs.ExecRequest{Command: []string{"ps"}},
		backend.ExecStreams{Stdout: &out, Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "echo on") {
		t.Fatalf("the command still runs:\n%s", &out)
	}
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestEngineAway(t *testing.T) {
	d, err := New(Config{Host: "unix://" + t.TempDir() + "/none.sock"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.List(t.Context(), backend.Owner{}); !errors.Is(err, backend.ErrAway) {
		t.Errorf("list: %v", err)
	}
	if err := d.Start(t.Context(), "x"); !errors.Is(err, backend.ErrAway) {
		t.Errorf("start: %v", err)
	}
	if err := d.Events(t.Context(), backend.Owner{}, func() {}, func(backend.Event) {}); !errors.Is(err, backend.ErrAway) {
		t.Errorf("events: %v", err)
	}
}

// TestOneOfDuplicateNetworksIsLeft: two agents that make a project's network at the same time
// get two of one name, which the engine then refuses.
func TestOneOfDuplicateNetworksIsLeft(t *testing.T) {
	d, project, owner := onEngine(t), structs.NewID(), backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
	double := func() {
		t.Helper()
		// The client's own call would make newer engines look for duplicates.
		body := fmt.Sprintf(`{"Name":%q,"Driver":"bridge","Labels":{%q:%q,%q:%q}}`,
			networks.Name(networks.Key{Cluster: owner.ClusterID, Project: project}),
			backend.LabelProject, project, backend.LabelCluster, owner.ClusterID)
		resp, err := d.engine.Client.HTTPClient().Post("http://docker/v1.40/networks/create", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("making a network of the same name: %s", resp.Status)
		}
	}
	count := func() int {
		t.Helper()
		list, err := d.engine.Client.NetworkList(t.Context(),
			network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject+"="+project))})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	double()
	double()
	c, _ := madeBy(t, d, owner, project, backendtest.Sleeper()) // created before the duplicates were found
	if n := count(); n != 1 {
		t.Errorf("%d networks after a create, want 1", n)
	}
	double()
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatalf("start: %v", err)
	}
	double()
	second, _ := madeBy(t, d, owner, project, backendtest.Sleeper())
	if err := d.Start(t.Context(), second.EngineID); err != nil {
		t.Fatalf("start: %v", err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d networks, want the one that is in use", n)
	}
	if info, err := d.Inspect(t.Context(), c.EngineID); err != nil || info.State != backend.StateRunning || len(info.Addresses) == 0 {
		t.Errorf("the container that used one of them: %+v, %v", info, err)
	}
	double()
	for _, id := range []string{c.EngineID, second.EngineID} {
		if err := d.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.TidyNetworks(t.Context(), owner, true); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d networks after all were tidied up, want 0", n)
	}
}

// TestMountsThatCantBe: what structs.CheckTarget allows below /dev and /etc runs, and the error
// of another mount that fails names no path of the host.
func TestMountsThatCantBe(t *testing.T) {
	d := onEngine(t)
	owner, project := testOwner(), "p-"+structs.NewID()
	spec := backendtest.Sleeper()
	for _, target := range []string{"/dev/shm", "/dev/shm/x", "/dev/mqueue", "/dev/hugepages", "/etc"} {
		if why := structs.CheckTarget(target); why != "" {
			t.Errorf("%s %s", target, why)
		}
		spec.Volumes = []structs.Mount{{Type: structs.MountTmpfs, Target: target}}
		c, _ := madeBy(t, d, owner, project, spec)
		if err := d.Start(t.Context(), c.EngineID); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	spec.Volumes = []structs.Mount{{Type: structs.MountTmpfs, Target: "/etc/passwd"}}
	c, _ := madeBy(t, d, owner, project, spec)
	err := d.Start(t.Context(), c.EngineID)
	if err == nil {
		t.Fatal("a directory was mounted over a file")
	}
	raw, inspectErr := d.engine.Inspect(t.Context(), c.EngineID)
	if inspectErr != nil {
		t.Fatal(inspectErr)
	}
	for _, text := range []string{err.Error(), containerOf(raw).Error} {
		if strings.Contains(text, "/var/lib") || strings.Contains(text, "/proc/") || !strings.Contains(text, "/etc/passwd") {
			t.Errorf("the error is %q", text)
		}
	}
}
