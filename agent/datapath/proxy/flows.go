package proxy

import (
	"net/netip"
	"slices"
	"time"
)

// This file hands the UDP flows of a proxy to the proxy of the next process: each client
// stays with its pod. The new proxy makes a socket of its own to the pod.

// Flow is a client of a UDP socket with the pod that it is led to.
type Flow struct {
	Socket string         `json:"socket"` // key in the table of sockets
	Client netip.AddrPort `json:"client"`
	Local  netip.Addr     `json:"local,omitzero"` // the address of ours that the client has asked
	PodID  string         `json:"pod_id"`
	Used   time.Time      `json:"used"` // when the last datagram passed, either way
}

// maxFlows bounds what is handed over. Of more flows, those that were silent for longest are
// left out.
const maxFlows = 1 << 14

// resumeAfter is how long nobody reads datagrams if the other process is slow. They wait in
// the sockets meanwhile.
const resumeAfter = 2 * time.Second

// PauseFlows stops to read datagrams, so that all later ones are for another process, and
// returns the flows for SetFlows there. The caller calls resume if that process fails. Reading
// goes on by itself after a moment, until Drain or Close is called.
func (p *Proxy) PauseFlows() (all []Flow, resume func()) {
	p.applying.Lock()
	defer p.applying.Unlock()
	paused := p.servers()
	for _, s := range paused {
		s.stopReading()
		s.mu.Lock()
		for e := s.order.Front(); e != nil; e = e.Next() {
			f := e.Value.(*flow)
			f.mu.Lock()
			if !f.ended {
				all = append(all, Flow{s.key, f.key.client, f.key.local, f.to.pod, f.active})
			}
			f.mu.Unlock()
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Flow) int { return b.Used.Compare(a.Used) })
	all = all[:min(len(all), maxFlows)]
	resume = func() {
		p.applying.Lock()
		defer p.applying.Unlock()
		p.mu.Lock()
		closed := p.closed
		p.mu.Unlock()
		if closed {
			return
		}
		now := p.servers()
		for _, s := range paused {
			if slices.Contains(now, s) {
				s.resumeReading()
			}
		}
		paused = nil
	}
	time.AfterFunc(resumeAfter, resume)
	return all, resume
}

// SetFlows takes over the flows of another proxy. It is called before the first Apply.
func (p *Proxy) SetFlows(all []Flow) {
	p.applying.Lock()
	defer p.applying.Unlock()
	now := time.Now()
	p.handed = map[string]map[flowKey]string{}
	for _, f := range all[:min(len(all), maxFlows)] {
		if now.Sub(f.Used) >= p.opts.FlowTimeout {
			continue
		}
		of := p.handed[f.Socket]
		if of == nil {
			of = map[flowKey]string{}
			p.handed[f.Socket] = of
		}
		of[flowKey{f.Client, f.Local}] = f.PodID
	}
}

// takeHanded gives a socket its clients of another proxy, before it is read.
func (s *udpServer) takeHanded() {
	s.handed = s.p.handed[s.key]
	delete(s.p.handed, s.key)
	if s.handed != nil {
		time.AfterFunc(s.p.opts.FlowTimeout, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.handed = nil // they have been silent
		})
	}
}

// pick returns the endpoint for a client: that of its flow in another proxy, or any.
func (s *udpServer) pick(key flowKey) *endpoint {
	s.mu.Lock()
	pod, handed := s.handed[key]
	delete(s.handed, key)
	s.mu.Unlock()
	client, now := key.client.Addr().Unmap(), time.Now()
	if handed {
		for _, e := range *s.to.ready.Load() {
			if e.pod == pod {
				return s.to.chosen(e, client, now)
			}
		}
	}
	return s.to.pick(client, nil, now)
}
