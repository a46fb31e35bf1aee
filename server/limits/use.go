package limits

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/structs"
)

// Free is how many bytes of a request are never counted: the bodies and answers of most
// requests are smaller.
const Free = 16 << 10

// pool bounds bytes in flight.
type pool struct {
	all, share int64 // below 0: no bound
	ended      func(peak int64)

	used atomic.Int64
	mu   sync.Mutex // guards what follows
	by   map[string]int64
	peak int64 // the most bytes in flight since they were last few
}

func (p *pool) inFlight() int64 { return p.used.Load() }

// take counts n bytes of a holder. It returns AllBytes or ProjectBytes if they exceed a
// bound, "" if they don't.
func (p *pool) take(holder string, n int64) Kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch used := p.used.Load(); {
	case p.share >= 0 && p.by[holder]+n > p.share:
		return ProjectBytes
	case p.all >= 0 && used+n > p.all:
		return AllBytes
	default:
		p.used.Store(used + n)
		p.peak = max(p.peak, used+n)
	}
	p.by[holder] += n
	return ""
}

// give gives back n bytes of a holder.
func (p *pool) give(holder string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.used.Load() - n
	p.used.Store(used)
	if p.by[holder] -= n; p.by[holder] == 0 {
		delete(p.by, holder)
	}
	if used <= p.peak/8 {
		p.ended(p.peak)
		p.peak = used
	}
}

// Use is what one request uses of a server: its bytes in flight, and who makes it. A Use
// without a Limits, and a nil one, have no bound. Grow may be called from several
// goroutines.
type Use struct {
	// Holder is who makes the request. It is empty without authentication, and for
	// requests of hosts and servers.
	Holder structs.SessionHolder

	limits *Limits
	pool   *pool
	by     string // holder in the pool

	mu    sync.Mutex
	grown int64 // bytes that the request holds
}

// counted returns how many of so many bytes of a request are counted.
func counted(grown int64) int64 { return max(0, grown-Free) }

// OfUser makes u the use of a request of a user. Without authentication holder is empty.
func (l *Limits) OfUser(u *Use, holder structs.SessionHolder) {
	if l != nil {
		u.Holder, u.limits, u.pool, u.by = holder, l, &l.users, holder.Project
	}
}

// OfHost makes u the use of a request of a host.
func (l *Limits) OfHost(u *Use, id string) {
	if l != nil {
		u.limits, u.pool, u.by = l, &l.hosts, id
	}
}

// OfPeer makes u the use of a request of another server.
func (l *Limits) OfPeer(u *Use) {
	if l != nil {
		u.limits, u.pool = l, &l.peers
	}
}

// Grow counts n more bytes, which the request holds until Release. Errors:
// CodeRateLimited if the project has too many bytes in flight, CodeUnavailable if all have.
func (u *Use) Grow(n int) error {
	if u == nil || u.limits == nil || n <= 0 {
		return nil
	}
	kind, ok := u.grow(int64(n))
	if ok {
		return nil
	}
	p := u.pool
	if p != &u.limits.users {
		u.limits.Count(HostBytes)
		return structs.Errorf(structs.CodeUnavailable,
			"requests of hosts and servers with more than %d MiB are in flight on this server: try again in a second", p.share>>20)
	}
	u.limits.Count(kind)
	if kind == ProjectBytes {
		return structs.Errorf(structs.CodeRateLimited,
			"your project's requests and answers in flight on this server have more than %d MiB: send fewer at a time, or ask for less "+
				"in one request (operators: -max-bytes-in-flight)", p.share>>20)
	}
	return structs.Errorf(structs.CodeUnavailable,
		"the requests and answers in flight on this server have more than %d MiB: try again in a second (operators: -max-bytes-in-flight)",
		p.all>>20)
}

func (u *Use) grow(n int64) (Kind, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if more := counted(u.grown+n) - counted(u.grown); more > 0 {
		if kind := u.pool.take(u.by, more); kind != "" {
			return kind, false
		}
	}
	u.grown += n
	return "", true
}

// Release gives back all bytes of the request.
func (u *Use) Release() {
	if u == nil || u.limits == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := counted(u.grown); n > 0 {
		u.pool.give(u.by, n)
	}
	u.grown = 0
}

type contextKey struct{}

// NewContext returns a context with the use of a request.
func NewContext(ctx context.Context, u *Use) context.Context {
	return context.WithValue(ctx, contextKey{}, u)
}

// FromContext returns the use of the context's request, nil if it has none.
func FromContext(ctx context.Context) *Use {
	u, _ := ctx.Value(contextKey{}).(*Use)
	return u
}

// HolderOf returns who makes the context's request, nobody if it has no Use.
func HolderOf(ctx context.Context) structs.SessionHolder {
	if u := FromContext(ctx); u != nil {
		return u.Holder
	}
	return structs.SessionHolder{}
}

// CountRefusal counts a refusal of a share of sessions or terminals.
func (u *Use) CountRefusal(k Kind) {
	if u != nil {
		u.limits.Count(k)
	}
}
