package conductor

import (
	"context"

	"github.com/stackforge/magnum/server/conductor/quarantine"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// ReportQuarantine is an agent's report of its host's quarantine.
type ReportQuarantine struct {
	HostID string
	structs.QuarantineReport
}

// TakeQuarantine has a report of a quarantine decided, in as many entries as it needs.
// Errors: those of Do; CodeNotFound, CodeConflict for a registration that isn't the host's
// last one, CodeTooLarge if the quarantine is full.
func TakeQuarantine(ctx context.Context, c *Conductor, r ReportQuarantine) error {
	for {
		rest, err := Do(ctx, c, r)
		if err != nil || rest == nil {
			return err
		}
		r.QuarantineReport = *rest
	}
}

// decide returns the part of the report for which the entry had no room, nil if none.
func (r ReportQuarantine) decide(t *scratch.Tx) (*structs.QuarantineReport, error) {
	return quarantine.Take(t, r.HostID, r.QuarantineReport)
}

// AdoptContainer decides what happens to a container in a host's quarantine. The agent
// carries it out. Repeating the same decision changes nothing.
type AdoptContainer struct {
	Caller    structs.Caller
	Host      string // UUID or name
	Container string // UUID, or its former name
	Remove    bool   // remove it; otherwise it is adopted, for which the cluster must have its row
}

func (r AdoptContainer) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Host)
	if err != nil {
		return nil, err
	}
	return quarantine.Adopt(t, h, r.Container, r.Remove)
}
