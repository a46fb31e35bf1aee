package gossip

import (
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

// Defaults of Config.
const (
	DefaultPort    = 9513
	DefaultCluster = "magnum"
)

// MaxJoin bounds the number of addresses in Config.Join.
const MaxJoin = 64

// Config configures the gossip of a process. Errors about it use the names of the
// flags.
type Config struct {
	Node     Node   // what this process announces at first; see Gossip.Update
	Bind     string // IP address to listen on
	Port     int    // TCP and UDP; 0 is 9513, -1 picks a free one
	Fallback bool   // listen on a free port if Port is taken; for agents
	// Advertise is the IP[:port] at which the others reach this process. "" is Bind, or
	// an address of this machine if Bind is 0.0.0.0 or ::.
	Advertise string
	Cluster   string   // name of the cluster, default magnum; processes with another are refused
	Key       []byte   // 16, 24 or 32 bytes, see ParseKey; nil means no encryption
	Join      []string // host[:port] of others, tried until one answers; a name may resolve later
	// KnownFile keeps the addresses of known servers, so that a restart needs no Join.
	// "" keeps none.
	KnownFile string
	Logger    hclog.Logger // nil logs nothing

	tune func(*timing) // for tests
}

// timing holds the intervals and timeouts of Gossip.
type timing struct {
	retryMin  time.Duration // between two attempts to join, while alone; doubled up to retryMax
	retryMax  time.Duration
	reconnect time.Duration // between two attempts to reach a missing address, while not alone
	leave     time.Duration // limit for announcing that this process leaves
	list      *memberlist.Config
}

// defaultTiming detects a dead server within seconds and scales to 2,000 hosts: the
// time before a suspect is declared dead grows with the logarithm of their number.
func defaultTiming() timing {
	list := memberlist.DefaultLANConfig()
	list.SuspicionMult = 3
	list.ProbeInterval, list.ProbeTimeout = 750*time.Millisecond, 400*time.Millisecond
	list.EnableCompression = false    // compressing each small packet would take most of gossip's CPU time
	list.TCPTimeout = 3 * time.Second // enough on a LAN; it bounds the duration of a stop
	return timing{
		retryMin: 500 * time.Millisecond, retryMax: 15 * time.Second,
		reconnect: 15 * time.Second, leave: time.Second,
		list: list,
	}
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Cluster == "" {
		c.Cluster = DefaultCluster
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// validate checks the configuration without I/O. Errors are CodeInvalid.
func (c Config) validate() error {
	if !structs.IsID(c.Node.ID) {
		return structs.Errorf(structs.CodeInvalid, "gossip: id %.64q is not a UUID", c.Node.ID)
	}
	if err := c.Check(); err != nil {
		return err
	}
	_, err := encodeMeta(c.Node)
	return err
}

// Check checks the settings of a user, which are all fields but Node, without I/O. It is
// for callers that open other things before gossip. Errors are CodeInvalid.
func (c Config) Check() error {
	c = c.withDefaults()
	if net.ParseIP(c.Bind) == nil {
		return structs.Errorf(structs.CodeInvalid, "-bind %.64q is not an IP address", c.Bind)
	}
	if (c.Port < 1 || c.Port > 65535) && c.Port != -1 {
		return structs.Errorf(structs.CodeInvalid, "-gossip-port %d not in 1..65535", c.Port)
	}
	if c.Advertise != "" {
		if _, _, err := splitAdvertise(c.Advertise); err != nil {
			return err
		}
	}
	if len(c.Cluster) > memberlist.LabelMaxSize {
		return structs.Errorf(structs.CodeInvalid, "-cluster: %d bytes are more than %d", len(c.Cluster), memberlist.LabelMaxSize)
	}
	if c.Key != nil {
		if err := checkKey(c.Key); err != nil {
			return err
		}
	}
	if len(c.Join) > MaxJoin {
		return structs.Errorf(structs.CodeInvalid, "-join: %d addresses are more than %d", len(c.Join), MaxJoin)
	}
	for _, addr := range c.Join {
		if _, _, err := splitJoin(addr); err != nil {
			return err
		}
	}
	return nil
}

// splitAdvertise parses IP[:port]; port is 0 if there is none.
func splitAdvertise(s string) (ip string, port int, err error) {
	if net.ParseIP(s) != nil {
		return s, 0, nil
	}
	host, service, err := net.SplitHostPort(s)
	n, portErr := strconv.ParseUint(service, 10, 16)
	parsed := net.ParseIP(host)
	if err != nil || portErr != nil || n == 0 || parsed == nil || parsed.IsUnspecified() {
		return "", 0, structs.Errorf(structs.CodeInvalid, "-advertise %.128q is not IP[:port]", s)
	}
	return host, int(n), nil
}

// splitJoin parses host[:port]; the port is DefaultPort if there is none.
func splitJoin(s string) (host string, port int, err error) {
	invalid := structs.Errorf(structs.CodeInvalid, "-join %.300q is not host[:port]", s)
	if net.ParseIP(s) != nil { // SplitHostPort would split a bare IPv6 address
		return s, DefaultPort, nil
	}
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		host, service, err = net.SplitHostPort(net.JoinHostPort(s, strconv.Itoa(DefaultPort)))
	}
	n, portErr := strconv.ParseUint(service, 10, 16)
	if err != nil || portErr != nil || n == 0 || host == "" || len(host) > 253 {
		return "", 0, invalid
	}
	for _, r := range host {
		if r <= ' ' || r == '/' || r == '[' || r == ']' || r == ':' && net.ParseIP(host) == nil {
			return "", 0, invalid
		}
	}
	return host, int(n), nil
}

// advertised returns the address to announce to the others; bound is the port that was
// opened. The error is CodeInvalid.
func (c Config) advertised(bound int) (ip string, port int, err error) {
	if c.Advertise != "" {
		ip, port, err = splitAdvertise(c.Advertise)
		if port == 0 {
			port = bound
		}
		return ip, port, err
	}
	if bind := net.ParseIP(c.Bind); !bind.IsUnspecified() {
		return c.Bind, bound, nil
	}
	ip, err = OwnAddress(c.Bind)
	return ip, bound, err
}

// OwnAddress returns the IP address of this machine that others most likely reach, for a
// process that listens on all addresses. bind is 0.0.0.0 or ::. The error is
// CodeInvalid.
func OwnAddress(bind string) (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", structs.Errorf(structs.CodeInvalid, "-bind %s: this machine's addresses can't be read, set -advertise: %w", bind, err)
	}
	if ip := pick(addrs, net.ParseIP(bind).To4() == nil); ip != nil {
		return ip.String(), nil
	}
	return "", structs.Errorf(structs.CodeInvalid, "-bind %s: this machine has no address that others can reach, set -advertise", bind)
}

// pick returns the address that others most likely reach: it prefers private addresses
// to public ones, then IPv4 to IPv6. six allows IPv6. nil if no address fits.
func pick(addrs []net.Addr, six bool) (best net.IP) {
	rank := func(ip net.IP) (n int) {
		if ip.IsPrivate() {
			n += 2
		}
		if ip.To4() != nil {
			n++
		}
		return n
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() || n.IP.To4() == nil && !six {
			continue
		}
		if best == nil || rank(n.IP) > rank(best) {
			best = n.IP
		}
	}
	return best
}

func joinPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
