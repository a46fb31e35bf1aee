package agent

import (
	"reflect"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// TestContainersOfAPodAreTranslated: what a backend is asked to create, for each field of
// the manifest.
func TestContainersOfAPodAreTranslated(t *testing.T) {
	port := func(container, host int) structs.PodPort {
		return structs.PodPort{Port: structs.Port{ContainerPort: container, HostPort: host, Protocol: "tcp"}}
	}
	group := int64(7)
	of := func(edit func(*structs.PodSpec, *structs.PodContainer)) *structs.PodSpec {
		s := &structs.PodSpec{InitContainers: []structs.PodContainer{{Name: "prepare", Image: "p"}},
			Containers:    []structs.PodContainer{{Name: "web", Image: "i"}, {Name: "side", Image: "s"}},
			RestartPolicy: structs.PodRestartAlways}
		edit(s, &s.Containers[0])
		return s
	}
	no := structs.RestartPolicy{Name: structs.RestartNo}
	infraSpec := func(edit func(*structs.ContainerSpec)) structs.ContainerSpec {
		s := structs.ContainerSpec{PullPolicy: structs.PullIfNotPresent, RestartPolicy: no, Healthcheck: noHealthcheck()}
		edit(&s)
		return s
	}
	webSpec := func(edit func(*structs.ContainerSpec)) structs.ContainerSpec {
		s := structs.ContainerSpec{Image: "i", RestartPolicy: no, Healthcheck: noHealthcheck()}
		edit(&s)
		return s
	}
	infraPart := func(edit func(*backend.PodPart)) backend.PodPart {
		p := backend.PodPart{Attempt: 3}
		edit(&p)
		return p
	}
	webPart := func(edit func(*backend.PodPart)) backend.PodPart {
		p := backend.PodPart{Attempt: 3, Infra: "e1"}
		edit(&p)
		return p
	}
	sameSpec, samePart := func(*structs.ContainerSpec) {}, func(*backend.PodPart) {}
	for name, c := range map[string]struct {
		edit         func(*structs.PodSpec, *structs.PodContainer)
		infra, web   func(*structs.ContainerSpec)
		infraP, webP func(*backend.PodPart)
	}{
		"nothing": {func(*structs.PodSpec, *structs.PodContainer) {}, sameSpec, sameSpec, samePart, samePart},
		"commands": {func(_ *structs.PodSpec, c *structs.PodContainer) {
			c.Command, c.Args, c.Workdir, c.PullPolicy = []string{"a"}, []string{"b"}, "/w", structs.PullAlways
		}, sameSpec, func(s *structs.ContainerSpec) {
			s.Entrypoint, s.Command, s.Workdir, s.PullPolicy = structs.Words{"a"}, []string{"b"}, "/w", structs.PullAlways
		}, samePart, samePart},
		"limits bind, requests don't": {func(_ *structs.PodSpec, c *structs.PodContainer) {
			c.Requests, c.Limits = structs.Resources{Memory: 1, MilliCPU: 2}, structs.Resources{Memory: 3, MilliCPU: 4}
		}, sameSpec, func(s *structs.ContainerSpec) { s.Memory, s.MilliCPU = 3, 4 }, samePart, samePart},
		"host ports of all containers": {func(s *structs.PodSpec, c *structs.PodContainer) {
			c.Ports = []structs.PodPort{port(80, 8080), port(81, 0)}
			s.Containers[1].Ports = []structs.PodPort{port(90, 9090)}
			s.InitContainers[0].Ports = []structs.PodPort{port(70, 7070)}
		}, func(s *structs.ContainerSpec) {
			s.Ports = []structs.Port{port(80, 8080).Port, port(90, 9090).Port}
		}, sameSpec, samePart, samePart},
		"names": {func(s *structs.PodSpec, _ *structs.PodContainer) {
			s.Hostname, s.InfraImage, s.HostAliases = "h", "pause", []structs.HostAlias{{IP: "10.0.0.1"}}
		}, func(s *structs.ContainerSpec) { s.Hostname, s.Image = "h", "pause" }, sameSpec,
			func(p *backend.PodPart) { p.HostAliases = []structs.HostAlias{{IP: "10.0.0.1"}} }, samePart},
		"processes": {func(s *structs.PodSpec, _ *structs.PodContainer) { s.SharePID = true }, sameSpec, sameSpec, samePart,
			func(p *backend.PodPart) { p.SharePID = true }},
		"terminal": {func(_ *structs.PodSpec, c *structs.PodContainer) { c.TTY, c.Stdin, c.StdinOnce = true, true, true }, sameSpec,
			func(s *structs.ContainerSpec) { s.TTY, s.Stdin = true, true }, samePart, func(p *backend.PodPart) { p.StdinOnce = true }},
		"security": {func(_ *structs.PodSpec, c *structs.PodContainer) { c.Security.ReadOnlyRoot = true }, sameSpec, sameSpec, samePart,
			func(p *backend.PodPart) { p.Security.ReadOnlyRoot = true }},
		"lease": {func(s *structs.PodSpec, _ *structs.PodContainer) { s.Exclusive = structs.ExclusiveLease },
			func(s *structs.ContainerSpec) { s.Exclusive = structs.ExclusiveLease },
			func(s *structs.ContainerSpec) { s.Exclusive = structs.ExclusiveLease }, samePart, samePart},
		"volumes": {func(s *structs.PodSpec, c *structs.PodContainer) {
			s.Volumes, s.FSGroup = []structs.PodVolume{{Name: "v"}, {Name: "w", Claim: "data"}}, &group
			c.Mounts = []structs.PodMount{{Volume: "w", Path: "/w"}, {Volume: "w", Path: "/x"}}
		}, sameSpec, sameSpec, func(p *backend.PodPart) {
			p.Volumes, p.FSGroup = []structs.PodVolume{{Name: "v"}, {Name: "w", Claim: "data"}}, &group
		}, func(p *backend.PodPart) {
			p.Volumes, p.FSGroup = []structs.PodVolume{{Name: "w", Claim: "data"}}, &group
			p.Mounts = []structs.PodMount{{Volume: "w", Path: "/w"}, {Volume: "w", Path: "/x"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := of(c.edit)
			parts := podParts(&structs.Assignment{Pod: &structs.PodAssignment{Spec: s}})
			names := []string{structs.PodInfra, "prepare", "web", "side"}
			if len(parts) != len(names) {
				t.Fatalf("parts are %v", parts)
			}
			for i, name := range names {
				if parts[i].name != name {
					t.Errorf("part %d is %s, want %s", i, parts[i].name, name)
				}
			}
			for _, x := range []struct {
				part  part
				spec  structs.ContainerSpec
				extra backend.PodPart
			}{{parts[0], infraSpec(c.infra), infraPart(c.infraP)}, {parts[2], webSpec(c.web), webPart(c.webP)}} {
				if !reflect.DeepEqual(*x.part.spec, x.spec) {
					t.Errorf("%s is\n%+v, want\n%+v", x.part.name, *x.part.spec, x.spec)
				}
				if got := podPart(s, containerOf(s, x.part.name), 3, "e1"); !reflect.DeepEqual(*got, x.extra) {
					t.Errorf("%s has\n%+v, want\n%+v", x.part.name, *got, x.extra)
				}
			}
		})
	}
}

func TestAssignmentWithoutAPodIsUnreadable(t *testing.T) {
	for _, pod := range []*structs.PodAssignment{nil, {}} {
		a := &structs.Assignment{Kind: structs.WorkloadPod, ID: "a", Pod: pod}
		if parts := podParts(a); parts != nil || a.Unreadable == "" {
			t.Errorf("its parts are %v, %q", parts, a.Unreadable)
		}
	}
}
