package agent

import (
	"time"

	"github.com/stackforge/magnum/structs"
)

// record is what the journal keeps of one placement of a container, which is a
// workload or a part of one: what labels and the engine can't tell. Written by the
// reconciler.
type record struct {
	structs.Ref
	Generation uint64  `json:"gen,omitempty"`      // newest generation carried out or given up
	Failed     bool    `json:"failed,omitempty"`   // it was given up; Reason says why
	Reason     string  `json:"reason,omitempty"`   // of Failed
	Created    bool    `json:"created,omitempty"`  // the engine had the container once: it is never made again
	Intent     *intent `json:"intent,omitempty"`   // a start that is under way
	Kill       *kill   `json:"kill,omitempty"`     // the last signal that a user has asked for
	Denied     string  `json:"denied,omitempty"`   // why the engine does not give the limits; "" if it does
	Restarts   int     `json:"restarts,omitempty"` // by restart policy, up to the last start by the agent
	Tries      int     `json:"tries,omitempty"`    // of them by the agent since a user last started it; of exclusive ones
	Lease      bool    `json:"lease,omitempty"`    // it runs only while the host has a lease
	Lapsed     *intent `json:"lapsed,omitempty"`   // the run that the agent has ended because the lease did: it goes on when there is one again
	EngineID   string  `json:"engine,omitempty"`   // the engine's own id of the container: proves which one it is
	Copied     bool    `json:"copied,omitempty"`   // others carry its labels: EngineID outlives the rest of the record
	Forgotten  bool    `json:"forget,omitempty"`   // the record is no longer needed
}

// proof returns the part of the record that stays while there are copies.
func (r record) proof() record {
	return record{Ref: r.Ref, EngineID: r.EngineID, Copied: r.Copied}
}

// bare reports whether the record says nothing but that.
func (r record) bare() bool { return r == r.proof() }

// lost reports whether the record says nothing of what was carried out: the journal
// has lost that, if there was anything.
func (r record) lost() bool { return !r.Created && r.Generation == 0 }

// intent is written before a start, so that an agent that was killed in
// between can tell whether it happened: then StartedAt has changed.
type intent struct {
	Generation uint64    `json:"gen"`
	StartedAt  time.Time `json:"started_at,omitzero"` // as it was before
}

// kill is written before a signal is sent: an agent that finds it has sent the
// signal, or was killed in between and does not send it again.
type kill struct {
	Generation uint64    `json:"gen"`
	Signal     string    `json:"signal"`
	StartedAt  time.Time `json:"started_at,omitzero"` // of the process that was to get it
	Refused    string    `json:"refused,omitempty"`   // why it was not sent; "" if it was
}

// seen is how far the agent has followed its cluster. It goes back only with a
// leader's word that it has followed another history.
type seen struct {
	ClusterID   string `json:"cluster_id"`
	Incarnation uint64 `json:"incarnation"`
	Index       uint64 `json:"index"`
	Lineage     string `json:"lineage,omitempty"`    // the newest one in the state of Index; "" if the servers tell of none
	BayID       string `json:"bay_id,omitempty"`     // the bay that had the host then
	Quarantine  bool   `json:"quarantine,omitempty"` // it has followed another history: what the next confirmed full answer doesn't name goes into quarantine
}
