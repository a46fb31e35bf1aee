package datapath

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/stackforge/magnum/agent/datapath/proxy"
	"github.com/stackforge/magnum/agent/datapath/relay"
)

// hostRelay is the relay of this host with what it was made of.
type hostRelay struct {
	*relay.Relay
	hostID, keyFile string
	listen          string // where it listens; "" if it doesn't
	served          chan struct{}
}

// keyListener is the key of the relay's socket.
func keyListener(listen string) string { return "relay " + listen }

// updateRelay makes the relay as the configuration has it. It returns what doesn't work.
// c.mu is held.
func (c *core) updateRelay() []Problem {
	c.local.Store(withFormer(localTargets(&c.conf), c.local.Load(), time.Now()))
	want := c.conf.Relay
	r := c.relay.Load()
	if r != nil && (r.keyFile != want.KeyFile || r.hostID != c.conf.HostID) {
		c.relay.Store(nil)
		c.closeListener(r)
		r.Close()
		r = nil
	}
	if want.KeyFile == "" {
		return nil
	}
	if r == nil {
		certificate, _, err := relay.Key(want.KeyFile)
		if err != nil {
			return []Problem{{Reason: fmt.Sprintf("pods on other hosts can't be reached: the key of the relay can't be read: %v", err)}}
		}
		r = &hostRelay{hostID: c.conf.HostID, keyFile: want.KeyFile, Relay: relay.New(relay.Config{HostID: c.conf.HostID,
			Certificate: certificate, Accept: c.accept, Log: c.log.Named("relay"), MaxStreamsAll: max(c.files/8, 16)})}
		c.relay.Store(r)
	}
	r.Set(want.Peers)
	if r.listen != want.Listen {
		c.closeListener(r)
	}
	if r.listen == "" && want.Listen != "" {
		if err := c.listenRelay(r, want.Listen); err != nil {
			return []Problem{{Reason: fmt.Sprintf("other hosts can't dial the relay of this host: %v: end the program that has %s, "+
				"or set -relay-port", err, want.Listen)}}
		}
	}
	return nil
}

// listenRelay takes connections of other hosts.
func (c *core) listenRelay(r *hostRelay, listen string) error {
	at, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return err
	}
	addr := at.AddrPort()
	if at.IP == nil {
		addr = netip.AddrPortFrom(netip.Addr{}, uint16(at.Port))
	} else {
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	ln, err := c.sockets.Listen(keyListener(listen), addr)
	if err != nil {
		return err
	}
	r.listen, r.served = listen, make(chan struct{})
	go func() {
		defer close(r.served)
		if err := r.Serve(ln); err != nil {
			c.log.Error("the relay takes no connections", "addr", listen, "error", err)
		}
	}()
	return nil
}

// closeListener takes no more connections of other hosts. Those that there are stay.
func (c *core) closeListener(r *hostRelay) {
	if r.listen == "" {
		return
	}
	c.sockets.Release(keyListener(r.listen))
	<-r.served
	r.listen = ""
}

// drainRelay leaves the relay to another process, and returns when the streams of this one
// have ended.
func (c *core) drainRelay(ctx context.Context) {
	r := c.relay.Load()
	if r == nil {
		return
	}
	c.closeListener(r)
	_ = r.Drain(ctx)
	r.Close()
}

// closeRelay cuts all connections with other hosts.
func (c *core) closeRelay() {
	if r := c.relay.Load(); r != nil {
		c.closeListener(r)
		r.Close()
	}
}

// relayProblems says which peers can't be reached.
func (c *core) relayProblems() []Problem {
	r := c.relay.Load()
	if r == nil {
		return nil
	}
	var problems []Problem
	for host, err := range r.Reachable() {
		if err != nil {
			problems = append(problems, Problem{HostID: host, Reason: fmt.Sprintf("pods of host %s can't be reached from this host: %v",
				host, err)})
		}
	}
	return problems
}

// dialRelay connects to a pod on another host.
func (c *core) dialRelay(ctx context.Context, hostID string, to proxy.Target) (net.Conn, error) {
	r := c.relay.Load()
	if r == nil {
		return nil, fmt.Errorf("pod %s is on host %s, and this host has no relay", to.PodID, hostID)
	}
	conn, err := r.Dial(ctx, hostID, relay.Target(to))
	if err != nil {
		return nil, err // not a nil *relay.Conn in an interface
	}
	return conn, nil
}

// dialRelayUDP begins a flow to a pod on another host.
func (c *core) dialRelayUDP(ctx context.Context, hostID string, to proxy.Target) (net.Conn, error) {
	r := c.relay.Load()
	if r == nil {
		return nil, fmt.Errorf("pod %s is on host %s, and this host has no relay", to.PodID, hostID)
	}
	flow, err := r.DialUDP(ctx, hostID, relay.Target(to))
	if err != nil {
		return nil, err
	}
	return flow, nil
}

// accept returns the address of a pod that another host asks for. Only the endpoints on
// this host can be asked for, whether ready or not: the other host may have seen a change
// earlier or later.
func (c *core) accept(to relay.Target) (string, error) {
	local, ok := (*c.local.Load())[to]
	if !ok || !local.until.IsZero() && time.Now().After(local.until) {
		return "", fmt.Errorf("host %s has no endpoint of service %s in pod %s at port %d/%s", c.hostID(), to.ServiceID, to.PodID,
			to.Port, to.Protocol)
	}
	return local.addr, nil
}

// formerFor is how long other hosts may still ask for an endpoint that is none any more. A host
// learns of a change later than another one, and a pod ends only after all of them have: see
// server/dispatch/drained.go.
const formerFor = 5 * time.Second

// localTarget is an endpoint on this host.
type localTarget struct {
	addr  string
	until time.Time // the end of formerFor; zero while it is an endpoint
}

// withFormer adds the targets that were endpoints a moment ago, with their addresses then.
func withFormer(now, before *map[relay.Target]localTarget, at time.Time) *map[relay.Target]localTarget {
	if before == nil {
		return now
	}
	for target, was := range *before {
		if _, ok := (*now)[target]; ok {
			continue
		}
		if was.until.IsZero() {
			was.until = at.Add(formerFor)
		}
		if at.Before(was.until) {
			(*now)[target] = was
		}
	}
	return now
}

// hostID returns the ID of this host.
func (c *core) hostID() string {
	if r := c.relay.Load(); r != nil {
		return r.hostID
	}
	return ""
}

// localTargets returns the addresses of the endpoints that are on this host.
func localTargets(conf *Config) *map[relay.Target]localTarget {
	all := map[relay.Target]localTarget{}
	for i := range conf.Services {
		s := &conf.Services[i]
		for _, e := range s.Endpoints {
			if e.HostID != conf.HostID {
				continue
			}
			addr, err := netip.ParseAddr(e.Address)
			if err != nil {
				continue
			}
			for n, port := range e.Ports[:min(len(e.Ports), len(s.Spec.Ports))] {
				if sp := s.Spec.Ports[n]; port != 0 {
					all[relay.Target{ServiceID: s.ID, PodID: e.PodID, Port: sp.Port, Protocol: sp.Protocol}] =
						localTarget{addr: netip.AddrPortFrom(addr, uint16(port)).String()}
				}
			}
		}
	}
	return &all
}
