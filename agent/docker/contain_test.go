package docker

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// TestContained: what the operator sets holds for every container, whatever its spec says.
func TestContained(t *testing.T) {
	spec := &structs.ContainerSpec{
		Ports:   []structs.Port{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {ContainerPort: 81, Protocol: "tcp"}},
		Volumes: []structs.Mount{{Type: structs.MountTmpfs, Target: "/a"}, {Type: structs.MountTmpfs, Target: "/b", Size: 5 << 20}},
	}
	made := func(c Containment, pod *backend.PodPart) *container.HostConfig {
		host, err := (&runtime{contained: c.withDefaults()}).hostConfig(t.Context(), backend.CreateRequest{Spec: spec, Pod: pod})
		if err != nil {
			t.Fatal(err)
		}
		return host
	}
	host := made(Containment{}, nil)
	if host.PidsLimit == nil || *host.PidsLimit != 4096 || host.ShmSize != 64<<20 || !slices.Equal(host.SecurityOpt, []string{"no-new-privileges"}) {
		t.Errorf("by default the limits are %+v, %v, %v", host.PidsLimit, host.ShmSize, host.SecurityOpt)
	}
	if a, b := host.Mounts[0].TmpfsOptions, host.Mounts[1].TmpfsOptions; a == nil || a.SizeBytes != 64<<20 || b.SizeBytes != 5<<20 {
		t.Errorf("tmpfs are %+v and %+v", a, b)
	}
	if ip := host.PortBindings["80/tcp"][0].HostIP; ip != "" {
		t.Errorf("published at %q", ip)
	}
	if made(Containment{}, &backend.PodPart{}).SecurityOpt != nil {
		t.Error("a pod doesn't get what its manifest asks for")
	}
	host = made(Containment{Pids: -1, NewPrivileges: true, Tmpfs: -1, Shm: 1 << 20, Publish: netip.MustParseAddr("192.0.2.7")}, nil)
	if host.PidsLimit != nil || host.ShmSize != 1<<20 || host.SecurityOpt != nil || host.Mounts[0].TmpfsOptions != nil {
		t.Errorf("an operator's settings give %+v", host)
	}
	for port, b := range host.PortBindings {
		if b[0].HostIP != "192.0.2.7" {
			t.Errorf("port %s is published at %q", port, b[0].HostIP)
		}
	}
}

func TestContainmentRefused(t *testing.T) {
	for _, c := range []Containment{{Pids: -2}, {Pids: 1}, {Pids: 1 << 30}, {Tmpfs: 5}, {Tmpfs: -2}, {Shm: -1}, {Shm: 1}} {
		if _, err := New(Config{Containment: c}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%+v gives %v", c, err)
		}
	}
}
