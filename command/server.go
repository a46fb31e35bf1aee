package command

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/stackforge/magnum/server"
)

func serverCommand() *command {
	return &command{
		name: "server", group: groupDaemons,
		synopsis: "Run a server: state, scheduler and REST API",
		about: "Keeps its state in DATA_DIR/server. Whoever makes the cluster mints the join token with which agents\n" +
			"register, and keeps it in DATA_DIR/server/join-token.\n\n" +
			"Three or five servers make one cluster: start all of them with the same -bootstrap-expect and -join. A\n" +
			"server that has state goes on with it and takes no notice of -bootstrap-expect. One that comes later, with\n" +
			"-join alone, is taken in by the leader.\n\n" +
			"Others reach it only with TLS and -auth token. SIGHUP reads the certificates again.\n\n" + settingsHelp,
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
			s.number(&conf.RaftPort, "raft-port", "PORT", "port of Raft, TCP (default 9512; -1 any free one)")
			s.number(&conf.BootstrapExpect, "bootstrap-expect", "N", "servers that make up a new cluster: 1, 3, 5 or 7 (default 1; with -join 0: another server takes this one in)")
			s.number(&conf.SnapshotThreshold, "raft-snapshot-threshold", "N", "entries of the log after which a snapshot is taken (default 8192)")
			s.number(&conf.TrailingLogs, "raft-trailing-logs", "N", "entries kept behind a snapshot: a server that lags by more fetches the snapshot (default 2048)")
			s.toggle(&conf.DataDirMoved, "data-dir-moved", "start on a data directory that you have moved: one of several servers takes it for a copy else, and refuses it")
			gossipSettings(s, &conf.GossipPort, &conf.Cluster, &conf.Encrypt)
			s.list(&conf.Join, "join retry-join", "ADDR,...", "gossip addresses of other servers, host[:port], tried until one answers")
			s.text(&conf.JoinToken, "join-token", "TOKEN", "with which agents register (default minted at the first start)")
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
					return nil // stopped while it checked its log
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

// logChecker runs this very program, wherever its file is by now.
var logChecker = []string{"/proc/self/exe", checkLogArg}

// checkLogArg is the first argument of the process that checks a server's log.
// It is no command: nobody else calls it.
const checkLogArg = "check-log"

// serverGC is a server's GOGC, unless the environment has one. A tenth of what a
// write takes of the processor was garbage collection at Go's own 100; 150 made 4 %
// more creates with 64 clients (six pairs of runs), for an eighth more memory.
const serverGC = 150

// settingsHelp is what the daemons' help says of their settings.
const settingsHelp = "Each flag is also a setting of the -config file (-http-port: http_port = 9511) and of the\n" +
	"environment (MAGNUM_HTTP_PORT); flag over environment over file."

// serverSettings registers what every kind of server has. note is for those
// settings that mean nothing without one.
func serverSettings(s *settings, conf *server.Config, note string) {
	s.text(&conf.Name, "name node", "NAME", "of this server or host (default the host name)")
	s.text(&conf.DataDir, "data-dir", "DIR", "where state is kept (default /var/lib/magnum; -dev: a temporary one)")
	bind := "address of all ports (default 127.0.0.1)"
	if note != "" {
		bind += "; without -dev that is the one of gossip"
	}
	s.text(&conf.Bind, "bind", "IP", bind)
	s.number(&conf.HTTPPort, "http-port", "PORT", "port of the REST API (default 9511; -1 any free one)"+note)
	s.number(&conf.HTTPMaxConns, "http-max-conns", "N", "connections of the REST API, of which an eighth is kept for hosts and servers (default by the limit of open files, at most 16384; -1 no bound)"+note)
	s.number(&conf.HTTPMaxConnsPerClient, "http-max-conns-per-client", "N", "connections of a client's address that have shown no valid credential (default 256; -1 no bound)"+note)
	s.list(&conf.HTTPHosts, "http-host", "NAME,...", "names under which clients call this server, besides its own: with -auth none it answers to no others"+note)
	s.text(&conf.Auth, "auth", "none|token", "how callers are known; none is for loopback only (default none)"+note)
	s.toggle(&conf.Insecure, "insecure", "allow -auth none, and no TLS, on an address that others reach"+note)
	s.toggle(&conf.Pprof, "pprof", "serve profiles of the server's process to operators, at /debug/pprof/"+note)
	s.duration(&conf.HostLostAfter, "host-lost-after", "silence after which a host is lost, the same on all servers (default 10s)"+note)
}

// gossipSettings registers what servers and agents gossip with.
func gossipSettings(s *settings, port *int, cluster, encrypt *string) {
	s.number(port, "gossip-port", "PORT", "port of gossip, TCP and UDP (default 9513; -1 any free one)")
	s.text(cluster, "cluster", "NAME", "name of the cluster; gossip with another one is refused (default magnum)")
	s.text(encrypt, "encrypt", "KEY", "gossip key, as magnum keygen prints it (default none: gossip in clear)")
}

func orDefault(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
