package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// maxCreates is how often Create begins anew because something went away
// between two of its calls: an image, a container of the same name.
const maxCreates = 3

// Create fetches the image if it has to, and makes the container.
func (d *Docker) Create(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if req.Avoid != nil {
		d.mu.Lock()
		d.avoid = req.Avoid
		d.mu.Unlock()
	}
	c, err := d.fetchAndCreate(ctx, req, progress)
	if err != nil && !errors.Is(err, backend.ErrAway) {
		// The network may have been made for this container alone.
		dropCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		d.dropFresh(dropCtx, projectKey{req.ClusterID, req.ProjectID})
	}
	return c, err
}

func (d *Docker) fetchAndCreate(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if req.Spec.PullPolicy == structs.PullAlways && !req.Fetched {
		// Not for one that exists already: its image was fetched.
		if c, err := d.existing(ctx, req); !errors.Is(err, backend.ErrNotFound) {
			return c, err
		}
		if err := d.pull(ctx, req.Spec.Image, req.Registry, progress); err != nil {
			return nil, err
		}
	}
	var err error
	for range maxCreates {
		var c *backend.Container
		c, err = d.create(ctx, req)
		switch {
		case err == nil:
			return c, nil
		case errdefs.IsConflict(err):
			c, err = d.existing(ctx, req)
			if !errors.Is(err, backend.ErrNotFound) {
				return c, err
			}
		case errors.Is(err, backend.ErrNoImage):
			if err := d.pullMissing(ctx, req.Spec, req.Registry, progress); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return nil, err
}

// pullMissing fetches an image that isn't on the host.
func (d *Docker) pullMissing(ctx context.Context, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error {
	if spec.PullPolicy == structs.PullNever {
		return &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf(
			"image %s is not on the host and image_pull_policy is never; load it there, or use ifnotpresent", spec.Image)}
	}
	err := d.pull(ctx, spec.Image, creds, progress)
	if err != nil && d.hasImage(ctx, spec.Image) {
		return nil // somebody has loaded it meanwhile
	}
	return err
}

// FetchImage fetches the image unless it is there and the pull policy is content
// with that.
func (d *Docker) FetchImage(ctx context.Context, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error {
	if spec.PullPolicy == structs.PullAlways {
		return d.pull(ctx, spec.Image, creds, progress)
	}
	missing := false
	err := d.read(ctx, readTimeout, func(ctx context.Context) error {
		_, err := d.cli.ImageInspect(ctx, spec.Image)
		if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
			missing = true
			return nil
		}
		return err
	})
	if err != nil || !missing {
		return err
	}
	return d.pullMissing(ctx, spec, creds, progress)
}

// existing returns the container that has the name already. ErrNameTaken if
// it isn't the one wanted, ErrNotFound if there is none.
func (d *Docker) existing(ctx context.Context, req backend.CreateRequest) (*backend.Container, error) {
	name := backend.NameOf(req.Ref)
	raw, err := d.inspect(ctx, name)
	if err != nil {
		return nil, err
	}
	labels := raw.Config.Labels
	entry, ok := entryOf(raw.ID, labels)
	if !ok || entry.Ref != req.Ref || d.inherits(ctx, raw.Image, req.Ref) || labels[backend.LabelCluster] != req.ClusterID || labels[backend.LabelHost] != req.HostID {
		return nil, &backend.Failure{Reason: backend.ErrNameTaken, Msg: fmt.Sprintf(
			"the host has a container named %s that is not magnum's; it is created once that one is gone: docker rm -f %s", name, name)}
	}
	if labels[backend.LabelSpec] != backend.Hash(req.Spec) {
		return nil, &backend.Failure{Reason: backend.ErrNameTaken, Msg: fmt.Sprintf(
			"the host has a container named %s that was made from another spec; it is created once that one is gone: docker rm -f %s", name, name)}
	}
	return containerOf(raw), nil
}

// create makes the container out of an image that is there. Its errors are
// the engine's own for conflicts, and failures for the rest.
func (d *Docker) create(ctx context.Context, req backend.CreateRequest) (*backend.Container, error) {
	key := projectKey{req.ClusterID, req.ProjectID}
	p := d.project(key)
	p.mu.RLock()
	defer p.mu.RUnlock()
	net, err := d.ensureNetwork(ctx, p, key, "")
	if err != nil {
		return nil, err
	}
	host, err := d.hostConfig(ctx, req)
	if err != nil {
		return nil, err
	}
	host.NetworkMode = container.NetworkMode(net)
	networks := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{net: {}}}
	var id string
	var conflict error
	attempt := func() error {
		return d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
			made, err := d.cli.ContainerCreate(ctx, containerConfig(req), host, networks, nil, backend.NameOf(req.Ref))
			if errdefs.IsConflict(err) {
				conflict = err
				return nil
			}
			id = made.ID
			return err
		})
	}
	if err = attempt(); isAmbiguous(err) || err != nil && isNetworkGone(err) {
		// Another agent on this engine has just made the network, too, or taken it.
		p.known.Store(nil)
		if _, err = d.ensureNetwork(ctx, p, key, net); err == nil {
			err = attempt()
		}
	}
	if conflict != nil {
		return nil, conflict
	} else if err != nil {
		return nil, err
	}
	p.fresh.Store(false)
	d.noteUsed(net)
	return &backend.Container{
		Entry:    backend.Entry{Ref: req.Ref, EngineID: id},
		SpecHash: backend.Hash(req.Spec), State: backend.StateCreated, Limits: backend.LimitsOf(req.Spec),
	}, nil
}

// containerConfig is the part of a container that would fit any host.
func containerConfig(req backend.CreateRequest) *container.Config {
	spec := req.Spec
	stop := spec.StopSeconds()
	conf := &container.Config{
		Hostname: string(spec.Hostname), User: string(spec.User), WorkingDir: string(spec.Workdir), Image: spec.Image,
		Cmd: spec.Command, Entrypoint: []string(spec.Entrypoint),
		// As docker run -i has it: without a terminal, the end of the first
		// client's input is the end of the process's.
		Tty: spec.TTY, OpenStdin: spec.Stdin, StdinOnce: spec.Stdin && !spec.TTY, StopTimeout: &stop, Healthcheck: healthcheck(spec.Healthcheck),
		ExposedPorts: make(nat.PortSet, len(spec.Ports)),
		Labels:       make(map[string]string, len(spec.Labels)+10),
	}
	if conf.Hostname == "" {
		conf.Hostname = req.ID
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Environment)) {
		conf.Env = append(conf.Env, k+"="+spec.Environment[k])
	}
	for _, p := range spec.Ports {
		conf.ExposedPorts[portOf(p)] = struct{}{}
	}
	for k, v := range spec.Labels {
		if !strings.HasPrefix(k, backend.LabelPrefix) {
			conf.Labels[k] = v
		}
	}
	conf.Labels[backend.LabelCluster] = req.ClusterID
	conf.Labels[backend.LabelHost] = req.HostID
	backend.SetLabels(conf.Labels, req.Ref)
	conf.Labels[backend.LabelSpec] = backend.Hash(spec)
	// Always set: the image may be a commit of a container with a lease.
	conf.Labels[backend.LabelExclusive] = ""
	if spec.Exclusive == structs.ExclusiveLease {
		conf.Labels[backend.LabelExclusive] = backend.LabelLease
	}
	conf.Labels[backend.LabelProject] = req.ProjectID
	conf.Labels[backend.LabelName] = req.Name
	return conf
}

// hostConfig is the part of a container that belongs to its host. It makes the
// volumes that it refers to.
func (d *Docker) hostConfig(ctx context.Context, req backend.CreateRequest) (*container.HostConfig, error) {
	spec := req.Spec
	limits, logSize := backend.LimitsOf(spec), cmp.Or(spec.LogMaxSize, structs.DefaultLogMaxSize)
	host := &container.HostConfig{
		Resources: container.Resources{
			Memory: limits.Memory, MemorySwap: limits.Memory, // equal: no swap on top of the limit
			NanoCPUs: limits.MilliCPU * 1e6,
		},
		RestartPolicy: restartPolicy(spec),
		PortBindings:  make(nat.PortMap, len(spec.Ports)),
		LogConfig: container.LogConfig{Type: logDriver, Config: map[string]string{
			"max-size": strconv.FormatInt(int64(logSize), 10), "max-file": strconv.Itoa(logFiles),
		}},
	}
	for _, p := range spec.Ports {
		binding := nat.PortBinding{}
		if p.HostPort != 0 {
			binding.HostPort = strconv.Itoa(p.HostPort)
		}
		host.PortBindings[portOf(p)] = append(host.PortBindings[portOf(p)], binding)
	}
	for _, v := range spec.Volumes {
		m := mount.Mount{Type: mount.TypeVolume, Target: v.Target, ReadOnly: v.ReadOnly}
		if v.Name == "" {
			m.Type = mount.TypeTmpfs
			if v.Size > 0 {
				m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: v.Size}
			}
		} else {
			source, err := d.ensureVolume(ctx, volumeKey{req.ClusterID, req.ProjectID, v.Name})
			if err != nil {
				return nil, err
			}
			m.Source = source
		}
		host.Mounts = append(host.Mounts, m)
	}
	return host, nil
}

func portOf(p structs.Port) nat.Port {
	proto := p.Protocol
	if proto == "" {
		proto = "tcp"
	}
	return nat.Port(strconv.Itoa(p.ContainerPort) + "/" + proto)
}

// restartPolicy maps always to unless-stopped: the engine would start an
// "always" container that a user has stopped when the engine itself starts. An
// exclusive one is started by the agent alone, which knows whether it may be.
func restartPolicy(spec *structs.ContainerSpec) container.RestartPolicy {
	p := spec.RestartPolicy
	switch {
	case spec.Exclusive != structs.ExclusiveNo:
		return container.RestartPolicy{Name: container.RestartPolicyDisabled}
	case p.Always():
		return container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	case p.Name == structs.RestartOnFailure:
		return container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: p.MaxRetries}
	}
	return container.RestartPolicy{Name: container.RestartPolicyDisabled}
}
