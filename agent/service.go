package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/datapath/relay"
	"github.com/stackforge/magnum/agent/redirect"
	"github.com/stackforge/magnum/agent/services"
	"github.com/stackforge/magnum/structs"
)

// This file makes the host serve the services of its bay: package services does, and asks
// the agent for what it needs.

// Relay configures how other hosts of the bay reach services' pods on this host.
type Relay struct {
	None   bool   // no relay at all: the bay has no other host
	Closed bool   // the host opens no port: it dials the other hosts, and they use that connection
	Addr   string // that others dial, a name or an address; default: the first of the host's addresses
	Port   int    // default structs.DefaultRelayPort
}

// The files of the data path in the data directory.
const (
	fileSocket   = "datapath.sock" // of a data path that runs
	fileRelayKey = "relay.pem"     // proves to other hosts that this is the host
)

// newServices returns what serves the bay's services on this host; nil if the backend has no
// networks.
func (a *Agent) newServices(nets backend.Networks, owner backend.Owner, j *journal, report func([]datapath.Problem)) *services.Services {
	if nets == nil {
		return nil
	}
	log := a.conf.Logger.Named("services")
	conf := services.Config{
		HostID: owner.HostID, Report: report, Log: log, Resolver: services.HostResolver, Filter: redirect.New(owner.HostID),
		Networks: func(ctx context.Context) ([]backend.ProjectNetwork, error) { return nets.ProjectNetworks(ctx, owner) },
		Open: func(ctx context.Context) (services.DataPath, error) {
			return datapath.Open(ctx, a.conf.DataDir, log)
		},
		Running: func() bool {
			_, err := os.Lstat(filepath.Join(a.conf.DataDir, fileSocket))
			return err == nil
		},
		Drained: func(ctx context.Context, podID string, wait time.Duration) error {
			return a.api.Drained(ctx, podID, j.position().Index, wait)
		},
	}
	if !a.conf.Relay.None {
		conf.Relay = datapath.Relay{KeyFile: filepath.Join(a.conf.DataDir, fileRelayKey)}
		if !a.conf.Relay.Closed {
			conf.Relay.Listen = net.JoinHostPort("", strconv.Itoa(a.conf.Relay.Port))
		}
	}
	return services.New(conf)
}

// relay returns how other hosts reach this host's relay. addresses are the host's.
func (a *Agent) relay(addresses []string) (structs.Relay, error) {
	if a.conf.Relay.None {
		return structs.Relay{}, nil
	}
	a.relayKey.Lock()
	defer a.relayKey.Unlock()
	_, key, err := relay.Key(filepath.Join(a.conf.DataDir, fileRelayKey))
	if err != nil {
		return structs.Relay{}, err
	}
	r := structs.Relay{Key: key}
	host := a.conf.Relay.Addr
	if host == "" && len(addresses) > 0 {
		host = addresses[0]
	}
	if !a.conf.Relay.Closed && host != "" {
		r.Addr = net.JoinHostPort(host, strconv.Itoa(a.conf.Relay.Port))
	}
	return r, nil
}

// tell gives a container what it is to know of the bay's services. Those of a pod have got
// their variables already.
func tell(ctx context.Context, s *services.Services, req *backend.CreateRequest) {
	if req.Pod == nil {
		req.Variables = s.Variables(req.ProjectID)
	}
	if req.Pod == nil || req.Pod.Infra == "" {
		req.Names = s.Names(ctx, req.ProjectID)
	}
}

// drain waits until no host leads new connections to the pod, if the pod is about to end as a
// whole: before its hooks run, and not at the cost of its grace period.
func (p *podPass) drain(ctx context.Context, c *backend.Container, timeout time.Duration) {
	want := &p.task.want
	ends := want.Desired == structs.DesiredAbsent || want.Desired == structs.DesiredStopped
	if !ends || want.Force || timeout == 0 || p.u.isInfra() || c.Epoch != want.Epoch {
		return
	}
	var labels map[string]string
	if want.Pod != nil {
		labels = want.Pod.Labels
	}
	p.r.services.Drain(ctx, want.Ref(), want.Generation, want.ProjectID, labels)
}
