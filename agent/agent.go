package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// Agent is the agent of one host.
type Agent struct {
	conf Config
	api  *api.Agent
}

// New returns an agent. It starts nothing and touches no file. CodeInvalid.
func New(conf Config) (*Agent, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	client, err := api.NewAgent(api.AgentConfig{Servers: conf.Servers, UserAgent: strings.TrimSuffix("magnum-agent/"+conf.Version, "/")})
	if err != nil {
		return nil, err
	}
	return &Agent{conf: conf, api: client}, nil
}

// Run is the agent's life: it blocks until ctx ends, and then returns nil; its
// containers go on. It waits for servers and engines however long they are
// away. An error means that it could not begin, or can't keep its journal:
// CodeConflict if another agent has the data dir.
func (a *Agent) Run(ctx context.Context) (err error) {
	dir, err := openDir(a.conf.DataDir)
	if err != nil {
		return err
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

	link := &link{conf: a.conf, api: a.api, dir: dir, journal: j, log: log.Named("link"), describe: a.describe}
	reports := newReporter(log.Named("report"), link.report)
	link.registered = reports.register
	// Before the first registration nobody could say whose containers are
	// ours, nor which of them are wanted.
	if link.renew(ctx, 0) != nil {
		return nil
	}
	owner := backend.Owner{ClusterID: j.position().ClusterID, HostID: dir.hostID}
	reconciler := newReconciler(a.conf.Backend, owner, j, reports, link.needFull, log.Named("reconcile"))
	sessions := newSessions(a.conf.Backend, a.api, reconciler.engineID, a.conf.MaxSessions, log.Named("session"))

	g, runCtx := errgroup.WithContext(ctx)
	g.Go(func() error { return reconciler.run(runCtx) })
	g.Go(func() error { return reports.run(runCtx) })
	g.Go(func() error {
		defer sessions.wait()
		return link.poll(runCtx, func(w *structs.Work, server string, quarantine bool) {
			reconciler.apply(w, quarantine)
			if w.Full {
				reports.repeat()
			}
			for _, offer := range w.Sessions {
				sessions.open(runCtx, server, offer)
			}
		})
	})
	err = g.Wait()
	if a.conf.RemoveOnStop && ctx.Err() != nil {
		err = errors.Join(err, a.removeAll(owner))
	}
	return err
}

// removeLimit is how long a stopping agent takes to remove its containers.
const removeLimit = time.Minute

// removeAll kills and removes all containers of the host.
func (a *Agent) removeAll(owner backend.Owner) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	entries, err := a.conf.Backend.List(ctx, owner)
	if err != nil {
		return fmt.Errorf("removing the host's containers: %w", err)
	}
	var g errgroup.Group
	for _, e := range entries {
		g.Go(func() error { return a.conf.Backend.Remove(ctx, e.EngineID) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("removing the host's containers: %w", err)
	}
	return nil
}

// describe returns the host's fingerprint.
func (a *Agent) describe(ctx context.Context) (structs.Fingerprint, error) {
	f, err := a.conf.Backend.Fingerprint(ctx)
	if err != nil {
		return f, err
	}
	f.AgentVersion = a.conf.Version
	f.Labels = maps.Clone(a.conf.Labels)
	f.Addresses = a.conf.Addresses
	if len(f.Addresses) == 0 {
		f.Addresses = hostAddresses()
	}
	return f, nil
}

// hostAddresses returns the machine's addresses that others may reach: none of
// the loopback, nor of the engine's own bridges.
func hostAddresses() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil // addresses are for people; a host without them still works
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
