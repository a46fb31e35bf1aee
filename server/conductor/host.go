package conductor

import (
	"cmp"
	"context"
	"crypto/subtle"
	"fmt"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/endpoints"
	"github.com/stackforge/magnum/server/conductor/hosts"
	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/quarantine"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// RegisterHost adds an agent's host to the cluster, or gives a known host a new
// registration number.
type RegisterHost struct {
	structs.HostRegister
	TokenID    string // of the join token that the agent sent; "" if the token has no ID, as the cluster's own
	TokenHash  string // hash of that token, or of its secret if the token has an ID
	SecretHash string // hash of the secret that the agent sent
	Claimed    bool   // the agent's own labels are mere claims: see structs.Host
	Separate   bool   // projects are kept apart: see structs.Host
}

func (r RegisterHost) decide(t *scratch.Tx) (structs.HostRegistered, error) {
	var none structs.HostRegistered
	cluster := scratch.Row[structs.Cluster](t, structs.ClusterRowID)
	if cluster == nil {
		return none, structs.Errorf(structs.CodeUnavailable, "the cluster is not initialised yet: try again in a second")
	}
	was := scratch.Row[structs.Host](t, r.HostID)
	if err := r.Admit(cluster, was, scratch.Row[structs.Token](t, r.TokenID)); err != nil {
		return none, err
	}
	fresh := was == nil
	if fresh {
		was = &structs.Host{Meta: t.Meta(structs.Caller{}, r.HostID), SecretHash: r.SecretHash}
	}
	inCluster := r.Fingerprint.Backend == structs.BackendKubernetes
	if err := objects.CheckSchema(t, structs.KindHost); inCluster && err != nil {
		return none, err
	}
	if Superseded(was, r.HostRegister) {
		return none, structs.Errorf(structs.CodeConflict,
			"another agent has registered as host %s since: registration %d of this one was followed by %d. "+
				"Its data directory was copied, and one of the two agents has to go: stop it, or give it a data directory of its own; "+
				"this one is admitted again after a restart",
			r.HostID, r.Registration, was.Registration).About(structs.KindHost)
	}
	// First: a damaged host_id looks like that of a deleted host.
	if err := checkEngine(t, r, was); err != nil {
		return none, err
	}
	if fresh && hosts.WasDeleted(cluster, &r.HostRegister) && !hasDiverged(t, r.Follows, cluster) {
		return none, hosts.ErrDeleted(r.HostID)
	}
	engine := was.Fingerprint.Engine.Merge(r.Fingerprint.Engine)
	markHost(t, was, HostMark{ID: was.ID, State: structs.HostReady})
	host := *scratch.Row[structs.Host](t, was.ID)
	host.Name, host.Fingerprint, host.Instance = r.Name, r.Fingerprint, r.Instance
	host.Fingerprint.Engine = engine
	host.Fingerprint.Cluster = nil
	if inCluster {
		host.Fingerprint.Cluster = objects.Bounded(cmp.Or(r.Fingerprint.Cluster, was.Fingerprint.Cluster))
	}
	if len(host.Fingerprint.Kinds) == 0 { // its agent doesn't say
		host.Fingerprint.Kinds = []structs.WorkloadKind{structs.WorkloadContainer}
	}
	if err := hosts.Join(t, &host, was, r.TokenID, r.Claimed, r.Separate); err != nil {
		return none, err
	}
	host.Registration++
	host.ReportSeq, host.NetworksFull, host.Copies, host.CopyCount, host.Problems = 0, false, nil, 0, nil
	t.Put(&host)
	answer := structs.HostRegistered{ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation, Registration: host.Registration}
	if hasDiverged(t, r.Follows, cluster) {
		quarantine.Of(t, host.ID).MarkPending()
		answer.Diverged, answer.Index = true, t.Base.Index()
		answer.Lineage = scratch.Row[structs.Lineages](t, structs.LineagesRowID).Current()
	}
	return answer, nil
}

// Admit returns an error unless the agent may register. The rows are those that the request
// names, nil for missing ones. Dispatch calls it with its own state first, so that an agent
// without a token takes no place in the queue. Errors: CodeForbidden, CodeUnauthenticated,
// CodeConflict for another engine than the host's.
func (r RegisterHost) Admit(cluster *structs.Cluster, host *structs.Host, token *structs.Token) error {
	if err := r.Follows.Check(cluster.ClusterID, cluster.Incarnation); err != nil {
		return err
	}
	switch {
	case host == nil && !r.mayJoin(cluster, token) && hosts.WasDeleted(cluster, &r.HostRegister):
		return hosts.ErrDeleted(r.HostID)
	case host == nil && !r.mayJoin(cluster, token):
		return structs.Errorf(structs.CodeUnauthenticated,
			"the join token is not this cluster's, or is revoked: give the agent the one that the server keeps in its data directory, "+
				"or one of \"magnum token-create -join\"").About(structs.KindHost)
	case host != nil && !equalHashes(r.SecretHash, host.SecretHash):
		return structs.Errorf(structs.CodeUnauthenticated,
			"host %s is registered with another secret: this agent's data directory is not the one that the host registered from",
			r.HostID).About(structs.KindHost)
	}
	if host != nil {
		if differs := host.Fingerprint.Engine.Differs(r.Fingerprint.Engine); differs != "" {
			return structs.Errorf(structs.CodeConflict,
				"host %s (%s) is registered with another engine than this agent's: %s. Start the agent with the engine that the host has, "+
					"or remove the file host_id from its data directory and start it with a join token: then it joins as a new host, "+
					"and what the old one ran stays reserved until magnum host-fence %s",
				host.Name, host.ID, differs, host.ID).About(structs.KindEngine)
		}
	}
	return nil
}

// checkEngine refuses an engine that belongs to another host of the cluster: both hosts
// would report and change the same containers. was is the host's row, which isn't in the
// state yet if the host is new.
func checkEngine(t *scratch.Tx, r RegisterHost, was *structs.Host) error {
	cluster := scratch.Row[structs.Cluster](t, structs.ClusterRowID)
	if was.Registration == 0 { // new
		for _, o := range r.Found {
			if o.ClusterID != cluster.ClusterID || o.HostID == r.HostID {
				continue
			}
			old, name := scratch.Row[structs.Host](t, o.HostID), o.HostID
			if old != nil && old.Fenced {
				continue
			}
			fence := ""
			if old != nil {
				name = fmt.Sprintf("%s (%s)", old.Name, old.ID)
				fence = fmt.Sprintf("; or, once host %s is lost and if its containers may run elsewhere although they are here: magnum "+
					"host-fence %s", old.Name, old.ID)
			}
			return structs.Errorf(structs.CodeConflict,
				"the engine has containers of host %s of this cluster, and this agent asks to join as the new host %s. "+
					"If the agent's file host_id was lost or damaged, write %s into it, beside the agent.secret of that host. "+
					"Else remove those containers: docker rm -f $(docker ps -aq --filter label=magnum.host=%s)%s",
				name, r.HostID, o.HostID, o.HostID, fence).About(structs.KindEngine)
		}
	}
	if was.Registration > 0 && was.State != structs.HostLost && was.Fingerprint.Engine.Is(r.Fingerprint.Engine) {
		return nil // the host has had this engine all the time
	}
	for h := range t.AllHosts() {
		if h.ID != r.HostID && h.State != structs.HostLost && h.Fingerprint.Engine.Is(r.Fingerprint.Engine) {
			return structs.Errorf(structs.CodeConflict,
				"the engine is that of host %s (%s), which is %s: an engine is one host of a cluster. Stop that host's agent, and this "+
					"one is admitted once the host is lost; "+
					"or give this agent an engine of its own", h.Name, h.ID, h.State).About(structs.KindHost)
		}
	}
	return nil
}

// Superseded reports whether another agent has registered as the host since the agent's own
// registration. An agent that has just started is never superseded, because it can't be
// distinguished from one that was killed a moment ago; nor is one of a Kubernetes cluster,
// whose agents are active in turn.
func Superseded(host *structs.Host, r structs.HostRegister) bool {
	if r.Fingerprint.Backend == structs.BackendKubernetes {
		return false
	}
	return r.Registration != 0 && r.Instance != "" && host.Instance != "" && host.Registration > r.Registration &&
		host.Instance != r.Instance
}

// NoteHost notes something on a ready host until its state changes or its agent registers.
type NoteHost struct {
	ID     string
	Reason string
}

func (r NoteHost) decide(t *scratch.Tx) (struct{}, error) {
	was := scratch.Row[structs.Host](t, r.ID)
	if was == nil || was.State != structs.HostReady || was.StateReason == r.Reason {
		return struct{}{}, nil
	}
	host := *was
	host.StateReason = r.Reason
	t.Put(&host)
	return struct{}{}, nil
}

// mayJoin reports whether the join token, whose expiry is checked, admits a new host.
func (r RegisterHost) mayJoin(cluster *structs.Cluster, token *structs.Token) bool {
	if r.TokenID == "" {
		return equalHashes(r.TokenHash, cluster.JoinTokenHash)
	}
	return token != nil && token.Join && token.OpenedBy(r.TokenHash)
}

func equalHashes(a, b string) bool {
	return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// MarkHosts writes the states that the leader's liveness loop has found, at most
// MaxChanges/2 of them.
type MarkHosts struct {
	Marks []HostMark
}

// HostMark is the new state of one host.
type HostMark struct {
	ID     string
	State  structs.HostState
	Reason string
	Braked bool // suspect: silent for long enough to be lost, but the mass-loss brake holds it back
}

// decide returns how many of the marks are written. The entry has no room for the rest.
func (r MarkHosts) decide(t *scratch.Tx) (int, error) {
	for i, m := range r.Marks {
		was := scratch.Row[structs.Host](t, m.ID)
		if was == nil || was.State == m.State && was.Braked == m.Braked {
			continue
		}
		if !t.Item(func() { markHost(t, was, m) }) {
			return i, nil
		}
	}
	return len(r.Marks), nil
}

func markHost(t *scratch.Tx, was *structs.Host, m HostMark) {
	host := *was
	host.State, host.StateReason, host.Braked = m.State, m.Reason, m.Braked
	if m.State != structs.HostLost {
		host.Fenced = false
	}
	if was.State == structs.HostLost && m.State != structs.HostLost {
		host.ReturnIndex = t.Base.Index()
	}
	t.Put(&host)
}

// ReleaseHost ends the mass-loss brake for a host, which becomes lost.
type ReleaseHost struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

func (r ReleaseHost) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil {
		return nil, err
	}
	if !h.Braked {
		return nil, structs.Errorf(structs.CodeConflict,
			"Host %s is %s, and the mass-loss brake does not hold it back: there is nothing to release", h.Name,
			h.State).About(structs.KindHost)
	}
	markHost(t, h, HostMark{ID: h.ID, State: structs.HostLost,
		Reason: "its agent was silent, and an operator has released it from the mass-loss brake"})
	actions.Note(t, r.Caller, "release", h, 0)
	return scratch.Row[structs.Host](t, h.ID), nil
}

// FenceHost records an operator's word that a lost host is off: its exclusive containers
// are placed again.
type FenceHost struct {
	Caller structs.Caller
	Ident  string // UUID or name
	Force  bool   // also fences a suspect host, which becomes lost
}

func (r FenceHost) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil || h.Fenced {
		return h, err
	}
	host := *h
	switch {
	case h.State == structs.HostReady:
		return nil, structs.Errorf(structs.CodeConflict,
			"Host %s is ready: its agent sends heartbeats, so it is not off; turn the host off first, or use host-drain",
			h.Name).About(structs.KindHost)
	case h.State != structs.HostLost && !r.Force:
		return nil, structs.Errorf(structs.CodeConflict,
			"Host %s is %s, not lost: wait until it is lost, or use force if you know that it is off", h.Name,
			h.State).About(structs.KindHost)
	case h.State != structs.HostLost:
		markHost(t, h, HostMark{ID: h.ID, State: structs.HostLost, Reason: "an operator has said that it is off"})
		host = *scratch.Row[structs.Host](t, h.ID)
	}
	host.Fenced, host.UpdatedAt = true, t.Now
	t.Put(&host)
	actions.Note(t, r.Caller, "fence", h, 0)
	return &host, nil
}

// DeleteHost deletes a host that is lost, or drained and empty. Its secret ends with it.
type DeleteHost struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

func (r DeleteHost) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil {
		return nil, err
	}
	return h, hosts.Delete(t, h)
}

// LabelHost changes the operators' labels of a host.
type LabelHost struct {
	Caller structs.Caller
	Ident  string                                                    // UUID or name
	Apply  func(labels map[string]string) (map[string]string, error) // must not change its argument
}

func (r LabelHost) decide(t *scratch.Tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Ident)
	if err != nil {
		return nil, err
	}
	host := *h
	if host.Labels, err = r.Apply(h.Labels); err != nil {
		return nil, err
	}
	host.UpdatedAt = t.Now
	t.Put(&host)
	actions.Note(t, r.Caller, "update", h, 0)
	return &host, nil
}

// ReportStatus is an agent's report of what it has observed.
type ReportStatus struct {
	HostID string
	structs.StatusReport
}

// ReportProgress is the result of ReportStatus.
type ReportProgress struct {
	structs.StatusReported
	// More says that the entry had no room for the whole report. The report isn't complete
	// yet, and has to be repeated under the same Seq with the containers in Rest.
	More bool
	Rest []structs.ContainerReport
}

// Report has a status report decided, in as many entries as it needs. The error is that of
// Do. A report that was processed in part may be repeated as a whole.
func Report(ctx context.Context, c *Conductor, r ReportStatus) (structs.StatusReported, error) {
	for {
		reported, err := Do(ctx, c, r)
		if err != nil || !reported.More {
			return reported.StatusReported, err
		}
		r.Containers = reported.Rest
	}
}

func (r ReportStatus) decide(t *scratch.Tx) (ReportProgress, error) {
	var none ReportProgress
	was := scratch.Row[structs.Host](t, r.HostID)
	if was == nil {
		return none, structs.NotFound(structs.KindHost, r.HostID)
	}
	if was.Registration != r.Registration {
		return none, structs.Errorf(structs.CodeConflict,
			"registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to "+
				"register again", r.Registration, r.HostID, was.Registration).About(structs.KindHost)
	}
	if len(r.Containers) > structs.MaxReport {
		return none, structs.Errorf(structs.CodeInvalid, "containers: %d in one report are more than %d", len(r.Containers),
			structs.MaxReport)
	}
	if r.Seq <= was.ReportSeq {
		return ReportProgress{StatusReported: structs.StatusReported{Seq: was.ReportSeq}}, nil // a repetition
	}
	host := *was
	host.ReportSeq = r.Seq
	if r.NetworksFull != nil && *r.NetworksFull != was.NetworksFull {
		host.NetworksFull = *r.NetworksFull
		now := *was
		now.NetworksFull = host.NetworksFull
		// First, because it decides where refused containers can go.
		if !t.Room() || !t.Item(func() { t.Put(&now) }) {
			return ReportProgress{StatusReported: structs.StatusReported{Seq: was.ReportSeq}, More: true, Rest: r.Containers}, nil
		}
	}
	if r.Copies != nil {
		host.Copies, host.CopyCount = r.Copies.First, r.Copies.Count
	}
	if r.Problems != nil {
		host.Problems = *r.Problems
	}
	hosts.TakeReport(t, &host, r.Cleaned)
	if r.Cluster != nil && was.Fingerprint.Backend == structs.BackendKubernetes {
		host.Fingerprint.Cluster = objects.Bounded(r.Cluster)
	}
	for i := range r.Containers {
		if !t.Room() || !t.Item(func() { observe(t, &host, &r.Containers[i]) }) {
			return ReportProgress{StatusReported: structs.StatusReported{Seq: was.ReportSeq}, More: true, Rest: r.Containers[i:]}, nil
		}
	}
	// Last, so that Seq says that the whole report is processed.
	if !t.Item(func() { t.Put(&host) }) {
		return ReportProgress{StatusReported: structs.StatusReported{Seq: was.ReportSeq}, More: true,
			Rest: r.Containers[max(0, len(r.Containers)-1):]}, nil
	}
	return ReportProgress{StatusReported: structs.StatusReported{Seq: r.Seq}}, nil
}

// observe writes what an agent has observed of one placement, and what follows from it.
func observe(t *scratch.Tx, host *structs.Host, report *structs.ContainerReport) {
	ref, word := report.Ref(), report.Status
	was := t.Workload(ref)
	if host.Fingerprint.Backend == structs.BackendKubernetes {
		if observeInCluster(t, host, was, report) {
			return
		}
	} else if report.Pod != nil || report.Object != nil {
		plain := *report // only clusters have what these say
		plain.Pod, plain.Object = nil, nil
		report = &plain
	}
	if was == nil {
		return
	}
	if p := was.Place(); p.HostID != host.ID || p.Epoch != ref.Epoch {
		// Of an earlier placement, or of an unknown one.
		prior := p.PriorOn(host.ID)
		switch pod, isPod := was.(*structs.Pod); {
		case prior == nil || prior.Epoch != ref.Epoch:
		case word == structs.ContainerGone:
			placing.LeaveHost(t, was, host.ID)
		case isPod && prior.Keep:
			for e := range endpoints.Earlier(t, scratch.ServicesInBay(t, pod.BayID), pod, host.ID, report) {
				t.Put(e)
			}
		}
		return
	}
	if report.Refused && placing.Refuse(t, was) {
		return
	}
	w := was.Copy()
	w.Observe(report)
	p, seen := w.Place(), w.Seen()
	fixed := w.Policy().Fixed
	p.Gone = p.Gone && !fixed // the agent may have made it again
	switch {
	case word == structs.ContainerGone && p.Desired == structs.DesiredAbsent:
		if p.HostID = ""; placing.FullyRemoved(t, p) {
			t.Remove(was)
		} else {
			t.Assign(w)
		}
		return
	case word == structs.ContainerGone && fixed:
		loseFixed(t, w)
		return
	case word == structs.ContainerGone:
		loseWorkload(t, w)
		return
	case w.Policy().AutoRemove && p.Desired == structs.DesiredRunning && structs.Done(w) &&
		seen.Status == structs.ContainerStopped && !seen.FinishedAt.IsZero():
		p.Desired = structs.DesiredAbsent
		p.Generation++
		t.Assign(w)
		return
	}
	if w.Ready() && structs.Done(w) && p.Release() {
		t.Assign(w)
	} else {
		t.Put(w)
	}
	if o, ok := w.(*structs.Object); ok {
		objects.Take(t, host, o, report)
	}
	if seen.Generation > was.Seen().Generation {
		actions.End(t, w)
	}
}

// loseWorkload handles a workload that was removed from its host, but not by magnum.
func loseWorkload(t *scratch.Tx, w structs.Workload) {
	p, seen, restart := w.Place(), w.Seen(), w.Policy().Restart
	why := cmp.Or(seen.Reason, "it was removed from its host, not by magnum")
	p.Gone = true
	seen.Status = structs.ContainerError
	seen.Reason = why + "; start it to create it again, or delete it"
	if !startable(w) {
		seen.Reason = why + "; delete it, and create it again if you need it"
	}
	w.See(seen)
	if p.Desired == structs.DesiredRunning && restart.Always() {
		placing.Replace(t, w)
		switch {
		case p.PlaceReason == "":
			seen = w.Seen() // of the new placement
			seen.Reason = fmt.Sprintf("%s; it is being created again, as its restart policy %s asks", why, restart)
			w.See(seen)
		case !startable(w) && w.Policy().Volume == "":
			p.HostID, p.Gone = "", false // it waits for room, like a new one
			w.Forget()
		}
	}
	t.Assign(w)
}

// startable reports whether users can start a workload again. A pod runs from its creation
// on.
func startable(w structs.Workload) bool { return w.Ref().Kind == structs.WorkloadContainer }
