package gossip

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// resolveTimeout bounds the resolution of a host name.
const resolveTimeout = 5 * time.Second

// keepConnected joins others while this process is alone, and otherwise reconnects to
// missing ones, until ctx ends.
func (g *Gossip) keepConnected(ctx context.Context) {
	wait := g.retryMin
	for {
		var pause time.Duration
		if g.alone() {
			if g.joinAny(ctx) {
				wait = g.retryMin
			}
			pause = wait
			wait = min(2*wait, g.retryMax)
		} else {
			wait = g.retryMin
			g.reconnect(ctx)
			pause = g.timing.reconnect
		}
		g.expire()
		// Jitter: after a power failure all hosts start at once.
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (g *Gossip) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table.expire(time.Now()) {
		g.wake()
	}
}

// joinAny tries addresses until one answers: first those of the configuration, then
// those of known servers. Each group is in random order, so that many agents don't all
// ask the same server.
func (g *Gossip) joinAny(ctx context.Context) bool {
	for _, addr := range slices.Concat(shuffled(g.Join), shuffled(g.knownAddrs())) {
		if ctx.Err() != nil {
			return false
		}
		if g.join(ctx, addr) {
			return true
		}
	}
	return false
}

func shuffled(addrs []string) []string {
	addrs = slices.Clone(addrs)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs
}

// join tries one address, and reports whether this process has joined others by it.
// A failure is logged once an hour for each address.
func (g *Gossip) join(ctx context.Context, addr string) bool {
	err := g.tryJoin(ctx, addr)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil:
		g.said.reset("join|" + addr)
		g.log.Info("joined", "addr", addr, "members", g.size())
		return true
	case errors.Is(err, errSelf):
		return false
	case g.said.first("join|" + addr):
		g.log.Warn("join failed, trying again", "addr", addr, "error", err)
	default:
		g.log.Debug("join failed again", "addr", addr, "error", err)
	}
	return false
}

var (
	errSelf    = errors.New("the address is this process's own")
	errNobody  = errors.New("the process at this address answered, but knows no member of this cluster")
	errRefused = errors.New("the process at this address closed the connection: " +
		"it may have another -cluster or -encrypt, see its log")
)

// tryJoin exchanges members with the process at an address.
func (g *Gossip) tryJoin(ctx context.Context, addr string) error {
	targets, err := resolve(ctx, addr)
	if err != nil {
		return err
	}
	last := errSelf
	for _, target := range targets {
		if sameAddr(target, g.addr) {
			continue
		}
		_, err := g.list.Join([]string{target})
		switch {
		case err == nil && g.alone():
			last = errNobody
		case err == nil:
			return nil
		case strings.HasSuffix(strings.TrimSpace(err.Error()), io.EOF.Error()), strings.Contains(err.Error(), "connection reset"):
			last = errRefused
		default:
			last = oneLine{err}
		}
	}
	return last
}

// oneLine prints a multi-line error as one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

// resolve returns the addresses IP:port of a host[:port].
func resolve(ctx context.Context, addr string) ([]string, error) {
	host, port, err := splitJoin(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	targets := make([]string, len(ips))
	for i, ip := range ips {
		targets[i] = joinPort(ip.String(), port)
	}
	return targets, nil
}

// reconnectors is the expected number of agents that reconnect in each interval: 2,000
// agents must not all dial one dead server.
const reconnectors = 16

// reconnect tries one missing address. memberlist forgets dead members: without
// reconnect, two halves of a cluster would not meet again after a partition, nor would
// two that were started apart.
func (g *Gossip) reconnect(ctx context.Context) {
	if g.Node.Role != RoleServer && rand.IntN(g.size()) >= reconnectors {
		return
	}
	if missing := g.missing(ctx); len(missing) > 0 {
		g.join(ctx, missing[rand.IntN(len(missing))])
	}
}

// missing returns the addresses of dead members, known servers and Config.Join at which
// no member is alive.
func (g *Gossip) missing(ctx context.Context) []string {
	var alive, missing []string
	for _, m := range g.Members() {
		switch m.State {
		case StateAlive:
			alive = append(alive, m.Addr)
		case StateDead:
			missing = append(missing, m.Addr)
		}
	}
	isAlive := func(addr string) bool {
		return slices.ContainsFunc(alive, func(a string) bool { return sameAddr(a, addr) })
	}
	missing = slices.DeleteFunc(append(missing, g.knownAddrs()...), isAlive)
	for _, addr := range g.Join {
		targets, err := resolve(ctx, addr)
		if err == nil && !slices.ContainsFunc(targets, isAlive) {
			missing = append(missing, addr)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}
