package proxy

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// affinity remembers which pod a client of a service was led to. It is one project's, and
// bounded: the client that was away for longest is forgotten first.
type affinity struct {
	mu    sync.Mutex
	most  int
	byKey map[affinityKey]*list.Element
	order *list.List // of *affinityEntry, the last used first
}

type affinityKey struct {
	service string
	client  netip.Addr
}

type affinityEntry struct {
	key  affinityKey
	pod  string
	used time.Time
}

func newAffinity() *affinity {
	return &affinity{byKey: map[affinityKey]*list.Element{}, order: list.New()}
}

// limit bounds the table.
func (a *affinity) limit(most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.most = max(most, 1)
	a.shrink()
}

// pod returns the pod that a client was led to less than a timeout ago, "" if there is none.
func (a *affinity) pod(service string, client netip.Addr, timeout time.Duration, now time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byKey[affinityKey{service, client}]
	if e == nil {
		return ""
	}
	if entry := e.Value.(*affinityEntry); now.Sub(entry.used) < timeout {
		return entry.pod
	}
	a.order.Remove(e)
	delete(a.byKey, affinityKey{service, client})
	return ""
}

// set remembers the pod that a client is led to.
func (a *affinity) set(service string, client netip.Addr, pod string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := affinityKey{service, client}
	if e := a.byKey[key]; e != nil {
		entry := e.Value.(*affinityEntry)
		entry.pod, entry.used = pod, now
		a.order.MoveToFront(e)
		return
	}
	a.byKey[key] = a.order.PushFront(&affinityEntry{key, pod, now})
	a.shrink()
}

// forget forgets the pod of a client, unless the client has another one meanwhile.
func (a *affinity) forget(service string, client netip.Addr, pod string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := affinityKey{service, client}
	if e := a.byKey[key]; e != nil && e.Value.(*affinityEntry).pod == pod {
		a.order.Remove(e)
		delete(a.byKey, key)
	}
}

// Client is a client that the affinity of a service has led to a pod.
type Client struct {
	ProjectID string     `json:"project_id"`
	ServiceID string     `json:"service_id"`
	Addr      netip.Addr `json:"addr"`
	PodID     string     `json:"pod_id"`
	Used      time.Time  `json:"used"`
}

// Clients returns the clients that have a pod, for another proxy. The last used come last.
func (p *Proxy) Clients() []Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Client
	for id, pr := range p.projects {
		pr.affinity.mu.Lock()
		for e := pr.affinity.order.Back(); e != nil; e = e.Prev() {
			entry := e.Value.(*affinityEntry)
			all = append(all, Client{id, entry.key.service, entry.key.client, entry.pod, entry.used})
		}
		pr.affinity.mu.Unlock()
	}
	return all
}

// SetClients takes over the clients of another proxy, in the order of Clients. Those of
// unknown projects are forgotten.
func (p *Proxy) SetClients(all []Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range all {
		if pr := p.projects[c.ProjectID]; pr != nil {
			pr.affinity.set(c.ServiceID, c.Addr, c.PodID, c.Used)
		}
	}
}

// shrink forgets what is too much.
func (a *affinity) shrink() {
	for a.order.Len() > a.most {
		last := a.order.Back()
		a.order.Remove(last)
		delete(a.byKey, last.Value.(*affinityEntry).key)
	}
}
