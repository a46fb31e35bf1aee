package proxy

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/structs"
)

// avoidFor is for how long an endpoint that couldn't be connected to is tried last.
const avoidFor = 2 * time.Second

// port is one port of a service. It lasts as long as the service has the port; Apply
// replaces what is in it.
type port struct {
	project  string
	service  string
	number   int // of the service
	affinity *affinity
	timeout  atomic.Int64 // of ClientIP, a time.Duration; 0 means none
	next     atomic.Uint32
	ready    atomic.Pointer[[]*endpoint]
}

// endpoint is where a pod serves a port.
type endpoint struct {
	pod     string
	host    string // "" if the pod runs on this host
	addr    netip.AddrPort
	badTill atomic.Int64 // Unix nanoseconds
	gone    atomic.Bool  // it isn't ready any more
	dialing atomic.Int32 // connections that are being opened
}

// begin counts a connection that is being opened; false if the endpoint is gone.
func (e *endpoint) begin() bool {
	e.dialing.Add(1)
	if e.gone.Load() {
		e.dialing.Add(-1)
		return false
	}
	return true
}

func (e *endpoint) end() { e.dialing.Add(-1) }

func newPort(project string, s *structs.ServiceAssignment, number int, a *affinity) *port {
	p := &port{project: project, service: s.ID, number: number, affinity: a}
	p.next.Store(rand.Uint32()) // hosts of a bay shouldn't all begin with the first pod
	p.ready.Store(new([]*endpoint))
	return p
}

// set takes over the endpoints of port number i of a service. Endpoints that were there
// keep their state. It returns those that are gone.
func (p *port) set(s *structs.ServiceAssignment, i int, hostID string) []*endpoint {
	was := map[string]*endpoint{}
	for _, e := range *p.ready.Load() {
		was[e.pod] = e
	}
	var ready []*endpoint
	for _, e := range s.Endpoints {
		if !e.Ready || i >= len(e.Ports) || e.Ports[i] == 0 {
			continue
		}
		addr, err := netip.ParseAddr(e.Address)
		if err != nil {
			continue // a pod without an address is no endpoint
		}
		n := &endpoint{pod: e.PodID, host: e.HostID, addr: netip.AddrPortFrom(addr, uint16(e.Ports[i]))}
		if e.HostID == hostID {
			n.host = ""
		}
		if old := was[e.PodID]; old != nil && old.host == n.host && old.addr == n.addr {
			n = old
			delete(was, e.PodID)
		}
		ready = append(ready, n)
	}
	p.timeout.Store(int64(time.Duration(s.Spec.ClientIPTimeout) * time.Second))
	p.ready.Store(&ready)
	return leave(was)
}

// drop takes all endpoints from a port that no service has any more.
func (p *port) drop() []*endpoint {
	was := map[string]*endpoint{}
	for _, e := range *p.ready.Swap(new([]*endpoint)) {
		was[e.pod] = e
	}
	return leave(was)
}

// leave marks endpoints as gone, and returns them.
func leave(all map[string]*endpoint) []*endpoint {
	var gone []*endpoint
	for _, e := range all {
		e.gone.Store(true)
		gone = append(gone, e)
	}
	return gone
}

// pick returns the endpoint for a client, other than those that were tried; nil if there
// is none. The pods get connections in turn.
func (p *port) pick(client netip.Addr, tried []*endpoint, now time.Time) *endpoint {
	ready := *p.ready.Load()
	if len(ready) == 0 {
		return nil
	}
	timeout := time.Duration(p.timeout.Load())
	if timeout > 0 && len(tried) == 0 {
		if pod := p.affinity.pod(p.service, client, timeout, now); pod != "" {
			for _, e := range ready {
				if e.pod == pod {
					return p.chosen(e, client, now)
				}
			}
		}
	}
	var avoided *endpoint
	start := int(p.next.Add(1) % uint32(len(ready)))
	for i := range ready {
		e := ready[(start+i)%len(ready)]
		switch {
		case contains(tried, e):
		case e.badTill.Load() <= now.UnixNano():
			return p.chosen(e, client, now)
		case avoided == nil:
			avoided = e
		}
	}
	if avoided == nil {
		return nil
	}
	return p.chosen(avoided, client, now)
}

// chosen remembers the client's pod, if the service has affinity.
func (p *port) chosen(e *endpoint, client netip.Addr, now time.Time) *endpoint {
	if p.timeout.Load() > 0 {
		p.affinity.set(p.service, client, e.pod, now)
	}
	return e
}

// has reports whether an endpoint gets new connections.
func (p *port) has(e *endpoint) bool { return contains(*p.ready.Load(), e) }

// failed notes that an endpoint couldn't be connected to.
func (e *endpoint) failed(now time.Time) { e.badTill.Store(now.Add(avoidFor).UnixNano()) }

func contains(all []*endpoint, e *endpoint) bool {
	for _, o := range all {
		if o == e {
			return true
		}
	}
	return false
}
