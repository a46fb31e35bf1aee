package agent

import (
	"time"

	"github.com/stackforge/magnum/agent/podplan"
	"github.com/stackforge/magnum/structs"
)

// record is the journal's record of one placement of a workload or part. It holds what
// neither labels nor the engine can tell. The reconciler writes it.
type record struct {
	structs.Ref
	Generation uint64    `json:"gen,omitempty"`      // the newest generation that was carried out or has failed
	Failed     bool      `json:"failed,omitempty"`   // Generation has failed
	Reason     string    `json:"reason,omitempty"`   // why it has failed
	Created    bool      `json:"created,omitempty"`  // the engine had the container once: it is never created again
	Intent     *intent   `json:"intent,omitempty"`   // a start in progress
	Kill       *kill     `json:"kill,omitempty"`     // the last signal that a user has asked for
	Denied     string    `json:"denied,omitempty"`   // why the engine refuses the limits; "" if it doesn't
	Restarts   int       `json:"restarts,omitempty"` // by restart policy, up to the agent's last start
	Tries      int       `json:"tries,omitempty"`    // of an exclusive container: restarts by the agent since a user's last start
	Lease      bool      `json:"lease,omitempty"`    // the container runs only under a lease
	Lapsed     *intent   `json:"lapsed,omitempty"`   // the run that the agent ended with its lease: it is started again under the next one
	Halted     time.Time `json:"halted,omitzero"`    // the start of the run that the agent stopped after a process of it was out of memory
	EngineID   string    `json:"engine,omitempty"`   // the engine's ID of the container, which proves which one it is
	Copied     bool      `json:"copied,omitempty"`   // copies carry its labels: EngineID stays when the record is forgotten
	Forgotten  bool      `json:"forget,omitempty"`   // the record is no longer needed
	attemptRecord
}

// attemptRecord is the part of a record that only a part of a pod has: what is known of
// the current attempt. Created and EngineID are the attempt's, too.
type attemptRecord struct {
	Attempt  uint64             `json:"attempt,omitempty"`  // its number; 0 if none was begun
	Image    string             `json:"image,omitempty"`    // that it is made from, as the manifest names it
	Infra    string             `json:"infra,omitempty"`    // the engine's ID of the infra container that it joins
	Began    bool               `json:"began,omitempty"`    // its process may have been started
	Hooked   bool               `json:"hooked,omitempty"`   // its postStart hook has succeeded
	Up       bool               `json:"up,omitempty"`       // its startup probe has succeeded
	Ready    bool               `json:"ready,omitempty"`    // its readiness probe has succeeded, the last time that anything was known
	Halt     *halt              `json:"halt,omitempty"`     // why magnum ends its process; nil if it doesn't
	Ended    *structs.PartState `json:"ended,omitempty"`    // how it has ended; nil if it hasn't
	Deaths   int                `json:"deaths,omitempty"`   // see podplan.Part
	Last     *structs.PartState `json:"last,omitempty"`     // how the attempt before has ended; nil if there was none
	Previous string             `json:"previous,omitempty"` // the engine's ID of the attempt before; "" if the engine doesn't have it
	Run      time.Time          `json:"run,omitzero"`       // the start of its process that was seen last
	Again    int                `json:"again,omitempty"`    // how often others have started its process again
	Before   int                `json:"before,omitempty"`   // likewise, of earlier attempts together
	// Of an infra container, about the pod:
	Since   time.Time `json:"since,omitzero"`    // when the pod was begun; it may run for activeDeadlineSeconds from then on
	Expired bool      `json:"expired,omitempty"` // it has run for as long as it may
}

// halt is written before magnum ends the process of a part of a pod.
type halt struct {
	Why     string `json:"why"`               // one of the End constants of podplan
	Message string `json:"message,omitempty"` // for the user
}

// halted reports whether the end of the process says nothing about whether it is to run
// again.
func (a attemptRecord) halted() bool {
	return a.Halt != nil && a.Halt.Why != podplan.EndInfra && a.Halt.Why != podplan.EndSick
}

// proof returns the part of the record that stays while copies exist.
func (r record) proof() record {
	return record{Ref: r.Ref, EngineID: r.EngineID, Copied: r.Copied, attemptRecord: attemptRecord{Attempt: r.Attempt}}
}

// bare reports whether the record holds only its proof.
func (r record) bare() bool { return r == r.proof() }

// lost reports whether the record says nothing about what was carried out. Then either
// nothing was, or the journal was lost.
func (r record) lost() bool { return !r.Created && r.Generation == 0 && r.Attempt == 0 }

// intent is written before a start. An agent that was killed in between finds a changed
// StartedAt if the start has happened.
type intent struct {
	Generation uint64    `json:"gen"`
	StartedAt  time.Time `json:"started_at,omitzero"` // before the start
}

// kill is written before a signal is sent. An agent that finds it doesn't send the
// signal again.
type kill struct {
	Generation uint64    `json:"gen"`
	Signal     string    `json:"signal"`
	StartedAt  time.Time `json:"started_at,omitzero"` // of the process that the signal is for
	Refused    string    `json:"refused,omitempty"`   // why the signal was not sent; "" if it was
}

// position is how far the agent has followed its cluster. It goes back only if the
// leader says that the agent has followed another history.
type position struct {
	ClusterID   string `json:"cluster_id"`
	Incarnation uint64 `json:"incarnation"`
	Index       uint64 `json:"index"`
	Lineage     string `json:"lineage,omitempty"` // the newest in the state at Index; "" if the servers name none
	BayID       string `json:"bay_id,omitempty"`  // the host's bay at Index
	// Quarantine: the agent has followed another history. What the next confirmed full
	// answer doesn't name goes into quarantine.
	Quarantine bool `json:"quarantine,omitempty"`
}
