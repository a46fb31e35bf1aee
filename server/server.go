// Package server wires a magnum server: the replicated log, the state store, the
// conductor, dispatch and the REST API. Package command starts it. It is the only
// package that knows all of server/..., and it decides nothing itself.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/audit"
	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/identity/keystone"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/metrics"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Server is one magnum server.
type Server struct {
	config    Config
	log       hclog.Logger
	dir       *dataDir
	id        string
	joinToken string // "" if this server doesn't know it
	gossipKey []byte
	started   time.Time
	restoring sync.Mutex // held while a snapshot is being restored
	space     *space
	listener  net.Listener
	gate      *admission.Gate
	limits    *limits.Limits
	tls       *certificates
	audit     *audit.Log // nil if there is none

	grants    *bootstrap.Grants
	servers   *directory
	gossip    *gossip.Gossip // nil on a solo server
	peers     *peer.Client   // likewise
	store     *state.Store
	raft      *raftlog.Log
	conductor *conductor.Conductor
	loops     *leaderLoops
	dispatch  *dispatch.Dispatch
	relay     *dispatch.Relay // nil on a solo server
	rest      *rest.Server
	metrics   *metrics.Metrics
	policy    *identity.Policy
	keystone  *keystone.Authenticator // nil if there is no Keystone
}

// New opens the server's data directory and its HTTP port, and wires the parts. Run
// must follow, or Close. Errors use the names of the flags: CodeInvalid for the
// configuration, CodeConflict for a directory or port that is in use.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, log: c.Logger.Named("server"), started: time.Now(), store: state.New()}
	if err := s.openIdentity(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open creates the parts in the order of their dependencies.
func (s *Server) open() (err error) {
	if s.dir, err = openDataDir(s.config.DataDir); err != nil {
		return err
	}
	if net.ParseIP(s.config.Bind).IsUnspecified() && s.config.Advertise == "" && !s.config.Solo {
		if s.config.Advertise, err = gossip.OwnAddress(s.config.Bind); err != nil {
			return err
		}
	}
	s.space = newSpace(s.config.DataDir, s.log)
	if err := s.space.open(); err != nil {
		return err
	}
	record, err := bootstrap.Open(s.config.DataDir)
	if err != nil {
		return err
	}
	s.id, s.grants = record.Now().ServerID, bootstrap.NewGrants(record, func() raftlog.Peer { return s.raft.Self() }, s.log)
	if err := s.openToken(); err != nil {
		return err
	}
	if s.config.Encrypt != "" {
		if s.gossipKey, err = gossip.ParseKey(s.config.Encrypt); err != nil {
			return err
		}
	}
	if s.tls, err = loadCertificates(s.config, s.log); err != nil {
		return err
	}
	if err := s.openAudit(); err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", s.config.httpAddr()); err != nil {
		return structs.Errorf(structs.CodeConflict, "-http-port: %s can't be listened on (is another magnum running?): %w",
			s.config.httpAddr(), err)
	}
	s.gate = admission.New(admission.Config{
		MaxConns: s.config.maxConns(), MaxPerClient: s.config.maxPerClient(), OpenLoopback: s.config.Auth == authNone,
		Trusted: s.config.proxies().Trusts, Logger: s.config.Logger.Named("http"),
	})
	s.limits = limits.New(s.config.limits())
	if err := s.openLog(record); err != nil {
		return err
	}
	s.servers = &directory{config: &s.config, id: s.id, url: s.URL, address: s.httpAddress, tls: s.tls, log: s.log, store: s.store,
		raft: s.raft}
	if err := s.joinCluster(record); err != nil {
		return err
	}
	s.metrics = s.newMetrics()
	log := &replication{log: s.raft}
	if !s.config.Solo {
		if err := s.openGossip(); err != nil {
			return err
		}
		s.peers = peer.New(peer.Config{URLs: s.servers.urlsOf, Secret: s.peerSecret, TLS: s.tls.peers(), Forwarded: s.metrics.Forwarded})
		log.peers, s.servers.gossip, s.servers.peers = s.peers, s.gossip, s.peers
	}
	s.conductor = conductor.New(conductor.Config{Store: s.store, Proposer: s.raft, Logger: s.config.Logger.Named("conductor"),
		Room: s.space.room, Observer: s.metrics, Quota: s.config.shippedQuota()})
	s.loops = &leaderLoops{id: s.id, log: s.log, store: s.store, conductor: s.conductor, raft: s.raft, space: s.space, servers: s.servers}
	hosts := dispatch.Config{
		Store: s.store, Conductor: s.conductor, Logger: s.config.Logger.Named("dispatch"),
		ReadIndex: log.ReadIndex, VerifyLeader: s.raft.VerifyLeader, HostLostAfter: s.config.HostLostAfter, Servers: s.servers.serverURLs,
		ServerID: s.id, URL: s.URL, Tenants: s.config.tenants(), ClaimedLabels: s.config.tenants() && !s.config.TrustAgentLabels,
	}
	pools, err := s.config.pools()
	if err != nil {
		return err
	}
	networks, err := s.config.manifestNetworks()
	if err != nil {
		return err
	}
	ports, err := s.config.hostPorts()
	if err != nil {
		return err
	}
	web := rest.Config{
		Store: s.store, Conductor: s.conductor, Cluster: log,
		Authenticator: s.authenticator(log), LocalTokens: s.config.Auth == authToken, AuthURI: s.authURI(),
		Rules: func() structs.Rules { return s.policy.Rules() }, Logger: s.config.Logger.Named("rest"),
		Version:    s.config.Version,
		Operations: operations{s},
		Metrics:    s.metrics.Handler(), Observe: s.metrics.Route, Leader: s.servers.leader, Leaderless: s.servers.whyLeaderless,
		Room: s.room, Audit: s.auditor(), Behind: s.raft.Behind, Pprof: s.config.Pprof,
		Hosts: s.hostNames(), Connections: s.gate, Pools: pools, HostPorts: ports, Fetch: fetchFrom(networks),
		Limits: s.limits, Proxies: s.config.proxies(), WriteTime: writeTime,
	}
	if !s.config.Solo {
		s.relay = s.newRelay()
		hosts.Ask, hosts.Agree, hosts.Followed = s.relay.Ask, s.relay.Agree, s.relay.Followed
		web.Peers, web.Member = s.peers, member{s}
	}
	s.dispatch = dispatch.New(hosts)
	web.Dispatch = s.dispatch
	s.rest = rest.New(web)
	return nil
}

// openLog opens the log and the state that it holds.
func (s *Server) openLog(record *memberfile.File) (err error) {
	advertise := ""
	if s.config.Advertise != "" {
		advertise = joinPort(s.config.Advertise, s.config.RaftPort)
	}
	raft := raftlog.Config{
		DataDir: s.config.DataDir, ServerID: s.id, Member: record, BindAddr: s.config.raftAddr(), Advertise: advertise, Store: s.store,
		Logger: s.config.Logger, Fault: s.config.fault,
		Secure: s.tls.raft(), ClusterID: record.Now().ClusterID, KeepClusterID: s.grants.RecordCluster, Granted: s.grants.Granted,
		SnapshotThreshold: uint64(s.config.SnapshotThreshold), TrailingLogs: uint64(s.config.TrailingLogs), MakeRoom: s.space.makeRoom,
		Moved: s.config.DataDirMoved,
	}
	if len(s.config.LogChecker) > 0 {
		raft.CheckLog = raftlog.ChildCheck(s.config.Starting, s.config.LogChecker...)
	}
	if s.config.tuneRaft != nil {
		s.config.tuneRaft(&raft)
	}
	if s.raft, err = raftlog.Open(raft); err != nil {
		return err
	}
	s.space.countReusable(s.raft.FreeBytes)
	return nil
}

// joinCluster makes the log follow the cluster that the member record names, unless the
// contents of the data directory contradict it.
func (s *Server) joinCluster(record *memberfile.File) error {
	s.raft.SetProposed(s.grants.Proposed())
	if s.config.BootstrapExpect == 1 {
		if err := bootstrap.CheckAlone(s.config.DataDir, record.Now(), s.raft); err != nil {
			return err
		}
	}
	if err := bootstrap.Migrate(s.config.DataDir, record); err != nil {
		return err
	}
	if id := s.grants.Proposed(); id != "" && s.raft.HasState() {
		if err := s.raft.Join(id); err != nil {
			return err
		}
	}
	return nil
}

// ServeLogCheck is the main function of the process that Config.LogChecker starts. args
// are the arguments after those of LogChecker. It returns the exit code.
func ServeLogCheck(args []string, out io.Writer) int { return raftlog.ServeCheck(args, out) }

// URL returns the address of the REST API.
func (s *Server) URL() string {
	return s.tls.scheme() + s.httpAddress()
}

// httpAddress is the host:port at which the REST API can be reached.
func (s *Server) httpAddress() string {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String()) // the port that the kernel picked
	return net.JoinHostPort(s.config.advertised(), port)
}

// shutdownGrace is how long a clean stop waits for requests to end.
const shutdownGrace = 3 * time.Second

// Run serves until ctx ends or a part fails, and then closes everything.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	if s.config.BootstrapExpect == 1 && !s.raft.HasState() {
		if err := s.raft.Bootstrap(); err != nil {
			return err
		}
	}
	// Requests end before the log does: an answered write must be committed, and a
	// parked request must get an answer.
	web, stopWeb := context.WithCancel(context.Background())
	defer stopWeb()
	server := &http.Server{
		Handler:           s.rest.Handler(),
		BaseContext:       func(net.Listener) context.Context { return web },
		ConnContext:       admission.Context,
		ConnState:         admission.State,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		WriteTimeout:      writeTime, // server/rest/web extends it as long as the client reads
		MaxHeaderBytes:    structs.MaxHeader,
		ErrorLog:          s.config.Logger.Named("http").StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true}),
	}
	raftCtx, stopRaft := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRaft()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return wrap("raft", s.raft.Run(raftCtx, s.lead)) })
	g.Go(func() error { return wrap("disk", s.space.run(ctx)) })
	g.Go(func() error { return wrap("limits", s.limits.Run(ctx)) })
	g.Go(func() error {
		err := server.Serve(s.tls.listener(s.gate.Listener(s.listener)))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return wrap("http", err)
	})
	if s.keystone != nil {
		g.Go(func() error { return wrap("keystone", s.keystone.Run(ctx)) })
	}
	for name, part := range s.clusterParts() {
		g.Go(func() error { return wrap(name, part(ctx)) })
	}
	g.Go(func() error {
		<-ctx.Done()
		// First, so that the other servers continue at once.
		s.raft.HandOver()
		grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		stopWeb()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
		stopRaft()
		return nil
	})
	s.log.Info("server is up", "addr", s.URL(), "name", s.config.Name, "server_id", s.id, "data_dir", s.config.DataDir)
	return g.Wait()
}

// Close releases what New acquired, for a server that is never run.
func (s *Server) Close() {
	if s.raft != nil {
		s.raft.Close()
	}
	if s.gossip != nil {
		s.gossip.Close()
	}
	s.close()
}

// close releases the port and the directory.
func (s *Server) close() {
	if s.listener != nil {
		s.listener.Close()
	}
	if s.audit != nil {
		s.audit.Close()
	}
	if s.dir != nil {
		s.dir.close()
	}
}

func wrap(part string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}
