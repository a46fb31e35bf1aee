package server

import (
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// Config is what a server is started with. Messages about it use the names of
// the flags.
type Config struct {
	Name    string // of this server; default the host name
	DataDir string // where the log, the snapshots and the identity are kept; default /var/lib/magnum
	Bind    string // address of all ports; default 127.0.0.1

	HTTPPort   int // REST, default 9511; -1 picks a free one
	RaftPort   int // default 9512
	GossipPort int // default 9513; not opened by a lone server

	// Solo keeps Raft inside the process: no port but HTTP is opened. For
	// `agent -dev`.
	Solo            bool
	BootstrapExpect int    // servers that make up a new cluster; default 1
	JoinToken       string // with which agents register; default: minted at the first start and kept in DataDir/join-token
	Auth            string // none; default none
	Insecure        bool   // allows auth none on other addresses than loopback
	DefaultBay      string // name of a shared bay that is made if there is no bay at all; "" for none

	HostLostAfter time.Duration // silence after which a host is lost; default 10s, at least 1s
	Version       string        // of the build
	Logger        hclog.Logger
}

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
	if c.BootstrapExpect == 0 {
		c.BootstrapExpect = 1
	}
	if c.Auth == "" {
		c.Auth = "none"
	}
	if c.HostLostAfter == 0 {
		c.HostLostAfter = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// validate checks the configuration without I/O. Errors are CodeInvalid.
func (c Config) validate() error {
	if err := structs.CheckName(c.Name); err != nil {
		return structs.Errorf(structs.CodeInvalid, "-name %.64q: 1 to %d characters", c.Name, structs.MaxName)
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
	if c.BootstrapExpect != 1 {
		return structs.Errorf(structs.CodeInvalid, "-bootstrap-expect %d: this version runs one server; give 1", c.BootstrapExpect)
	}
	if c.Auth != "none" {
		return structs.Errorf(structs.CodeInvalid, "-auth %q: this version knows only none", c.Auth)
	}
	if !ip.IsLoopback() && !c.Insecure {
		return structs.Errorf(structs.CodeInvalid, "-bind %s with -auth none lets anyone who reaches the address do anything: bind to 127.0.0.1, or say -insecure", c.Bind)
	}
	if c.JoinToken != "" && (len(c.JoinToken) < 8 || len(c.JoinToken) > structs.MaxText) {
		return structs.Errorf(structs.CodeInvalid, "-join-token: %d characters are not in 8..%d", len(c.JoinToken), structs.MaxText)
	}
	if c.HostLostAfter < time.Second || c.HostLostAfter > time.Hour {
		return structs.Errorf(structs.CodeInvalid, "-host-lost-after %v not in 1s..1h", c.HostLostAfter)
	}
	return nil
}

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
