package dispatch

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Poll is an agent's long poll.
type Poll struct {
	HostID       string
	Registration uint64        // the number that registering gave; another one is refused
	Index        uint64        // of the last answer that the agent took; 0 asks for everything
	Incarnation  uint64        // of that answer
	Wait         time.Duration // how long to park if nothing has changed; at most structs.MaxWork
}

// confirmTimeout bounds the wait for the leader's read index: of a full answer,
// which without it isn't marked confirmed, and of a host that isn't known.
const confirmTimeout = 2 * time.Second

// Work answers a poll as soon as the host's assignments have changed since
// Poll.Index or there are sessions to open, else after Poll.Wait. Errors:
// CodeConflict for a registration that is not the host's last one,
// CodeUnavailable while this server's state is behind Poll.Index.
func (d *Dispatch) Work(ctx context.Context, p Poll) (*structs.Work, error) {
	d.touch(p.HostID)
	p.Wait = min(max(p.Wait, 0), structs.MaxWork)
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()

	changed := d.Store.Subscribe(state.TopicHost(p.HostID))
	defer changed.Close()
	box := d.open(p.HostID)
	defer d.leave(p.HostID, box)

	if d.Store.Index() < p.Index && d.Store.WaitIndex(ctx, p.Index) != nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "this server is behind index %d: ask another", p.Index)
	}
	full, err := d.mustBeFull(ctx, p)
	if err != nil {
		return nil, err
	}
	if full {
		return d.fullWork(p), nil
	}
	for {
		snap := d.Store.Snapshot()
		if err := checkRegistration(snap, p); err != nil {
			return nil, err
		}
		work := d.newWork(snap)
		for c := range snap.AssignedSince(p.HostID, p.Index) {
			work.Assignments = append(work.Assignments, structs.AssignmentOf(c))
		}
		work.Sessions = box.take()
		if len(work.Assignments) > 0 || len(work.Sessions) > 0 {
			return work, nil
		}
		select {
		case <-changed.C():
		case <-box.wake:
		case <-ctx.Done():
			return work, nil
		}
	}
}

// mustBeFull reports whether the agent has to be told everything: it asks for
// it, follows another incarnation, or was given up as lost meanwhile, so that
// rows may have gone without it.
func (d *Dispatch) mustBeFull(ctx context.Context, p Poll) (bool, error) {
	snap := d.Store.Snapshot()
	if err := checkRegistration(snap, p); err != nil {
		return false, err
	}
	host := snap.Host(p.HostID)
	if host.State == structs.HostLost {
		mark := conductor.MarkHost{ID: p.HostID, State: structs.HostReady}
		if _, err := conductor.Do(context.WithoutCancel(ctx), d.Conductor, mark); err != nil {
			return false, err
		}
		d.Logger.Info("host is back", "host_id", p.HostID, "name", host.Name)
		return true, nil
	}
	cluster := snap.Cluster()
	return p.Index == 0 || cluster == nil || cluster.Incarnation != p.Incarnation, nil
}

// fullWork answers with all assignments of the host. It is confirmed only if
// the leader says that nothing was committed that this server hasn't applied:
// an agent removes what it doesn't know on no lesser word.
func (d *Dispatch) fullWork(p Poll) *structs.Work {
	err := d.catchUp(context.Background())
	if err != nil {
		d.Logger.Warn("full answer is not confirmed", "host_id", p.HostID, "error", err)
	}
	snap := d.Store.Snapshot()
	work := d.newWork(snap)
	work.Full, work.Confirmed = true, err == nil
	for c := range snap.ContainersOnHost(p.HostID) {
		work.Assignments = append(work.Assignments, structs.AssignmentOf(c))
	}
	return work
}

func (d *Dispatch) newWork(snap *state.Snapshot) *structs.Work {
	work := &structs.Work{Index: snap.Index(), Assignments: []structs.Assignment{}, Servers: d.Servers()}
	if c := snap.Cluster(); c != nil {
		work.ClusterID, work.Incarnation = c.ClusterID, c.Incarnation
	}
	return work
}

func checkRegistration(snap *state.Snapshot, p Poll) error {
	host := snap.Host(p.HostID)
	if host == nil {
		return structs.Errorf(structs.CodeUnauthenticated, "host %s is not registered", p.HostID).About(structs.KindHost)
	}
	if host.Registration != p.Registration {
		return structs.Errorf(structs.CodeConflict, "registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to register again", p.Registration, p.HostID, host.Registration).About(structs.KindHost)
	}
	return nil
}
