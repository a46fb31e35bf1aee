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
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/console"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

// maxCreates is the number of tries of Create. A try fails if an image or a container of
// the same name goes away between two calls.
const maxCreates = 3

// Create fetches the image if necessary, and creates the container.
func (rt *runtime) Create(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if req.Avoid != nil {
		rt.networks.Avoid(req.Avoid)
	}
	c, err := rt.fetchAndCreate(ctx, req, progress)
	if err == nil && c.State == backend.StateCreated && (req.Pod == nil || joins(req) || len(req.Pod.Volumes) == 0) {
		rt.unstarted.add(c.EngineID) // nothing is left to do before its start
	}
	if joins(req) {
		return c, rt.infraFailure(ctx, req.Pod.Infra, err)
	}
	if err != nil && !errors.Is(err, backend.ErrAway) {
		// The network may have been made for this container only.
		dropCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engine.ReadTimeout)
		defer cancel()
		rt.networks.DropFresh(dropCtx, networks.Key{Cluster: req.ClusterID, Project: req.ProjectID})
	}
	return c, err
}

func (rt *runtime) fetchAndCreate(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if req.Spec.PullPolicy == structs.PullAlways && !req.Fetched && req.Spec.Image != "" {
		// The image of an existing container was fetched before.
		if c, err := rt.existing(ctx, req); !errors.Is(err, backend.ErrNotFound) {
			return c, err
		}
		if err := rt.images.PullImage(ctx, req.Spec.Image, req.Registry, progress); err != nil {
			return nil, err
		}
	}
	var err error
	for range maxCreates {
		var c *backend.Container
		c, err = rt.create(ctx, req)
		switch {
		case err == nil:
			return c, nil
		case errdefs.IsConflict(err):
			c, err = rt.existing(ctx, req)
			if !errors.Is(err, backend.ErrNotFound) {
				return c, err
			}
		case errors.Is(err, backend.ErrNoImage) && req.Spec.Image == "":
			rt.forgetInfra()
		case errors.Is(err, backend.ErrNoImage):
			if err := rt.images.FetchMissing(ctx, req.Spec, req.Registry, progress); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return nil, err
}

// FetchImage fetches the image as the pull policy says. A spec without an image is that of
// an infra container, whose image the backend makes itself.
func (rt *runtime) FetchImage(ctx context.Context, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error {
	if spec.Image == "" {
		_, err := rt.ensureInfra(ctx)
		return err
	}
	return rt.images.FetchImage(ctx, spec, creds, progress)
}

// existing returns the container that has the name. ErrNameTaken if it isn't the requested
// one, ErrNotFound if there is none.
func (rt *runtime) existing(ctx context.Context, req backend.CreateRequest) (*backend.Container, error) {
	name := req.EngineName()
	raw, err := rt.engine.Inspect(ctx, name)
	if err != nil {
		return nil, err
	}
	labels := raw.Config.Labels
	entry, ok := engine.EntryOf(raw.ID, labels)
	if !ok || entry.Ref != req.Ref || entry.Attempt != req.Attempt() || rt.engine.Inherits(ctx, raw.Image, entry) ||
		labels[backend.LabelCluster] != req.ClusterID || labels[backend.LabelHost] != req.HostID {
		return nil, &backend.Failure{Reason: backend.ErrNameTaken, Msg: fmt.Sprintf(
			"the host has a container named %s that is not magnum's; it is created once that one is gone: docker rm -f %s", name, name)}
	}
	if labels[backend.LabelSpec] != req.SpecHash() {
		return nil, &backend.Failure{Reason: backend.ErrNameTaken, Msg: fmt.Sprintf(
			"the host has a container named %s that was made from another spec; it is created once that one is gone: docker rm -f "+
				"%s", name, name)}
	}
	return containerOf(raw), nil
}

// create creates the container of an image that exists. Conflicts are returned as the
// engine's own errors, others as failures.
func (rt *runtime) create(ctx context.Context, req backend.CreateRequest) (*backend.Container, error) {
	var net string // "" for a container that joins an infra container
	var pinned *networks.Pinned
	if !joins(req) {
		pinned = rt.networks.Pin(networks.Key{Cluster: req.ClusterID, Project: req.ProjectID})
		defer pinned.Unpin()
		var err error
		if net, err = pinned.Ensure(ctx); err != nil {
			return nil, err
		}
	}
	conf := containerConfig(req)
	host, err := rt.hostConfig(ctx, req)
	if err != nil {
		return nil, err
	}
	host.NetworkMode = container.NetworkMode(net)
	if req.Names != nil && pinned != nil {
		gateway, err := pinned.Gateway(ctx, net)
		if err != nil {
			return nil, err
		}
		host.DNS, host.DNSSearch = append([]string{gateway.String()}, req.Names.Servers...), req.Names.Search
	}
	if req.Pod != nil {
		if err := rt.configurePod(ctx, req, conf, host); err != nil {
			return nil, err
		}
	}
	var id string
	var conflict error
	attempt := func() error {
		return rt.engine.Change(ctx, func(ctx context.Context) error {
			made, err := rt.engine.Client.ContainerCreate(ctx, conf, host, bridged(net), nil, req.EngineName())
			if errdefs.IsConflict(err) {
				conflict = err
				return nil
			}
			id = made.ID
			return err
		})
	}
	if err = attempt(); pinned != nil && networks.IsMissing(err) {
		// Another agent on this engine has just made or removed the network.
		if err = pinned.Repair(ctx, net); err == nil {
			err = attempt()
		}
	}
	if conflict != nil {
		return nil, conflict
	} else if err != nil {
		return nil, err
	}
	if pinned != nil {
		pinned.Joined(net)
	}
	return &backend.Container{
		Entry:    backend.Entry{Ref: req.Ref, EngineID: id, Attempt: req.Attempt()},
		SpecHash: req.SpecHash(), Infra: infraOf(host), State: backend.StateCreated, Limits: backend.LimitsOf(req.Spec),
	}, nil
}

// containerConfig is the part of a container's configuration that fits any host.
func containerConfig(req backend.CreateRequest) *container.Config {
	spec := req.Spec
	stop := spec.StopSeconds()
	conf := &container.Config{
		Hostname: string(spec.Hostname), User: string(spec.User), WorkingDir: string(spec.Workdir), Image: spec.Image,
		Cmd: spec.Command, Entrypoint: []string(spec.Entrypoint),
		// As in docker run -i: without a terminal, the end of the first client's input is
		// the end of the process's input.
		Tty: spec.TTY, OpenStdin: spec.Stdin, StdinOnce: spec.Stdin &&
			!spec.TTY, StopTimeout: &stop, Healthcheck: healthcheck(spec.Healthcheck),
		ExposedPorts: make(nat.PortSet, len(spec.Ports)),
		Labels:       make(map[string]string, len(spec.Labels)+10),
	}
	if conf.Hostname == "" {
		conf.Hostname = req.ID
	}
	for _, k := range slices.Sorted(maps.Keys(req.Variables)) {
		if _, own := spec.Environment[k]; !own {
			conf.Env = append(conf.Env, k+"="+req.Variables[k])
		}
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
	backend.SetLabels(conf.Labels, req.Ref, req.Attempt())
	conf.Labels[backend.LabelSpec] = req.SpecHash()
	// Set it always: the image may be a commit of a container with a lease.
	conf.Labels[backend.LabelExclusive] = ""
	if spec.Exclusive == structs.ExclusiveLease {
		conf.Labels[backend.LabelExclusive] = backend.LabelLease
	}
	conf.Labels[backend.LabelProject] = req.ProjectID
	conf.Labels[backend.LabelName] = req.Name
	return conf
}

// hostConfig is the part of a container's configuration that belongs to its host. It makes
// the volumes that the container mounts.
func (rt *runtime) hostConfig(ctx context.Context, req backend.CreateRequest) (*container.HostConfig, error) {
	spec := req.Spec
	limits, logSize := backend.LimitsOf(spec), cmp.Or(spec.LogMaxSize, structs.DefaultLogMaxSize)
	host := &container.HostConfig{
		Resources: container.Resources{
			Memory: limits.Memory, MemorySwap: limits.Memory, // equal: no swap on top of the limit
			NanoCPUs: limits.MilliCPU * 1e6,
		},
		RestartPolicy: restartPolicy(spec),
		PortBindings:  make(nat.PortMap, len(spec.Ports)),
		LogConfig: container.LogConfig{Type: console.LogDriver, Config: map[string]string{
			"max-size": strconv.FormatInt(int64(logSize), 10), "max-file": strconv.Itoa(console.LogFiles),
		}},
	}
	rt.contained.contain(req, host)
	for _, p := range spec.Ports {
		binding := nat.PortBinding{HostIP: rt.contained.hostIP()}
		if p.HostPort != 0 {
			binding.HostPort = strconv.Itoa(p.HostPort)
		}
		host.PortBindings[portOf(p)] = append(host.PortBindings[portOf(p)], binding)
	}
	for _, v := range spec.Volumes {
		m := mount.Mount{Type: mount.TypeVolume, Target: v.Target, ReadOnly: v.ReadOnly}
		if v.Name == "" {
			m.Type = mount.TypeTmpfs
			if size := rt.contained.tmpfs(v.Size); size > 0 {
				m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: size}
			}
		} else {
			source, err := rt.volumes.Ensure(ctx, volumes.Key{Cluster: req.ClusterID, Project: req.ProjectID, Name: v.Name})
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

// restartPolicy maps always to unless-stopped, because the engine would start a stopped
// "always" container when the engine itself starts. The agent alone starts exclusive
// containers, because it knows whether they may run.
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
