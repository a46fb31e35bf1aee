package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/agent/services"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/structs"
)

// Agent is the agent of one host.
type Agent struct {
	conf Config
	api  *api.Agent
	tls  *tlsconf.Credentials // nil if no TLS files are configured

	relayKey sync.Mutex // held while the file of the relay's key is read or made
}

// New returns an agent. It starts nothing and reads no files except those of TLS.
// CodeInvalid if the configuration is invalid.
func New(conf Config) (*Agent, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	a := &Agent{conf: conf}
	calls := api.AgentConfig{Servers: conf.Servers, UserAgent: strings.TrimSuffix("magnum-agent/"+conf.Version, "/")}
	var err error
	if conf.TLS.Any() {
		if a.tls, err = tlsconf.Load(conf.TLS); err != nil {
			return nil, err
		}
		transport := api.NewTransport()
		a.tls.HTTPClient(transport)
		// A configured address may be a proxy's. Addresses that gossip found or a server
		// named must be servers: they receive the join token.
		a.tls.OnlyServers(transport, given(conf.Servers))
		calls.Secure, calls.HTTPClient = true, &http.Client{Transport: transport}
	}
	if a.api, err = api.NewAgent(calls); err != nil {
		return nil, err
	}
	return a, nil
}

// given returns a function that reports whether an address, host:port, is configured.
func given(servers []string) func(addr string) bool {
	known := make(map[string]bool)
	for _, s := range servers {
		u, err := api.ParseAddress(s)
		if err != nil {
			continue // validated
		}
		known[net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))] = true
	}
	return func(addr string) bool { return known[addr] }
}

// Reload reads the TLS files again, for connections that begin from now on. If one
// can't be read, Reload logs that and keeps the certificates.
func (a *Agent) Reload() {
	if a.tls == nil {
		a.conf.Logger.Info("nothing to reload: there are no certificates")
		return
	}
	if err := a.tls.Reload(); err != nil {
		a.conf.Logger.Error("certificates can't be reloaded, the old ones stay in use", "error", err)
		return
	}
	a.conf.Logger.Info("certificates reloaded")
}

// Run runs the agent until ctx ends, and then returns nil; the containers go on. It
// waits for servers and engines however long they are away. It returns an error if
// the agent can't start, can't write its journal, or has lost its engine.
// CodeConflict if another agent uses the data directory, or if the engine belongs to
// another host.
func (a *Agent) Run(ctx context.Context) (err error) {
	if a.conf.Cluster != nil {
		return a.runCluster(ctx)
	}
	dir, err := openDir(a.conf.DataDir)
	if err != nil {
		return a.explainDamage(ctx, err)
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	j, damaged, err := openJournal(dir.file(fileJournal))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	log := a.conf.Logger
	if damaged > 0 {
		log.Warn("journal had damaged lines, which are dropped", "lines", damaged)
	}

	leaseFile := lease.NewFile(dir.file(fileLease))
	unguard := a.guardLease(ctx, backend.Owner{ClusterID: j.position().ClusterID, HostID: dir.hostID}, j, leaseFile)
	defer unguard()
	if t, ok := a.conf.Backend.(backend.Tenants); ok {
		if err := t.Remember(dir.file(fileImages)); err != nil {
			return err
		}
	}
	if err := a.awaitEngine(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	link, reports := a.newLink(dir, j, a.describe)
	quarantined := newQuarantineReporter(log.Named("quarantine"), j.allKept, link.reportQuarantine)
	link.registered = func(registration uint64) {
		reports.register(registration)
		quarantined.register(registration)
	}
	g, runCtx := errgroup.WithContext(ctx)
	if err := a.gossip(g, runCtx, link); err != nil {
		return err
	}
	g.Go(func() error { return link.failure(runCtx) })
	followed, was := j.position().ClusterID != "", dir.hostID // as an earlier instance left them
	// Only the registration says which containers are the host's, and which are desired.
	if link.renew(runCtx, 0) != nil {
		return g.Wait()
	}
	owner := backend.Owner{ClusterID: j.position().ClusterID, HostID: dir.hostID}
	reconciler := newReconciler(a.conf.Backend, owner, j, reports, link.needFull, log.Named("reconcile"))
	reconciler.quarantine.reporter, reconciler.onJudged = quarantined, link.noteJudged
	link.pollState, link.renewed = reconciler.exclusive.pollState, reconciler.exclusive.lease.Renew
	reconciler.exclusive.nudge, reconciler.sameEngine = link.hurry, link.sameEngine
	reconciler.reportCopies = reports.setCopies
	reconciler.avoid, reconciler.host = (&serverAddrs{list: a.api.Servers}).addrs, &podHost{name: a.conf.Name, describe: a.describe}
	if err := reconciler.exclusive.lease.Restore(leaseFile); err != nil {
		return err
	}
	offers := featuresOf(a.conf.Backend)
	nets := a.newNetworks(offers.networks, owner, link, reports)
	reconciler.services = a.newServices(offers.networks, owner, j, reports.setProblems)
	sessions := newSessions(offers, a.api, reconciler.engineID, reconciler.runsAgain, a.conf.MaxSessions, log.Named("session"))
	clean := newCleaner(a.conf.Backend, owner, reports.setCleaned, log.Named("clean"))
	sessions.clusterID, sessions.next, sessions.ports = owner.ClusterID, reconciler.nextAttempt, &podPorts{a.conf.Backend, a.conf.dialTCP}
	if err := claimVolumes(runCtx, dir, offers.volumes, owner, followed && dir.hostID == was, log); err != nil {
		if ctx.Err() != nil {
			return g.Wait()
		}
		return err
	}

	g.Go(func() error { return clean.run(runCtx) })
	g.Go(func() error { return reconciler.run(runCtx) })
	g.Go(func() error { return reconciler.services.Run(runCtx) })
	g.Go(func() error { return reports.run(runCtx) })
	g.Go(func() error { return quarantined.run(runCtx) })
	g.Go(func() error { return newImageGC(a.conf).run(runCtx) })
	if nets != nil {
		g.Go(func() error { return nets.run(runCtx) })
	}
	g.Go(func() error {
		defer sessions.wait()
		return link.poll(runCtx, func(w *structs.Work, server string, diverged bool, sent pollState) (serves bool) {
			unguard()
			clean.take(w)               // before anything of a bay is made
			reconciler.services.Take(w) // before a container is made that needs to know of them
			reconciler.apply(w, diverged, sent)
			answered(runCtx, w, server, reports, sessions)
			return reconciler.services.Await(runCtx)
		})
	})
	err = g.Wait()
	if a.conf.RemoveOnStop && ctx.Err() != nil {
		err = errors.Join(err, a.removeAll(owner, j, reconciler.services))
	}
	return err
}

// newLink returns the agent's link, and the reporter that sends through it.
func (a *Agent) newLink(dir *dataDir, j *journal, describe func(context.Context) (structs.Fingerprint, error)) (*link, *reporter) {
	l := &link{fatal: make(chan error, 1), startedAt: time.Now(), instance: structs.NewID(), conf: a.conf, api: a.api, dir: dir,
		journal: j, log: a.conf.Logger.Named("link"), describe: describe}
	reports := newReporter(a.conf.Logger.Named("report"), l.report)
	l.registered = reports.register
	return l, reports
}

// gossip finds servers by gossip until ctx ends, if the agent is to. g waits for it.
func (a *Agent) gossip(g *errgroup.Group, ctx context.Context, l *link) error {
	if a.conf.Gossip == nil {
		return nil
	}
	l.leaveGossip = make(chan struct{})
	hostID, _ := l.dir.registersAs()
	find, err := openFinder(a.conf, hostID, l.dir.file(fileKnown), a.api, l.leaveGossip)
	if err != nil {
		return err
	}
	g.Go(func() error { return find.run(ctx) })
	return nil
}

// answered does what an answer that the agent follows asks for beside its assignments.
func answered(ctx context.Context, w *structs.Work, server string, reports *reporter, sessions *sessions) {
	if w.Full {
		reports.repeat()
	}
	for _, offer := range w.Sessions {
		sessions.open(ctx, server, offer)
	}
}

// newNetworks returns what tidies up the networks of projects; nil if the backend has none.
func (a *Agent) newNetworks(b backend.Networks, owner backend.Owner, link *link, reports *reporter) *networks {
	if b == nil {
		return nil
	}
	nets := newNetworks(b, owner, reports.networksFull, reports.setNetworksFull, a.conf.Logger.Named("networks"))
	link.leftBay, reports.filled = nets.leave, nets.fill
	return nets
}

// guardLease guards the lease of an earlier instance of the agent until the returned
// function is called.
func (a *Agent) guardLease(ctx context.Context, owner backend.Owner, j *journal, file *lease.File) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	guard := newGuard(a.conf.Backend, owner, j, file, a.conf.Logger.Named("lease"))
	running.Go(func() { guard.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// removeLimit is how long a stopping agent takes to remove its containers.
const removeLimit = time.Minute

// removeAll kills and removes all containers of the host, and ends what serves services.
func (a *Agent) removeAll(owner backend.Owner, j *journal, served *services.Services) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	entries, err := a.conf.Backend.List(ctx, owner)
	if err != nil {
		return fmt.Errorf("removing the host's containers: %w", err)
	}
	var g errgroup.Group
	for _, e := range entries {
		if rec, _ := j.record(e.Ref); !rec.owns(e) {
			continue
		}
		g.Go(func() error { return a.conf.Backend.Remove(ctx, e.EngineID) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("removing the host's containers: %w", err)
	}
	offers := featuresOf(a.conf.Backend)
	if err := dropPodVolumes(ctx, offers.pods, owner, entries); err != nil {
		return err
	}
	nets := offers.networks
	if nets == nil {
		return nil
	}
	if err := served.Stop(ctx); err != nil {
		return fmt.Errorf("ending the services of the host: %w", err)
	}
	if err := nets.TidyNetworks(ctx, owner, true); err != nil {
		return fmt.Errorf("removing the networks of the host's containers: %w", err)
	}
	return nil
}

// dropPodVolumes removes the volumes of pods whose containers have been removed. b is nil
// if the backend runs no pods.
func dropPodVolumes(ctx context.Context, b backend.Pods, owner backend.Owner, removed []backend.Entry) error {
	dropped := make(map[structs.Ref]bool)
	for _, e := range removed {
		if pod := e.Whole(); e.Kind == structs.WorkloadPod && !dropped[pod] && b != nil {
			dropped[pod] = true
			if err := b.DropVolumes(ctx, owner, pod); err != nil {
				return fmt.Errorf("removing the volumes of the host's pods: %w", err)
			}
		}
	}
	return nil
}

// describe returns the host's fingerprint.
func (a *Agent) describe(ctx context.Context) (structs.Fingerprint, error) {
	f, err := a.conf.Backend.Fingerprint(ctx)
	if err != nil {
		return f, err
	}
	a.sign(&f)
	_, f.Cleans = a.conf.Backend.(backend.Tenants)
	f.Kinds = slices.Sorted(maps.Keys(kindsOf(a.conf.Backend)))
	f.Addresses = a.conf.Addresses
	if len(f.Addresses) == 0 {
		f.Addresses = hostAddresses()
	}
	if f.Relay, err = a.relay(f.Addresses); err != nil { // the host's containers and its own services don't need it
		a.conf.Logger.Error("other hosts can't reach pods of services on this host", "error", err)
	}
	return f, nil
}

// sign adds to a fingerprint what only the agent knows.
func (a *Agent) sign(f *structs.Fingerprint) {
	f.AgentVersion = a.conf.Version
	f.Labels = maps.Clone(a.conf.Labels)
}

// hostAddresses returns the machine's addresses that others may reach: neither those
// of the loopback nor those of the engine's bridges.
func hostAddresses() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil // addresses are informational; a host without them works
	}
	var all []string
	for _, i := range interfaces {
		engine := i.Name == "docker0" || strings.HasPrefix(i.Name, "br-") || strings.HasPrefix(i.Name, "veth")
		if engine || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
				all = append(all, ip.IP.String())
			}
		}
	}
	slices.Sort(all)
	return all
}
