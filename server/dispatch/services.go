package dispatch

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// servicesSince returns what the host has to learn of the services of its bay if it has
// followed the state up to the index; nil if nothing has changed. It costs two lookups in
// that case.
func servicesSince(snap *state.Snapshot, host *structs.Host, index uint64) *structs.ServiceWork {
	if host.Fingerprint.Backend == structs.BackendKubernetes {
		return nil // its cluster keeps services
	}
	changed, deleted := state.ServicesIndex(snap, host.BayID)
	switch {
	case index <= host.BayIndex, index < deleted:
		return allServices(snap, host)
	case index >= changed:
		return nil
	}
	return newServiceWork(snap, host, index)
}

// allServices returns all services of the host's bay; none for a free host, which forgets
// those of its earlier bay, and none for a cluster, which keeps services by itself.
func allServices(snap *state.Snapshot, host *structs.Host) *structs.ServiceWork {
	work := newServiceWork(snap, host, 0)
	work.Full = true
	return work
}

// newServiceWork returns the services of the host's bay that have changed since the index, and
// the host's peers.
func newServiceWork(snap *state.Snapshot, host *structs.Host, index uint64) *structs.ServiceWork {
	work := &structs.ServiceWork{Services: []structs.ServiceAssignment{}}
	if host.BayID == "" || host.Fingerprint.Backend == structs.BackendKubernetes || !state.HasServices(snap, host.BayID) {
		return work
	}
	for s := range state.ServicesInBay(snap, host.BayID) {
		e := snap.Endpoints(s.ID)
		if s.ModifyIndex > index || e != nil && e.ModifyIndex > index {
			work.Services = append(work.Services, structs.ServiceAssignmentOf(s, e))
		}
	}
	for h := range snap.HostsInBay(host.BayID) {
		if relay := h.Fingerprint.Relay; h.ID != host.ID && relay.Key != "" {
			work.Peers = append(work.Peers, structs.RelayPeer{HostID: h.ID, Name: h.Name, Relay: relay})
		}
	}
	return work
}

// following is the subscription of a host's poll: to the host, and to the services of its
// bay.
type following struct {
	store  *state.Store
	hostID string
	bayID  string
	sub    *state.Subscription
}

func follow(store *state.Store, hostID string) *following {
	f := &following{store: store, hostID: hostID}
	f.subscribe()
	return f
}

func (f *following) subscribe() {
	topics := []state.Topic{state.TopicHost(f.hostID)}
	if f.bayID != "" {
		topics = append(topics, state.TopicServices(f.bayID))
	}
	if f.store.Snapshot().Cluster().SchemaInUse() < structs.SchemaPods {
		topics = append(topics, state.TopicRow(structs.TableCluster, structs.ClusterRowID)) // see checkRegistration
	}
	f.sub = f.store.Subscribe(topics...)
}

// snapshot returns the present state. What changes in it later wakes the poll.
func (f *following) snapshot() *state.Snapshot {
	for {
		snap := f.store.Snapshot()
		bayID := ""
		if host := snap.Host(f.hostID); host != nil && host.Fingerprint.Backend != structs.BackendKubernetes {
			bayID = host.BayID
		}
		if bayID == f.bayID {
			return snap
		}
		f.sub.Close()
		f.bayID = bayID
		f.subscribe()
	}
}

// changed receives when there may be something for the host.
func (f *following) changed() <-chan struct{} { return f.sub.C() }

func (f *following) close() { f.sub.Close() }
