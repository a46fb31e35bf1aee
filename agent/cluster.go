package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file runs an agent whose host is a Kubernetes cluster. Several such agents are
// instances of one host. Only the active one registers, polls and reports: its registration
// supersedes that of the one before.

// clusterKinds are the kinds of workloads that a cluster runs, sorted.
var clusterKinds = []structs.WorkloadKind{structs.WorkloadObject, structs.WorkloadPod}

// runCluster is Run for an agent of a cluster. An agent that is no longer the active one
// waits until it is that again.
func (a *Agent) runCluster(ctx context.Context) (err error) {
	dir, err := lockDir(a.conf.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	log := a.conf.Logger
	for ctx.Err() == nil {
		log.Info("waiting to be the active agent of the cluster")
		err := a.conf.Cluster.Lead(ctx, func(ctx context.Context) error {
			log.Info("this is the active agent of the cluster")
			return a.serveCluster(ctx, dir)
		})
		if err != nil && ctx.Err() == nil {
			return err
		}
		if ctx.Err() == nil {
			log.Warn("no longer the active agent of the cluster; what runs there is left as it is")
		}
	}
	return nil
}

// serveCluster is the active agent's work, until ctx ends. It returns an error if the agent
// can't go on.
func (a *Agent) serveCluster(ctx context.Context, dir *dataDir) (err error) {
	if err := a.awaitIdentity(ctx, dir); err != nil {
		return unlessOver(ctx, err)
	}
	j, damaged, err := openJournal(dir.file(fileJournal))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	log := a.conf.Logger
	if damaged > 0 {
		log.Warn("journal had damaged lines, which are dropped", "lines", damaged)
	}
	shared := &sharedPosition{cluster: a.conf.Cluster, hostID: dir.hostID, journal: j, log: log, longest: a.conf.Backoff}
	if err := shared.recall(ctx); err != nil {
		return unlessOver(ctx, err)
	}
	link, reports := a.newLink(dir, j, a.describeCluster)
	g, ctx := errgroup.WithContext(ctx)
	if err := a.gossip(g, ctx, link); err != nil {
		return err
	}
	g.Go(func() error { return link.failure(ctx) })
	if link.renew(ctx, 0) != nil {
		return g.Wait()
	}
	c := &clusterWork{cluster: a.conf.Cluster, link: link, reports: reports, shared: shared, since: time.Now(), log: log}
	link.pollState = c.pollState
	sessions := newSessions(features{consoles: c.cluster}, a.api, c.engineID, never, a.conf.MaxSessions, log.Named("session"))
	sessions.clusterID, sessions.next, sessions.ports = j.position().ClusterID, c.nextPod, c.cluster
	sessions.credentials = c.cluster

	owner := backend.Owner{ClusterID: j.position().ClusterID, HostID: dir.hostID}
	g.Go(func() error { return unlessOver(ctx, c.cluster.Follow(ctx, owner, c)) })
	g.Go(func() error { return reports.run(ctx) })
	g.Go(func() error {
		defer sessions.wait()
		return link.poll(ctx, func(w *structs.Work, server string, diverged bool, _ pollState) (serves bool) {
			c.take(ctx, w, diverged)
			answered(ctx, w, server, reports, sessions)
			return true
		})
	})
	return g.Wait()
}

// unlessOver returns err, or nil if ctx has ended: then that was to happen.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// awaitIdentity waits for the cluster to tell the host's identity, and takes it over. ctx's
// error, or that of the data directory.
func (a *Agent) awaitIdentity(ctx context.Context, dir *dataDir) error {
	retry := backoff{min: 100 * time.Millisecond, max: a.conf.Backoff}
	for {
		hostID, secret, err := a.conf.Cluster.Identity(ctx)
		if err == nil {
			return dir.takeIdentity(hostID, secret)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.conf.Logger.Warn("the cluster does not tell the identity of the host; trying again", "error", err)
		if err := retry.wait(ctx, 0); err != nil {
			return err
		}
	}
}

// describeCluster returns the fingerprint of the cluster.
func (a *Agent) describeCluster(ctx context.Context) (structs.Fingerprint, error) {
	f, err := a.conf.Cluster.Fingerprint(ctx)
	if err != nil {
		return f, err
	}
	a.sign(&f)
	f.Kinds = clusterKinds
	if len(a.conf.Addresses) > 0 {
		f.Addresses = a.conf.Addresses
	}
	return f, nil
}

// clusterName returns the name of the host that a cluster is, unless the operator has given
// one: all agents of the cluster have to use the same.
func clusterName(given string, f structs.Fingerprint) string {
	const digits = 8
	return cmp.Or(given, "kubernetes-"+f.Engine.ID[:min(digits, len(f.Engine.ID))])
}

// clusterWork is what the active agent of a cluster passes on between the servers and the
// cluster. It is the backend.Observer.
type clusterWork struct {
	cluster   backend.Cluster
	link      *link
	reports   *reporter
	shared    *sharedPosition
	since     time.Time   // when the agent became the active one
	confirmed atomic.Bool // a confirmed full answer was taken over
	warned    bool        // that things are kept which the servers don't name; of the goroutine that polls
	log       hclog.Logger
}

// Observe reports a workload.
func (c *clusterWork) Observe(r structs.ContainerReport, taken func()) {
	c.reports.put(boundReport(r), taken)
}

// Forget stops reporting a workload.
func (c *clusterWork) Forget(ref structs.Ref) { c.reports.forget(keyOf(ref).Whole()) }

// SetCluster reports how the cluster is.
func (c *clusterWork) SetCluster(now structs.KubernetesCluster) { c.reports.setCluster(now) }

// NeedFull asks for a full answer.
func (c *clusterWork) NeedFull() { c.link.needFull() }

// pollState asks for a confirmed answer until there is one: only that says what the cluster
// has too much.
func (c *clusterWork) pollState() pollState { return pollState{needsConfirmation: !c.confirmed.Load()} }

// take hands an answer to the cluster. If the agents have followed another history, what the
// answer doesn't name may be of that history, and stays: the cluster gets the answer as an
// unconfirmed one. So it goes on until an operator has decided, by removing what the agents
// remember.
func (c *clusterWork) take(ctx context.Context, w *structs.Work, diverged bool) {
	judges := w.Full && w.Confirmed && c.mayJudge(ctx, w, diverged)
	if judges {
		c.confirmed.Store(true)
	} else if w.Confirmed {
		w = new(*w)
		w.Confirmed = false
	}
	c.cluster.Take(w)
}

// judgeLimit bounds the calls that come before an answer is taken over.
const judgeLimit = time.Second

// mayJudge reports whether what an answer doesn't name may be removed.
func (c *clusterWork) mayJudge(ctx context.Context, w *structs.Work, diverged bool) bool {
	ctx, cancel := context.WithTimeout(ctx, judgeLimit)
	defer cancel()
	if err := c.shared.remember(ctx); err != nil {
		c.log.Warn("the cluster does not keep what this host has followed: nothing is removed yet that the servers don't name",
			"error", err)
		return false
	}
	switch {
	case diverged:
		c.confirmed.Store(true) // another one would say no more
		if !c.warned {
			c.warned = true
			c.log.Warn("this host has followed another history of the servers' cluster: nothing that the servers don't name is removed")
		}
		return false
	case w.Pending:
		// The agents remember no other history: an operator has decided, and the servers are
		// told. The next answer then judges.
		registration, _ := c.link.current()
		err := c.link.reportQuarantine(ctx, structs.QuarantineReport{Registration: registration, Judged: true})
		if err != nil {
			c.log.Warn("the servers can't be told that nothing is in quarantine; trying again", "error", err)
		}
		return false
	}
	return true
}

// engineID returns the ID of a container for its consoles. An agent that has just become the
// active one may not have seen the cluster yet.
func (c *clusterWork) engineID(ctx context.Context, ref structs.Ref, _ bool) string {
	return c.await(ctx, time.Until(c.since.Add(firstLook)), ref)
}

// nextPod returns the ID of the container of the pod that has replaced another one; "" if
// there is none. The container's own restarts are followed by the consoles.
func (c *clusterWork) nextPod(ctx context.Context, ref structs.Ref, engineID string) string {
	tick := time.NewTicker(againPause)
	defer tick.Stop()
	// The pod may be gone without having been seen to go, and another one not there yet.
	for began := time.Now(); time.Since(began) < nextLimit; {
		if next := c.cluster.Locate(ref); next != engineID && next != "" {
			return c.started(ctx, next)
		} else if next == engineID && time.Since(began) > goneLimit {
			return "" // it has ended, and stays
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
	return ""
}

// started returns the ID of a container once it has a log; "" if ctx ends first.
func (c *clusterWork) started(ctx context.Context, engineID string) string {
	tick := time.NewTicker(againPause)
	defer tick.Stop()
	for {
		err := c.cluster.Logs(ctx, engineID, structs.LogsRequest{Stdout: true}, backend.LogStreams{Stdout: io.Discard})
		if !errors.Is(err, backend.ErrNotRunning) {
			return engineID
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
}

const (
	goneLimit = time.Second     // until the agent has seen that a pod is gone
	nextLimit = 3 * time.Second // until another one is there
)

// await returns the ID of a container once the cluster has it; "" if it hasn't within a time.
func (c *clusterWork) await(ctx context.Context, most time.Duration, ref structs.Ref) string {
	if ref.Part == structs.PodInfra {
		ref.Part = "" // any container leads to the pod's ports
	}
	tick := time.NewTicker(againPause)
	defer tick.Stop()
	for deadline := time.Now().Add(most); ; {
		id := c.cluster.Locate(ref)
		if id != "" || time.Now().After(deadline) {
			return id
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
}

// never is the LogStreams.Again of a backend that restarts containers by itself.
func never(context.Context, structs.Ref) bool { return false }
