package dispatch

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Poll is an agent's long poll.
type Poll struct {
	HostID       string
	Registration uint64        // the number that registering gave; another one is refused
	Index        uint64        // of the last answer that the agent took; 0 asks for everything
	Incarnation  uint64        // of that answer
	Lineage      string        // of the last answer that the agent took; "" if it has seen none
	Seen         uint64        // index of that answer, also if Index asks for everything
	Sent         uint64        // grows with each poll of the host; 0 for a host without leases
	Wait         time.Duration // how long to park if nothing has changed; at most structs.MaxWork
}

// confirmTimeout bounds the wait for the leader's read index: of a full answer,
// which without it isn't marked confirmed, and of a host that isn't known.
const confirmTimeout = 2 * time.Second

// Work answers a poll as soon as the host's assignments have changed since
// Poll.Index or there are sessions to open, else after Poll.Wait. Errors:
// CodeConflict for a registration that is not the host's last one,
// or that has followed another history of the cluster and has to register again,
// CodeUnavailable while this server's state is behind Poll.Index.
func (d *Dispatch) Work(ctx context.Context, p Poll) (*structs.Work, error) {
	if err := d.over(p.HostID, p.Registration); err != nil {
		return nil, err
	}
	d.heartbeats.polled(p.HostID, p.Sent)
	p.Wait = min(max(p.Wait, 0), structs.MaxWork)
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()

	select {
	case <-d.leaderless.begun():
		return nil, structs.Errorf(structs.CodeUnavailable, "this server knows of no leader: ask another")
	default:
	}
	changed := d.config.Store.Subscribe(state.TopicHost(p.HostID))
	defer changed.Close()
	box := d.sessions.enter(p.HostID)
	defer d.sessions.leave(p.HostID, box)

	p.Seen = max(p.Seen, p.Index)
	if !d.reaches(ctx, p.Seen) {
		return nil, d.behind(p)
	}
	for {
		snap := d.config.Store.Snapshot()
		if err := checkRegistration(snap, p); err != nil {
			return nil, err
		}
		if diverged(snap, p) {
			return nil, d.parted(p)
		}
		if mustBeFull(snap, p) {
			if err := d.awaitReady(ctx, p.HostID); err != nil {
				return nil, err
			}
			return d.fullWork(p), nil
		}
		work := d.newWork(snap, p.HostID)
		for w := range snap.AssignedSince(p.HostID, p.Index) {
			work.Assignments = append(work.Assignments, structs.AssignmentOf(w, p.HostID))
		}
		work.Quarantine = decidedSince(snap, p.HostID, p.Index)
		work.Sessions = box.take()
		if len(work.Assignments) > 0 || len(work.Quarantine) > 0 || len(work.Sessions) > 0 {
			return work, nil
		}
		select {
		case <-changed.C():
		case <-box.wake:
		case <-d.leaderless.begun():
			return nil, structs.Errorf(structs.CodeUnavailable, "this server knows of no leader: ask another")
		case <-ctx.Done():
			work.Acknowledged, work.Lease = d.heartbeats.acknowledged(p.HostID)
			return work, nil
		}
	}
}

// behindTimeout bounds the wait of a server that is behind a poll: one that has
// just been started may take long, and another one has what the agent wants.
const behindTimeout = time.Second

// reaches waits until this server's state has come to the index.
func (d *Dispatch) reaches(ctx context.Context, index uint64) bool {
	if d.config.Store.Index() >= index {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, behindTimeout)
	defer cancel()
	return d.config.Store.WaitIndex(ctx, index) == nil
}

// mustBeFull reports whether the agent has to be told everything: it asks for
// it, follows another incarnation, or was given up as lost meanwhile, so that
// rows may have gone without it.
func mustBeFull(snap *state.Snapshot, p Poll) bool {
	host, cluster := snap.Host(p.HostID), snap.Cluster()
	return p.Index == 0 || cluster == nil || cluster.Incarnation != p.Incarnation ||
		host.State == structs.HostLost || p.Index <= host.ReturnIndex
}

// awaitReady returns once this server's state has the host ready. The leader
// has just heard of it, or hears of it from this server, and takes it back:
// until then what stands in the state may be about to be placed elsewhere.
// CodeUnavailable if that takes too long.
func (d *Dispatch) awaitReady(ctx context.Context, hostID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
	defer cancel()
	changed := d.config.Store.Subscribe(state.TopicRow(structs.TableHosts, hostID))
	defer changed.Close()
	for {
		host := d.config.Store.Snapshot().Host(hostID)
		if host == nil || host.State == structs.HostReady {
			return nil
		}
		select {
		case <-changed.C():
		case <-ctx.Done():
			return structs.Errorf(structs.CodeUnavailable, "host %s is %s, and the leader has not taken it back yet: try again", host.Name, host.State).About(structs.KindHost)
		}
	}
}

// fullWork answers with all assignments of the host. It is confirmed only if
// the leader says that nothing was committed that this server hasn't applied:
// an agent removes what it doesn't know on no lesser word.
func (d *Dispatch) fullWork(p Poll) *structs.Work {
	err := d.catchUp(context.Background())
	if err != nil {
		d.config.Logger.Warn("full answer is not confirmed", "host_id", p.HostID, "error", err)
	}
	snap := d.config.Store.Snapshot()
	work := d.newWork(snap, p.HostID)
	work.Full, work.Confirmed = true, err == nil
	for w := range snap.OnHost(p.HostID) {
		work.Assignments = append(work.Assignments, structs.AssignmentOf(w, p.HostID))
	}
	for _, page := range snap.Quarantine(p.HostID) {
		work.Pending = work.Pending || page.Pending
		work.Quarantine = append(work.Quarantine, page.Kept...)
	}
	return work
}

func (d *Dispatch) newWork(snap *state.Snapshot, hostID string) *structs.Work {
	work := &structs.Work{Index: snap.Index(), Assignments: []structs.Assignment{}, Servers: d.config.Servers(), Lineage: snap.Lineages().Current()}
	work.Acknowledged, work.Lease = d.heartbeats.acknowledged(hostID)
	if h := snap.Host(hostID); h != nil {
		work.BayID = &h.BayID
	}
	if c := snap.Cluster(); c != nil {
		work.ClusterID, work.Incarnation, work.HostLostAfter = c.ClusterID, c.Incarnation, c.HostLostAfter
	}
	return work
}

func checkRegistration(snap *state.Snapshot, p Poll) error {
	host := snap.Host(p.HostID)
	if host == nil {
		return structs.Errorf(structs.CodeUnauthenticated, "host %s is not registered", p.HostID).About(structs.KindHost)
	}
	if host.Registration != p.Registration {
		return errRegistration(host, p.Registration)
	}
	return nil
}

// over returns CodeConflict for a registration that another one has followed. An
// agent that has it is no sign of life of the host: it may never be let in again.
func (d *Dispatch) over(hostID string, registration uint64) error {
	if host := d.config.Store.Snapshot().Host(hostID); host != nil && registration < host.Registration {
		return errRegistration(host, registration)
	}
	return nil
}

func errRegistration(host *structs.Host, registration uint64) error {
	return structs.Errorf(structs.CodeConflict, "registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to register again", registration, host.ID, host.Registration).About(structs.KindHost)
}
