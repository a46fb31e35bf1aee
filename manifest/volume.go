package manifest

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// tokenPath is where Kubernetes mounts the token of the service account.
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// dropToken drops the volume with the token of the service account, which servers of
// Kubernetes add to each pod, and its mounts. A volume that is mounted anywhere else
// stays, and is refused.
func dropToken(spec *corev1.PodSpec) {
	lists := [][]corev1.Container{spec.InitContainers, spec.Containers}
	elsewhere := make(map[string]bool) // by name
	for _, containers := range lists {
		for _, c := range containers {
			for _, m := range c.VolumeMounts {
				elsewhere[m.Name] = elsewhere[m.Name] || m.MountPath != tokenPath
			}
		}
	}
	tokens := make(map[string]bool)
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool {
		if elsewhere[v.Name] || !isToken(&v) {
			return false
		}
		tokens[v.Name] = true
		return true
	})
	for _, containers := range lists {
		for i := range containers {
			c := &containers[i]
			c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return tokens[m.Name] })
		}
	}
}

// isToken reports whether a volume has the form of those that servers add: since
// Kubernetes 1.21 a projected one, before it a secret.
func isToken(v *corev1.Volume) bool {
	if v.Secret != nil {
		return strings.Contains(v.Secret.SecretName, "-token-")
	}
	if v.Projected == nil {
		return false
	}
	token := false
	for _, source := range v.Projected.Sources {
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

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`)

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

func volume(v *corev1.Volume, path string) (structs.PodVolume, error) {
	out := structs.PodVolume{Name: v.Name}
	if err := checkLabel(path+".name", v.Name); err != nil {
		return out, err
	}
	if v.EmptyDir != nil && v.PersistentVolumeClaim != nil {
		return out, refuse(path+".persistentVolumeClaim", "is given beside emptyDir: a volume is one of them")
	}
	if claim := v.PersistentVolumeClaim; claim != nil {
		if !volumeName.MatchString(claim.ClaimName) {
			return out, refuse(path+".persistentVolumeClaim.claimName", "%.64q is not a volume name: 1..128 letters, digits, dots, "+
				"hyphens and underscores, the first a letter or digit", claim.ClaimName)
		}
		out.Claim, out.ReadOnly = claim.ClaimName, claim.ReadOnly
		return out, nil
	}
	if empty := v.EmptyDir; empty != nil { // absent too, the default
		out.Memory = empty.Medium == corev1.StorageMediumMemory
		if limit := empty.SizeLimit; limit != nil && !limit.IsZero() {
			if !out.Memory {
				return out, refuse(path+".emptyDir.sizeLimit", "%s: only with medium: Memory: the size of a directory on the host's disk "+
					"isn't limited", limit)
			}
			if limit.Sign() < 0 || beyond(*limit, structs.MaxMemory) {
				return out, refuse(path+".emptyDir.sizeLimit", "%s not in 1..%d bytes", limit, int64(structs.MaxMemory))
			}
			out.Size = limit.Value()
		}
	}
	return out, nil
}

// mounts derives the mounts of a container.
func (b *builder) mounts(mounts []corev1.VolumeMount, at string) ([]structs.PodMount, error) {
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
		if !isTarget(m.MountPath) {
			return nil, refuse(at+".mountPath", "%.64q is not an absolute path below /", m.MountPath)
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

// isTarget reports whether something can be mounted at a path.
func isTarget(p string) bool {
	return path.IsAbs(p) && path.Clean(p) != "/" && len(p) <= structs.MaxText && !strings.Contains(p, ":") &&
		utf8.ValidString(p) && !strings.ContainsFunc(p, structs.IsControl)
}
