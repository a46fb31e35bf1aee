package conductor

import (
	"crypto/subtle"
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// InitCluster writes the cluster's one row if there is none: the first thing
// that the first leader does.
type InitCluster struct {
	ClusterID     string // UUID for a new cluster
	JoinTokenHash string // replaces the stored one if it isn't ""
}

func (r InitCluster) decide(t *tx) (*structs.Cluster, error) {
	was := row[structs.Cluster](t, structs.ClusterRowID)
	if was == nil {
		c := &structs.Cluster{Meta: t.meta(structs.Caller{}, structs.ClusterRowID), ClusterID: r.ClusterID, JoinTokenHash: r.JoinTokenHash}
		t.put(c)
		return c, nil
	}
	if r.JoinTokenHash == "" || r.JoinTokenHash == was.JoinTokenHash {
		return was, nil
	}
	changed := *was
	changed.JoinTokenHash = r.JoinTokenHash
	t.put(&changed)
	return &changed, nil
}

// RegisterHost takes an agent's host into the cluster, or takes it back under a
// new registration number.
type RegisterHost struct {
	structs.HostRegister
	TokenHash  string // hash of the join token that the agent sent
	SecretHash string // hash of the secret that the agent sent
}

func (r RegisterHost) decide(t *tx) (structs.HostRegistered, error) {
	var none structs.HostRegistered
	cluster := row[structs.Cluster](t, structs.ClusterRowID)
	if cluster == nil {
		return none, structs.Errorf(structs.CodeUnavailable, "the cluster is not initialised yet: try again in a second")
	}
	was := row[structs.Host](t, r.HostID)
	if was == nil {
		if !equalHashes(r.TokenHash, cluster.JoinTokenHash) {
			return none, structs.Errorf(structs.CodeUnauthenticated, "the join token is not this cluster's: give the agent the one that the server keeps in its data directory").About(structs.KindHost)
		}
		was = &structs.Host{Meta: t.meta(structs.Caller{}, r.HostID), SecretHash: r.SecretHash}
	} else if !equalHashes(r.SecretHash, was.SecretHash) {
		return none, structs.Errorf(structs.CodeUnauthenticated, "host %s is registered with another secret: its data directory is not the one it registered from", r.HostID).About(structs.KindHost)
	}
	host := *was
	host.Name, host.Fingerprint = r.Name, r.Fingerprint
	host.Registration++
	host.ReportSeq = 0
	host.State, host.StateReason = structs.HostReady, ""
	t.put(&host)
	return structs.HostRegistered{ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation, Registration: host.Registration}, nil
}

func equalHashes(a, b string) bool {
	return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// MarkHost writes what the leader's liveness loop has found out about a host.
type MarkHost struct {
	ID     string
	State  structs.HostState
	Reason string
}

func (r MarkHost) decide(t *tx) (struct{}, error) {
	was := row[structs.Host](t, r.ID)
	if was == nil || was.State == r.State {
		return struct{}{}, nil
	}
	host := *was
	host.State, host.StateReason = r.State, r.Reason
	t.put(&host)
	return struct{}{}, nil
}

// DrainHost has a host get nothing new any more, or again. What runs on it
// stays.
type DrainHost struct {
	Caller   structs.Caller
	Ident    string // UUID or name
	Draining bool
}

func (r DrainHost) decide(t *tx) (*structs.Host, error) {
	h, err := t.host(r.Caller, r.Ident)
	if err != nil || h.Draining == r.Draining {
		return h, err
	}
	host := *h
	host.Draining, host.UpdatedAt = r.Draining, t.now
	t.put(&host)
	return &host, nil
}

// LabelHost changes the operators' labels of a host.
type LabelHost struct {
	Caller structs.Caller
	Ident  string                                                    // UUID or name
	Apply  func(labels map[string]string) (map[string]string, error) // must not change its argument
}

func (r LabelHost) decide(t *tx) (*structs.Host, error) {
	h, err := t.host(r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	host := *h
	if host.Labels, err = r.Apply(h.Labels); err != nil {
		return nil, err
	}
	host.UpdatedAt = t.now
	t.put(&host)
	return &host, nil
}

// host finds a host.
func (t *tx) host(caller structs.Caller, ident string) (*structs.Host, error) {
	found, err := lookup(t, caller, structs.KindHost, ident)
	if err != nil {
		return nil, err
	}
	return found.(*structs.Host), nil
}

// ReportStatus takes what an agent saw of its containers.
type ReportStatus struct {
	HostID string
	structs.StatusReport
}

func (r ReportStatus) decide(t *tx) (structs.StatusReported, error) {
	var none structs.StatusReported
	was := row[structs.Host](t, r.HostID)
	if was == nil {
		return none, structs.NotFound(structs.KindHost, r.HostID)
	}
	if was.Registration != r.Registration {
		return none, structs.Errorf(structs.CodeConflict, "registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to register again", r.Registration, r.HostID, was.Registration).About(structs.KindHost)
	}
	if len(r.Containers) > structs.MaxReport {
		return none, structs.Errorf(structs.CodeInvalid, "containers: %d in one report are more than %d", len(r.Containers), structs.MaxReport)
	}
	if r.Seq <= was.ReportSeq {
		return structs.StatusReported{Seq: was.ReportSeq}, nil // a repeat
	}
	host := *was
	host.ReportSeq = r.Seq
	t.put(&host)
	for i := range r.Containers {
		t.observe(&host, &r.Containers[i])
	}
	return structs.StatusReported{Seq: r.Seq}, nil
}

// observe writes one container's observed state, and what follows from it.
func (t *tx) observe(host *structs.Host, seen *structs.ContainerReport) {
	was := row[structs.Container](t, seen.ContainerID)
	if was == nil || was.HostID != host.ID || was.Epoch != seen.Epoch {
		return // another placement's, or nobody's
	}
	c := *was
	c.Observed = seen.Observed
	switch {
	case seen.Status == structs.ContainerGone && c.Desired == structs.DesiredAbsent:
		t.remove(was)
		return
	case seen.Status == structs.ContainerGone:
		t.lose(&c)
		return
	case c.Spec.AutoRemove && c.Desired == structs.DesiredRunning && c.Settled() &&
		c.Observed.Status == structs.ContainerStopped && !c.Observed.FinishedAt.IsZero():
		c.Desired = structs.DesiredAbsent
		c.Generation++
		t.assign(&c)
		return
	}
	t.put(&c)
	if c.Observed.Generation > was.Observed.Generation {
		t.endActions(&c)
	}
}

// lose handles a container that somebody removed from its host behind
// magnum's back.
func (t *tx) lose(c *structs.Container) {
	why := orElse(c.Observed.Reason, "it was removed from its host, not by magnum")
	c.Gone = true
	c.Observed.Status = structs.ContainerError
	c.Observed.Reason = why + "; start it to have it made anew, or delete it"
	if c.Desired == structs.DesiredRunning && c.Spec.RestartPolicy.Always() {
		t.replace(c)
		if c.PlaceReason == "" {
			c.Observed.Reason = fmt.Sprintf("%s; it is being made anew, as its restart policy %s asks", why, c.Spec.RestartPolicy)
		}
	}
	t.assign(c)
}
