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
	Registration uint64        // from HostRegistered; any other number is refused
	Index        uint64        // of the last answer that the agent processed; 0 asks for a full answer
	Incarnation  uint64        // of that answer
	Lineage      string        // of the last answer that the agent processed; "" if there was none
	Seen         uint64        // index of that answer, also if Index is 0
	Behind       bool          // the host doesn't serve yet what the last answer said of services
	Sent         uint64        // number of the poll, which grows with each poll of the host; 0 for a host without leases
	Wait         time.Duration // how long to wait if nothing has changed; at most structs.MaxWork
	Pages        bool          // the agent asks for the rest of an answer with After
	After        string        // More of the page before, with the Index of the first page's poll; "" for the first page
}

// confirmTimeout bounds the wait for the leader's read index. A full answer without it
// isn't marked confirmed; a host that isn't known is not refused without it.
const confirmTimeout = 2 * time.Second

// Work answers a poll as soon as the host's assignments or the services of its bay have
// changed since Poll.Index or there are sessions to open, otherwise after Poll.Wait. Errors: CodeConflict if the
// registration is not the host's last one, or if the agent has followed another history of
// the cluster and has to register again; CodeUnavailable while this server's state is
// behind Poll.Index.
func (d *Dispatch) Work(ctx context.Context, p Poll) (*structs.Work, error) {
	if err := d.refuseSuperseded(p.HostID, p.Registration); err != nil {
		return nil, err
	}
	d.heartbeats.recordPoll(p.HostID, p.Sent)
	p.Wait = min(max(p.Wait, 0), structs.MaxWork)
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()

	select {
	case <-d.leaderless.C():
		return nil, structs.Errorf(structs.CodeUnavailable, "this server knows no leader: ask another")
	default:
	}
	following := follow(d.config.Store, p.HostID)
	defer following.close()
	box := d.sessions.enter(p.HostID)
	defer d.sessions.leave(p.HostID, box)

	p.Seen = max(p.Seen, p.Index)
	if !d.waitIndex(ctx, p.Seen) {
		return nil, d.behindError(p)
	}
	for {
		snap := following.snapshot()
		if err := checkRegistration(snap, p); err != nil {
			return nil, err
		}
		if diverged(snap, p) {
			return nil, d.divergedError(p)
		}
		d.drained.record(p)
		if mustBeFull(snap, p) {
			if err := d.awaitReady(ctx, p.HostID); err != nil {
				return nil, err
			}
			return d.fullWork(p), nil
		}
		work := d.newWork(snap, p.HostID)
		p.assign(work, snap, snap.AssignedSince(p.HostID, p.Index))
		if p.After != "" {
			return work, nil // all else was in the first page
		}
		work.Quarantine = decidedSince(snap, p.HostID, p.Index)
		work.Services = servicesSince(snap, snap.Host(p.HostID), p.Index)
		work.Sessions = box.take()
		if len(work.Assignments) > 0 || len(work.Quarantine) > 0 || len(work.Sessions) > 0 || work.Services != nil {
			return work, nil
		}
		select {
		case <-following.changed():
		case <-box.wake:
		case <-d.leaderless.C():
			return nil, structs.Errorf(structs.CodeUnavailable, "this server knows no leader: ask another")
		case <-ctx.Done():
			work.Acknowledged, work.Lease = d.heartbeats.lastAcknowledged(p.HostID)
			return work, nil
		}
	}
}

// behindTimeout bounds the wait of a server that is behind a poll. A server that has just
// started may need long, and another server has what the agent wants.
const behindTimeout = time.Second

// waitIndex waits until this server's state has reached the index, and reports whether it
// has.
func (d *Dispatch) waitIndex(ctx context.Context, index uint64) bool {
	if d.config.Store.Index() >= index {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, behindTimeout)
	defer cancel()
	return d.config.Store.WaitIndex(ctx, index) == nil
}

// mustBeFull reports whether the agent needs a full answer: it asks for one, it follows
// another incarnation, or its host was lost meanwhile, so that rows may have been deleted
// without the agent.
func mustBeFull(snap *state.Snapshot, p Poll) bool {
	host, cluster := snap.Host(p.HostID), snap.Cluster()
	return p.Index == 0 || cluster == nil || cluster.Incarnation != p.Incarnation ||
		host.State == structs.HostLost || p.Index <= host.ReturnIndex
}

// awaitReady returns once the host is ready in this server's state. The leader has just
// received a heartbeat of the host, or gets it from this server, and marks the host ready.
// Before that, the workloads in this state may be about to be placed elsewhere. It returns
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
			return structs.Errorf(structs.CodeUnavailable, "host %s is %s, and the leader has not marked it ready yet: try again",
				host.Name, host.State).About(structs.KindHost)
		}
	}
}

// fullWork returns all assignments of the host. It is confirmed only if the leader says
// that this server has applied all that was committed: an agent removes unknown workloads
// only after a confirmed answer.
func (d *Dispatch) fullWork(p Poll) *structs.Work {
	err := d.catchUp(context.Background())
	if err != nil {
		d.config.Logger.Warn("full answer is not confirmed", "host_id", p.HostID, "error", err)
	}
	snap := d.config.Store.Snapshot()
	work := d.newWork(snap, p.HostID)
	work.Full, work.Confirmed = true, err == nil
	p.assign(work, snap, snap.OnHost(p.HostID))
	if p.After != "" {
		return work // all else was in the first page
	}
	for _, page := range snap.Quarantine(p.HostID) {
		work.Pending = work.Pending || page.Pending
		work.Quarantine = append(work.Quarantine, page.Kept...)
	}
	if host := snap.Host(p.HostID); host != nil {
		work.Services = allServices(snap, host)
	}
	return work
}

// assignmentOf returns the assignment of a workload for a host. The agent of a Kubernetes
// cluster gets the manifest as it was sent, others never do.
func assignmentOf(snap *state.Snapshot, w structs.Workload, hostID string) structs.Assignment {
	a := structs.AssignmentOf(w, hostID)
	if !hasManifests(snap, hostID) || a.Desired == structs.DesiredAbsent {
		return a
	}
	switch {
	case a.Pod != nil:
		if m := snap.Manifest(w.Ref().BesideID()); m != nil { // a pod that the cluster has made has none
			a.Pod.Manifest = m.Text
		}
	case a.Object != nil:
		if m := snap.Manifest(w.Base().ID); m != nil {
			a.Object.Manifest = m.Text
		}
	}
	return a
}

func (d *Dispatch) newWork(snap *state.Snapshot, hostID string) *structs.Work {
	work := &structs.Work{Index: snap.Index(), Assignments: []structs.Assignment{}, Servers: d.config.Servers(),
		Lineage: snap.Lineages().Current()}
	work.Acknowledged, work.Lease = d.heartbeats.lastAcknowledged(hostID)
	if h := snap.Host(hostID); h != nil {
		work.BayID = &h.BayID
	}
	if c := snap.Cluster(); c != nil {
		work.ClusterID, work.Incarnation, work.HostLostAfter = c.ClusterID, c.Incarnation, c.HostLostAfter
	}
	return work
}

// checkRegistration returns CodeUnauthenticated for an unknown host, and CodeConflict if
// the registration is not the host's last one.
func checkRegistration(snap *state.Snapshot, p Poll) error {
	host := snap.Host(p.HostID)
	if host == nil {
		return structs.Errorf(structs.CodeUnauthenticated, "host %s is not registered", p.HostID).About(structs.KindHost)
	}
	if host.Registration != p.Registration {
		return errRegistration(host, p.Registration)
	}
	if len(host.Fingerprint.Kinds) == 0 && snap.Cluster().SchemaInUse() >= structs.SchemaPods {
		return structs.Errorf(structs.CodeConflict, "host %s (%s) has registered before all servers could note what its agent runs: "+
			"it has to register again", host.Name, host.ID).About(structs.KindHost)
	}
	return nil
}

// refuseSuperseded returns CodeConflict for a registration that a later one has replaced. A
// poll with it is no heartbeat of the host, since its agent may never be admitted again.
func (d *Dispatch) refuseSuperseded(hostID string, registration uint64) error {
	if host := d.config.Store.Snapshot().Host(hostID); host != nil && registration < host.Registration {
		return errRegistration(host, registration)
	}
	return nil
}

func errRegistration(host *structs.Host, registration uint64) error {
	return structs.Errorf(structs.CodeConflict,
		"registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to "+
			"register again", registration, host.ID, host.Registration).About(structs.KindHost)
}
