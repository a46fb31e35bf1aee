package state

import "github.com/stackforge/magnum/structs"

// The lists that say when the services of a bay changed. They are kept with the lists of
// projects, in the table of endpoints, which nobody lists by project: so they are in
// snapshots, outlive their rows, and change with a restore.
func servicesKey(bayID string) listRecord {
	return listRecord{table: structs.TableEndpoints, projectID: "bay/" + bayID}
}

func deletedServicesKey(bayID string) listRecord {
	return listRecord{table: structs.TableEndpoints, projectID: "deleted/" + bayID}
}

// ServicesIndex returns the index of the last change of what the hosts of the bay have to
// know of its services: a service, its endpoints, or the hosts of a bay that has services;
// and that of the last deletion of a service of the bay. 0 means never.
func ServicesIndex(s *Snapshot, bayID string) (changed, deleted uint64) {
	c, d := servicesKey(bayID), deletedServicesKey(bayID)
	return s.ListIndex(c.table, c.projectID), s.ListIndex(d.table, d.projectID)
}

// HasAnyService reports whether any bay has a service.
func HasAnyService(s *Snapshot) bool { return s.table(structs.TableServices)[indexID].Len() > 0 }

// HasServices reports whether the bay has a service.
func HasServices(s *Snapshot, bayID string) bool {
	if !HasAnyService(s) {
		return false // the usual case
	}
	for range ServicesInBay(s, bayID) {
		return true
	}
	return false
}

// serviceBays calls changed for each bay whose hosts have to learn of the step, and deleted
// for one that has lost a service.
func (st *step) serviceBays(after *Snapshot, changed, deleted func(bayID string)) {
	var was, now string // the bay before and after; "" for none
	switch st.table {
	case structs.TableServices, structs.TableEndpoints:
		bay := tableByName[st.table].Bay
		if st.old != nil {
			was = bay(st.old.row)
		}
		if st.row != nil {
			now = bay(st.row)
		}
		if st.table == structs.TableServices && was != "" && (was != now || st.fresh) {
			deleted(was)
		}
	case structs.TableHosts:
		var a, b *structs.Host
		if st.old != nil {
			a = st.old.row.(*structs.Host)
			was = a.BayID
		}
		if st.row != nil {
			b = st.row.(*structs.Host)
			now = b.BayID
		}
		if a != nil && b != nil && samePeer(a, b) {
			return // as with each status report
		}
		if was != "" && !HasServices(after, was) {
			was = ""
		}
		if now != "" && !HasServices(after, now) {
			now = ""
		}
	default:
		return
	}
	if was != "" {
		changed(was)
	}
	if now != "" && now != was {
		changed(now)
	}
}

// samePeer reports whether two rows of a host are the same peer for the other hosts of the
// bay.
func samePeer(a, b *structs.Host) bool {
	return a.BayID == b.BayID && a.Name == b.Name && a.Fingerprint.Relay == b.Fingerprint.Relay
}

// writeServices sets the indexes that ServicesIndex returns, and removes those of deleted
// bays.
func writeServices(w *writer, steps []*step, index uint64) {
	set := func(l listRecord) {
		l.index = index
		w.list(&l)
	}
	for _, st := range steps {
		st.serviceBays(w.to, func(bayID string) { set(servicesKey(bayID)) }, func(bayID string) { set(deletedServicesKey(bayID)) })
	}
	for _, st := range steps {
		if st.table != structs.TableBays || st.row != nil {
			continue
		}
		for _, l := range []listRecord{servicesKey(st.id), deletedServicesKey(st.id)} {
			w.to.lists.Remove(w.epoch, listKey(l.table, l.projectID))
		}
	}
}

// freesNodePorts reports whether a node port of the services' bay is no longer taken.
func (st *step) freesNodePorts() bool {
	if st.old == nil {
		return false
	}
	now, _ := st.row.(*structs.Service)
	for _, p := range st.old.row.(*structs.Service).Spec.Ports {
		if p.NodePort != 0 && (now == nil || st.fresh || !hasNodePort(now, p)) {
			return true
		}
	}
	return false
}

func hasNodePort(s *structs.Service, p structs.ServicePort) bool {
	for _, q := range s.Spec.Ports {
		if q.NodePort == p.NodePort && q.Protocol == p.Protocol {
			return true
		}
	}
	return false
}

// publishServices wakes the polls of the hosts of the bays whose services have changed, and
// of a host that is in another bay than before.
func (t *topics) publishServices(after *Snapshot, st *step) {
	st.serviceBays(after, func(bayID string) { fire(t.first[TopicServices(bayID)]) }, func(string) {})
}

// otherBay reports whether the step changes the bay of a host.
func (st *step) otherBay() bool {
	if st.table != structs.TableHosts || st.old == nil || st.row == nil {
		return false
	}
	return st.old.row.(*structs.Host).BayID != st.row.(*structs.Host).BayID
}
