package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	docker "github.com/docker/docker/client"

	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// Cluster is a cluster of three servers, and agents that run its containers on the Docker
// engine of this machine.
type Cluster struct {
	Servers []*Member
	Agents  []*Member
	Engine  *docker.Client // nil without agents
	ctx     context.Context
	dir     string
	fronts  []*dockertest.Front
}

// Member is one process of a Cluster. It keeps its directory and its ports over restarts.
type Member struct {
	*Process
	Name    string
	Addr    string      // of a server's REST API, host:port
	Client  *api.Client // of a server
	cluster *Cluster
	dir     string
	args    []string
}

// joinToken is the join token of a Cluster.
const joinToken = "join-token-of-a-cluster"

// StartCluster starts three servers and a number of agents with empty state, and waits
// until all agents are hosts of one bay.
func StartCluster(ctx context.Context, program, dir string, agents int) (t *Cluster, err error) {
	t = &Cluster{ctx: ctx}
	if t.dir, err = os.MkdirTemp(dir, "cluster-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.End()
		}
	}()
	if err := t.addServers(program); err != nil {
		return nil, err
	}
	if agents == 0 {
		_, err = t.Leader()
		return t, err
	}
	if t.Engine, err = dockertest.Open(""); err != nil {
		return nil, err
	}
	var addrs []string
	for _, s := range t.Servers {
		addrs = append(addrs, s.Addr)
	}
	for i := range agents {
		a := &Member{Name: fmt.Sprintf("host-%d", i+1), cluster: t}
		a.args = []string{
			program, "agent", "-server", strings.Join(addrs, ","), "-gossip=false", "-join-token", joinToken, "-image-gc-high", "0",
		}
		if i > 0 { // one engine can be only one host of the cluster
			front, err := dockertest.NewFront(filepath.Join(t.dir, a.Name+".sock"), a.Name)
			if err != nil {
				return nil, err
			}
			t.fronts = append(t.fronts, front)
			a.args = append(a.args, "-docker-host", front.Host)
		}
		if err := a.Start(); err != nil {
			return nil, err
		}
		t.Agents = append(t.Agents, a)
	}
	if _, err := t.Leader(); err != nil {
		return nil, err
	}
	name, count, client := "rig", agents, t.Servers[0].Client
	bay, _, err := client.Bays().Create(ctx, &structs.BayRequest{Name: &name, NodeCount: &count}, api.WriteOptions{})
	if err != nil {
		return nil, err
	}
	return t, Until(30*time.Second, func() bool {
		bay, _, err := client.Bays().Get(ctx, bay.UUID, api.QueryOptions{})
		return err == nil && bay.Status == structs.BayCreated
	})
}

func (t *Cluster) addServers(program string) error {
	var gossip []string
	for i := range 3 {
		s := &Member{Name: fmt.Sprintf("s%d", i+1), cluster: t}
		var ports [3]string
		for j := range ports {
			addr, err := FreeAddr()
			if err != nil {
				return err
			}
			if _, ports[j], err = net.SplitHostPort(addr); err != nil {
				return err
			}
		}
		s.Addr = "127.0.0.1:" + ports[0]
		gossip = append(gossip, "127.0.0.1:"+ports[2])
		s.args = []string{
			program, "server", "-bootstrap-expect", "3", "-join-token", joinToken,
			"-http-port", ports[0], "-raft-port", ports[1], "-gossip-port", ports[2],
		}
		var err error
		// Retries of the client would be part of the measured time.
		if s.Client, err = api.New(api.Config{Address: s.Addr, RetryFor: time.Millisecond}); err != nil {
			return err
		}
		t.Servers = append(t.Servers, s)
	}
	for _, s := range t.Servers {
		s.args = append(s.args, "-join", strings.Join(gossip, ","))
		if err := s.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Start starts the member, for the first time or again.
func (m *Member) Start() (err error) {
	if m.dir == "" {
		m.dir = filepath.Join(m.cluster.dir, m.Name)
	}
	args := append(m.args[1:], "-name", m.Name, "-data-dir", m.dir)
	m.Process, err = Start(m.cluster.ctx, m.cluster.dir, m.Name, m.args[0], args...)
	return err
}

// Leader waits until all servers answer and agree on the leader.
func (t *Cluster) Leader() (*Member, error) {
	var leader *Member
	err := Until(time.Minute, func() bool {
		leader = nil
		for _, s := range t.Servers {
			ctx, cancel := context.WithTimeout(t.ctx, 2*time.Second)
			l, _, err := s.Client.Leader(ctx)
			if err == nil {
				_, _, err = s.Client.Nodes().List(ctx, api.QueryOptions{Consistent: true, Limit: 1})
			}
			cancel()
			if err != nil || leader != nil && leader.Name != l.Name {
				return false
			}
			for _, m := range t.Servers {
				if m.Name == l.Name {
					leader = m
				}
			}
		}
		return leader != nil
	})
	if err != nil {
		return nil, fmt.Errorf("the servers agree on no leader: %w: %s", err, t.Servers[0].Tail())
	}
	return leader, nil
}

// End stops all members, and removes their containers and files.
func (t *Cluster) End() {
	for _, m := range t.Agents {
		m.Stop()
		if t.Engine != nil {
			RemoveContainers(t.Engine, m.dir)
		}
	}
	for _, m := range t.Servers {
		m.Stop()
	}
	for _, f := range t.fronts {
		_ = f.Close()
	}
	os.RemoveAll(t.dir)
}
