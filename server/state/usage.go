package state

import (
	"slices"

	"github.com/stackforge/magnum/structs"
)

// Usage is what the containers of one host have reserved. The store keeps one
// for each host, in step with the container rows: every container that is
// placed there counts, until its row is deleted or moved. The zero Usage is
// that of an empty host.
//
// A Usage is a value: copy it with Clone before Add or Remove, because a plain
// copy shares the ports.
type Usage struct {
	Containers int
	Memory     int64 // bytes
	MilliCPU   int64 // thousandths of a core

	ports []uint32 // portKey of each reserved host port, sorted; one that is reserved twice is there twice
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

// HasPort reports whether a container has reserved the port of the host. Ports
// that the engine picks by itself are not reserved.
func (u *Usage) HasPort(protocol string, hostPort int) bool {
	_, found := slices.BinarySearch(u.ports, portKey(protocol, hostPort))
	return found
}

// Ports returns how many host ports are reserved.
func (u *Usage) Ports() int { return len(u.ports) }

// Clone returns a copy that shares nothing with u.
func (u *Usage) Clone() Usage {
	c := *u
	c.ports = slices.Clone(u.ports)
	return c
}

// Add counts the container in. It doesn't look at where the container is placed.
func (u *Usage) Add(c *structs.Container) {
	memory, milliCPU := c.Reserved()
	u.Containers++
	u.Memory += memory
	u.MilliCPU += milliCPU
	for _, p := range c.Spec.Ports {
		if p.HostPort != 0 {
			key := portKey(p.Protocol, p.HostPort)
			at, _ := slices.BinarySearch(u.ports, key)
			u.ports = slices.Insert(u.ports, at, key)
		}
	}
}

// Remove undoes Add for the same row.
func (u *Usage) Remove(c *structs.Container) {
	memory, milliCPU := c.Reserved()
	u.Containers--
	u.Memory -= memory
	u.MilliCPU -= milliCPU
	for _, p := range c.Spec.Ports {
		if p.HostPort != 0 {
			if at, found := slices.BinarySearch(u.ports, portKey(p.Protocol, p.HostPort)); found {
				u.ports = slices.Delete(u.ports, at, at+1)
			}
		}
	}
}

// sameReservation reports whether two rows reserve the same, so that most status
// reports cost the usage table nothing.
func sameReservation(a, b *structs.Container) bool {
	memory, milliCPU := a.Reserved()
	memory2, milliCPU2 := b.Reserved()
	return memory == memory2 && milliCPU == milliCPU2 && slices.Equal(a.Spec.Ports, b.Spec.Ports)
}

// shrinks reports whether b reserves less of anything than a.
func shrinks(a, b *structs.Container) bool {
	memory, milliCPU := a.Reserved()
	if less, lessCPU := b.Reserved(); less < memory || lessCPU < milliCPU {
		return true
	}
	for _, p := range a.Spec.Ports {
		kept := func(q structs.Port) bool {
			return portKey(p.Protocol, p.HostPort) == portKey(q.Protocol, q.HostPort)
		}
		if p.HostPort != 0 && !slices.ContainsFunc(b.Spec.Ports, kept) {
			return true
		}
	}
	return false
}
