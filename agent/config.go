package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/structs"
)

// Config configures an agent.
type Config struct {
	Servers   []string          // addresses, host[:port] or URL; at least one, unless Gossip finds them
	Gossip    *gossip.Config    // Bind, Port, Cluster, Key and Join are used to find servers; nil opens no port
	DataDir   string            // of host_id, secret and journal; must outlive the process
	Name      string            // the host's name; default: its hostname, or one made of the Cluster's UID
	JoinToken string            // the cluster's; may be "" once HasSecret(DataDir)
	Labels    map[string]string // for bays and constraints
	// TLS has the files for https: the servers' CA, and a certificate of the agent's own
	// if it has one. Zero: the CAs that the machine trusts, and http for addresses that
	// aren't URLs.
	TLS       tlsconf.Files
	Addresses []string // of the host, for users; default: those of its network interfaces
	Version   string   // the agent's own, for operators

	// Backend is the engine. Its creator closes it. Optional interfaces are found by
	// type assertion: see package backend.
	Backend backend.Backend

	// Cluster is the Kubernetes cluster that the agent runs workloads in, instead of a
	// Backend. Its creator closes it. The data directory may then be empty at each start:
	// the identity of the host stands in the cluster.
	Cluster backend.Cluster

	// FollowRestore lets the agent follow a cluster that an operator has restored from a
	// snapshot. Containers that the restored cluster doesn't know go into quarantine
	// instead of being removed. Default: the agent refuses such a cluster and touches
	// nothing.
	FollowRestore bool

	// RemoveOnStop removes all containers of the host when Run ends because its context
	// did. It is for an agent whose cluster ends with it.
	RemoveOnStop bool

	// ImageGCHigh is how full, in percent, the engine's file system may get. Then the
	// agent removes images that no container uses, the least recently used first, until
	// usage is down to ImageGCLow percent. ImageGCHigh 0: never; ImageGCLow 0: five below
	// ImageGCHigh.
	ImageGCHigh int
	ImageGCLow  int

	// Relay is for the services of bays with several hosts.
	Relay Relay

	MaxSessions int           // concurrent sessions, default 128
	Backoff     time.Duration // longest pause between two tries of a call to the servers, default 5s

	Logger hclog.Logger // nil logs nothing

	dialTCP func(context.Context, netip.AddrPort) (backend.Conn, error) // default dialTCP; tests replace it
}

func (c Config) withDefaults() Config {
	if c.Name == "" && c.Cluster == nil { // that of a cluster doesn't depend on which agent is active
		c.Name, _ = os.Hostname() // "" is refused by validate
	}
	if c.dialTCP == nil {
		c.dialTCP = dialTCP
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 128
	}
	if c.Relay.Port == 0 {
		c.Relay.Port = structs.DefaultRelayPort
	}
	if c.Backoff == 0 {
		c.Backoff = 5 * time.Second
	}
	if c.ImageGCLow == 0 {
		c.ImageGCLow = max(c.ImageGCHigh-5, 0)
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

func (c Config) validate() error {
	switch {
	case len(c.Servers) == 0 && c.Gossip == nil:
		return structs.Errorf(structs.CodeInvalid, "no server: name at least one with -server ADDR")
	case c.DataDir == "":
		return structs.Errorf(structs.CodeInvalid, "no data dir: name one with -data-dir")
	case c.Name == "" && c.Cluster == nil || len(c.Name) > structs.MaxName:
		return structs.Errorf(structs.CodeInvalid, "host name %q is not 1..%d characters long; give one with -name", c.Name,
			structs.MaxName)
	case c.Name != "" && structs.CheckName(c.Name) != nil: // an invisible character, which every server refuses
		return structs.Errorf(structs.CodeInvalid, "-name %q: %w", c.Name, structs.CheckName(c.Name))
	case (c.Backend == nil) == (c.Cluster == nil):
		return structs.Errorf(structs.CodeInvalid, "no backend, or two of them")
	case c.MaxSessions < 1:
		return structs.Errorf(structs.CodeInvalid, "max sessions %d is below 1", c.MaxSessions)
	case c.Backoff < time.Millisecond:
		return structs.Errorf(structs.CodeInvalid, "backoff %s is below 1ms", c.Backoff)
	}
	if c.Backend != nil {
		if err := c.validateEngine(); err != nil {
			return err
		}
	}
	if err := c.TLS.Check(false); err != nil {
		return err
	}
	if c.Gossip != nil {
		if err := c.Gossip.Check(); err != nil {
			return err
		}
	}
	for _, s := range c.Servers {
		if _, err := api.ParseAddress(s); err != nil {
			return err
		}
	}
	return nil
}

// validateEngine checks what only an agent with an engine on its machine needs. That of a
// cluster learns there whether its host is a new one, which needs a join token.
func (c Config) validateEngine() error {
	switch {
	case c.JoinToken == "" && lostHostID(c.DataDir):
		return structs.Errorf(structs.CodeInvalid,
			"%s is lost or empty, and as a new host the agent needs a join token: write the host's UUID into the file, or give "+
				"-join-token", filepath.Join(c.DataDir, fileHost))
	case c.JoinToken == "" && !HasSecret(c.DataDir):
		return structs.Errorf(structs.CodeInvalid, "no join token: take the one of the servers with -join-token")
	case c.ImageGCHigh < 0 || c.ImageGCHigh > 99:
		return structs.Errorf(structs.CodeInvalid, "-image-gc-high %d not in 1..99 percent (0: never)", c.ImageGCHigh)
	case c.ImageGCLow < 0 || c.ImageGCLow > c.ImageGCHigh:
		return structs.Errorf(structs.CodeInvalid, "-image-gc-low %d not in 0..%d percent, the high mark (0: five below it)", c.ImageGCLow,
			c.ImageGCHigh)
	case c.Relay.Port < 1 || c.Relay.Port > 65535:
		return structs.Errorf(structs.CodeInvalid, "-relay-port %d not in 1..65535", c.Relay.Port)
	case c.Relay.Addr != "" && !isHost(c.Relay.Addr):
		return structs.Errorf(structs.CodeInvalid, "-relay-addr %q is not a name or an address that other hosts can dial; the port is "+
			"-relay-port", c.Relay.Addr)
	}
	return nil
}

// isHost reports whether a text is a host without a port.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsAny(s, ":/[] ") && len(s) <= structs.MaxName
}
