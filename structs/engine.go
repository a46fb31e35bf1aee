package structs

import (
	"cmp"
	"fmt"
	"time"
)

// KindEngine names the engine of a host. An error about it ends the agent.
const KindEngine = "engine"

// EngineIdentity distinguishes engines. The ID alone is not enough: engines that were
// made from one image, or that run on one machine, may share it. The backend fills it
// in. A field that the agent could not read is zero.
type EngineIdentity struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID      string    `json:"id,omitempty"`      // the engine's own
	Root    string    `json:"root,omitempty"`    // data directory
	Inode   uint64    `json:"inode,omitempty"`   // of Root
	Born    time.Time `json:"born,omitzero"`     // when Root was created
	Machine string    `json:"machine,omitempty"` // machine ID; Differs uses it in messages only
}

// Known reports whether the ID or the data directory is known.
func (e EngineIdentity) Known() bool { return e.ID != "" || e.Root != "" }

// Differs returns why now is another engine than e. "" means that no field known of
// both differs.
func (e EngineIdentity) Differs(now EngineIdentity) string {
	switch {
	case e.ID != "" && now.ID != "" && e.ID != now.ID:
		return fmt.Sprintf("its ID is %s and was %s", now.ID, e.ID) + e.machines(now)
	case e.Root != "" && now.Root != "" && e.Root != now.Root:
		return fmt.Sprintf("its directory is %s and was %s", now.Root, e.Root) + e.machines(now)
	case e.Inode != 0 && now.Inode != 0 && e.Inode != now.Inode,
		!e.Born.IsZero() && !now.Born.IsZero() && !e.Born.Equal(now.Born):
		return fmt.Sprintf("its directory %s was created again, moved, or put back from a backup", now.Root) + e.machines(now)
	}
	return ""
}

// machines says whether the machine is the same, as evidence for a person; "" if
// unknown.
func (e EngineIdentity) machines(now EngineIdentity) string {
	switch {
	case e.Machine == "" || now.Machine == "":
		return ""
	case e.Machine == now.Machine:
		return ", on the same machine"
	}
	return ", on another machine"
}

// Is reports whether both are certainly the same engine: they have the same ID and
// data directory, and no other known field differs. The machine counts too: if a
// machine is copied with its disk, only the machine IDs distinguish the engines.
func (e EngineIdentity) Is(other EngineIdentity) bool {
	machines := e.Machine == "" || other.Machine == "" || e.Machine == other.Machine
	return e.ID != "" && e.ID == other.ID && e.Root == other.Root && machines && e.Differs(other) == ""
}

// Merge returns now, with its zero fields filled in from e.
func (e EngineIdentity) Merge(now EngineIdentity) EngineIdentity {
	now.ID, now.Root, now.Machine = cmp.Or(now.ID, e.ID), cmp.Or(now.Root, e.Root), cmp.Or(now.Machine, e.Machine)
	now.Inode = cmp.Or(now.Inode, e.Inode)
	if now.Born.IsZero() {
		now.Born = e.Born
	}
	return now
}

// LabelOwner is the owner of a container on an engine, by the container's labels.
type LabelOwner struct {
	ClusterID string `json:"cluster_id"`
	HostID    string `json:"host_id"`
}

// MaxLabelOwners bounds the owners that an agent reports.
const MaxLabelOwners = 64
