//go:build engine

package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/agent/docker/infra"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

// enginePod is a pod on the engine. It is removed at the end of the test.
type enginePod struct {
	testing.TB
	d     *Docker
	owner backend.Owner
	ref   structs.Ref
	proj  string
	names *backend.Names // of what is made next
}

func newEnginePod(t testing.TB, d *Docker) *enginePod {
	p := &enginePod{TB: t, d: d, owner: backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()},
		ref: structs.Ref{Kind: structs.WorkloadPod, ID: structs.NewID(), Epoch: 1}, proj: structs.NewID()}
	t.Cleanup(func() {
		p.removeAll()
		if err := d.DropVolumes(context.Background(), p.owner, p.ref); err != nil {
			t.Error(err)
		}
	})
	return p
}

// removeAll removes the pod's containers.
func (p *enginePod) removeAll() {
	entries, err := p.d.List(context.Background(), p.owner)
	if err != nil {
		p.Error(err)
	}
	for _, e := range entries {
		if err := p.d.Remove(context.Background(), e.EngineID); err != nil {
			p.Error(err)
		}
	}
}

// made creates a part.
func (p *enginePod) made(name string, part backend.PodPart, spec *structs.ContainerSpec) *backend.Container {
	p.Helper()
	part.Attempt = 1
	req := backend.CreateRequest{Owner: p.owner, Ref: p.ref, ProjectID: p.proj, Name: "web", Spec: spec, Pod: &part, Names: p.names}
	req.Part = name
	c, err := p.d.Create(context.Background(), req, func(string) {})
	if err != nil {
		p.Fatalf("create of %s: %v", name, err)
	}
	return c
}

// started creates and starts a part.
func (p *enginePod) started(name string, part backend.PodPart, spec *structs.ContainerSpec) *backend.Container {
	p.Helper()
	c := p.made(name, part, spec)
	if err := p.d.Start(context.Background(), c.EngineID); err != nil {
		p.Fatalf("start of %s: %v", name, err)
	}
	now, err := p.d.Inspect(context.Background(), c.EngineID)
	if err != nil {
		p.Fatal(err)
	}
	return now
}

// run executes a script in a container and returns its output.
func (p *enginePod) run(c *backend.Container, script string) string {
	p.Helper()
	var out bytes.Buffer
	code, err := p.d.Exec(context.Background(), c.EngineID, structs.ExecRequest{Command: []string{"sh", "-c", script}},
		backend.ExecStreams{Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		p.Fatalf("%s: %d, %v: %s", script, code, err, &out)
	}
	return out.String()
}

func (p *enginePod) raw(c *backend.Container) container.InspectResponse {
	p.Helper()
	raw, err := p.d.engine.Inspect(context.Background(), c.EngineID)
	if err != nil {
		p.Fatal(err)
	}
	return raw
}

func TestPodReachesTheEngine(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	group, user := int64(2000), int64(1000)
	spec := &structs.ContainerSpec{Hostname: "web-0", Ports: []structs.Port{{ContainerPort: 80, HostPort: 0, Protocol: "tcp"}},
		Exclusive: structs.ExclusiveLease, Labels: map[string]string{"app": "web"}}
	p.names = &backend.Names{Servers: []string{"10.9.9.9"}, Search: []string{"svc.local"}}
	in := p.started(structs.PodInfra, backend.PodPart{FSGroup: &group,
		HostAliases: []structs.HostAlias{{IP: "10.1.2.3", Names: []string{"db", "db.local"}}, {IP: "::1", Names: []string{"six"}}}}, spec)
	raw := p.raw(in)
	nets, err := d.ProjectNetworks(t.Context(), p.owner)
	if err != nil || len(nets) != 1 || nets[0].ProjectID != p.proj {
		t.Fatalf("its networks are %+v, %v", nets, err)
	}
	gateway := nets[0].Gateway.Addr().String()
	if i, err := net.InterfaceByName(nets[0].Bridge); err != nil {
		t.Error(err)
	} else if addrs, err := i.Addrs(); err != nil || len(addrs) == 0 || addrs[0].String() != nets[0].Gateway.String() {
		t.Errorf("%s has %v, %v; want %s", nets[0].Bridge, addrs, err, nets[0].Gateway)
	}
	for what, ok := range map[string]bool{
		"network":  string(raw.HostConfig.NetworkMode) == networks.Name(networks.Key{Cluster: p.owner.ClusterID, Project: p.proj}),
		"ipc":      raw.HostConfig.IpcMode == container.IPCModeShareable,
		"restart":  raw.HostConfig.RestartPolicy.IsNone() && raw.HostConfig.RestartPolicy.MaximumRetryCount == 0,
		"hostname": raw.Config.Hostname == "web-0",
		"ports":    len(in.Ports) == 1 && in.Ports[0].HostPort != 0,
		"lease":    in.Lease && raw.Config.Labels["app"] == "web",
		"labels":   raw.Config.Labels[backend.LabelAttempt] == "1" && raw.Config.Labels[backend.LabelPart] == structs.PodInfra,
		"caps":     len(raw.HostConfig.CapAdd) == 0 && len(raw.HostConfig.CapDrop) == 1,
		"names":    len(raw.HostConfig.DNS) == 2 && raw.HostConfig.DNS[0] == gateway && raw.HostConfig.DNS[1] == "10.9.9.9",
	} {
		if !ok {
			t.Errorf("%s of the infra container is not as asked for: %+v %+v", what, raw.HostConfig, raw.Config)
		}
	}
	web := backendtest.Sleeper()
	web.Hostname, web.Ports = "ignored", spec.Ports // these belong to the infra container
	web.MilliCPU, web.Stdin, web.RestartPolicy.Name = 64_000, true, structs.RestartAlways
	part := backend.PodPart{Infra: in.EngineID, SharePID: true, FSGroup: &group, StdinOnce: true,
		Security: structs.PodSecurity{RunAsUser: &user, RunAsGroup: &group, NoNewPrivs: true, ReadOnlyRoot: true,
			DropCaps: []string{"NET_RAW"}}}
	one := p.started("web", part, web)
	raw = p.raw(one)
	shared := "container:" + in.EngineID
	for what, ok := range map[string]bool{
		"network":     string(raw.HostConfig.NetworkMode) == shared,
		"ipc":         string(raw.HostConfig.IpcMode) == shared,
		"pid":         string(raw.HostConfig.PidMode) == shared,
		"restart":     raw.HostConfig.RestartPolicy.IsNone(),
		"cpu":         one.MilliCPU == 64_000,
		"stdin":       raw.Config.OpenStdin && raw.Config.StdinOnce,
		"healthcheck": raw.Config.Healthcheck != nil && raw.Config.Healthcheck.Test[0] == "NONE",
		"group":       slices.Equal(raw.HostConfig.GroupAdd, []string{"2000"}),
		"user":        raw.Config.User == "1000:2000",
		"security": slices.Contains(raw.HostConfig.SecurityOpt, "no-new-privileges") && raw.HostConfig.ReadonlyRootfs &&
			len(raw.HostConfig.CapDrop) == 1,
	} {
		if !ok {
			t.Errorf("%s of a part is not as asked for: %+v %+v", what, raw.HostConfig, raw.Config)
		}
	}
	hosts := p.run(one, "cat /etc/hosts")
	for _, want := range []string{"10.1.2.3\tdb\n", "10.1.2.3\tdb.local\n", "::1\tsix\n", "web-0\n"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("/etc/hosts has no line %q:\n%s", want, hosts)
		}
	}
	if got := p.run(one, "cat /etc/resolv.conf"); !strings.Contains(got, "search svc.local") {
		t.Errorf("/etc/resolv.conf is\n%s", got)
	}
	if got := p.run(one, "id"); !strings.Contains(got, "uid=1000 gid=2000 groups=2000") {
		t.Errorf("it runs as %s", got)
	}
	if n, err := d.engine.Client.NetworkInspect(t.Context(), networks.Name(networks.Key{Cluster: p.owner.ClusterID, Project: p.proj}),
		network.InspectOptions{}); err != nil || len(n.Containers) != 1 {
		t.Errorf("the network has %d containers, %v; want infra alone", len(n.Containers), err)
	}
	// The network goes with the infra container, whatever else is left.
	if err := d.Remove(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	if err := d.TidyNetworks(t.Context(), p.owner, true); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Inspect(t.Context(), one.EngineID); err != nil || now.Infra != in.EngineID {
		t.Errorf("without its infra container a part is %+v, %v", now, err)
	}
}

// TestPodsReuseTheUserOfTheImage: runAsGroup alone keeps the image's user.
func TestPodsReuseTheUserOfTheImage(t *testing.T) {
	d := onEngine(t)
	name := "magnum-test/user:" + structs.NewID()
	base, err := d.engine.Client.ContainerCreate(t.Context(), &container.Config{Image: dockertest.Image}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	made, err := d.engine.Client.ContainerCommit(t.Context(), base.ID,
		container.CommitOptions{Reference: name, Config: &container.Config{User: "1234:9"}})
	if err := errors.Join(err, d.Remove(t.Context(), base.ID)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := d.engine.Client.ImageRemove(context.Background(), made.ID, image.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{})
	group := int64(77)
	spec := backendtest.Sleeper()
	spec.Image = name
	c := p.made("web", backend.PodPart{Infra: in.EngineID, Security: structs.PodSecurity{RunAsGroup: &group, RunAsNonRoot: true}}, spec)
	if got := p.raw(c).Config.User; got != "1234:77" {
		t.Errorf("its user is %q", got)
	}
	c = p.made("log", backend.PodPart{Infra: in.EngineID, Security: structs.PodSecurity{RunAsNonRoot: true}}, spec)
	if got := p.raw(c).Config.User; got != "1234:9" {
		t.Errorf("its user is %q", got)
	}
}

// TestPodFromACommitOfItself: a new attempt may be made from a commit of the last one. It
// is magnum's, and a container that somebody runs from the commit is a copy.
func TestPodFromACommitOfItself(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{})
	first := p.made("web", backend.PodPart{Infra: in.EngineID}, backendtest.Sleeper())
	name := "magnum-test/commit:" + structs.NewID()
	commit, err := d.engine.Client.ContainerCommit(t.Context(), first.EngineID, container.CommitOptions{Reference: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.removeAll()
		if _, err := d.engine.Client.ImageRemove(context.Background(), commit.ID, image.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	spec := backendtest.Sleeper()
	spec.Image = name
	req := backend.CreateRequest{Owner: p.owner, Ref: first.Ref, ProjectID: p.proj, Spec: spec,
		Pod: &backend.PodPart{Attempt: 2, Infra: in.EngineID}}
	made := make(map[string]bool) // whether it is a copy
	for range 2 {
		c, err := d.Create(t.Context(), req, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		made[c.EngineID] = false
	}
	ran, err := d.engine.Client.ContainerCreate(t.Context(), &container.Config{Image: name}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	made[first.EngineID], made[in.EngineID], made[ran.ID] = false, false, true
	entries, err := d.List(t.Context(), p.owner)
	if err != nil || len(entries) != len(made) {
		t.Fatalf("listed are %+v, %v", entries, err)
	}
	for _, e := range entries {
		now, err := d.Inspect(t.Context(), e.EngineID)
		if err != nil || e.Inherited != made[e.EngineID] || now.Inherited != e.Inherited {
			t.Errorf("%+v is %+v, %v", e, now, err)
		}
	}
}

// TestPodVolumesBelongToTheGroup looks at owners and modes of all kinds of volumes, with
// and without fsGroup.
func TestPodVolumesBelongToTheGroup(t *testing.T) {
	d := onEngine(t)
	group, user := int64(2000), int64(1000)
	for _, fsGroup := range []*int64{nil, &group} {
		p := newEnginePod(t, d)
		p.Cleanup(func() {
			p.removeAll()
			if err := d.RemoveVolume(context.Background(), p.owner.ClusterID, p.proj, "data"); err != nil {
				t.Error(err)
			}
		})
		part := backend.PodPart{FSGroup: fsGroup, Volumes: []structs.PodVolume{
			{Name: "disk"}, {Name: "mem", Memory: true, Size: 1 << 20}, {Name: "claim", Claim: "data"}}}
		in := p.started(structs.PodInfra, part, &structs.ContainerSpec{})
		part.Infra, part.Security.RunAsUser = in.EngineID, &user
		for _, v := range part.Volumes {
			part.Mounts = append(part.Mounts, structs.PodMount{Volume: v.Name, Path: "/" + v.Name})
		}
		c := p.started("web", part, backendtest.Sleeper())
		want := map[string]string{"/disk": "777 0 0", "/mem": "777 0 0", "/claim": "755 0 0"}
		if fsGroup != nil {
			want = map[string]string{"/disk": "2777 0 2000", "/mem": "2777 0 2000", "/claim": "2775 0 2000"}
		}
		for at, want := range want {
			if got := strings.TrimSpace(p.run(c, "stat -c '%a %u %g' "+at)); got != want {
				t.Errorf("%s is %s, want %s", at, got, want)
			}
			if at == "/claim" && fsGroup == nil {
				continue
			}
			owner := "1000 0"
			if fsGroup != nil {
				owner = "1000 2000"
			}
			if got := strings.TrimSpace(p.run(c, "echo x > "+at+"/f && stat -c '%u %g' "+at+"/f")); got != owner {
				t.Errorf("a file in %s belongs to %s, want %s", at, got, owner)
			}
		}
		if got := p.run(c, "df -k /mem | tail -1"); !strings.Contains(got, "tmpfs") || !strings.Contains(got, " 1024 ") {
			t.Errorf("the volume in memory is %s", got)
		}
		list, err := d.engine.Client.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(
			filters.Arg("label", volumes.PodLabel), filters.Arg("label", backend.LabelHost+"="+p.owner.HostID))})
		if err != nil || len(list.Volumes) != 2 {
			t.Errorf("volumes of the pod are %+v, %v", list.Volumes, err)
		}
	}
}

// TestPodVolumesAreOpenedByTheNextAgent: an agent that died after it had created an infra
// container has not set the modes of its volumes. The next one does so before the start.
func TestPodVolumesAreOpenedByTheNextAgent(t *testing.T) {
	d, next := onEngine(t), onEngine(t)
	p := newEnginePod(t, d)
	part := backend.PodPart{Volumes: []structs.PodVolume{{Name: "disk"}, {Name: "mem", Memory: true}}}
	in := p.made(structs.PodInfra, part, &structs.ContainerSpec{})
	if err := next.Start(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	part.Infra, part.Mounts = in.EngineID, []structs.PodMount{{Volume: "disk", Path: "/disk"}}
	web := p.made("web", part, backendtest.Sleeper())
	if err := next.Start(t.Context(), web.EngineID); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(p.run(web, "stat -c '%a' /disk")); got != "777" {
		t.Errorf("the mode of the volume is %s", got)
	}
	// A second start of the infra container changes nothing that the pod has changed.
	p.run(web, "chmod 700 /disk")
	if err := next.Kill(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	if err := next.Start(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(p.run(web, "stat -c '%a' /disk")); got != "700" {
		t.Errorf("after another start of the infra container, the mode of the volume is %s", got)
	}
}

// TestInfraImage: the image is made when it is missing, or when its name is another
// image's, and magnum neither lists nor removes it.
func TestInfraImage(t *testing.T) {
	d := onEngine(t)
	_, _ = d.engine.Client.ImageRemove(t.Context(), infra.Name, image.RemoveOptions{Force: true})
	if err := d.engine.Client.ImageTag(t.Context(), dockertest.Image, infra.Name); err != nil {
		t.Fatal(err)
	}
	if err := d.FetchImage(t.Context(), &structs.ContainerSpec{}, nil, func(string) {}); err != nil {
		t.Fatal(err)
	}
	raw, err := d.engine.Client.ImageInspect(t.Context(), infra.Name)
	if err != nil || !isInfra(raw) || raw.Size > 1024 {
		t.Fatalf("the image is %+v, %v", raw, err)
	}
	list, err := d.ListImages(t.Context())
	if err != nil || slices.ContainsFunc(list, func(i structs.Image) bool { return i.ID == raw.ID }) || len(list) == 0 {
		t.Fatalf("listed are %+v, %v", list, err)
	}
	if n := slices.IndexFunc(list, func(i structs.Image) bool { return slices.Contains(i.Names, dockertest.Image) }); n < 0 ||
		slices.Contains(list[n].Names, infra.Name) {
		t.Errorf("the other image is not listed, or keeps the name: %+v", list)
	}
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{})
	if in.ImageID != raw.ID {
		t.Errorf("it is made from %s, want %s", in.ImageID, raw.ID)
	}
	// Somebody removes the image after the backend has seen it.
	if err := d.Remove(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.Client.ImageRemove(t.Context(), raw.ID, image.RemoveOptions{Force: true}); err != nil {
		t.Skipf("somebody else's pods use the image: %v", err)
	}
	if again := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{}); again.ImageID != raw.ID {
		t.Errorf("it is made from %s, want the same image again, %s", again.ImageID, raw.ID)
	}
}

// TestInfraOfAnotherImage: infra_image is an image as any other.
func TestInfraOfAnotherImage(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, backendtest.Sleeper())
	c := p.started("web", backend.PodPart{Infra: in.EngineID}, backendtest.Sleeper())
	if raw := p.raw(in); raw.Config.Image != dockertest.Image || !c.Live() {
		t.Errorf("it is made from %s; a part is %+v", raw.Config.Image, c)
	}
}

// TestInfraAsProcessOne: in a pod whose containers share their processes, it reaps what
// has lost its parent. It needs little memory.
func TestInfraAsProcessOne(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{})
	c := p.started("web", backend.PodPart{Infra: in.EngineID, SharePID: true}, backendtest.Sleeper())
	if got := p.run(c, "cat /proc/1/comm"); got != "infra\n" {
		t.Fatalf("process 1 is %q", got)
	}
	p.run(c, "(sleep 0.1 & sleep 0.1 & sleep 0.1 &)")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ps := p.run(c, "ps -o stat,comm")
		if !strings.Contains(ps, "Z") && strings.Count(ps, "sleep") == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes are not reaped:\n%s", ps)
		}
	}
	var stats structs.StatsBody
	if err := d.Stats(t.Context(), in.EngineID, false, func(s structs.StatsBody) error { stats = s; return nil }); err != nil {
		t.Fatal(err)
	}
	t.Logf("an infra container uses %d KiB", stats.MemoryUsed>>10)
	if stats.MemoryUsed > 2<<20 || stats.PIDs != 1 {
		t.Errorf("an infra container uses %d bytes in %d processes", stats.MemoryUsed, stats.PIDs)
	}
}

// TestPodAddressIsReachable: the agent reaches a pod's ports at its address.
func TestPodAddressIsReachable(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	in := p.started(structs.PodInfra, backend.PodPart{}, &structs.ContainerSpec{})
	spec := backendtest.Sleeper()
	spec.Command = []string{"nc", "-ll", "-p", "7001", "-e", "echo", "hello"}
	p.started("web", backend.PodPart{Infra: in.EngineID}, spec)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(in.Addresses[0], "7001"), time.Second)
		if err == nil {
			got, err := io.ReadAll(conn)
			if conn.Close(); string(got) != "hello\n" {
				t.Fatalf("it answers %q, %v", got, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestVolumeOfAPodInUse: the failure names who mounts it.
func TestVolumeOfAPodInUse(t *testing.T) {
	d := onEngine(t)
	p := newEnginePod(t, d)
	p.made(structs.PodInfra, backend.PodPart{Volumes: []structs.PodVolume{{Name: "disk"}}}, &structs.ContainerSpec{})
	name := volumes.PodKey{Owner: p.owner, Pod: p.ref, Name: "disk"}.EngineName()
	other, err := d.engine.Client.ContainerCreate(t.Context(), &container.Config{Image: dockertest.Image},
		&container.HostConfig{Binds: []string{name + ":/x"}}, nil, nil, "other-"+structs.NewID())
	if err != nil {
		t.Fatal(err)
	}
	p.removeAll()
	err = d.DropVolumes(t.Context(), p.owner, p.ref)
	if !errors.Is(err, backend.ErrInUse) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "other-") {
		t.Errorf("drop gives %v", err)
	}
	if err := d.Remove(t.Context(), other.ID); err != nil {
		t.Fatal(err)
	}
	// A volume that isn't the pod's, under its name.
	if err := d.DropVolumes(t.Context(), p.owner, p.ref); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.Client.VolumeCreate(t.Context(), volume.CreateOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	req := backend.CreateRequest{Owner: p.owner, Ref: p.ref, ProjectID: p.proj, Spec: &structs.ContainerSpec{},
		Pod: &backend.PodPart{Attempt: 1, Volumes: []structs.PodVolume{{Name: "disk"}}}}
	req.Part = structs.PodInfra
	if _, err := d.Create(t.Context(), req, func(string) {}); !errors.Is(err, backend.ErrNameTaken) ||
		!strings.Contains(err.Error(), name) {
		t.Errorf("create gives %v", err)
	}
	if err := d.DropVolumes(t.Context(), p.owner, p.ref); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Client.VolumeRemove(t.Context(), name, false); err != nil {
		t.Errorf("the drop has removed a volume that isn't the pod's: %v", err)
	}
}
