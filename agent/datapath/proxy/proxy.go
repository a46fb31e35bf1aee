// Package proxy leads connections and datagrams of services to pods. Only agent/datapath
// calls it. It knows no configuration of the agent, and doesn't decide which ports the host
// redirects.
package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/structs"
)

// Target is an endpoint on another host.
type Target struct {
	ServiceID string
	PodID     string
	Port      int    // of the service
	Protocol  string // tcp or udp
}

// Options are what a proxy needs.
type Options struct {
	Sockets *sockets.Table
	Log     hclog.Logger
	// MaxFiles is how many descriptors the proxy may have: the process's limit, less what
	// others need. Default 4096.
	MaxFiles int
	// Dial connects to a pod on another host; nil if there is no relay. The connection must
	// have a method CloseWrite.
	Dial func(ctx context.Context, hostID string, to Target) (net.Conn, error)
	// DialUDP does so for datagrams: each Write sends one, and each Read returns one.
	DialUDP func(ctx context.Context, hostID string, to Target) (net.Conn, error)
	// OriginalDestination says where a redirected connection was meant to go. Default: what
	// the kernel says.
	OriginalDestination func(*net.TCPConn) (netip.AddrPort, error)
	// FlowTimeout is the silence after which a client's datagrams may go to another pod.
	// Default one minute.
	FlowTimeout time.Duration
}

// Config is what a proxy serves.
type Config struct {
	HostID   string
	Projects []Project
	Services []structs.ServiceAssignment
}

// Project is a project with a network on the host.
type Project struct {
	ID      string
	Gateway netip.Addr
}

// Status says where a proxy takes what the host redirects.
type Status struct {
	TCP      map[string]int // port by project ID
	UDP      []UDPPort      // ordered by service ID and port
	Problems []Problem
}

// UDPPort is where the datagrams for a port of a service are taken.
type UDPPort struct {
	ServiceID string
	Port      int // of the service
	Local     int // on the gateway
}

// Problem is what isn't served, and why.
type Problem struct {
	ServiceID string // "" if it is no single service's
	Reason    string
}

// Proxy carries connections. Its methods may be called concurrently.
type Proxy struct {
	opts   Options
	log    hclog.Logger
	dialer net.Dialer
	conns  *budget // TCP connections
	flows  *budget // UDP flows
	pipes  slots
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	applying  sync.Mutex                    // held by Apply and Drain
	handed    map[string]map[flowKey]string // pods by socket and client, of another proxy; guarded by applying
	mu        sync.Mutex                    // guards what follows
	closed    bool
	open      map[*net.TCPConn]closeWriter // accepted connections, and those to their pods; nil until connected
	flowCount int                          // UDP flows
	idle      chan struct{}                // closed when the last of both ends; nil if nobody waits
	conf      Config
	projects  map[string]*project
	ports     map[portKey]*port
	nodes     map[nodeKey]*nodePort
	problems  []Problem
}

// project is what a proxy has for one project.
type project struct {
	id       string
	gateway  netip.Addr
	affinity *affinity
	ports    projectPorts // TCP
	tcp      *listener    // nil if it couldn't be opened
	udp      map[portKey]*udpServer
}

// portKey names a port of a service.
type portKey struct {
	service  string
	number   int
	protocol string
}

// The shares of MaxFiles. A connection takes two descriptors, a pipe two, a flow one. The
// rest is for sockets that listen, and for others.
const (
	connsOf16 = 4 // connections have 1/2 of the files
	pipesOf16 = 1 // pipes have 1/8
	flowsOf16 = 2 // flows have 1/8
)

// Apply waits up to dialsAllow for connections that are being opened to endpoints that are
// gone.
const (
	dialsAllow = time.Second
	dialsPause = time.Millisecond
)

// affinities bounds the clients that the affinity of all projects remembers.
const affinities = 1 << 16

// New returns a proxy that serves nothing yet.
func New(o Options) *Proxy {
	if o.MaxFiles == 0 {
		o.MaxFiles = 4096
	}
	if o.OriginalDestination == nil {
		o.OriginalDestination = originalDestination
	}
	if o.FlowTimeout == 0 {
		o.FlowTimeout = time.Minute
	}
	p := &Proxy{
		opts: o, log: o.Log, conns: newBudget(o.MaxFiles * connsOf16 / 16),
		flows: newBudget(o.MaxFiles * flowsOf16 / 16),
		pipes: make(slots, o.MaxFiles*pipesOf16/16), open: map[*net.TCPConn]closeWriter{}, projects: map[string]*project{},
		ports: map[portKey]*port{}, nodes: map[nodeKey]*nodePort{},
		dialer: net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: time.Minute, Interval: 10 * time.Second, Count: 3}},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Apply serves what a configuration says. What is the same as before stays open. When it
// returns, no connection to an endpoint that isn't ready any more is being opened, unless
// that takes long.
func (p *Proxy) Apply(conf Config) Status {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Status{}
	}
	p.conf = conf
	p.mu.Unlock()
	p.update()
	p.handed = nil // of sockets that aren't there any more
	return p.Status()
}

// Retry opens what couldn't be opened. It returns whether that changed anything.
func (p *Proxy) Retry() bool {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.mu.Lock()
	failed := len(p.problems)
	closed := p.closed
	p.mu.Unlock()
	if failed == 0 || closed {
		return false
	}
	p.update()
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.problems) != failed
}

// update makes everything as the configuration has it. Its caller holds applying, so that
// nothing but Apply changes the maps; mu is for who reads them.
func (p *Proxy) update() {
	conf := &p.conf
	services := map[string]bool{}
	byProject := map[string][]*structs.ServiceAssignment{}
	for i := range conf.Services {
		s := &conf.Services[i]
		services[s.ID] = true
		byProject[s.ProjectID] = append(byProject[s.ProjectID], s)
	}
	exists := func(owner string) bool {
		_, here := byProject[owner[1:]]
		return here || services[owner[1:]]
	}
	p.conns.setProjects(len(byProject), exists)
	p.flows.setProjects(len(byProject), exists)

	p.mu.Lock()
	p.problems = nil
	p.mu.Unlock()
	p.updateProjects(byProject)
	ports, gone := p.updatePorts(byProject)
	p.updateAddresses(byProject, ports)
	p.updateNodes(byProject, ports)
	p.mu.Lock()
	p.ports = ports
	p.mu.Unlock()
	p.endFlows()
	p.awaitDials(gone)
}

// awaitDials waits until nobody connects to endpoints that are gone.
func (p *Proxy) awaitDials(gone []*endpoint) {
	for end := time.Now().Add(dialsAllow); time.Now().Before(end); {
		if !slices.ContainsFunc(gone, func(e *endpoint) bool { return e.dialing.Load() > 0 }) || !p.pause(dialsPause) {
			return
		}
	}
}

// updateProjects makes the projects that have a network here, or a service.
func (p *Proxy) updateProjects(byProject map[string][]*structs.ServiceAssignment) {
	want := map[string]netip.Addr{}
	for id := range byProject {
		want[id] = netip.Addr{} // without a network, it may have node ports
	}
	for _, pr := range p.conf.Projects {
		want[pr.ID] = pr.Gateway
	}
	for id, pr := range p.projects {
		gateway, stays := want[id]
		if stays && gateway == pr.gateway {
			continue
		}
		p.closeProject(pr)
		if !stays {
			p.mu.Lock()
			delete(p.projects, id)
			p.mu.Unlock()
			continue
		}
		p.mu.Lock()
		pr.gateway, pr.tcp = gateway, nil
		p.mu.Unlock()
	}
	for id, gateway := range want {
		pr := p.projects[id]
		if pr == nil {
			pr = &project{id: id, gateway: gateway, affinity: newAffinity(), udp: map[portKey]*udpServer{}}
			pr.ports.Store(&map[netip.AddrPort]*port{})
			p.mu.Lock()
			p.projects[id] = pr
			p.mu.Unlock()
		}
		pr.affinity.limit(affinities / len(want))
	}
}

// updatePorts returns the ports of all services, with their endpoints, and the endpoints
// that are gone.
func (p *Proxy) updatePorts(byProject map[string][]*structs.ServiceAssignment) (map[portKey]*port, []*endpoint) {
	ports := map[portKey]*port{}
	var gone []*endpoint
	for id, services := range byProject {
		for _, s := range services {
			if s.Spec.Headless {
				continue
			}
			for i, sp := range s.Spec.Ports {
				key := portKey{s.ID, sp.Port, sp.Protocol}
				at := p.ports[key]
				if at == nil || at.project != id {
					at = newPort(id, s, sp.Port, p.projects[id].affinity)
				}
				gone = append(gone, at.set(s, i, p.conf.HostID)...)
				ports[key] = at
			}
		}
	}
	for key, at := range p.ports {
		if ports[key] != at {
			gone = append(gone, at.drop()...)
		}
	}
	return ports, gone
}

// updateAddresses serves the services' addresses in the projects' networks.
func (p *Proxy) updateAddresses(byProject map[string][]*structs.ServiceAssignment, ports map[portKey]*port) {
	for id, pr := range p.projects {
		tcp, udp := map[netip.AddrPort]*port{}, map[portKey]*port{}
		for _, s := range byProject[id] {
			addr, err := netip.ParseAddr(s.Address)
			if s.Spec.Headless || err != nil {
				continue
			}
			for _, sp := range s.Spec.Ports {
				key := portKey{s.ID, sp.Port, sp.Protocol}
				if sp.Protocol == "udp" {
					udp[key] = ports[key]
				} else {
					tcp[netip.AddrPortFrom(addr, uint16(sp.Port))] = ports[key]
				}
			}
		}
		pr.ports.Store(&tcp)
		if pr.gateway.IsValid() {
			p.updateProjectTCP(pr)
			p.updateProjectUDP(pr, udp)
		}
	}
}

// updateProjectTCP opens the project's listener, if it isn't open.
func (p *Proxy) updateProjectTCP(pr *project) {
	if pr.tcp != nil {
		return
	}
	l, err := p.listen(fmt.Sprintf("tcp %s %s", pr.id, pr.gateway), netip.AddrPortFrom(pr.gateway, 0), func(c *net.TCPConn) *port {
		to, err := p.opts.OriginalDestination(c)
		if err != nil {
			return nil
		}
		return (*pr.ports.Load())[to]
	})
	if err != nil {
		p.problem("", "project %s has no TCP services on this host: no port can be opened on its gateway: %v", pr.id, err)
		return
	}
	p.mu.Lock()
	pr.tcp = l
	p.mu.Unlock()
}

// updateProjectUDP opens the sockets of the project's UDP ports, and closes those that it
// has no more.
func (p *Proxy) updateProjectUDP(pr *project, want map[portKey]*port) {
	for key, s := range pr.udp {
		if want[key] != nil && s.to == want[key] {
			continue
		}
		p.closeUDP(s)
		p.mu.Lock()
		delete(pr.udp, key)
		p.mu.Unlock()
	}
	for key, to := range want {
		if pr.udp[key] != nil {
			continue
		}
		name := fmt.Sprintf("udp %s %s %s %d", pr.id, pr.gateway, key.service, key.number)
		s, err := p.listenUDP(name, netip.AddrPortFrom(pr.gateway, 0), to)
		if err != nil {
			p.problem(key.service, "port %d/udp isn't served on this host: no port can be opened on the gateway of the project: %v",
				key.number, err)
			continue
		}
		p.mu.Lock()
		pr.udp[key] = s
		p.mu.Unlock()
	}
}

// closeProject closes the project's sockets.
func (p *Proxy) closeProject(pr *project) {
	if pr.tcp != nil {
		p.close(pr.tcp)
	}
	for key, s := range pr.udp {
		p.closeUDP(s)
		p.mu.Lock()
		delete(pr.udp, key)
		p.mu.Unlock()
	}
}

// problem notes what isn't served.
func (p *Proxy) problem(service, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, Problem{service, fmt.Sprintf(format, args...)})
}

// Status returns where what is redirected is taken, and what isn't served.
func (p *Proxy) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{TCP: map[string]int{}, UDP: []UDPPort{}, Problems: slices.Clone(p.problems)}
	for id, pr := range p.projects {
		if pr.tcp != nil {
			s.TCP[id] = pr.tcp.port()
		}
		for key, u := range pr.udp {
			s.UDP = append(s.UDP, UDPPort{key.service, key.number, u.conn.LocalAddr().(*net.UDPAddr).Port})
		}
	}
	slices.SortFunc(s.UDP, func(a, b UDPPort) int {
		return cmp.Or(cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Port, b.Port))
	})
	for i := range p.conf.Services {
		id := p.conf.Services[i].ID
		for _, reason := range []string{p.conns.refusals(id, "connections"), p.flows.refusals(id, "clients of UDP")} {
			if reason != "" {
				s.Problems = append(s.Problems, Problem{id, reason})
			}
		}
	}
	slices.SortFunc(s.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Reason, b.Reason))
	})
	return s
}

// track notes an accepted connection. It closes it if the proxy is closed.
func (p *Proxy) track(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		reset(c)
		return false
	}
	p.open[c] = nil
	return true
}

// trackPod notes the connection to the pod of an accepted one. It returns false if the proxy
// is closed.
func (p *Proxy) trackPod(c *net.TCPConn, pod closeWriter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.open[c] = pod
	return true
}

func (p *Proxy) untrack(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	p.checkIdle()
}

// checkIdle tells who waits for the last connection and the last flow. Its caller holds mu.
func (p *Proxy) checkIdle() {
	if p.idle != nil && len(p.open) == 0 && p.flowCount == 0 {
		close(p.idle)
		p.idle = nil
	}
}

// whenIdle returns a channel that is closed when the last connection and the last flow
// have ended. One caller at a time.
func (p *Proxy) whenIdle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := make(chan struct{})
	p.idle = idle
	p.checkIdle()
	return idle
}

// Drain stops taking connections, for a process that has handed its sockets to another. It
// waits until the connections have ended, and UDP flows have been silent for their
// timeout. Then, or when the context ends, it closes the proxy.
func (p *Proxy) Drain(ctx context.Context) {
	p.stop(func(s *udpServer) { s.stopReading() })
	select {
	case <-p.whenIdle():
	case <-ctx.Done():
	}
	p.Close()
}

// Close ends everything at once.
func (p *Proxy) Close() {
	p.cancel()
	p.stop(p.closeUDP)
	p.mu.Lock()
	for c, pod := range p.open {
		reset(c)
		if pod != nil {
			reset(pod) // it may take nothing, so that who writes to it waits
		}
	}
	p.mu.Unlock()
	<-p.whenIdle()
}

// stop closes the listeners, and does the same to all UDP sockets. Nothing is opened after
// that.
func (p *Proxy) stop(udp func(*udpServer)) {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, pr := range p.projects {
		if pr.tcp != nil {
			p.close(pr.tcp)
			p.mu.Lock()
			pr.tcp = nil
			p.mu.Unlock()
		}
		for _, s := range pr.udp {
			udp(s)
		}
	}
	for key, n := range p.nodes {
		if n.udp != nil {
			udp(n.udp)
			continue
		}
		p.close(n.tcp)
		delete(p.nodes, key)
	}
}

// pause waits; false if the proxy was closed meanwhile.
func (p *Proxy) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
