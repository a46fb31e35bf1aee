package structs

import (
	"cmp"
	"fmt"
	"time"
)

// KindEngine names the engine of a host. An error about it ends the agent.
const KindEngine = "engine"

// EngineIdentity tells one engine from another. The ID alone does not: engines
// that were made from one image, or that run on one machine, may share it. The
// backend fills it in. A zero field is one that the agent could not read.
type EngineIdentity struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID      string    `json:"id,omitempty"`      // the engine's own
	Root    string    `json:"root,omitempty"`    // directory of its data
	Inode   uint64    `json:"inode,omitempty"`   // of Root
	Born    time.Time `json:"born,omitzero"`     // when Root was made
	Machine string    `json:"machine,omitempty"` // machine id of where it runs: for messages, and no part of the identity
}

// Known reports whether the identity says anything.
func (e EngineIdentity) Known() bool { return e.ID != "" || e.Root != "" }

// Differs says by what now is another engine than e; "" if it is the same one, as
// far as both are known.
func (e EngineIdentity) Differs(now EngineIdentity) string {
	switch {
	case e.ID != "" && now.ID != "" && e.ID != now.ID:
		return fmt.Sprintf("its ID is %s and was %s", now.ID, e.ID) + e.machines(now)
	case e.Root != "" && now.Root != "" && e.Root != now.Root:
		return fmt.Sprintf("its directory is %s and was %s", now.Root, e.Root) + e.machines(now)
	case e.Inode != 0 && now.Inode != 0 && e.Inode != now.Inode, !e.Born.IsZero() && !now.Born.IsZero() && !e.Born.Equal(now.Born):
		return fmt.Sprintf("its directory %s is not the one that it was: it was made again, moved, or put back from a backup", now.Root) + e.machines(now)
	}
	return ""
}

// machines adds what the machines tell, as evidence for a person.
func (e EngineIdentity) machines(now EngineIdentity) string {
	switch {
	case e.Machine == "" || now.Machine == "":
		return ""
	case e.Machine == now.Machine:
		return ", on the same machine"
	}
	return ", on another machine"
}

// Is reports whether both are one engine for certain: they have the same ID and
// directory, and nothing speaks against it. Machines that were copied with their
// disk have engines that only their machine ids tell apart.
func (e EngineIdentity) Is(other EngineIdentity) bool {
	machines := e.Machine == "" || other.Machine == "" || e.Machine == other.Machine
	return e.ID != "" && e.ID == other.ID && e.Root == other.Root && machines && e.Differs(other) == ""
}

// Merge returns now, with what only e knows.
func (e EngineIdentity) Merge(now EngineIdentity) EngineIdentity {
	now.ID, now.Root, now.Machine = cmp.Or(now.ID, e.ID), cmp.Or(now.Root, e.Root), cmp.Or(now.Machine, e.Machine)
	now.Inode = cmp.Or(now.Inode, e.Inode)
	if now.Born.IsZero() {
		now.Born = e.Born
	}
	return now
}

// LabelOwner is whose containers an engine has, as their labels say.
type LabelOwner struct {
	ClusterID string `json:"cluster_id"`
	HostID    string `json:"host_id"`
}

// MaxLabelOwners bounds the owners that an agent tells of.
const MaxLabelOwners = 64
