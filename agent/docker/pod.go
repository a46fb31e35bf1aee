package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/infra"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

// volumeDir is the directory of an infra container in which the pod's volumes are mounted.
const volumeDir = "/volumes"

// joins reports whether the request is for a container that joins an infra container.
func joins(req backend.CreateRequest) bool { return req.Pod != nil && req.Pod.Infra != "" }

// infraOf returns the infra container that a container joins, "" if it joins none.
func infraOf(host *container.HostConfig) string {
	if host == nil || !host.NetworkMode.IsContainer() {
		return ""
	}
	return host.NetworkMode.ConnectedContainer()
}

// configurePod changes the configuration of a container to that of a part of a pod. It
// makes the volumes that it mounts. ErrConfig, ErrNameTaken, ErrNoImage, ErrInvalid.
func (rt *runtime) configurePod(ctx context.Context, req backend.CreateRequest, conf *container.Config,
	host *container.HostConfig) error {
	part := req.Pod
	mounts, err := rt.podMounts(ctx, req)
	if err != nil {
		return err
	}
	host.Mounts = append(host.Mounts, mounts...)
	host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled} // the agent restarts it
	limitCPU(&host.Resources)
	conf.StdinOnce = part.StdinOnce
	if conf.Healthcheck == nil {
		conf.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}} // not the image's: pods have probes
	}
	if part.FSGroup != nil {
		host.GroupAdd = []string{strconv.FormatInt(*part.FSGroup, 10)}
	}
	if part.Infra == "" {
		return rt.configureInfra(ctx, part, conf, host)
	}
	shared := "container:" + part.Infra
	host.ShmSize = 0 // that of the infra container
	host.NetworkMode, host.IpcMode = container.NetworkMode(shared), container.IpcMode(shared)
	if part.SharePID {
		host.PidMode = container.PidMode(shared)
	}
	// The engine refuses these beside the network of another container.
	conf.Hostname, conf.ExposedPorts, host.PortBindings = "", nil, nil
	return rt.secure(ctx, &part.Security, conf, host)
}

// configureInfra changes the configuration to that of an infra container.
func (rt *runtime) configureInfra(ctx context.Context, part *backend.PodPart, conf *container.Config,
	host *container.HostConfig) error {
	host.IpcMode = container.IPCModeShareable
	for _, alias := range part.HostAliases {
		for _, name := range alias.Names {
			host.ExtraHosts = append(host.ExtraHosts, name+":"+alias.IP)
		}
	}
	host.CapDrop, host.SecurityOpt = []string{"ALL"}, []string{noNewPrivileges}
	if conf.Image != "" {
		return nil
	}
	id, err := rt.ensureInfra(ctx)
	// Nothing that is started comes from the image's configuration. The engine takes no
	// command from an image if the entrypoint is given.
	conf.Image, conf.Entrypoint, conf.Cmd, conf.User = id, infra.Entrypoint(), nil, "0:0"
	return err
}

// limitCPU limits the CPU by a quota. Unlike NanoCPUs, a quota may be larger than the
// machine: the limit of a pod's container isn't reserved.
func limitCPU(r *container.Resources) {
	if r.NanoCPUs != 0 {
		r.CPUPeriod, r.CPUQuota = quotaOf(r.NanoCPUs / 1e6)
		r.NanoCPUs = 0
	}
}

// quotaOf returns the quota of a number of thousandths of a core, and its period, both in
// microseconds. The kernel's least quota is 1000.
func quotaOf(milliCPU int64) (period, quota int64) {
	period = 100_000
	if milliCPU < 10 {
		period = 1_000_000
	}
	return period, milliCPU * period / 1000
}

// secure applies a security context. ErrConfig: it doesn't fit the image.
func (rt *runtime) secure(ctx context.Context, s *structs.PodSecurity, conf *container.Config, host *container.HostConfig) error {
	host.ReadonlyRootfs, host.CapDrop = s.ReadOnlyRoot, s.DropCaps
	if s.NoNewPrivs {
		host.SecurityOpt = []string{noNewPrivileges}
	}
	user := conf.User
	switch {
	case s.RunAsUser != nil:
		user = strconv.FormatInt(*s.RunAsUser, 10)
	case user == "" && (s.RunAsGroup != nil || s.RunAsNonRoot):
		var err error
		if user, err = rt.imageUser(ctx, conf.Image); err != nil {
			return err
		}
	}
	if s.RunAsNonRoot {
		if err := checkNonRoot(user, conf.Image); err != nil {
			return err
		}
	}
	if s.RunAsGroup != nil {
		user, _, _ = strings.Cut(user, ":")
		if user == "" {
			user = "0"
		}
		user += ":" + strconv.FormatInt(*s.RunAsGroup, 10)
	}
	if s.RunAsUser != nil || s.RunAsGroup != nil {
		conf.User = user
	}
	return nil
}

// imageUser returns the user of an image, as the image has it. ErrNoImage.
func (rt *runtime) imageUser(ctx context.Context, name string) (user string, err error) {
	err = rt.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		img, err := rt.engine.Client.ImageInspect(ctx, name)
		if err == nil && img.Config != nil {
			user = img.Config.User
		}
		return err
	})
	return user, err
}

// checkNonRoot refuses root, and a name, of which nobody knows who it is.
func checkNonRoot(user, image string) error {
	user, _, _ = strings.Cut(user, ":")
	id, err := strconv.ParseUint(user, 10, 32)
	switch {
	case user == "" || user == "root" || err == nil && id == 0:
		return &backend.Failure{Reason: backend.ErrConfig, Msg: fmt.Sprintf(
			"container has runAsNonRoot and image %s will run as root: set runAsUser, or choose an image with another user", image)}
	case err != nil:
		return &backend.Failure{Reason: backend.ErrConfig, Msg: fmt.Sprintf(
			"container has runAsNonRoot and image %s has non-numeric user %q, cannot verify user is non-root: set runAsUser", image, user)}
	}
	return nil
}

// podMounts returns the mounts of a container of a pod, and makes their volumes.
func (rt *runtime) podMounts(ctx context.Context, req backend.CreateRequest) ([]mount.Mount, error) {
	sources := make(map[string]string)
	claims := make(map[string]structs.PodVolume)
	for _, v := range req.Pod.Volumes {
		var err error
		if v.Claim != "" {
			claims[v.Name] = v
			sources[v.Name], err = rt.volumes.Ensure(ctx, volumes.Key{Cluster: req.ClusterID, Project: req.ProjectID, Name: v.Claim})
		} else {
			key := volumes.PodKey{Owner: req.Owner, Pod: req.Ref, Name: v.Name}
			sources[v.Name], err = rt.volumes.EnsurePod(ctx, key, v, req.Pod.FSGroup)
		}
		if err != nil {
			return nil, err
		}
	}
	places := req.Pod.Mounts
	if req.Pod.Infra == "" {
		places = nil
		for _, v := range req.Pod.Volumes {
			places = append(places, structs.PodMount{Volume: v.Name, Path: path.Join(volumeDir, v.Name)})
		}
	}
	var mounts []mount.Mount
	for _, m := range places {
		source, ok := sources[m.Volume]
		if !ok {
			return nil, &backend.Failure{Reason: backend.ErrInvalid,
				Msg: fmt.Sprintf("the pod has no volume %q to mount at %s", m.Volume, m.Path)}
		}
		mounts = append(mounts, mount.Mount{
			Type: mount.TypeVolume, Source: source, Target: m.Path,
			ReadOnly:      m.ReadOnly || claims[m.Volume].ReadOnly,
			VolumeOptions: &mount.VolumeOptions{NoCopy: true}, // a volume is empty at first, whatever the image has there
		})
	}
	return mounts, nil
}

// openVolumes sets the owner and the mode of a pod's volumes through its infra container,
// which was never started. Everybody may write to a volume that goes with the pod. With a
// group, a volume and what will be made in it belong to that group. All that it needs to
// know is in the container's configuration, because the agent that created the container
// may have died before this step. It may be repeated.
func (rt *runtime) openVolumes(ctx context.Context, raw container.InspectResponse) error {
	ref, ok := backend.RefOf(raw.Config.Labels)
	if !ok || ref.Part != structs.PodInfra || raw.State.Status != container.StateCreated {
		return nil
	}
	var group *int64
	if groups := raw.HostConfig.GroupAdd; len(groups) == 1 {
		id, err := strconv.ParseInt(groups[0], 10, 64)
		if err != nil {
			return err
		}
		group = &id
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	count := 0
	for _, m := range raw.HostConfig.Mounts {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: m.Target[1:] + "/", Mode: int64(volumes.DirMode(group))}
		if claim := m.Source != (volumes.PodKey{Pod: ref, Name: path.Base(m.Target)}).EngineName(); claim {
			if group == nil || m.ReadOnly {
				continue
			}
			was, err := rt.dirOf(ctx, raw.ID, m.Target)
			if err != nil {
				return err
			}
			h.Uid, h.Mode = was.Uid, was.Mode&0o7777|0o2770
		}
		if group != nil {
			h.Gid = int(*group)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		count++
	}
	if err := w.Close(); err != nil || count == 0 {
		return err
	}
	return rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Client.CopyToContainer(ctx, raw.ID, "/", &buf, container.CopyToContainerOptions{})
	})
}

// dirOf returns the header of a directory in a container.
func (rt *runtime) dirOf(ctx context.Context, engineID, dir string) (h *tar.Header, err error) {
	err = rt.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		stream, _, err := rt.engine.Client.CopyFromContainer(ctx, engineID, dir)
		if err != nil {
			return err
		}
		defer stream.Close()
		h, err = tar.NewReader(stream).Next()
		return err
	})
	return h, err
}

// infraFailure converts the failure of a call on a container if the cause is that the
// infra container that it joins doesn't run.
func (rt *runtime) infraFailure(ctx context.Context, infra string, err error) error {
	if err == nil || infra == "" || errors.Is(err, backend.ErrAway) || ctx.Err() != nil {
		return err
	}
	raw, inspectErr := rt.engine.Inspect(ctx, infra)
	switch {
	case errors.Is(inspectErr, backend.ErrNotFound), inspectErr == nil && !raw.State.Running:
		return &backend.Failure{Reason: backend.ErrNoInfra, Err: err, Msg: "the infra container of the pod does not run"}
	}
	return err
}

// bridged returns the configuration that joins a network; nil for none.
func bridged(net string) *network.NetworkingConfig {
	if net == "" {
		return nil
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{net: {}}}
}
