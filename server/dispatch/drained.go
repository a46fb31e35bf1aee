package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Limits of the questions that wait at once. An agent whose question is refused stops its
// pod without waiting.
const (
	maxQuestions     = 2000 // at this server
	maxHostQuestions = 200  // of one host
)

// maxWaiting bounds the hosts that an answer names.
const maxWaiting = 10

// drained answers hosts that ask whether a pod gets no connections any more. It knows how far
// each host has followed the state, by the polls that came to this server.
type drained struct {
	config *Config

	mu      sync.Mutex // guards what follows
	hosts   map[string]followedIndex
	changed chan struct{}  // closed by the next poll that a waiter may wait for; nil while none waits
	asking  map[string]int // questions that wait, by host
	all     int            // their number
}

// followedIndex is how far a host has followed the state in a registration.
type followedIndex struct {
	registration uint64
	index        uint64
}

func newDrained(c *Config) *drained {
	return &drained{config: c, hosts: make(map[string]followedIndex), asking: make(map[string]int)}
}

// record notes a poll. An agent polls with the index of the last answer, which it has carried
// out as far as services are concerned, unless it says that it is behind. A poll for everything
// says nothing: the agent has just started, and its data path may not have what an earlier poll
// has brought.
func (d *drained) record(p Poll) {
	if p.Index == 0 || p.Behind {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.hosts[p.HostID]
	if was.registration == p.Registration && was.index >= p.Index {
		return
	}
	d.hosts[p.HostID] = followedIndex{p.Registration, p.Index}
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// followed returns the hosts that have polled here with the index or a later one. changed is
// closed when there may be more.
func (d *drained) followed(hostIDs []string, index uint64) (found []string, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range hostIDs {
		if d.hosts[id].index >= index {
			found = append(found, id)
		}
	}
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return found, d.changed
}

// await returns, as soon as there are any, the hosts that have polled here with the index or a
// later one; none when ctx ends.
func (d *drained) await(ctx context.Context, hostIDs []string, index uint64) (found []string) {
	for {
		found, changed := d.followed(hostIDs, index)
		if len(found) > 0 {
			return found
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// enter admits a question of a host. CodeRateLimited if too many wait.
func (d *drained) enter(hostID string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxQuestions || d.asking[hostID] >= maxHostQuestions {
		return structs.Errorf(structs.CodeRateLimited, "%d questions about pods wait here, %d of them of this host: stop the pod without "+
			"waiting", d.all, d.asking[hostID]).About(structs.KindHost)
	}
	d.all++
	d.asking[hostID]++
	return nil
}

func (d *drained) leave(hostID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.asking[hostID]--; d.asking[hostID] == 0 {
		delete(d.asking, hostID)
	}
}

// Question is a host's question whether a pod that is to end there gets no new connections
// any more.
type Question struct {
	HostID string
	PodID  string
	Index  uint64        // of the answer in which the host learnt that the pod is to end; 0 means any
	Wait   time.Duration // at most structs.MaxDrained
}

// Drained waits until no service leads to the pod on the host, and every ready host of the bay
// has followed the state that says so. The answer says false once Question.Wait has passed:
// also if this server is behind, or if a server to which a host polls can't be reached. Errors:
// CodeNotFound for a pod without a placement on the host, CodeRateLimited.
func (d *Dispatch) Drained(ctx context.Context, q Question) (structs.Drained, error) {
	if err := d.drained.enter(q.HostID); err != nil {
		return structs.Drained{}, err
	}
	defer d.drained.leave(q.HostID)
	ctx, cancel := context.WithTimeout(ctx, min(max(q.Wait, 0), structs.MaxDrained))
	defer cancel()
	if d.config.Store.WaitIndex(ctx, q.Index) != nil {
		return structs.Drained{}, nil
	}
	bayID, index, err := d.outOfServices(ctx, q)
	if err != nil || index == stillIn {
		return structs.Drained{}, err
	}
	return d.awaitHosts(ctx, bayID, index), nil
}

// stillIn is the result of outOfServices if a service leads to the pod after all.
const stillIn = ^uint64(0)

// outOfServices returns the bay of the pod, and the index that all its hosts have to follow,
// once no service leads to the pod on the host; stillIn if the wait is over before that.
//
// The index is that of the bay's last change: also a selector that was changed, or a service
// that was deleted, may have led to the pod. Each change wakes all hosts of the bay, so they
// follow it at once, whatever changes next.
func (d *Dispatch) outOfServices(ctx context.Context, q Question) (bayID string, index uint64, err error) {
	pod := d.config.Store.Snapshot().Pod(q.PodID)
	if pod == nil || !pod.On(q.HostID) {
		return "", 0, structs.NotFound(structs.KindPod, q.PodID)
	}
	bayID = pod.BayID
	sub := d.config.Store.Subscribe(state.TopicServices(bayID))
	defer sub.Close()
	for {
		snap := d.config.Store.Snapshot()
		if !leadsTo(snap, pod, q.HostID) {
			index, _ = state.ServicesIndex(snap, bayID)
			return bayID, index, nil
		}
		select {
		case <-sub.C():
		case <-ctx.Done():
			return bayID, stillIn, nil
		}
	}
}

// leadsTo reports whether a service leads to the pod on the host.
func leadsTo(snap *state.Snapshot, pod *structs.Pod, hostID string) bool {
	if !state.HasServices(snap, pod.BayID) {
		return false
	}
	for s := range state.ServicesInBay(snap, pod.BayID) {
		if s.ProjectID != pod.ProjectID {
			continue
		}
		e := snap.Endpoints(s.ID)
		if e != nil && slices.ContainsFunc(e.Pods, func(p structs.Endpoint) bool { return p.PodID == pod.ID && p.HostID == hostID }) {
			return true
		}
	}
	return false
}

// awaitHosts waits until all ready hosts of the bay have polled with the index or a later one,
// at this server or another one.
func (d *Dispatch) awaitHosts(ctx context.Context, bayID string, index uint64) structs.Drained {
	elsewhere := make(chan []string)
	asked := false
	done := make(map[string]bool) // hosts that have followed, wherever they poll
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		waiting := d.readyHosts(bayID, done)
		found, changed := d.drained.followed(waiting, index)
		for _, id := range found {
			done[id] = true
		}
		waiting = slices.DeleteFunc(waiting, func(id string) bool { return done[id] })
		if index == 0 || len(waiting) == 0 {
			return structs.Drained{Drained: true}
		}
		if !asked && d.config.Followed != nil {
			asked = true
			go d.config.Followed(ctx, slices.Clone(waiting), index, func(hostIDs []string) {
				select {
				case elsewhere <- hostIDs:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-changed:
		case hostIDs := <-elsewhere:
			for _, id := range hostIDs {
				done[id] = true
			}
		case <-ctx.Done():
			return structs.Drained{Waiting: d.names(waiting)}
		}
	}
}

// readyHosts returns the IDs of the ready hosts of the bay that are not done.
func (d *Dispatch) readyHosts(bayID string, done map[string]bool) (ids []string) {
	for h := range d.config.Store.Snapshot().HostsInBay(bayID) {
		if h.State == structs.HostReady && !done[h.ID] {
			ids = append(ids, h.ID)
		}
	}
	return ids
}

func (d *Dispatch) names(hostIDs []string) (names []string) {
	snap := d.config.Store.Snapshot()
	for _, id := range hostIDs[:min(len(hostIDs), maxWaiting)] {
		if h := snap.Host(id); h != nil {
			names = append(names, h.Name)
		}
	}
	return names
}

// Followed returns which of the hosts have polled this server with the index or a later one:
// the answer to another server. It waits until there is one, at most as long as given.
func (d *Dispatch) Followed(ctx context.Context, hostIDs []string, index uint64, wait time.Duration) []string {
	ctx, cancel := context.WithTimeout(ctx, min(max(wait, 0), structs.MaxDrained))
	defer cancel()
	return d.drained.await(ctx, hostIDs, index)
}
