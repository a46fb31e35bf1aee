// Package limits bounds how much of a server one project, one client address and all of
// them together use: requests a second, and bytes of bodies and answers in memory. It gives
// memory back to the system after a peak.
//
// Package server makes one Limits. server/rest/web asks it for every request; server/service
// and server/dispatch find a request's Use in its context. The package knows neither HTTP
// nor tokens, and each server counts for itself: nothing here is replicated.
package limits

import (
	"cmp"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Kind is what a refused request has exceeded.
type Kind string

// The kinds of refusals.
const (
	Writes       Kind = "project_writes" // requests a second
	Reads        Kind = "project_reads"
	Address      Kind = "address"       // requests a second without a valid token
	ProjectBytes Kind = "project_bytes" // a project's share of the bytes in flight
	AllBytes     Kind = "bytes"         // the bytes in flight of all
	HostBytes    Kind = "host_bytes"    // those of hosts and of other servers
	Sessions     Kind = "sessions"      // a project's or user's share of a host's sessions
	Terminals    Kind = "terminals"     // a project's or user's share of prepared terminals
	Unread       Kind = "unread"        // an answer that its client doesn't read: cut off
)

// Kinds are all kinds.
var Kinds = []Kind{Writes, Reads, Address, ProjectBytes, AllBytes, HostBytes, Sessions, Terminals, Unread}

// Defaults of Config.
const (
	DefaultWrites    = 100
	DefaultReads     = 1000
	DefaultAddresses = 20
	DefaultBytes     = 256 << 20
)

// Config bounds the use of a server. For each field 0 means the default and -1 no bound.
type Config struct {
	Writes    int // of a project, requests a second; twice as many may come at once; default 100
	Reads     int // likewise; default 1000
	Addresses int // requests a second of a client address without a valid token; twice as many may come at once; default 20
	// Bytes bounds the bytes in flight of all projects together; default 256 MiB. A project
	// may use a quarter of it. Hosts together, and the other servers together, may use as
	// many again.
	Bytes int64
	// Open says that there is no authentication: the only project may use all bytes, and has
	// no rate.
	Open bool
	now  func() time.Time // for tests; nil means time.Now
}

// Limits counts the use of one server. It is safe for concurrent use. Methods of a nil
// Limits refuse nothing.
type Limits struct {
	writes, reads *table[string] // nil: no bound
	addresses     *table[netip.Addr]
	users         pool // bytes in flight, by project
	hosts         pool // by host
	peers         pool // of other servers together
	freeing       chan struct{}
	free          func() // gives memory back to the system
	paced         pacer
	refused       map[Kind]*atomic.Uint64
}

// New returns a Limits. Run must run for memory to be given back to the system.
func New(c Config) *Limits {
	if c.now == nil {
		c.now = time.Now
	}
	l := &Limits{freeing: make(chan struct{}, 1), free: freeMemory, refused: make(map[Kind]*atomic.Uint64)}
	for _, k := range Kinds {
		l.refused[k] = new(atomic.Uint64)
	}
	if !c.Open {
		l.writes = newTable[string](cmp.Or(c.Writes, DefaultWrites), c.now)
		l.reads = newTable[string](cmp.Or(c.Reads, DefaultReads), c.now)
		l.addresses = newTable[netip.Addr](cmp.Or(c.Addresses, DefaultAddresses), c.now)
		l.paced.prompt, l.paced.waiting = newTable[string](promptRefusals, c.now), make(map[string]int)
	}
	all := cmp.Or(c.Bytes, DefaultBytes)
	quarter := all / 4
	if all < 0 {
		quarter = all
	}
	share := quarter
	if c.Open {
		share = all
	}
	for _, p := range []struct {
		pool  *pool
		share int64
	}{{&l.users, share}, {&l.hosts, quarter}, {&l.peers, all}} {
		p.pool.all, p.pool.share, p.pool.ended, p.pool.by = all, p.share, l.peakOver, make(map[string]int64)
	}
	return l
}

// Refused returns how many requests were refused, by kind.
func (l *Limits) Refused() map[Kind]uint64 {
	out := make(map[Kind]uint64, len(Kinds))
	for _, k := range Kinds {
		out[k] = l.refused[k].Load()
	}
	return out
}

// Count counts a refusal that another package has decided.
func (l *Limits) Count(k Kind) {
	if l != nil {
		l.refused[k].Add(1)
	}
}

// InFlight returns the bytes in flight of projects, hosts and other servers.
func (l *Limits) InFlight() int64 {
	return l.users.inFlight() + l.hosts.inFlight() + l.peers.inFlight()
}

// Request counts a request of a project, a write or a read. CodeRateLimited, before which the
// caller calls Slow.
func (l *Limits) Request(project string, write bool) error {
	if l == nil {
		return nil
	}
	t, kind, what, setting := l.reads, Reads, "reads", "-rate-reads"
	if write {
		t, kind, what, setting = l.writes, Writes, "writes", "-rate-writes"
	}
	wait, ok := t.take(project)
	if ok {
		return nil
	}
	l.Count(kind)
	err := structs.Errorf(structs.CodeRateLimited,
		"your project sends more than %d %s a second (%d at once) to this server: slow down, or ask an operator for more (%s)",
		t.rate, what, 2*t.rate, setting)
	err.RetryAfter = wait
	return err
}

// MayTry returns CodeRateLimited if too many requests without a valid token came from the
// address. It counts nothing: see Failed.
func (l *Limits) MayTry(client netip.Addr) error {
	if l == nil {
		return nil
	}
	wait, ok := l.addresses.look(clientKey(client))
	if ok {
		return nil
	}
	l.Count(Address)
	err := structs.Errorf(structs.CodeRateLimited, "more than %d requests a second (%d at once) without a valid token come from %s: "+
		"slow down, or send a token that is valid (operators: -rate-addresses)", l.addresses.rate, 2*l.addresses.rate, client)
	err.RetryAfter = wait
	return err
}

// Failed counts a request from the address that had no valid token.
func (l *Limits) Failed(client netip.Addr) {
	if l != nil {
		l.addresses.charge(clientKey(client))
	}
}

// clientKey returns what counts as one client: an IPv4 address, or a network of 2^64 IPv6
// addresses, because that is what one customer of a provider has.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
