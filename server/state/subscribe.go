package state

import (
	"slices"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// Topic is what a subscription waits for. Topics are comparable.
type Topic struct {
	kind  topicKind
	table structs.Table
	id    string // of a row, project or host
}

type topicKind byte

const (
	topicRow topicKind = iota
	topicList
	topicHost
	topicBays
	topicHosts
	topicRoom
	topicEmptied
	topicUnsettled
	topicReplicas
	topicEndpoints
	topicServices
	topicAny
	topicKinds
)

// TopicRow fires when the row is written or deleted.
func TopicRow(table structs.Table, id string) Topic { return Topic{topicRow, table, id} }

// TopicList fires when a row of the table in the project is written or
// deleted; with AllProjects, a row of the table in any project.
func TopicList(table structs.Table, projectID string) Topic {
	return Topic{topicList, table, projectID}
}

// TopicHost fires when the host has to get an assignment: a Change with Assign of a
// workload that is placed there, or a workload that was deleted or moved away; when an
// operator has decided about its quarantine; or when the host is in another bay.
func TopicHost(hostID string) Topic { return Topic{kind: topicHost, id: hostID} }

// TopicServices fires when the hosts of the bay have to learn of its services: when a service
// or its endpoints change, or when another host joins or leaves a bay that has services.
func TopicServices(bayID string) Topic { return Topic{kind: topicServices, id: bayID} }

// The topics of the leader's steps; see package conductor. Each stands for one kind of
// change that gives a step work.

// TopicBays fires when a bay changes.
func TopicBays() Topic { return Topic{kind: topicBays} }

// TopicHosts fires when something changes that decides who may use a host: it registered,
// became ready, suspect, lost or clean, was claimed or freed, is drained or fenced, or has
// other labels; or when a quarantine has become empty.
func TopicHosts() Topic { return Topic{kind: topicHosts} }

// TopicRoom fires when there may be more room on a host: a workload was deleted, moved, or
// reserves less, or a service no longer has a node port.
func TopicRoom() Topic { return Topic{kind: topicRoom} }

// TopicEmptied fires when a host has no workload any more.
func TopicEmptied() Topic { return Topic{kind: topicEmptied} }

// TopicUnsettled fires when a workload is placed on one of UnsettledHosts, gets another
// desired state there, or has ended there.
func TopicUnsettled() Topic { return Topic{kind: topicUnsettled} }

// TopicReplicas fires when a replication controller is created, changed by a user or
// deleted, and when something changes of a pod that decides how many replicas there are and
// which of them are ready; also when a project may use more of its quota while one of them
// waits for that.
func TopicReplicas() Topic { return Topic{kind: topicReplicas} }

// TopicEndpoints fires when a service is written or deleted, and when something changes of a
// pod that decides whether services lead to it. It costs nothing while there is no service.
func TopicEndpoints() Topic { return Topic{kind: topicEndpoints} }

// leaderTopics are the topics of the leader's steps that a change fires.
type leaderTopics struct{ bays, hosts, room, replicas, endpoints bool }

// TopicAny fires after every Apply.
func TopicAny() Topic { return Topic{kind: topicAny} }

// Subscription wakes its holder when one of its topics fires. It carries no data: the
// holder reads a new Snapshot. Subscribe before you read the snapshot on which you decide
// to wait, or you miss a change in between.
type Subscription struct {
	topics *topics
	links  []link
	wake   chan struct{}
}

// C receives after each Apply that fired one of the topics, and after each Restore. Several
// before a receive count as one.
func (s *Subscription) C() <-chan struct{} { return s.wake }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() { s.topics.remove(s) }

func (s *Subscription) notify() {
	select {
	case s.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// link is a subscription's element in the list of a topic's subscriptions.
type link struct {
	sub        *Subscription
	topic      Topic
	prev, next *link
}

// topics finds the subscriptions of a topic.
type topics struct {
	mu    sync.Mutex
	first map[Topic]*link
	kinds [topicKinds]int // links of each kind, so that a kind without subscriptions costs an apply nothing
}

func (t *topics) add(list []Topic) *Subscription {
	s := &Subscription{topics: t, links: make([]link, len(list)), wake: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = make(map[Topic]*link)
	}
	for i, topic := range list {
		l := &s.links[i]
		*l = link{sub: s, topic: topic, next: t.first[topic]}
		if l.next != nil {
			l.next.prev = l
		}
		t.first[topic] = l
		t.kinds[topic.kind]++
	}
	return s
}

func (t *topics) remove(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range s.links {
		l := &s.links[i]
		switch {
		case l.prev != nil:
			l.prev.next = l.next
		case l.next != nil:
			t.first[l.topic] = l.next
		default:
			delete(t.first, l.topic)
		}
		if l.next != nil {
			l.next.prev = l.prev
		}
		t.kinds[l.topic.kind]--
	}
	s.links = nil
	if len(t.first) == 0 {
		t.first = nil // a map never shrinks
	}
}

// fireAll wakes every subscription.
func (t *topics) fireAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.first {
		fire(l)
	}
}

// publish wakes the subscriptions whose topics the steps of an entry fire.
func (t *topics) publish(after *Snapshot, steps []*step, less freed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.first) == 0 {
		return
	}
	if t.kinds[topicAny] > 0 {
		fire(t.first[TopicAny()])
	}
	for _, st := range steps {
		if t.kinds[topicRow] > 0 {
			fire(t.first[TopicRow(st.table, st.id)])
		}
		if t.kinds[topicList] > 0 {
			fire(t.first[TopicList(st.table, AllProjects)])
			t.publishLists(st)
		}
		if t.kinds[topicHost] > 0 && isPlaced(st.table) {
			t.publishHosts(st)
		}
		if t.kinds[topicServices] > 0 {
			t.publishServices(after, st)
		}
		if st.otherBay() {
			fire(t.first[TopicHost(st.id)])
		}
		if q, ok := st.row.(*structs.Quarantine); ok && st.assign {
			fire(t.first[TopicHost(q.HostID)])
		}
	}
	t.publishLeader(after, steps, less)
}

// publishLeader wakes the leader's steps, if this server leads.
func (t *topics) publishLeader(after *Snapshot, steps []*step, less freed) {
	waiting := 0
	for kind := topicBays; kind <= topicEndpoints; kind++ {
		waiting += t.kinds[kind]
	}
	if waiting == 0 {
		return
	}
	if less.emptied {
		fire(t.first[TopicEmptied()])
	}
	var all leaderTopics
	unsettled := false
	for _, st := range steps {
		touched := st.topics()
		all.bays, all.hosts, all.room = all.bays || touched.bays, all.hosts || touched.hosts, all.room || touched.room
		all.replicas, all.endpoints = all.replicas || touched.replicas, all.endpoints || touched.endpoints
		if hostID := st.changedHost(); hostID != "" && !unsettled && hasUnsettledHosts(after) {
			h := after.Host(hostID)
			unsettled = h != nil && unsettledHost(h)
		}
	}
	if all.bays {
		fire(t.first[TopicBays()])
	}
	if all.hosts {
		fire(t.first[TopicHosts()])
	}
	if all.room {
		fire(t.first[TopicRoom()])
	}
	if unsettled {
		fire(t.first[TopicUnsettled()])
	}
	less.quota = less.quota || slices.ContainsFunc(steps, func(st *step) bool { return st.table == structs.TableQuotas })
	if less.quota && after.table(structs.TableRCs)[indexWaiting].Len() > 0 {
		all.replicas = true // one of them waits for its project's quota
	}
	// Without a replication controller no pod counts.
	if all.replicas && after.table(structs.TableRCs)[indexID].Len() > 0 {
		fire(t.first[TopicReplicas()])
	}
	if all.endpoints && HasAnyService(after) {
		fire(t.first[TopicEndpoints()])
	}
}

func (t *topics) publishLists(st *step) {
	if st.old != nil {
		fire(t.first[TopicList(st.table, st.old.row.Base().ProjectID)])
	}
	if st.row != nil && (st.old == nil || st.old.row.Base().ProjectID != st.row.Base().ProjectID) {
		fire(t.first[TopicList(st.table, st.row.Base().ProjectID)])
	}
}

func (t *topics) publishHosts(st *step) {
	before, after := st.workloads()
	if after != nil && st.assign {
		for _, hostID := range after.Place().Hosts() {
			fire(t.first[TopicHost(hostID)])
		}
	}
	if before == nil || after != nil && sameHosts(before.Place(), after.Place()) {
		return
	}
	for _, hostID := range before.Place().Hosts() {
		if after == nil || !after.Place().On(hostID) {
			fire(t.first[TopicHost(hostID)])
		}
	}
}

func fire(l *link) {
	for ; l != nil; l = l.next {
		l.sub.notify()
	}
}
