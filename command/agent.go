package command

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/textpages"
	"github.com/stackforge/magnum/server"
	"github.com/stackforge/magnum/structs"
)

// agentSettings is the configuration of the agent command.
type agentSettings struct {
	agent        agent.Config
	server       server.Config // for -dev; its name and data directory are also the agent's
	dev          bool
	backend      backendSettings
	gossip       bool
	join         []string // gossip addresses, host[:port]
	tokenFile    string
	asUsageError func(error) error // see settings.asUsageError
}

// gcUnset is the value of -image-gc-high when it is not set.
const gcUnset = -1

// gcHigh returns the effective -image-gc-high, in percent; 0 turns the collection off.
func gcHigh(set int, dev bool) int {
	switch {
	case set != gcUnset:
		return set
	case dev:
		return 0 // a developer's engine may hold the only copy of an image
	}
	return 85
}

func agentCommand() *command {
	return &command{
		name: "agent", group: groupDaemons, prepare: allowBareServer,
		synopsis: "Run an agent on a Docker host or for a Kubernetes cluster, or with -dev all of magnum",
		about: "Registers this host with a server and runs the containers assigned to it on the Docker engine. The\n" +
			"agent opens all connections itself. It listens on the gossip port, by which it finds the servers;\n" +
			"-gossip=false turns that off. If its bay has services, it also listens on the relay port, for the other\n" +
			"hosts of the bay, and on the node ports; that needs root. The agent keeps its identity in\n" +
			"DATA_DIR/agent.\n\n" +
			"With -backend kubernetes the host is a whole cluster, and the agent keeps the pods, services and\n" +
			"replication controllers there. Several such agents may run for one cluster: one is active, and another\n" +
			"one takes over when it ends. They share their identity in the cluster.\n\n" +
			"With -dev a server runs in the same process, on loopback, with one bay \"default\" that all projects\n" +
			"share. Without -data-dir its state is in a temporary directory, and a clean stop removes its\n" +
			"containers.\n\n" + settingsHelp,
		examples: []string{
			"magnum agent -dev",
			"magnum agent -server 10.0.0.1 -tls-ca ca.pem -join-token-file /etc/magnum/join-token -label zone=a",
			"magnum agent -bind 10.0.0.9 -join 10.0.0.1,10.0.0.2 -encrypt KEY -tls-ca ca.pem " +
				"-join-token-file /etc/magnum/join-token -server",
			"magnum agent -backend kubernetes -kubeconfig admin.conf -server 10.0.0.1 -join-token-file /etc/magnum/join-token",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var a agentSettings
			var log logging
			s := newSettings(f)
			a.asUsageError = s.asUsageError
			s.toggle(&a.dev, "dev", "also run a server in this process")
			s.add("server", "ADDR[,ADDR]", "servers, host[:port] or URL; without a value those that gossip finds", func(v string) error {
				a.agent.Servers = nil
				for addr := range strings.SplitSeq(v, ",") {
					if addr = strings.TrimSpace(addr); addr != "" {
						a.agent.Servers = append(a.agent.Servers, addr)
					}
				}
				return nil
			})
			s.text(&a.agent.JoinToken, "join-token", "TOKEN", "join token of the cluster (with -dev the server's own)")
			s.text(&a.tokenFile, "join-token-file", "FILE",
				"file with the join token (default DATA_DIR/server/join-token if it exists); only a new host needs one")
			s.add("label", "KEY=VALUE", "label of the host for bays and constraints (may be repeated)", func(v string) error {
				key, value, err := parsePair(v)
				if err != nil {
					return err
				}
				if a.agent.Labels == nil {
					a.agent.Labels = map[string]string{}
				}
				a.agent.Labels[key] = value
				return nil
			}).repeat = true
			a.backend.add(s)
			a.backend.addDocker(s, &a.agent)
			a.backend.addKubernetes(s)
			s.toggle(&a.agent.FollowRestore, "follow-restore",
				"follow a cluster that was restored from a snapshot; containers that it doesn't know go into quarantine")
			a.gossip = true
			s.toggle(&a.gossip, "gossip", "find servers by gossip (default true); false opens no port")
			gossipSettings(s, &a.server.GossipPort, &a.server.Cluster, &a.server.Encrypt)
			s.list(&a.join, "join retry-join", "ADDR,...", "gossip addresses, host[:port] (default this host and the hosts of -server)")
			a.backend.belong(structs.BackendDocker, relaySettings(s, &a.agent.Relay)...)
			tlsSettings(s, &a.server, "; only with -dev")
			serverSettings(s, &a.server, "; for -dev")
			log.add(s)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if err := s.load(e); err != nil {
					return err
				}
				if err := a.backend.check(); err != nil {
					return err
				}
				logger, err := log.logger(e)
				if err != nil {
					return err
				}
				a.agent.Name, a.agent.Version, a.agent.Logger = a.server.Name, version(), logger
				a.server.Version, a.server.Logger = version(), logger
				a.agent.ImageGCHigh = gcHigh(a.agent.ImageGCHigh, a.dev)
				if a.dev && a.backend.isKubernetes() {
					return usagef("flags -dev and -backend kubernetes contradict each other: -dev runs all of magnum on a Docker engine")
				}
				opened, err := a.open(e, logger)
				if err != nil {
					return s.asUsageError(err)
				}
				defer opened.Close()
				if a.dev {
					return a.runDev(ctx, logger)
				}
				return a.run(ctx, logger)
			}
		},
	}
}

// relaySettings adds the settings by which other hosts reach this one.
func relaySettings(s *settings, r *agent.Relay) []*setting {
	addr := s.text(&r.Addr, "relay-addr", "HOST", "where other hosts of the bay reach this host for services (default its first address)")
	port := s.number(&r.Port, "relay-port", "PORT", "port for that (default 9514)")
	var open bool
	set := s.toggle(&open, "relay", "let other hosts of the bay reach this host (default true); false opens no port but dials them")
	parse := set.parse
	set.parse = func(v string) error {
		err := parse(v)
		r.Closed = !open
		return err
	}
	return []*setting{addr, port, set}
}

// allowBareServer adds an empty value to a -server without a value: one at the end of
// the line or before another flag. Package flag requires a value.
func allowBareServer(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		bare := (arg == "-server" || arg == "--server") && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-"))
		if bare {
			arg += "="
		}
		out = append(out, arg)
	}
	return out
}

// run runs the agent of this host.
func (a *agentSettings) run(ctx context.Context, logger hclog.Logger) error {
	dir := orDefault(a.server.DataDir, server.DefaultDataDir)
	a.agent.DataDir = filepath.Join(dir, "agent")
	if a.gossip {
		g := &gossip.Config{
			Bind: orDefault(a.server.Bind, server.DefaultBind), Port: a.server.GossipPort, Cluster: a.server.Cluster, Join: a.join,
		}
		if a.server.Encrypt != "" {
			key, err := gossip.ParseKey(a.server.Encrypt)
			if err != nil {
				return a.asUsageError(err)
			}
			g.Key = key
		}
		if len(g.Join) == 0 {
			// A server may run on this host. The hosts of -server most likely use
			// the default gossip port.
			g.Join = append(g.Join, "127.0.0.1")
			for _, addr := range a.agent.Servers {
				if u, err := api.ParseAddress(addr); err == nil {
					g.Join = append(g.Join, u.Hostname())
				}
			}
		}
		a.agent.Gossip = g
	}
	if err := a.readToken(dir); err != nil {
		return err
	}
	a.agent.TLS = tlsFiles(&a.server)
	host, err := agent.New(a.agent)
	if err != nil {
		return a.asUsageError(err)
	}
	defer onHangup(host.Reload)()
	go textpages.Keep(ctx, releaseAfter, releaseEvery)
	return host.Run(ctx)
}

// What the start of an agent and rare work, such as many creates at once, have touched of
// the program is given back after these times.
const (
	releaseAfter = 3 * time.Second
	releaseEvery = time.Hour
)

// readToken reads the join token from its file, unless -join-token was given. A host
// that has registered needs no token; its file may be missing.
func (a *agentSettings) readToken(dir string) error {
	if a.agent.JoinToken != "" {
		return nil
	}
	path := orDefault(a.tokenFile, filepath.Join(dir, "server", "join-token"))
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (agent.HasSecret(a.agent.DataDir) || a.backend.isKubernetes() && a.tokenFile == ""):
		return nil // the host of a cluster may have registered before, by whichever agent
	case err != nil && a.tokenFile == "":
		return usagef("no join token: give that of the cluster with -join-token or -join-token-file " +
			"(a server keeps it in DATA_DIR/server/join-token)")
	case err != nil:
		return usagef("flag -join-token-file: %v", err)
	}
	if a.agent.JoinToken = strings.TrimSpace(string(b)); a.agent.JoinToken == "" {
		return usagef("flag -join-token-file: %s is empty", path)
	}
	return nil
}

// checkServicePool refuses addresses of services that a network of this host may have too. A
// server can't check it, because it doesn't know the pools of its agents.
func (a *agentSettings) checkServicePool() error {
	services, err := netip.ParsePrefix(orDefault(a.server.ServicePool, server.DefaultServicePool))
	if err != nil {
		return nil // the server refuses it
	}
	pool := a.backend.docker.pool
	if pool == nil {
		pool = []netip.Prefix{netip.MustParsePrefix(networks.DefaultPool)}
	}
	for _, p := range pool {
		if p.Overlaps(services) {
			return usagef("flags -service-pool and -network-pool: %s and %s overlap, so that addresses of services would be those of "+
				"containers too", services, p)
		}
	}
	return nil
}

// runDev runs a server and an agent in this process.
func (a *agentSettings) runDev(ctx context.Context, logger hclog.Logger) error {
	if len(a.agent.Servers) > 0 {
		return usagef("flags -dev and -server contradict each other: -dev runs its own server")
	}
	if err := a.checkServicePool(); err != nil {
		return err
	}
	dir := a.server.DataDir
	if dir == "" {
		temporary, err := os.MkdirTemp("", "magnum-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir, a.agent.RemoveOnStop = temporary, true
	}
	a.server.DataDir, a.agent.DataDir = filepath.Join(dir, "server"), filepath.Join(dir, "agent")
	a.server.Solo, a.server.DefaultBay = true, "default"
	a.agent.Relay.None = true // the bay has no other host
	a.server.LogChecker, a.server.Starting = logChecker, ctx
	srv, err := server.New(a.server)
	if err != nil && ctx.Err() != nil {
		return nil // stopped during the check of the log
	}
	if err != nil {
		return a.asUsageError(err)
	}
	a.agent.Servers, a.agent.JoinToken = []string{srv.URL()}, srv.JoinTokenInUse()
	a.agent.TLS.CA = a.server.TLSCA
	host, err := agent.New(a.agent)
	if err != nil {
		srv.Close()
		return a.asUsageError(err)
	}
	defer onHangup(srv.Reload)()
	logger.Info("dev mode: don't keep anything important here", "addr", srv.URL(), "data_dir", dir)

	// The agent ends first: it reports to the server until it has stopped.
	serving, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(serving) })
	g.Go(func() error {
		defer stopServer()
		return host.Run(ctx)
	})
	return g.Wait()
}
