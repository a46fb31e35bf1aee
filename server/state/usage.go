package state

import (
	"slices"

	"github.com/stackforge/magnum/structs"
)

// Usage is what the workloads of one host reserve. The store keeps one for each host,
// consistent with the rows: every workload that is placed there counts until its row is
// deleted or moved. The zero Usage is that of an empty host.
//
// A Usage is a value: copy it with Clone before Add or Remove, because a plain copy shares
// the ports.
type Usage struct {
	Workloads int
	Memory    int64 // bytes
	MilliCPU  int64 // thousandths of a core

	ports []uint32 // portKey of each reserved host port, sorted; a port that is reserved twice occurs twice
}

// portKey packs protocol and port into one number. "" is tcp.
func portKey(protocol string, port int) uint32 {
	key := uint32(port) & 0xffff
	switch protocol {
	case "", "tcp":
		return key
	case "udp":
		return key | 1<<16
	}
	return key | 2<<16
}

// HasPort reports whether a workload reserves the port of the host. Ports that the engine
// chooses are not reserved.
func (u *Usage) HasPort(protocol string, hostPort int) bool {
	_, found := slices.BinarySearch(u.ports, portKey(protocol, hostPort))
	return found
}

// Ports returns the number of reserved host ports.
func (u *Usage) Ports() int { return len(u.ports) }

// Clone returns a copy that shares nothing with u.
func (u *Usage) Clone() Usage {
	c := *u
	c.ports = slices.Clone(u.ports)
	return c
}

// Add adds a workload with the demand. It doesn't check where the workload is placed.
func (u *Usage) Add(d structs.Demand) {
	u.Workloads++
	u.Memory += d.Memory
	u.MilliCPU += d.MilliCPU
	for _, p := range d.Ports {
		if p.HostPort != 0 {
			key := portKey(p.Protocol, p.HostPort)
			at, _ := slices.BinarySearch(u.ports, key)
			u.ports = slices.Insert(u.ports, at, key)
		}
	}
}

// Remove undoes an Add of the same demand.
func (u *Usage) Remove(d structs.Demand) {
	u.Workloads--
	u.Memory -= d.Memory
	u.MilliCPU -= d.MilliCPU
	for _, p := range d.Ports {
		if p.HostPort != 0 {
			if at, found := slices.BinarySearch(u.ports, portKey(p.Protocol, p.HostPort)); found {
				u.ports = slices.Delete(u.ports, at, at+1)
			}
		}
	}
}

// sameReservation reports whether two rows reserve the same, so that most status reports
// don't touch the usage table.
func sameReservation(a, b structs.Demand) bool {
	return a.Memory == b.Memory && a.MilliCPU == b.MilliCPU && slices.Equal(a.Ports, b.Ports)
}

// shrinks reports whether b reserves less of anything than a.
func shrinks(a, b structs.Demand) bool {
	if b.Memory < a.Memory || b.MilliCPU < a.MilliCPU {
		return true
	}
	for _, p := range a.Ports {
		kept := func(q structs.Port) bool {
			return portKey(p.Protocol, p.HostPort) == portKey(q.Protocol, q.HostPort)
		}
		if p.HostPort != 0 && !slices.ContainsFunc(b.Ports, kept) {
			return true
		}
	}
	return false
}
