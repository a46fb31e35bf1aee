package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/datapath/relay"
	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

const (
	podPort   = 8080
	relayPort = 9514
	webPort   = 30080 // node port of TCP
	echoPort  = 30053 // node port of UDP
)

// podHost is a host with one pod and a data path, each in a network namespace of its own.
// The pod is on a bridge of the host, as a container is.
type podHost struct {
	id       string
	host     *rig.Space
	pod      *rig.Space
	server   *rig.Process // in the pod
	dir      string       // of the data path
	path     *rig.Process // the data path
	client   *datapath.Client
	relayPin string
	number   int // of the host in its addresses
	podAddr  netip.Addr
	linkAddr netip.Addr // on the link between the hosts
}

// startPodHost starts host number n.
func (b *bench) startPodHost(dir string, n int) (h *podHost, err error) {
	h = &podHost{id: structs.NewID(), number: n, dir: filepath.Join(dir, fmt.Sprint("datapath-", n)),
		podAddr: netip.AddrFrom4([4]byte{10, 99, byte(n), 2}), linkAddr: netip.AddrFrom4([4]byte{10, 98, 0, byte(n)})}
	defer func() {
		if err != nil {
			h.end()
		}
	}()
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return h, err
	}
	if h.host, err = rig.NewSpace(b.ctx, dir, fmt.Sprint("host-", n)); err != nil {
		return h, err
	}
	if h.pod, err = rig.NewSpace(b.ctx, dir, fmt.Sprint("pod-", n)); err != nil {
		return h, err
	}
	gateway := fmt.Sprintf("10.99.%d.1", n)
	for _, c := range []struct {
		in   *rig.Space
		args []string
	}{
		{h.host, []string{"link", "add", "br0", "type", "bridge"}},
		{h.host, []string{"addr", "add", gateway + "/24", "dev", "br0"}},
		{h.host, []string{"link", "set", "br0", "up"}},
		{h.host, []string{"link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", h.pod.PID()}},
		{h.host, []string{"link", "set", "pod", "master", "br0", "up"}},
		{h.pod, []string{"addr", "add", h.podAddr.String() + "/24", "dev", "eth0"}},
		{h.pod, []string{"link", "set", "eth0", "up"}},
		{h.pod, []string{"route", "add", "default", "via", gateway}},
	} {
		if err := c.in.Run(b.ctx, "ip", c.args...); err != nil {
			return h, err
		}
	}
	for _, in := range []*rig.Space{h.host, h.pod} {
		// The ports of a client that makes many connections must not run out.
		const tune = "cd /proc/sys/net/ipv4 && echo 1024 65535 >ip_local_port_range && echo 1 >tcp_tw_reuse && echo 1 >ip_forward && " +
			"echo 65535 >tcp_max_syn_backlog"
		if err := in.Run(b.ctx, "sh", "-c", tune); err != nil {
			return h, err
		}
	}
	if h.server, err = h.pod.Start(b.ctx, dir, fmt.Sprint("server-", n), *baselineBinary, "-pod", h.podSocket()); err != nil {
		return h, err
	}
	if h.path, err = h.host.Start(b.ctx, dir, fmt.Sprint("path-", n), b.program, datapath.Subcommand, "-dir", h.dir); err != nil {
		return h, err
	}
	err = rig.Until(30*time.Second, func() bool {
		h.client, err = datapath.Connect(b.ctx, h.dir)
		return err == nil
	})
	if err != nil {
		return h, fmt.Errorf("the data path doesn't serve: %s", h.path.Tail())
	}
	_, h.relayPin, err = relay.Key(h.keyFile())
	return h, err
}

func (h *podHost) keyFile() string   { return filepath.Join(h.dir, "relay.pem") }
func (h *podHost) podSocket() string { return netip.AddrPortFrom(h.podAddr, podPort).String() }

// end ends all of the host.
func (h *podHost) end() {
	h.path.Stop()
	h.server.Stop()
	h.pod.End()
	h.host.End()
}

// link joins two hosts, and lets them reach each other's pods without a relay.
func link(ctx context.Context, a, z *podHost) error {
	if err := a.host.Run(ctx, "ip", "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", z.host.PID()); err != nil {
		return err
	}
	for _, side := range []struct{ here, there *podHost }{{a, z}, {z, a}} {
		for _, args := range [][]string{
			{"addr", "add", side.here.linkAddr.String() + "/24", "dev", "link0"},
			{"link", "set", "link0", "up"},
			{"route", "add", fmt.Sprintf("10.99.%d.0/24", side.there.number), "via", side.there.linkAddr.String()},
		} {
			if err := side.here.host.Run(ctx, "ip", args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve gives the data path a service whose only pod is that of another host, or its own.
func (h *podHost) serve(ctx context.Context, of *podHost, peers ...*podHost) error {
	conf := datapath.Config{
		HostID: h.id,
		Services: []datapath.Service{{
			ID: "service", ProjectID: structs.DefaultProject, Name: "web", Address: "10.127.0.1",
			Spec: structs.ServiceSpec{Ports: []structs.ServicePort{
				{Name: "web", Port: 80, NodePort: webPort, Protocol: "tcp"},
				{Name: "echo", Port: 53, NodePort: echoPort, Protocol: "udp"}}},
			Endpoints: []structs.Endpoint{{PodID: "pod", HostID: of.id, Address: of.podAddr.String(), Ports: []int{podPort, podPort},
				Ready: true}},
		}},
		Relay: datapath.Relay{KeyFile: h.keyFile(), Listen: netip.AddrPortFrom(h.linkAddr, relayPort).String()},
	}
	for _, p := range peers {
		conf.Relay.Peers = append(conf.Relay.Peers, structs.RelayPeer{HostID: p.id,
			Relay: structs.Relay{Key: p.relayPin, Addr: netip.AddrPortFrom(p.linkAddr, relayPort).String()}})
	}
	_, err := h.client.Apply(ctx, conf)
	return err
}

// ready waits until the data path has no problem, such as another host that isn't reached
// yet.
func (h *podHost) ready(ctx context.Context) error {
	var s datapath.Status
	var err error
	waited := rig.Until(30*time.Second, func() bool {
		s, err = h.client.Status(ctx)
		return err != nil || len(s.Problems) == 0
	})
	if waited != nil {
		return errors.New(s.Problems[0].Reason)
	}
	return err
}

// services measures what connections through the data path cost: to a pod of the same host,
// and by the relay to a pod of another one.
func (b *bench) services() error {
	dir, err := os.MkdirTemp(b.dir, "services-")
	if err != nil {
		return err
	}
	var hosts []*podHost
	for n := range 2 {
		h, err := b.startPodHost(dir, n+1)
		if err != nil {
			return err
		}
		defer h.end()
		hosts = append(hosts, h)
	}
	near, far := hosts[0], hosts[1]
	if err := link(b.ctx, near, far); err != nil {
		return err
	}
	if err := far.serve(b.ctx, far, near); err != nil {
		return err
	}
	for _, way := range []struct {
		name                  string
		to                    *podHost
		keepAlive, connection float64 // gates
	}{{"proxy", near, 0.6, 0.3}, {"relay", far, 0.4, 0.2}} {
		if err := near.serve(b.ctx, way.to, far); err != nil {
			return err
		}
		for _, h := range hosts {
			if err := h.ready(b.ctx); err != nil {
				return err
			}
		}
		if err := b.throughService(near, way.to, "keep-alive", way.name, false, way.keepAlive); err != nil {
			return err
		}
		if err := b.throughService(near, way.to, "a connection per request", way.name, true, way.connection); err != nil {
			return err
		}
		if err := b.datagrams(near, way.to, way.name); err != nil {
			return err
		}
	}
	return b.pathMemory(near)
}

// throughService compares HTTP requests to a node port of a host with those to the pod. Both
// are sent from the host. least is the gate of the ratio.
func (b *bench) throughService(from, to *podHost, what, way string, closes bool, least float64) error {
	const connections = 64
	side := func(addr string) func(int) (float64, error) {
		return func(int) (float64, error) {
			r := request{url: "http://" + addr + "/", in: from.host}
			if closes {
				r.header = "Connection: close"
			}
			got, err := wrk(b.ctx, b.dir, r, connections, *duration)
			return got.rate, err
		}
	}
	p, err := b.interleave(*rounds, side(fmt.Sprintf("127.0.0.1:%d", webPort)), side(to.podSocket()))
	if err != nil {
		return fmt.Errorf("%s, %s: %w", way, what, err)
	}
	b.report(row{
		what: fmt.Sprintf("HTTP through the %s, %s, %d connections", way, what, connections),
		ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s", other: "the pod directly",
		ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), higher: true,
		gate: bound{fmt.Sprintf("≥ %g", least), median(p.ratios()) >= least},
	})
	return nil
}

// datagrams compares questions and answers by UDP.
func (b *bench) datagrams(from, to *podHost, way string) error {
	side := func(addr string) func(int) (float64, error) {
		return func(int) (rate float64, err error) {
			out, err := from.host.Output(b.ctx, *baselineBinary, "-ask", addr, "-duration", duration.String())
			if err == nil {
				_, err = fmt.Sscan(out, &rate)
			}
			return rate, err
		}
	}
	p, err := b.interleave(*rounds, side(fmt.Sprintf("127.0.0.1:%d", echoPort)), side(to.podSocket()))
	if err != nil {
		return fmt.Errorf("%s, UDP: %w", way, err)
	}
	b.report(row{
		what: fmt.Sprintf("UDP through the %s, 16 clients", way),
		ours: spread("%.0f", p.ours) + " /s", theirs: spread("%.0f", p.theirs) + " /s", other: "the pod directly",
		ratio: spread("%.2f", p.ratios()), figure: median(p.ratios()), higher: true,
	})
	return nil
}

// pathMemory measures the memory of a data path some time after its last connection, when it
// has given back what those took.
func (b *bench) pathMemory(h *podHost) error {
	select {
	case <-time.After(15 * time.Second):
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	used, err := h.path.RSS()
	if err != nil {
		return err
	}
	b.report(row{
		what: "memory of an idle data path",
		ours: fmt.Sprintf("%.1f MB", used/1e6), figure: used, gate: bound{"under 25 MB", used < 25e6},
	})
	return nil
}
