package agent

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// sharedPosition is what the agents of a cluster remember together of the servers' history
// that they have followed: the data directory of an agent may be new, and another agent may
// have been active before. The cluster keeps it. It is written when another cluster,
// incarnation or lineage is followed, so its index may be behind.
type sharedPosition struct {
	cluster backend.Cluster
	hostID  string // the host that has followed it
	journal *journal
	log     hclog.Logger
	longest time.Duration // pause between two tries

	kept position // what the cluster has, without index
}

// followed is the text in the cluster, as JSON.
type followed struct {
	HostID string `json:"host_id"`
	position
}

// recall waits for the cluster to tell the position, and takes it over into the journal. It
// is the authority: if an operator has removed it, the agent has followed nothing. ctx's
// error, or that of the journal. CodeInvalid if the text is none of ours.
func (s *sharedPosition) recall(ctx context.Context) error {
	retry := backoff{min: 100 * time.Millisecond, max: s.longest}
	text, err := s.cluster.Recall(ctx)
	for ; err != nil; text, err = s.cluster.Recall(ctx) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("the cluster does not tell what its agents have followed; trying again", "error", err)
		if err := retry.wait(ctx, 0); err != nil {
			return err
		}
	}
	var noted followed
	if text != "" {
		if err := json.Unmarshal([]byte(text), &noted); err != nil {
			return structs.Errorf(structs.CodeInvalid, "what the agents of the cluster remember is damaged (followed in the Secret "+
				"magnum-agent): remove it if the servers' cluster was never restored: %w", err)
		}
	}
	at := noted.position
	if noted.HostID != s.hostID {
		at = position{} // the cluster was another host
	}
	own := s.journal.position()
	s.kept = at.historic()
	if own.historic() == s.kept {
		return nil // and has the newer index
	}
	return s.journal.advance(at)
}

// historic returns the part of a position that tells histories apart.
func (p position) historic() position {
	p.Index, p.BayID = 0, ""
	return p
}

// remember has the cluster keep the position, if it isn't the one that is kept.
func (s *sharedPosition) remember(ctx context.Context) error {
	at := s.journal.position()
	if at.historic() == s.kept {
		return nil
	}
	at.BayID = ""
	text, err := json.Marshal(followed{s.hostID, at})
	if err != nil {
		return err
	}
	if err := s.cluster.Remember(ctx, string(text)); err != nil {
		return err
	}
	s.kept = at.historic()
	return nil
}
