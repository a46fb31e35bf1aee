package peer

import "context"

// Cluster knows who leads. *raftlog.Log is one.
type Cluster interface {
	// Leader returns the leader's ID and address, "" while there is none.
	Leader() (id, addr string)
	// Changed returns a channel that is closed when that is another one.
	Changed() <-chan struct{}
}

// WhileLeads returns a context that ends when the server no longer is the
// leader: what was asked of it isn't waited for, because it may be frozen, with
// its connections as good as ever. The caller calls cancel.
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
