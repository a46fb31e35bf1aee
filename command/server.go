package command

import (
	"context"
	"path/filepath"

	"github.com/stackforge/magnum/server"
)

func serverCommand() *command {
	return &command{
		name: "server", group: groupDaemons,
		synopsis: "Run a server: state, scheduler and REST API",
		about: "Keeps its state in DATA_DIR/server. At its first start it mints the join token with which agents\n" +
			"register, and keeps it in DATA_DIR/server/join-token.\n\n" + settingsHelp,
		examples: []string{"magnum server", "magnum server -data-dir /srv/magnum -log-format json"},
		setup: func(e *env, f *flagSet) runFunc {
			var conf server.Config
			var log logging
			s := newSettings(f)
			serverSettings(s, &conf, "")
			s.number(&conf.RaftPort, "raft-port", "PORT", "port of Raft, TCP (default 9512)")
			s.number(&conf.GossipPort, "gossip-port", "PORT", "port of gossip; not used by a lone server (default 9513)")
			s.number(&conf.BootstrapExpect, "bootstrap-expect", "N", "servers that make up a new cluster; this version runs one (default 1)")
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
				srv, err := server.New(conf)
				if err != nil {
					return err
				}
				return srv.Run(ctx)
			}
		},
	}
}

// settingsHelp is what the daemons' help says of their settings.
const settingsHelp = "Each flag is also a setting of the -config file (-http-port: http_port = 9511) and of the\n" +
	"environment (MAGNUM_HTTP_PORT); flag over environment over file."

// serverSettings registers what every kind of server has. note is for those
// settings that mean nothing without one.
func serverSettings(s *settings, conf *server.Config, note string) {
	s.text(&conf.Name, "name node", "NAME", "of this server or host (default the host name)")
	s.text(&conf.DataDir, "data-dir", "DIR", "where state is kept (default /var/lib/magnum; -dev: a temporary one)")
	s.text(&conf.Bind, "bind", "IP", "address of all ports (default 127.0.0.1)"+note)
	s.number(&conf.HTTPPort, "http-port", "PORT", "port of the REST API (default 9511; -1 any free one)"+note)
	s.text(&conf.Auth, "auth", "none", "how callers are known; none is for loopback only (default none)"+note)
	s.toggle(&conf.Insecure, "insecure", "allow -auth none on an address that others reach"+note)
	s.duration(&conf.HostLostAfter, "host-lost-after", "silence after which a host is lost (default 10s)"+note)
}

func orDefault(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
