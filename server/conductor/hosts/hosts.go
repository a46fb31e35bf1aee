// Package hosts decides about the hosts themselves: which agents may add one, which name and
// which labels it has, and when it may be deleted. The conductor's requests call it, in the
// scratch view of their batch. What becomes of the workloads of a host is the business of
// the conductor and of package placing.
package hosts

import (
	"fmt"

	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/quarantine"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// known reports whether all servers know what SchemaHosts has introduced.
func known(t *scratch.Tx) bool { return t.Base.Cluster().SchemaInUse() >= structs.SchemaHosts }

// CheckToken refuses a join token with a limit or labels while a server doesn't know them: it
// would admit any host. CodeUnavailable.
func CheckToken(t *scratch.Tx, token *structs.Token) error {
	if token.MaxHosts == 0 && len(token.Labels) == 0 || known(t) {
		return nil
	}
	return structs.Errorf(structs.CodeUnavailable,
		"join tokens with max_hosts or labels need a cluster whose servers all run this version or a newer one, which the leader has not "+
			"found out yet: try again in a few seconds, or upgrade the other servers first").About(structs.KindToken)
}

// WasDeleted reports whether an agent that asks to register a host which the state doesn't
// have belonged to this very cluster before.
func WasDeleted(cluster *structs.Cluster, r *structs.HostRegister) bool {
	f := r.Follows
	return f.ClusterID == cluster.ClusterID && f.Incarnation == cluster.Incarnation && (f.Index > 0 || r.Registration > 0)
}

// ErrDeleted is the refusal of such an agent. CodeForbidden.
func ErrDeleted(hostID string) error {
	return structs.Errorf(structs.CodeForbidden,
		"host %s was deleted from this cluster, and its secret is revoked. To join as a new host, remove the file host_id from the "+
			"agent's data directory (of a Kubernetes cluster: the Secret with the agents' identity), remove what the host still runs, and "+
			"start the agent with a join token", hostID).About(structs.KindHost).With(structs.HintDeleted)
}

// Join completes a host that registers: its labels, and by which token it came. host is a
// copy that the caller writes, was its row before. claimed says that the agent's own labels
// are mere claims. Errors are CodeConflict for the name of another host, CodeForbidden for a token
// that admits no more hosts.
func Join(t *scratch.Tx, host, was *structs.Host, tokenID string, claimed bool) error {
	fresh := was.Registration == 0
	if fresh || was.Name != host.Name || was.State == structs.HostLost {
		if err := checkName(t, host); err != nil {
			return err
		}
	}
	if !known(t) {
		return nil
	}
	host.Claimed = claimed
	token := scratch.Row[structs.Token](t, tokenID)
	if !fresh || token == nil {
		return nil
	}
	host.TokenID, host.Granted = token.ID, token.Labels
	if token.MaxHosts == 0 {
		return nil
	}
	count := 0
	for h := range t.AllHosts() {
		if h.TokenID == token.ID && h.ID != host.ID {
			count++
		}
	}
	if count >= token.MaxHosts {
		return structs.Errorf(structs.CodeForbidden,
			"the join token %s admits %d hosts, and there are as many: delete one of them (magnum host-delete), or make another token with "+
				"\"magnum token-create -join\"", token.Name, token.MaxHosts).About(structs.KindToken)
	}
	return nil
}

// checkName refuses the name of another host that isn't lost.
func checkName(t *scratch.Tx, host *structs.Host) error {
	for r := range t.ByName(structs.TableHosts, "", host.Name) {
		other := r.(*structs.Host)
		if other.ID == host.ID || other.State == structs.HostLost {
			continue
		}
		return structs.Errorf(structs.CodeConflict,
			"the name %s is that of host %s, which is %s: give this agent another one with -name; if it is the same machine with a new "+
				"data directory, stop the other agent, and this one is admitted once that host is lost or deleted (magnum host-delete %s)",
			host.Name, other.ID, other.State, other.ID).About(structs.KindHost)
	}
	return nil
}

// Delete deletes a host with its quarantine. CodeConflict unless it is lost, or drained, and
// nothing is placed on it.
func Delete(t *scratch.Tx, h *structs.Host) error {
	refuse := func(format string, args ...any) error {
		return structs.Errorf(structs.CodeConflict, "Host %s %s", h.Name, fmt.Sprintf(format, args...)).About(structs.KindHost)
	}
	placed, lost := 0, h.State == structs.HostLost
	for w := range t.OnHost(h.ID) {
		if w.Place().HostID == h.ID || !lost {
			placed++
		}
	}
	switch {
	case !lost && !h.Draining:
		return refuse("is %s: drain it first (magnum host-drain %s), or turn it off and delete it once it is lost", h.State, h.ID)
	case placed > 0 && h.Fingerprint.Backend == structs.BackendKubernetes:
		return refuse("is a Kubernetes cluster with %d workloads: delete its bay first", placed)
	case placed > 0 && lost && !h.Fenced:
		return refuse("is lost, and %d containers or pods are still placed on it: if it is off, say so (magnum host-fence %s), so that "+
			"those that can move do; delete the others with -force", placed, h.ID)
	case placed > 0 && lost:
		return refuse("is lost, and %d containers or pods that can't move are still placed on it: delete them with -force first", placed)
	case placed > 0:
		return refuse("still has %d containers or pods: wait for its drain, or delete those that can't move", placed)
	case !lost && h.Quarantined > 0:
		return refuse("keeps %d containers in quarantine: end it first (magnum host-adopt)", h.Quarantined)
	}
	for w := range t.OnHost(h.ID) { // earlier placements, which the host would remove if it came back
		if !t.Room() {
			break // the others name a host that doesn't exist, which is the same as a lost one
		}
		placing.LeaveHost(t, w, h.ID)
	}
	quarantine.Of(t, h.ID).Drop()
	t.Remove(h)
	return nil
}
