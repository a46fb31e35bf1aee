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
	"github.com/stackforge/magnum/server/audit"
	"github.com/stackforge/magnum/server/identity/keystone"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Config configures a server. Its error messages use the names of the flags.
type Config struct {
	Name      string // of this server; default: the host name
	DataDir   string // holds the log, the snapshots and the member record; default /var/lib/magnum
	Bind      string // address of all ports; default 127.0.0.1
	Advertise string // IP address at which others reach the ports; default: Bind

	HTTPPort   int // port of the REST API; default 9511, -1 picks a free one
	RaftPort   int // port of Raft; default 9512, -1 picks a free one
	GossipPort int // port of gossip; default 9513, -1 picks a free one

	// HTTPMaxConns limits the connections of the REST API. The default is what the
	// limit of open files leaves room for, at most 16384; -1 means no limit. An eighth
	// is reserved for hosts and other servers.
	HTTPMaxConns int
	// HTTPMaxConnsPerClient limits, for each client address, the connections that have
	// not shown a valid credential. The default is 256; -1 means no limit. With Auth
	// none, clients on loopback have no limit.
	HTTPMaxConnsPerClient int

	// RateWrites and RateReads limit a project's requests a second to this server; the defaults
	// are 100 and 1000. RateAddresses limits the requests a second of a client address without a
	// valid token; default 20. Twice as many may come at once. -1 means no limit, and with Auth
	// none there is none.
	RateWrites, RateReads, RateAddresses int
	// MaxBytesInFlight limits, in MiB, the bodies and answers in memory; default 256, -1 means no
	// limit. A project may use a quarter.
	MaxBytesInFlight int
	// TrustedProxies are networks, as ADDRESS/BITS, or addresses of proxies whose
	// X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are believed.
	TrustedProxies []string

	// HTTPHosts are names by which clients call this server, in addition to its own
	// name, its host's name, the names in its certificate, localhost and IP addresses.
	// With Auth none the server answers to no other name; with Auth token names are not
	// checked.
	HTTPHosts []string

	// Solo keeps Raft inside the process and opens no port but HTTP. It serves `agent
	// -dev`.
	Solo            bool
	BootstrapExpect int      // servers that bootstrap a new cluster; default 1, or 0 with Join: an existing cluster adds this server
	Join            []string // gossip addresses of other members, host[:port], tried until one answers
	Cluster         string   // name that separates clusters on one network; default magnum
	Encrypt         string   // gossip key, base64 of 16, 24 or 32 bytes; "" leaves gossip unencrypted
	JoinToken       string   // agents register with it; default: minted with the cluster and kept in DataDir/join-token
	// Auth is "none", "token" for tokens issued by this cluster, or "keystone". The default
	// is keystone if there is a Keystone, else none. With token and a Keystone both kinds of
	// tokens are valid.
	Auth       string
	Keystone   keystone.Config // the Keystone that authenticates callers
	Audit      audit.Config    // the audit log; without a Path there is none
	PolicyFile string          // YAML or JSON file with rules that override the default policy; "" means none. Reload reads it again
	Insecure   bool            // allows auth none and no TLS on addresses other than loopback
	TLSCA      string          // PEM files; see tlsconf.Files. All three, or none for no TLS
	TLSCert    string
	TLSKey     string
	// The log is compacted after each snapshot. SnapshotThreshold is the number of
	// entries after which a snapshot is taken; TrailingLogs is the number of entries
	// kept behind the snapshot for followers that lag. A follower that lags further
	// fetches the snapshot. The defaults are 8192 and 2048.
	SnapshotThreshold int
	TrailingLogs      int
	// DataDirMoved says that an operator has moved the data directory. Without it, a
	// moved directory of one of several servers is taken for a copy and refused.
	DataDirMoved bool
	// LogChecker is a program with arguments that calls ServeLogCheck: it checks the
	// log's file before this process opens it. nil checks the file in this process,
	// which a damaged file may crash.
	LogChecker []string
	// Starting cancels a log check that runs in New; nil never cancels.
	Starting   context.Context
	DefaultBay string // name of a shared bay that is created if there is no bay; "" creates none

	// ServicePool is the range of addresses of services, IPv4, /8 to /28; default
	// DefaultServicePool. It must be the same on all servers, and overlap with no agent's
	// pool of networks. NodePortRange is the range of their node ports, as FIRST-LAST; default
	// DefaultNodePortRange. Services that exist keep what they have.
	ServicePool   string
	NodePortRange string
	// HostPorts are the ports of hosts that members of projects may ask for, as ranges
	// FIRST-LAST separated by commas; default hostports.Default. The ports of this server and
	// the default port of relays are not among them.
	HostPorts string
	// ManifestNetworks are networks, as ADDRESS/BITS, from which manifests are fetched by URL
	// in addition to public addresses.
	ManifestNetworks []string

	// TrustAgentLabels lets bays and constraints choose hosts by the labels that agents
	// give them. With Auth none they always do.
	TrustAgentLabels bool

	Pprof         bool          // serves profiles of this process to operators, at /debug/pprof/
	HostLostAfter time.Duration // silence after which a host is lost; default 10s, at least 1s
	Version       string        // of the build
	Logger        hclog.Logger

	// For tests.
	fault     func(op string) error // see raftlog.Config.Fault; nil breaks nothing
	tuneRaft  func(*raftlog.Config) // changes the log's settings; nil changes nothing
	deadAfter time.Duration         // how long a server must be dead before it may be replaced; default 30s
	schema    int                   // the newest schema that the server says it understands; default structs.SchemaVersion
}

// Limits of SnapshotThreshold and TrailingLogs. With a lower limit a server would do
// little but take snapshots; a longer log takes minutes to read at a start.
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
	switch {
	case c.Auth != "":
	case c.Keystone.Given():
		c.Auth = authKeystone
	default:
		c.Auth = authNone
	}
	if c.schema == 0 {
		c.schema = structs.SchemaVersion
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
		return structs.Errorf(structs.CodeInvalid, "-name %.64q: 1 to %d characters, none of them a control or format character", c.Name,
			structs.MaxName)
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
			return structs.Errorf(structs.CodeInvalid, "%s %d not in %d..%d connections (0: the default, -1: no bound)", n.flag, n.value,
				n.least, maxConns)
		}
	}
	for _, name := range c.HTTPHosts {
		if err := structs.CheckLine("-http-host", name, structs.MaxName); err != nil || name == "" || strings.ContainsAny(name, "/:@ ") {
			return structs.Errorf(structs.CodeInvalid, "-http-host %.64q is not a host name such as magnum.example.org, without a port",
				name)
		}
	}
	if err := c.validateLimits(); err != nil {
		return err
	}
	if c.BootstrapExpect < 0 || c.BootstrapExpect > maxServers || c.BootstrapExpect > 1 && c.BootstrapExpect%2 == 0 {
		return structs.Errorf(structs.CodeInvalid,
			"-bootstrap-expect %d is not one of 1, 3, 5 and 7: an even number of servers survives no more failures than one less",
			c.BootstrapExpect)
	}
	for _, n := range []struct {
		flag    string
		entries int
	}{{"-raft-snapshot-threshold", c.SnapshotThreshold}, {"-raft-trailing-logs", c.TrailingLogs}} {
		if n.entries != 0 && (n.entries < minLogEntries || n.entries > maxLogEntries) {
			return structs.Errorf(structs.CodeInvalid, "%s %d not in %d..%d entries (0: the default)", n.flag, n.entries, minLogEntries,
				maxLogEntries)
		}
	}
	if c.Solo && (c.BootstrapExpect > 1 || len(c.Join) > 0) {
		return structs.Errorf(structs.CodeInvalid, "-dev runs a single server: -bootstrap-expect and -join can't be used with it")
	}
	if c.Advertise != "" && net.ParseIP(c.Advertise) == nil {
		return structs.Errorf(structs.CodeInvalid, "-advertise %.64q is not an IP address", c.Advertise)
	}
	if _, err := gossip.ParseKey(c.Encrypt); c.Encrypt != "" && err != nil {
		return err
	}
	// Gossip is opened last, but a server with a refused setting must leave nothing
	// behind.
	if err := (gossip.Config{Bind: c.Bind, Port: c.GossipPort, Advertise: c.Advertise, Cluster: c.Cluster,
		Join: c.Join}).Check(); err != nil {
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
	if _, err := c.pools(); err != nil {
		return err
	}
	if _, err := c.hostPorts(); err != nil {
		return err
	}
	_, err := c.manifestNetworks()
	return err
}

// maxServers is the maximum of BootstrapExpect: each write waits for a majority.
const maxServers = 7

// advertised returns the IP address at which others reach this server.
func (c Config) advertised() string { return cmp.Or(c.Advertise, c.Bind) }

func (c Config) httpAddr() string { return joinPort(c.Bind, c.HTTPPort) }

func (c Config) raftAddr() string {
	if c.Solo {
		return ""
	}
	return joinPort(c.Bind, c.RaftPort)
}

// joinPort returns host:port. Port -1 becomes 0, for which the kernel picks a port.
func joinPort(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(max(port, 0)))
}
