package server

import (
	"cmp"
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Config is what a server is started with. Messages about it use the names of
// the flags.
type Config struct {
	Name      string // of this server; default the host name
	DataDir   string // where the log, the snapshots and the identity are kept; default /var/lib/magnum
	Bind      string // address of all ports; default 127.0.0.1
	Advertise string // IP address at which others reach the ports; default Bind

	HTTPPort   int // REST, default 9511; -1 picks a free one
	RaftPort   int // default 9512; -1 picks a free one
	GossipPort int // default 9513; -1 picks a free one

	// HTTPMaxConns is how many connections the REST API has at most; default what
	// the limit of open files leaves room for, at most 16384; -1 for no bound. An
	// eighth is kept for hosts and other servers.
	HTTPMaxConns int
	// HTTPMaxConnsPerClient is how many of them a client's address may have that have
	// not shown a valid credential; default 256; -1 for no bound. Clients on loopback
	// have none with Auth none.
	HTTPMaxConnsPerClient int

	// HTTPHosts are names under which clients call this server, besides its own, its
	// host's, those of its certificate, localhost and IP addresses. With Auth none it
	// answers to no other; with Auth token the names are not looked at.
	HTTPHosts []string

	// Solo keeps Raft inside the process: no port but HTTP is opened. For
	// `agent -dev`.
	Solo            bool
	BootstrapExpect int      // servers that make up a new cluster; default 1, with Join 0: one that is there takes this server in
	Join            []string // gossip addresses of others, host[:port], tried until one answers
	Cluster         string   // name of the cluster, which keeps several on one network apart; default magnum
	Encrypt         string   // gossip key, base64 of 16, 24 or 32 bytes; "" gossips in clear
	JoinToken       string   // with which agents register; default: minted with the cluster and kept in DataDir/join-token
	Auth            string   // none, or token: tokens of this cluster's own; default none
	Insecure        bool     // allows auth none, and no TLS, on other addresses than loopback
	TLSCA           string   // PEM files; see tlsconf.Files. All of them, or none: no TLS
	TLSCert         string
	TLSKey          string
	// The log of Raft is cut behind a snapshot, which is taken after so many
	// entries, and so many are kept behind it for servers that lag: those that lag
	// by more fetch the snapshot. Default 8192 and 2048.
	SnapshotThreshold int
	TrailingLogs      int
	// DataDirMoved says that an operator has moved the data directory of one of several
	// servers, which is else taken for a copy and refused.
	DataDirMoved bool
	// LogChecker is the program and arguments that end in a call of ServeLogCheck:
	// it checks the log's file before this process opens it. nil has this process
	// check it, which a damaged file may end.
	LogChecker []string
	// Starting ends a check of the log that is under way in New; nil never does.
	Starting   context.Context
	DefaultBay string // name of a shared bay that is made if there is no bay at all; "" for none

	Pprof         bool          // serves profiles of this process to operators, at /debug/pprof/
	HostLostAfter time.Duration // silence after which a host is lost; default 10s, at least 1s
	Version       string        // of the build
	Logger        hclog.Logger

	// For tests.
	fault     func(op string) error // see raftlog.Config.Fault
	tuneRaft  func(*raftlog.Config) // the last word on the log's settings; nil changes nothing
	deadAfter time.Duration         // how long a server has to be gone before it may be replaced; default 30s
}

// Limits of SnapshotThreshold and TrailingLogs. A snapshot for each handful of
// entries would be all that a server does; a longer log takes minutes to read at
// a start.
const (
	minLogEntries = 64
	maxLogEntries = 10_000_000
)

// Defaults of the flags.
const (
	DefaultDataDir    = "/var/lib/magnum"
	DefaultBind       = "127.0.0.1"
	DefaultHTTPPort   = 9511
	DefaultRaftPort   = 9512
	DefaultGossipPort = 9513
)

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir
	}
	if c.Bind == "" {
		c.Bind = DefaultBind
	}
	if c.HTTPPort == 0 {
		c.HTTPPort = DefaultHTTPPort
	}
	if c.RaftPort == 0 {
		c.RaftPort = DefaultRaftPort
	}
	if c.GossipPort == 0 {
		c.GossipPort = DefaultGossipPort
	}
	if c.BootstrapExpect == 0 && len(c.Join) == 0 {
		c.BootstrapExpect = 1
	}
	if c.Cluster == "" {
		c.Cluster = gossip.DefaultCluster
	}
	if c.Auth == "" {
		c.Auth = "none"
	}
	if c.HostLostAfter == 0 {
		c.HostLostAfter = 10 * time.Second
	}
	if c.deadAfter == 0 {
		c.deadAfter = 30 * time.Second
	}
	if c.Starting == nil {
		c.Starting = context.Background()
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// validate checks the configuration without I/O. Errors are CodeInvalid.
func (c Config) validate() error {
	if err := structs.CheckName(c.Name); err != nil {
		return structs.Errorf(structs.CodeInvalid, "-name %.64q: 1 to %d characters, none of them a control or format character", c.Name, structs.MaxName)
	}
	ip := net.ParseIP(c.Bind)
	if ip == nil {
		return structs.Errorf(structs.CodeInvalid, "-bind %q is not an IP address", c.Bind)
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"-http-port", c.HTTPPort}, {"-raft-port", c.RaftPort}, {"-gossip-port", c.GossipPort}} {
		if (p.port < 1 || p.port > 65535) && p.port != -1 {
			return structs.Errorf(structs.CodeInvalid, "%s %d not in 1..65535", p.flag, p.port)
		}
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{{"-http-max-conns", c.HTTPMaxConns, minConns}, {"-http-max-conns-per-client", c.HTTPMaxConnsPerClient, 1}} {
		if n.value != 0 && n.value != -1 && (n.value < n.least || n.value > maxConns) {
			return structs.Errorf(structs.CodeInvalid, "%s %d not in %d..%d connections (0: the default, -1: no bound)", n.flag, n.value, n.least, maxConns)
		}
	}
	for _, name := range c.HTTPHosts {
		if err := structs.CheckLine("-http-host", name, structs.MaxName); err != nil || name == "" || strings.ContainsAny(name, "/:@ ") {
			return structs.Errorf(structs.CodeInvalid, "-http-host %.64q is not a host name such as magnum.example.org, without a port", name)
		}
	}
	if c.BootstrapExpect < 0 || c.BootstrapExpect > maxServers || c.BootstrapExpect > 1 && c.BootstrapExpect%2 == 0 {
		return structs.Errorf(structs.CodeInvalid, "-bootstrap-expect %d is not one of 1, 3, 5 and 7: an even number of servers survives no more failures than one less", c.BootstrapExpect)
	}
	for _, n := range []struct {
		flag    string
		entries int
	}{{"-raft-snapshot-threshold", c.SnapshotThreshold}, {"-raft-trailing-logs", c.TrailingLogs}} {
		if n.entries != 0 && (n.entries < minLogEntries || n.entries > maxLogEntries) {
			return structs.Errorf(structs.CodeInvalid, "%s %d not in %d..%d entries (0: the default)", n.flag, n.entries, minLogEntries, maxLogEntries)
		}
	}
	if c.Solo && (c.BootstrapExpect > 1 || len(c.Join) > 0) {
		return structs.Errorf(structs.CodeInvalid, "-dev runs one server: -bootstrap-expect and -join are for others")
	}
	if c.Advertise != "" && net.ParseIP(c.Advertise) == nil {
		return structs.Errorf(structs.CodeInvalid, "-advertise %.64q is not an IP address", c.Advertise)
	}
	if _, err := gossip.ParseKey(c.Encrypt); c.Encrypt != "" && err != nil {
		return err
	}
	// Gossip is opened last, and a server that is refused must leave nothing behind.
	if err := (gossip.Config{Bind: c.Bind, Port: c.GossipPort, Advertise: c.Advertise, Cluster: c.Cluster, Join: c.Join}).Check(); err != nil {
		return err
	}
	if err := c.validateAccess(ip); err != nil {
		return err
	}
	if c.JoinToken != "" && (len(c.JoinToken) < 8 || len(c.JoinToken) > structs.MaxText) {
		return structs.Errorf(structs.CodeInvalid, "-join-token: %d characters are not in 8..%d", len(c.JoinToken), structs.MaxText)
	}
	if c.HostLostAfter < time.Second || c.HostLostAfter > time.Hour {
		return structs.Errorf(structs.CodeInvalid, "-host-lost-after %v not in 1s..1h", c.HostLostAfter)
	}
	return nil
}

// maxServers is the most that a cluster begins with: each write waits for a
// majority of them.
const maxServers = 7

// advertised is the IP address at which others reach this server.
func (c Config) advertised() string { return cmp.Or(c.Advertise, c.Bind) }

func (c Config) httpAddr() string { return joinPort(c.Bind, c.HTTPPort) }

func (c Config) raftAddr() string {
	if c.Solo {
		return ""
	}
	return joinPort(c.Bind, c.RaftPort)
}

// joinPort writes host:port; -1 lets the kernel pick.
func joinPort(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(max(port, 0)))
}
