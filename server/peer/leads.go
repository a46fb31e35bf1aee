package peer

import "context"

// Cluster knows the leader. *raftlog.Log implements it.
type Cluster interface {
	// Leader returns the leader's ID and address, "" while there is none.
	Leader() (id, addr string)
	// Changed returns a channel that is closed when Leader next changes.
	Changed() <-chan struct{}
}

// WhileLeads returns a context that ends when the server is no longer the leader. A caller
// stops waiting for its answer then: the server may be frozen, with its connections still
// open. The caller calls cancel.
func WhileLeads(ctx context.Context, c Cluster, leaderID string) (leads context.Context, cancel context.CancelFunc) {
	leads, cancel = context.WithCancel(ctx)
	go func() {
		for {
			changed := c.Changed()
			if now, _ := c.Leader(); now != leaderID {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-leads.Done():
				return
			}
		}
	}()
	return leads, cancel
}
