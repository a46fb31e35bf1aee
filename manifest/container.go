package manifest

import (
	"cmp"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// container derives a container.
func (b *builder) container(c *v1.Container, at string, init bool) (structs.PodContainer, error) {
	out := structs.PodContainer{Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Workdir: c.WorkingDir,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce}
	if err := checkImage(c.Image, at+".image"); err != nil {
		return out, err
	}
	out.PullPolicy = strings.ToLower(cmp.Or(c.ImagePullPolicy, defaultPull(c.Image)))
	if n := len(strings.Join(c.Command, " ")) + len(strings.Join(c.Args, " ")); n > structs.MaxCommand {
		return out, refuse(at+".command", "%d bytes with args are more than %d", n, structs.MaxCommand)
	}
	if err := checkProgram(c.Command, at+".command"); err != nil {
		return out, err
	}
	if w := c.WorkingDir; w != "" {
		if err := structs.CheckLine(at+".workingDir", w, structs.MaxText); err != nil {
			return out, err
		}
		if !path.IsAbs(w) {
			return out, refuse(at+".workingDir", "%.64q is not an absolute path", w)
		}
	}
	var err error
	if out.Ports, err = ports(c.Ports, at, init); err != nil {
		return out, err
	}
	if out.Env, err = b.env(c, at); err != nil {
		return out, err
	}
	if out.Mounts, err = b.mounts(c.VolumeMounts, at); err != nil {
		return out, err
	}
	if out.Requests, out.Limits, err = resources(&c.Resources, at+".resources"); err != nil {
		return out, err
	}
	if out.Security, err = security(b.spec.SecurityContext, c.SecurityContext, at+".securityContext"); err != nil {
		return out, err
	}
	if init {
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"livenessProbe", c.LivenessProbe != nil}, {"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil}, {"lifecycle", c.Lifecycle != nil},
		} {
			if f.set {
				return out, refuse(join(at, f.name), "an init container has none: it is done when it ends")
			}
		}
		return out, nil
	}
	return out, b.checks(c, &out, at)
}

// checkProgram refuses an empty text as the name of a program. Arguments may be empty.
func checkProgram(command []string, at string) error {
	if len(command) > 0 && command[0] == "" {
		return refuse(index(at, 0), "is empty: name a program, or leave the command out for the image's own")
	}
	return nil
}

// checkImage checks an image reference.
func checkImage(image, at string) error {
	if image == "" {
		return refuse(at, "is missing: name an image, such as busybox:1.36")
	}
	err := structs.CheckImage(image)
	var e *structs.Error
	if errors.As(err, &e) {
		return refuse(at, "%s", strings.TrimLeft(strings.TrimPrefix(e.Msg, "image_id"), ": "))
	}
	return nil
}

// defaultPull returns Kubernetes' default for imagePullPolicy.
func defaultPull(image string) string {
	name, _, digest := strings.Cut(image, "@")
	_, tag, tagged := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	if tag == "latest" || !tagged && !digest {
		return "Always"
	}
	return "IfNotPresent"
}

// ports derives the ports of a container.
func ports(list []v1.ContainerPort, at string, init bool) ([]structs.PodPort, error) {
	if n := len(list); n > structs.MaxPorts {
		return nil, refuse(at+".ports", "%d are more than %d", n, structs.MaxPorts)
	}
	names := make(map[string]bool, len(list))
	var out []structs.PodPort
	for i, p := range list {
		at := at + index(".ports", i)
		switch {
		case p.ContainerPort < 1 || p.ContainerPort > 65535:
			return nil, refuse(at+".containerPort", "%d not in 1..65535", p.ContainerPort)
		case p.HostPort < 0 || p.HostPort > 65535:
			return nil, refuse(at+".hostPort", "%d not in 1..65535", p.HostPort)
		case p.HostPort != 0 && init:
			return nil, refuse(at+".hostPort", "%d: ports of init containers aren't published", p.HostPort)
		case p.Name != "" && !isPortName(p.Name):
			return nil, refuse(at+".name", "%.64q is not a port's name: up to 15 lower-case letters, digits and single hyphens, "+
				"at least one of them a letter", p.Name)
		case p.Name != "" && names[p.Name]:
			return nil, refuse(at+".name", "%q is the name of another port of the container too", p.Name)
		}
		names[p.Name] = true
		out = append(out, structs.PodPort{Name: p.Name, Port: structs.Port{ContainerPort: int(p.ContainerPort),
			HostPort: int(p.HostPort), Protocol: strings.ToLower(cmp.Or(p.Protocol, "TCP"))}})
	}
	return out, nil
}

// ports checks that no port of the host is published twice.
func (b *builder) ports() error {
	taken := make(map[structs.Port]string)
	all := 0
	for i := range b.out.Containers {
		for j, p := range b.out.Containers[i].Ports {
			if all++; p.HostPort == 0 {
				continue
			}
			at := b.item("containers", i) + index(".ports", j)
			key := structs.Port{HostPort: p.HostPort, Protocol: p.Protocol}
			if taken[key] != "" {
				return refuse(at+".hostPort", "%d/%s is published by %s too", p.HostPort, p.Protocol, taken[key])
			}
			taken[key] = at
		}
	}
	if all > structs.MaxPorts {
		return refuse(b.path+".containers", "%d ports are more than %d", all, structs.MaxPorts)
	}
	return nil
}

// index returns the path of an item of a list.
func index(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// portOf returns the number of a port that is given by number or by name.
func portOf(number int32, name string, ports []structs.PodPort, at string) (int, error) {
	if name == "" {
		if number < 1 || number > 65535 {
			return 0, refuse(at, "%d not in 1..65535", number)
		}
		return int(number), nil
	}
	for _, p := range ports {
		if p.Name == name {
			return p.ContainerPort, nil
		}
	}
	return 0, refuse(at, "%.64q is not the name of a port of the container", name)
}
