package command

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/stackforge/magnum/server"
	"github.com/stackforge/magnum/server/service/hostports"
)

func serverCommand() *command {
	return &command{
		name: "server", group: groupDaemons,
		synopsis: "Run a server: state, scheduler and REST API",
		about: "Keeps its state in DATA_DIR/server. The servers that bootstrap a cluster generate the join token, with\n" +
			"which agents register, and keep it in DATA_DIR/server/join-token.\n\n" +
			"To bootstrap a cluster of three or five servers, start all of them with the same -bootstrap-expect and\n" +
			"-join. A server that has state continues with it and ignores -bootstrap-expect. The leader adds a server\n" +
			"that is started later with -join only.\n\n" +
			"An address other than loopback requires TLS, and -auth token or a Keystone. SIGHUP reloads the certificates\n" +
			"and the policy, and reopens the audit log.\n\n" + settingsHelp,
		examples: []string{
			"magnum server", "magnum server -data-dir /srv/magnum -log-format json",
			"magnum server -bind 10.0.0.1 -encrypt KEY -auth token -tls-ca ca.pem -tls-cert server.pem -tls-key server-key.pem",
			"magnum server -config server.hcl -bind 10.0.0.1 -bootstrap-expect 3 -join 10.0.0.1,10.0.0.2,10.0.0.3",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conf server.Config
			var log logging
			s := newSettings(f)
			serverSettings(s, &conf, "")
			tlsSettings(s, &conf, "")
			s.text(&conf.Advertise, "advertise", "IP", "address at which others reach this server (default -bind)")
			s.number(&conf.RaftPort, "raft-port", "PORT", "port of Raft, TCP (default 9512; -1 any free port)")
			s.number(&conf.BootstrapExpect, "bootstrap-expect", "N",
				"servers that bootstrap a new cluster: 1, 3, 5 or 7 (default 1; with -join 0: join an existing cluster)")
			s.number(&conf.SnapshotThreshold, "raft-snapshot-threshold", "N",
				"number of log entries after which a snapshot is taken (default 8192)")
			s.number(&conf.TrailingLogs, "raft-trailing-logs", "N",
				"entries kept in the log after a snapshot: a server that lags by more fetches the snapshot (default 2048)")
			s.toggle(&conf.DataDirMoved, "data-dir-moved",
				"accept a data directory that was moved; without it, one of several servers refuses the directory as a copy")
			gossipSettings(s, &conf.GossipPort, &conf.Cluster, &conf.Encrypt)
			s.list(&conf.Join, "join retry-join", "ADDR,...", "gossip addresses of other servers, host[:port], tried until one answers")
			s.text(&conf.JoinToken, "join-token", "TOKEN", "token with which agents register (default generated at the first start)")
			log.add(s)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if err := s.load(e); err != nil {
					return err
				}
				logger, err := log.logger(e)
				if err != nil {
					return err
				}
				conf.Logger, conf.Version = logger, version()
				conf.DataDir = filepath.Join(orDefault(conf.DataDir, server.DefaultDataDir), "server")
				if os.Getenv("GOGC") == "" {
					debug.SetGCPercent(serverGC)
				}
				conf.LogChecker, conf.Starting = logChecker, ctx
				srv, err := server.New(conf)
				if err != nil && ctx.Err() != nil {
					return nil // stopped during the check of the log
				}
				if err != nil {
					return s.asUsageError(err)
				}
				defer onHangup(srv.Reload)()
				return srv.Run(ctx)
			}
		},
	}
}

// logChecker runs this program, also if its file was moved or replaced.
var logChecker = []string{"/proc/self/exe", checkLogArg}

// checkLogArg is the first argument of the process that checks a server's log. It is
// not a command for users.
const checkLogArg = "check-log"

// serverGC is a server's GOGC, unless the environment sets one. Go's default of 100
// spends more of the CPU on garbage collection; 150 trades memory for more writes.
const serverGC = 150

// settingsHelp explains the settings in the help of the daemons.
const settingsHelp = "Each flag is also a setting of the -config file (-http-port: http_port = 9511) and of the\n" +
	"environment (MAGNUM_HTTP_PORT). A flag overrides the environment, which overrides the file."

// serverSettings adds the settings of every server. note is added to the usage of those
// that mean nothing without a server.
func serverSettings(s *settings, conf *server.Config, note string) {
	s.text(&conf.Name, "name node", "NAME", "name of this server or host (default the host name)")
	s.text(&conf.DataDir, "data-dir", "DIR", "directory of the state (default /var/lib/magnum; with -dev a temporary one)")
	bind := "address of all ports (default 127.0.0.1)"
	if note != "" {
		bind += "; without -dev only the gossip port is opened"
	}
	s.text(&conf.Bind, "bind", "IP", bind)
	s.number(&conf.HTTPPort, "http-port", "PORT", "port of the REST API (default 9511; -1 any free port)"+note)
	s.number(&conf.HTTPMaxConns, "http-max-conns", "N",
		"limit of connections of the REST API; an eighth is reserved for hosts and servers "+
			"(default from the limit of open files, at most 16384; -1 no limit)"+note)
	s.number(&conf.HTTPMaxConnsPerClient, "http-max-conns-per-client", "N",
		"limit of unauthenticated connections per client address (default 256; -1 no limit)"+note)
	s.limit(&conf.RateWrites, "rate-writes", "writes a second of a project; twice as many at once (default 100; 0 no limit)"+note)
	s.limit(&conf.RateReads, "rate-reads", "reads a second of a project; twice as many at once (default 1000; 0 no limit)"+note)
	s.limit(&conf.RateAddresses, "rate-addresses",
		"requests a second of an address without a valid token; twice as many at once (default 20; 0 no limit)"+note)
	s.limit(&conf.MaxBytesInFlight, "max-bytes-in-flight",
		"limit in MiB of bodies and answers in memory; a project has a quarter (default 256; 0 no limit)"+note)
	s.list(&conf.TrustedProxies, "trusted-proxy", "CIDR,...",
		"proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are believed (default none)"+note)
	s.list(&conf.HTTPHosts, "http-host", "NAME,...",
		"more host names that clients use for this server; with -auth none requests with other names are refused"+note)
	s.text(&conf.Auth, "auth", "none|token|keystone", "how callers authenticate; none is for loopback only, token with the "+
		"-keystone settings takes tokens of both (default keystone with -keystone-auth-url, else none)"+note)
	keystoneSettings(s, &conf.Keystone, note)
	auditSettings(s, &conf.Audit, note)
	s.text(&conf.PolicyFile, "policy-file", "FILE",
		"YAML or JSON file with rules that override the default policy; SIGHUP reads it again"+note)
	s.toggle(&conf.Insecure, "insecure", "allow -auth none, and no TLS, on addresses other than loopback"+note)
	s.text(&conf.ServicePool, "service-pool", "CIDR",
		"addresses of services, IPv4, /8 to /28; must be the same on all servers and overlap with no -network-pool of an agent "+
			"(default "+server.DefaultServicePool+")"+note)
	s.text(&conf.NodePortRange, "node-port-range", "FIRST-LAST",
		"node ports of services; must be the same on all servers (default "+server.DefaultNodePortRange+")"+note)
	s.text(&conf.HostPorts, "host-port-range", "FIRST-LAST[,...]",
		"ports of hosts that members of projects may ask for with host_port, but for magnum's own (default "+hostports.Default+
			"); operators may ask for any"+note)
	s.list(&conf.ManifestNetworks, "manifest-network", "CIDR,...",
		"private networks from which manifests are fetched by URL (default none: from public addresses only)"+note)
	s.toggle(&conf.TrustAgentLabels, "trust-agent-labels",
		"let bays and constraints choose hosts by the labels of their agents (-label); with -auth none they always do"+note)
	s.toggle(&conf.Pprof, "pprof", "serve profiles of the server process to operators at /debug/pprof/"+note)
	s.duration(&conf.HostLostAfter, "host-lost-after",
		"time without heartbeats after which a host is lost; must be the same on all servers (default 10s)"+note)
}

// gossipSettings adds the gossip settings of servers and agents.
func gossipSettings(s *settings, port *int, cluster, encrypt *string) {
	s.number(port, "gossip-port", "PORT", "port of gossip, TCP and UDP (default 9513; -1 any free port)")
	s.text(cluster, "cluster", "NAME", "name of the cluster; members of other clusters are refused (default magnum)")
	s.text(encrypt, "encrypt", "KEY", "gossip key, see magnum keygen (default none: gossip is not encrypted)")
}

func orDefault(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
