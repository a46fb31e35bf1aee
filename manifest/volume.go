package manifest

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// tokenPath is where Kubernetes mounts the token of the service account.
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// dropToken drops the volume with the token of the service account, which servers of
// Kubernetes add to each pod, and its mounts. A volume that is mounted anywhere else
// stays, and is refused.
func dropToken(spec *v1.PodSpec) {
	lists := [][]v1.Container{spec.InitContainers, spec.Containers}
	elsewhere := make(map[string]bool) // by name
	for _, containers := range lists {
		for _, c := range containers {
			for _, m := range c.VolumeMounts {
				elsewhere[m.Name] = elsewhere[m.Name] || m.MountPath != tokenPath
			}
		}
	}
	tokens := make(map[string]bool)
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v v1.Volume) bool {
		if elsewhere[v.Name] || !isToken(&v) {
			return false
		}
		tokens[v.Name] = true
		return true
	})
	for _, containers := range lists {
		for i := range containers {
			c := &containers[i]
			c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return tokens[m.Name] })
		}
	}
}

// isToken reports whether a volume has the form of those that servers add: since
// Kubernetes 1.21 a projected one, before it a secret.
func isToken(v *v1.Volume) bool {
	if v.Secret != nil {
		var secret struct{ SecretName string }
		return json.Unmarshal(v.Secret, &secret) == nil && strings.Contains(secret.SecretName, "-token-")
	}
	var projected struct {
		Sources []struct {
			ServiceAccountToken, DownwardAPI any
			ConfigMap                        *struct{ Name string }
		}
	}
	if v.Projected == nil || json.Unmarshal(v.Projected, &projected) != nil {
		return false
	}
	token := false
	for _, source := range projected.Sources {
		switch {
		case source.ServiceAccountToken != nil:
			token = true
		case source.DownwardAPI != nil:
		case source.ConfigMap != nil && strings.HasSuffix(source.ConfigMap.Name, "-ca.crt"):
		default:
			return false
		}
	}
	return token
}

// volumes derives the volumes.
func (b *builder) volumes() error {
	if n := len(b.spec.Volumes); n > structs.MaxVolumes {
		return refuse(b.path+".volumes", "%d are more than %d", n, structs.MaxVolumes)
	}
	for i := range b.spec.Volumes {
		v, err := volume(&b.spec.Volumes[i], b.item("volumes", i))
		if err != nil {
			return err
		}
		if b.volume(v.Name) != nil {
			return refuse(b.item("volumes", i)+".name", "%q is the name of another volume too", v.Name)
		}
		b.out.Volumes = append(b.out.Volumes, v)
	}
	return nil
}

func (b *builder) volume(name string) *structs.PodVolume {
	i := slices.IndexFunc(b.out.Volumes, func(v structs.PodVolume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &b.out.Volumes[i]
}

func volume(v *v1.Volume, path string) (structs.PodVolume, error) {
	out := structs.PodVolume{Name: v.Name}
	if err := checkLabel(path+".name", v.Name); err != nil {
		return out, err
	}
	if v.EmptyDir != nil && v.PersistentVolumeClaim != nil {
		return out, refuse(path+".persistentVolumeClaim", "is given beside emptyDir: a volume is one of them")
	}
	if claim := v.PersistentVolumeClaim; claim != nil {
		if !isVolume(claim.ClaimName) {
			return out, refuse(path+".persistentVolumeClaim.claimName", "%.64q is not a volume name: 1..128 letters, digits, dots, "+
				"hyphens and underscores, the first a letter or digit", claim.ClaimName)
		}
		out.Claim, out.ReadOnly = claim.ClaimName, claim.ReadOnly
		return out, nil
	}
	if empty := v.EmptyDir; empty != nil { // absent too, the default
		out.Memory = empty.Medium == "Memory"
		if limit := empty.SizeLimit; limit != nil && limit.Sign() != 0 {
			if !out.Memory {
				return out, refuse(path+".emptyDir.sizeLimit", "%s: only with medium: Memory: the size of a directory on the host's disk "+
					"isn't limited", limit)
			}
			if limit.Sign() < 0 || limit.Beyond(structs.MaxMemory) {
				return out, refuse(path+".emptyDir.sizeLimit", "%s not in 1..%d bytes", limit, int64(structs.MaxMemory))
			}
			out.Size = limit.Times(1)
		}
	}
	return out, nil
}

// defaultMemoryVolume is the size of a volume in memory, in bytes, if neither the manifest
// nor the limits of its containers bound it.
const defaultMemoryVolume = 64 << 20

// memoryVolumes gives each volume in memory a size. Without one, the kernel lets a tmpfs
// grow to half of the host's memory, which nobody has reserved. What the kernel counts for the
// containers that mount it is within the sum of their limits anyway.
func (b *builder) memoryVolumes() error {
	for i := range b.out.Volumes {
		if v := &b.out.Volumes[i]; v.Memory && v.Size == 0 {
			v.Size = b.memoryLimit(v.Name)
		}
	}
	return nil
}

// memoryLimit returns the sum of the memory limits of the containers that mount a volume,
// defaultMemoryVolume if one of them has no limit, or if no container mounts it.
func (b *builder) memoryLimit(volume string) int64 {
	sum := int64(0)
	for _, list := range [][]structs.PodContainer{b.out.InitContainers, b.out.Containers} {
		for i := range list {
			if !slices.ContainsFunc(list[i].Mounts, func(m structs.PodMount) bool { return m.Volume == volume }) {
				continue
			}
			if list[i].Limits.Memory == 0 {
				return defaultMemoryVolume
			}
			sum += list[i].Limits.Memory
		}
	}
	if sum == 0 {
		return defaultMemoryVolume
	}
	return min(sum, structs.MaxMemory)
}

// mounts derives the mounts of a container.
func (b *builder) mounts(mounts []v1.VolumeMount, at string) ([]structs.PodMount, error) {
	if n := len(mounts); n > structs.MaxVolumes {
		return nil, refuse(at+".volumeMounts", "%d are more than %d", n, structs.MaxVolumes)
	}
	targets := make(map[string]bool, len(mounts))
	var out []structs.PodMount
	for i, m := range mounts {
		at := at + index(".volumeMounts", i)
		volume := b.volume(m.Name)
		if volume == nil {
			return nil, refuse(at+".name", "%.64q is not the name of a volume: add it to %s.volumes", m.Name, b.path)
		}
		if why := structs.CheckTarget(m.MountPath); why != "" {
			return nil, refuse(at+".mountPath", "%.64q %s", m.MountPath, why)
		}
		target := path.Clean(m.MountPath)
		if targets[target] {
			return nil, refuse(at+".mountPath", "%.64q is mounted twice", m.MountPath)
		}
		targets[target] = true
		out = append(out, structs.PodMount{Volume: m.Name, Path: target, ReadOnly: m.ReadOnly || volume.ReadOnly})
	}
	return out, nil
}
