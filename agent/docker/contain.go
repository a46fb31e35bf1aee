package docker

import (
	"net/netip"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Containment is what an operator lets containers have of their host, whatever their specs
// say. It is written by the operator and applies to containers that are created from then
// on.
type Containment struct {
	Pids          int64      // processes and threads of a container; 0 means 4096, -1 no limit
	NewPrivileges bool       // lets programs gain privileges, by setuid bits for example; pods ask for that themselves
	Tmpfs         int64      // bytes of a tmpfs whose size the user leaves open; 0 means 64 MiB, -1 no limit
	Shm           int64      // bytes of /dev/shm; 0 means 64 MiB
	Publish       netip.Addr // address at which ports are published; the zero value means all of the host's
}

// Defaults of Containment.
const (
	DefaultPids  = 4096
	DefaultTmpfs = 64 << 20 // bytes
	DefaultShm   = 64 << 20 // bytes
)

func (c Containment) withDefaults() Containment {
	if c.Pids == 0 {
		c.Pids = DefaultPids
	}
	if c.Tmpfs == 0 {
		c.Tmpfs = DefaultTmpfs
	}
	if c.Shm == 0 {
		c.Shm = DefaultShm
	}
	return c
}

// validate checks the limits. Errors are CodeInvalid and name the flags.
func (c Containment) validate() error {
	const leastPids, leastBytes = 8, 64 << 10
	switch {
	case c.Pids != -1 && (c.Pids < leastPids || c.Pids > 1<<22):
		return structs.Errorf(structs.CodeInvalid, "-container-pids %d not in %d..%d (0: the default, -1: no limit)", c.Pids, leastPids,
			1<<22)
	case c.Tmpfs != -1 && (c.Tmpfs < leastBytes || c.Tmpfs > structs.MaxMemory):
		return structs.Errorf(structs.CodeInvalid, "-container-tmpfs %d not in %d..%d bytes (0: the default, -1: no limit)", c.Tmpfs,
			leastBytes, int64(structs.MaxMemory))
	case c.Shm < leastBytes || c.Shm > structs.MaxMemory:
		return structs.Errorf(structs.CodeInvalid, "-container-shm %d not in %d..%d bytes (0: the default)", c.Shm, leastBytes,
			int64(structs.MaxMemory))
	}
	return nil
}

// tmpfs returns the size in bytes of a tmpfs for which the user asks for so many; 0 means no
// limit.
func (c Containment) tmpfs(asked int64) int64 {
	if asked > 0 {
		return asked
	}
	return max(c.Tmpfs, 0)
}

// contain applies what doesn't depend on the spec. A container that joins an infra container
// has the /dev/shm of that one.
func (c Containment) contain(req backend.CreateRequest, host *container.HostConfig) {
	if c.Pids > 0 {
		host.PidsLimit = &c.Pids
	}
	host.ShmSize = c.Shm
	if req.Pod == nil && !c.NewPrivileges {
		host.SecurityOpt = []string{noNewPrivileges}
	}
}

// noNewPrivileges is the engine's name of the option.
const noNewPrivileges = "no-new-privileges"

// hostIP returns the address at which ports are published, "" for all of the host's.
func (c Containment) hostIP() string {
	if !c.Publish.IsValid() {
		return ""
	}
	return c.Publish.String()
}
