package datapath

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath/names"
	"github.com/stackforge/magnum/agent/datapath/proxy"
	"github.com/stackforge/magnum/agent/datapath/relay"
	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/internal/atomicfile"
)

// core serves a configuration: it joins the proxy, the names and the relay.
type core struct {
	dir     string
	log     hclog.Logger
	build   string
	sockets *sockets.Table
	proxy   *proxy.Proxy
	names   *names.Server
	files   int                                          // that the process may have open
	relay   atomic.Pointer[hostRelay]                    // nil if there is none
	local   atomic.Pointer[map[relay.Target]localTarget] // the endpoints on this host, and those that were a moment ago

	changed  chan struct{}             // gets a value after a change
	problems atomic.Pointer[[]Problem] // other than the proxy's

	mu        sync.Mutex // held while a configuration is applied or handed over
	conf      Config
	applied   bool                     // conf was given
	ports     map[string]int           // as written to the file
	leaving   bool                     // handed over, or ended
	listeners map[string]*nameListener // by project and gateway
}

// newCore returns a core that serves nothing yet. The sockets may be inherited.
func newCore(dir string, log hclog.Logger, build string, table *sockets.Table, files int) *core {
	c := &core{dir: dir, log: log, build: build, sockets: table, files: files, listeners: map[string]*nameListener{}}
	c.changed = make(chan struct{}, 1)
	c.names = names.New(names.Config{Log: log.Named("names")})
	c.problems.Store(new([]Problem))
	c.proxy = proxy.New(proxy.Options{Sockets: table, Log: log.Named("proxy"), MaxFiles: files, Dial: c.dialRelay,
		DialUDP: c.dialRelayUDP})
	return c
}

// apply serves a configuration. It returns false if the data path has been handed over.
func (c *core) apply(conf Config) (Status, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return Status{}, false
	}
	c.conf, c.applied = conf, true
	projects := make([]proxy.Project, 0, len(conf.Projects))
	for _, p := range conf.Projects {
		projects = append(projects, proxy.Project{ID: p.ID, Gateway: p.Gateway.Addr()})
	}
	// The proxy's first connection may already need the relay.
	relayProblems := c.updateRelay()
	c.proxy.Apply(proxy.Config{HostID: conf.HostID, Projects: projects, Services: conf.Services})
	c.problems.Store(new(slices.Concat(relayProblems, c.updateNames())))
	c.sockets.Discard()
	c.savePorts()
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return c.status(), true
}

// retry opens what couldn't be opened.
func (c *core) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return
	}
	c.proxy.Retry()
	if len(*c.problems.Load()) > 0 {
		c.problems.Store(new(slices.Concat(c.updateRelay(), c.updateNames())))
	}
	c.savePorts()
}

// drain ends what another data path has taken over: no connection is taken and no
// question read any more. It returns when what there was has ended, or with the context.
func (c *core) drain(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveNames()
	answered := time.NewTimer(answersAllow)
	defer answered.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { c.drainRelay(ctx) })
	c.proxy.Drain(ctx)
	wg.Wait()
	select {
	case <-answered.C:
	case <-ctx.Done():
	}
	c.names.Close()
}

// close ends everything at once.
func (c *core) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	c.proxy.Close()
	for _, l := range c.listeners {
		c.closeNames(l)
	}
	c.names.Close()
	c.closeRelay()
}

// status says what is served.
func (c *core) status() Status {
	at := c.proxy.Status()
	s := Status{Version: c.build, PID: os.Getpid(), TCP: at.TCP, UDP: make([]UDPPort, 0, len(at.UDP))}
	for _, u := range at.UDP {
		s.UDP = append(s.UDP, UDPPort(u))
	}
	for _, p := range at.Problems {
		s.Problems = append(s.Problems, Problem{ServiceID: p.ServiceID, Reason: p.Reason})
	}
	s.Problems = append(s.Problems, *c.problems.Load()...)
	s.Problems = append(s.Problems, c.relayProblems()...)
	slices.SortFunc(s.Problems, func(a, b Problem) int { // so that two are equal if nothing has changed
		return cmp.Or(cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.HostID, b.HostID), cmp.Compare(a.Reason, b.Reason))
	})
	return s
}

// savePorts writes where the sockets are bound, so that a data path after a crash can bind
// the same ports. Without the file it binds others, so an error is only logged.
func (c *core) savePorts() {
	ports := c.sockets.Ports()
	if maps.Equal(ports, c.ports) {
		return
	}
	b, err := json.Marshal(ports)
	if err == nil {
		err = atomicfile.ReplaceNoSync(filepath.Join(c.dir, filePorts), b)
	}
	if err != nil {
		c.log.Warn("the ports can't be written", "error", err)
		return
	}
	c.ports = ports
}

// loadPorts reads what savePorts wrote; nil if there is nothing to read.
func loadPorts(dir string) map[string]int {
	b, err := os.ReadFile(filepath.Join(dir, filePorts))
	if err != nil {
		return nil
	}
	var ports map[string]int
	if json.Unmarshal(b, &ports) != nil {
		return nil
	}
	return ports
}
