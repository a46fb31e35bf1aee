package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/api"
)

// The pause between two looks at the networks.
const (
	networkInterval = 30 * time.Second
	networkPause    = 2 * time.Second // while the host has no room for another network: containers wait for room
)

// networks removes the networks of projects that have had no container for a while, and
// all unused ones when the host leaves its bay. It reports when there is room again.
type networks struct {
	backend backend.Networks
	owner   backend.Owner
	full    func() bool     // reports whether the host had no room at the last look
	report  func(full bool) // tells the servers
	log     hclog.Logger
	left    chan struct{} // capacity 1: the host has left its bay
	filled  chan struct{} // capacity 1: the host has no room any more
}

func newNetworks(b backend.Networks, owner backend.Owner, full func() bool, report func(bool), log hclog.Logger) *networks {
	return &networks{backend: b, owner: owner, full: full, report: report, log: log, left: make(chan struct{}, 1),
		filled: make(chan struct{}, 1)}
}

// leave has all unused networks removed.
func (n *networks) leave() { signal(n.left) }

// fill shortens the pause between two looks.
func (n *networks) fill() { signal(n.filled) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run looks at the networks until ctx ends, and returns nil.
func (n *networks) run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	all := false // also networks that are kept for a while
	for {
		select {
		case <-n.left:
			all = true
		case <-n.filled:
			t.Reset(networkPause)
			continue
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		err := n.backend.TidyNetworks(ctx, n.owner, all)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, backend.ErrAway): // the reconciler logs that
		case err != nil:
			n.log.Warn("networks not tidied up", "error", err)
		default:
			all = false
		}
		next := networkInterval
		if n.full() || all {
			next = networkPause
		}
		if n.full() {
			if room, err := n.backend.NetworkRoom(ctx); err == nil && room {
				n.report(false)
			}
		}
		t.Reset(next)
	}
}

// serverAddrs finds the addresses of the servers, which no network may contain. A name
// is resolved at most once a minute.
type serverAddrs struct {
	list func() []string // addresses, host[:port] or URL

	mu    sync.Mutex
	names map[string]resolved
}

type resolved struct {
	addrs []netip.Addr
	until time.Time
}

// How long a resolved name is valid, and how long resolving may take.
const (
	nameHolds   = time.Minute
	nameTimeout = time.Second
)

// addrs returns the addresses that are known, or found within nameTimeout.
func (s *serverAddrs) addrs() []netip.Addr {
	var all []netip.Addr
	for _, server := range s.list() {
		u, err := api.ParseAddress(server)
		if err != nil {
			continue
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			all = append(all, a.Unmap())
			continue
		}
		all = append(all, s.lookup(u.Hostname())...)
	}
	return all
}

// lookup returns the addresses of a name.
func (s *serverAddrs) lookup(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.names[name]; ok && time.Now().Before(r.until) {
		return r.addrs
	}
	ctx, cancel := context.WithTimeout(context.Background(), nameTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		found = s.names[name].addrs // the last known ones
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	if s.names == nil {
		s.names = make(map[string]resolved)
	}
	s.names[name] = resolved{found, time.Now().Add(nameHolds)}
	return found
}
