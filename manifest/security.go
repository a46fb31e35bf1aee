package manifest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// engineCaps are the capabilities that engines give containers.
var engineCaps = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

// otherCaps are the other capabilities of Linux.
var otherCaps = []string{"AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "IPC_LOCK",
	"IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYS_ADMIN", "SYS_BOOT",
	"SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM"}

// security derives what a container may do: its own fields, else the pod's.
func security(pod *v1.PodSecurityContext, own *v1.SecurityContext, at string) (structs.PodSecurity, error) {
	pod, own = cmp.Or(pod, new(v1.PodSecurityContext)), cmp.Or(own, new(v1.SecurityContext))
	if err := checkIDs(at, own.RunAsUser, own.RunAsGroup); err != nil {
		return structs.PodSecurity{}, err
	}
	isTrue := func(b *bool) bool { return b != nil && *b }
	out := structs.PodSecurity{
		RunAsUser:    cmp.Or(own.RunAsUser, pod.RunAsUser),
		RunAsGroup:   cmp.Or(own.RunAsGroup, pod.RunAsGroup),
		RunAsNonRoot: isTrue(cmp.Or(own.RunAsNonRoot, pod.RunAsNonRoot)),
		ReadOnlyRoot: isTrue(own.ReadOnlyRootFilesystem),
		NoNewPrivs:   own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation,
	}
	if out.RunAsGroup != nil && out.RunAsUser == nil {
		return out, refuse(at+".runAsGroup", "%d is given without a user: give runAsUser too", *out.RunAsGroup)
	}
	if out.RunAsNonRoot && out.RunAsUser != nil && *out.RunAsUser == 0 {
		return out, refuse(at+".runAsUser", "0 is root, which runAsNonRoot forbids")
	}
	if own.Capabilities == nil {
		return out, nil
	}
	var err error
	out.DropCaps, err = dropped(own.Capabilities, at+".capabilities")
	return out, err
}

// dropped returns the capabilities that a container doesn't have. No capability is
// added: one that engines give anyway is left out of what is dropped.
func dropped(c *v1.Capabilities, at string) ([]string, error) {
	var add, drop []string
	for i, name := range c.Add {
		capability := capName(name)
		if !slices.Contains(engineCaps, capability) {
			return nil, refuse(at+index(".add", i), "%.64q is not supported: containers get no capability "+
				"that the engine doesn't give anyway", name)
		}
		add = append(add, capability)
	}
	for i, name := range c.Drop {
		capability := capName(name)
		if capability != "ALL" && !slices.Contains(engineCaps, capability) && !slices.Contains(otherCaps, capability) {
			return nil, refuse(at+index(".drop", i), "%.64q is not the name of a capability of Linux: "+
				"write one such as NET_RAW, or ALL", name)
		}
		drop = append(drop, capability)
	}
	if slices.Contains(drop, "ALL") && len(add) > 0 {
		drop = slices.Clone(engineCaps)
	}
	drop = slices.DeleteFunc(drop, func(name string) bool { return slices.Contains(add, name) })
	slices.Sort(drop)
	return slices.Compact(drop), nil
}

// capName returns the name of a capability without CAP_, in upper case.
func capName(c string) string {
	return strings.TrimPrefix(strings.ToUpper(c), "CAP_")
}

// checkIDs checks a user's and a group's number.
func checkIDs(at string, user, group *int64) error {
	if err := checkID(at+".runAsUser", user); err != nil {
		return err
	}
	return checkID(at+".runAsGroup", group)
}

func checkID(at string, id *int64) error {
	if id != nil && (*id < 0 || *id > 1<<31-1) {
		return refuse(at, "%d not in 0..%d", *id, 1<<31-1)
	}
	return nil
}
