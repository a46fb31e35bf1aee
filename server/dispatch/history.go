package dispatch

import (
	"context"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// diverged reports whether the agent has followed another history of the cluster than that
// of the state: see structs.Lineages. Within one history, a state at or after the index
// that the agent has seen holds the lineage that the agent saw there, even if that state
// isn't the newest. Another incarnation has its own indexes, and the agent learns of it
// from the answer.
func diverged(snap *state.Snapshot, p Poll) bool {
	c := snap.Cluster()
	return p.Lineage != "" && c != nil && c.Incarnation == p.Incarnation && !snap.Lineages().Holds(p.Lineage, p.Seen)
}

// divergedError returns the error for an agent that has followed another history than this
// server. The agent has to register again, and the leader then decides by its own state. A
// server that can't prove that it is up to date may itself have the other history.
// CodeConflict, CodeUnavailable.
func (d *Dispatch) divergedError(p Poll) error {
	if err := d.catchUp(context.Background()); err != nil || !diverged(d.config.Store.Snapshot(), p) {
		return structs.Errorf(structs.CodeUnavailable, "this server does not know yet whether its state follows from index %d: ask another",
			p.Seen)
	}
	return structs.Errorf(structs.CodeConflict,
		"this host has followed another history of the cluster, up to index %d: the servers were restored from older data; it has to "+
			"register again, and what the cluster doesn't know goes into quarantine", p.Seen).About(structs.KindHost)
}

// behindError returns the error for an agent that has seen a later index than this server
// has reached. If the server is up to date nevertheless, the agent has followed another
// history.
func (d *Dispatch) behindError(p Poll) error {
	if d.catchUp(context.Background()) == nil && diverged(d.config.Store.Snapshot(), p) {
		return d.divergedError(p)
	}
	return structs.Errorf(structs.CodeUnavailable, "this server is behind index %d: ask another", p.Seen)
}

// decidedSince returns the quarantined workloads of the host about which operators have
// decided after the index.
func decidedSince(snap *state.Snapshot, hostID string, index uint64) (decided []structs.Quarantined) {
	for _, page := range snap.Quarantine(hostID) {
		if page.ModifyIndex <= index {
			continue
		}
		for _, k := range page.Kept {
			if k.Adoption != structs.AdoptionNone {
				decided = append(decided, k)
			}
		}
	}
	return decided
}

// ReportQuarantine takes an agent's report of its host's quarantine. Errors: CodeConflict
// for a registration that is not the host's last one, CodeInvalid, and those of
// conductor.TakeQuarantine.
func (d *Dispatch) ReportQuarantine(ctx context.Context, hostID string, r structs.QuarantineReport) (structs.QuarantineReported, error) {
	var answer structs.QuarantineReported
	if len(r.Kept) > structs.QuarantinePage || len(r.Ended) > structs.QuarantinePage {
		return answer, structs.Errorf(structs.CodeInvalid, "kept and ended: %d and %d in one report are more than %d", len(r.Kept),
			len(r.Ended), structs.QuarantinePage)
	}
	for i := range r.Kept {
		k := &r.Kept[i]
		field := "container_id"
		if k.Kind != "" {
			field = "id"
		}
		if id := k.Ref().ID; !structs.IsID(id) {
			return answer, structs.Errorf(structs.CodeInvalid, "kept[%d].%s: Expected a uuid but received %.64s.", i, field, id)
		}
		for _, field := range []struct{ name, value string }{{"kind", string(k.Kind)}, {"name", k.Name}, {"project_id", k.ProjectID},
			{"spec_hash", k.SpecHash}, {"state", k.State}} {
			if err := structs.CheckLine("kept."+field.name, field.value, structs.MaxName*4); err != nil {
				return answer, err
			}
		}
	}
	if err := d.refuseSuperseded(hostID, r.Registration); err != nil {
		return answer, err
	}
	d.heartbeats.recordNow(hostID)
	if len(r.Kept) > 0 {
		names := make([]string, len(r.Kept))
		for i, k := range r.Kept {
			names[i] = strings.TrimSpace(k.Ref().ID + " " + k.Name)
		}
		d.config.Logger.Warn("host keeps containers in quarantine: see host-show, and end it with host-adopt", "host_id", hostID,
			"container_id", names)
	}
	err := conductor.TakeQuarantine(ctx, d.config.Conductor, conductor.ReportQuarantine{HostID: hostID, QuarantineReport: r})
	answer.Index = d.config.Store.Index()
	return answer, err
}
