package limits

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/structs"
)

// clock is a clock that tests set.
type clock struct{ at time.Time }

func newClock() *clock                   { return &clock{time.Unix(1_800_000_000, 0)} }
func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// many calls do until it fails, and returns how often it succeeded and the error.
func many(t *testing.T, do func() error) (int, *structs.Error) {
	t.Helper()
	for n := range 100_000 {
		if err := do(); err != nil {
			var known *structs.Error
			if !errors.As(err, &known) {
				t.Fatalf("refusal: %v", err)
			}
			return n, known
		}
	}
	t.Fatal("nothing is refused")
	return 0, nil
}

func TestRates(t *testing.T) {
	c := newClock()
	l := New(Config{Writes: 10, Reads: 100, now: c.now})
	n, err := many(t, func() error { return l.Request("alpha", true) })
	if n != 20 || err.Code != structs.CodeRateLimited || err.RetryAfter <= 0 || err.RetryAfter > 100*time.Millisecond {
		t.Errorf("%d writes at once, then %v after %v", n, err.Code, err.RetryAfter)
	}
	for _, words := range []string{"10 writes a second", "20 at once", "-rate-writes"} {
		if !strings.Contains(err.Msg, words) {
			t.Errorf("the refusal doesn't say %q: %s", words, err.Msg)
		}
	}
	if n, _ := many(t, func() error { return l.Request("alpha", false) }); n != 200 {
		t.Errorf("%d reads at once beside the writes", n)
	}
	if n, _ := many(t, func() error { return l.Request("beta", true) }); n != 20 {
		t.Errorf("%d writes of another project", n)
	}
	c.advance(time.Second)
	if n, _ := many(t, func() error { return l.Request("alpha", true) }); n != 10 {
		t.Errorf("%d writes after a second", n)
	}
	c.advance(time.Hour)
	if n, _ := many(t, func() error { return l.Request("alpha", true) }); n != 20 {
		t.Errorf("%d writes after an hour: more than a burst was saved", n)
	}
	if got := l.Refused(); got[Writes] != 4 || got[Reads] != 1 || got[Address] != 0 {
		t.Errorf("refusals: %v", got)
	}
}

func TestNoRates(t *testing.T) {
	for name, l := range map[string]*Limits{"nil": nil, "off": New(Config{Writes: -1, Reads: -1, Addresses: -1, Bytes: -1}),
		"no authentication": New(Config{Open: true})} {
		for range 10_000 {
			l.Failed(netip.Addr{})
			if err := errors.Join(l.Request("p", true), l.Request("p", false), l.MayTry(netip.Addr{})); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	var u Use
	New(Config{Bytes: -1}).OfUser(&u, structs.SessionHolder{Project: "p"})
	if err := u.Grow(1 << 40); err != nil {
		t.Error(err)
	}
	u.Release()
}

func TestAddresses(t *testing.T) {
	c := newClock()
	l := New(Config{now: c.now})
	attack := func(a string) (int, *structs.Error) {
		client := netip.MustParseAddr(a)
		return many(t, func() error {
			if err := l.MayTry(client); err != nil {
				return err
			}
			l.Failed(client)
			return nil
		})
	}
	n, err := attack("192.0.2.1")
	if n != 40 || err.Code != structs.CodeRateLimited || !strings.Contains(err.Msg, "192.0.2.1") {
		t.Errorf("%d attempts, then %v", n, err)
	}
	if n, _ := attack("::ffff:192.0.2.1"); n != 0 {
		t.Errorf("%d more attempts as an IPv6 address", n)
	}
	if n, _ := attack("192.0.2.2"); n != 40 {
		t.Errorf("%d attempts of another address", n)
	}
	attack("2001:db8::1")
	if n, _ := attack("2001:db8::ffff:2%eth0"); n != 0 {
		t.Errorf("%d more attempts from the same network", n)
	}
	if n, _ := attack("2001:db8:0:1::1"); n != 40 {
		t.Errorf("%d attempts of another network", n)
	}
	// Looking counts nothing, and debt is bounded: requests that were let in together.
	for range 10_000 {
		l.Failed(netip.MustParseAddr("192.0.2.1"))
	}
	c.advance(2100 * time.Millisecond)
	for range 100 {
		if err := l.MayTry(netip.MustParseAddr("192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAddresses: the table of addresses takes the same memory for a million of them, and
// one more address is still bounded.
func TestManyAddresses(t *testing.T) {
	c := newClock()
	l := New(Config{now: c.now})
	fill := func() {
		for i := range 1_000_000 {
			l.Failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	}
	fill()
	if n := l.addresses.keys(); n > shards*maxKeys {
		t.Errorf("%d addresses are kept", n)
	}
	before := heap()
	fill()
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap grows from %d to %d", before, after)
	}
	late := netip.MustParseAddr("192.0.2.1")
	if n, _ := many(t, func() error { l.Failed(late); return l.MayTry(late) }); n > 100 {
		t.Errorf("%d attempts of an address for which there is no room", n)
	}
	c.advance(time.Minute)
	if n, _ := many(t, func() error { l.Failed(late); return l.MayTry(late) }); n != 39 {
		t.Errorf("%d attempts once the others are forgotten", n)
	}
	runtime.KeepAlive(l)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestBytes(t *testing.T) {
	l := New(Config{Bytes: 64 << 20})
	of := func(project string) *Use {
		u := new(Use)
		l.OfUser(u, structs.SessionHolder{Project: project, User: "u"})
		return u
	}
	small := of("alpha")
	for range Free {
		if err := small.Grow(1); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.InFlight(); n != 0 {
		t.Errorf("%d bytes of a small request are counted", n)
	}
	alpha := of("alpha")
	n, err := many(t, func() error { return alpha.Grow(1 << 20) })
	if n != 16 || err.Code != structs.CodeRateLimited || !strings.Contains(err.Msg, "16 MiB") {
		t.Errorf("%d MiB of a project, then %v", n, err)
	}
	other := of("alpha")
	if err := other.Grow(Free); err != nil {
		t.Error(err)
	}
	if n, _ := many(t, func() error { return other.Grow(16 << 10) }); n != 1 {
		t.Errorf("%d more pieces of the same project", n)
	}
	other.Release()
	var held []*Use
	for i := range 10 {
		u := of(fmt.Sprint("p", i))
		held = append(held, u)
		_, err = many(t, func() error { return u.Grow(1 << 20) })
	}
	if err.Code != structs.CodeUnavailable || !strings.Contains(err.Msg, "64 MiB") || l.InFlight() > 64<<20 {
		t.Errorf("%d bytes in flight, refusal %v", l.InFlight(), err)
	}
	var host, peer Use
	l.OfHost(&host, "h")
	l.OfPeer(&peer)
	if n, err := many(t, func() error { return host.Grow(1 << 20) }); n != 16 || err.Code != structs.CodeUnavailable {
		t.Errorf("%d MiB of a host, then %v", n, err)
	}
	if n, err := many(t, func() error { return peer.Grow(1 << 20) }); n != 64 || err.Code != structs.CodeUnavailable {
		t.Errorf("%d MiB of servers, then %v", n, err)
	}
	for _, u := range append(held, small, alpha, other, &host, &peer) {
		u.Release()
		u.Release()
	}
	if n := l.InFlight(); n != 0 || len(l.users.by)+len(l.hosts.by)+len(l.peers.by) != 0 {
		t.Errorf("%d bytes are in flight after all", n)
	}
	if got := l.Refused(); got[ProjectBytes] == 0 || got[AllBytes] == 0 || got[HostBytes] != 2 {
		t.Errorf("refusals: %v", got)
	}
}

// TestBytesOfOne: several goroutines of one request grow it, and some are refused.
func TestBytesOfOne(t *testing.T) {
	l := New(Config{Bytes: 4 << 20})
	var u Use
	l.OfUser(&u, structs.SessionHolder{Project: "p"})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { _ = u.Grow(100 << 10) })
	}
	wg.Wait()
	if n := l.InFlight(); n > 1<<20 || n < 900<<10 {
		t.Errorf("%d bytes are in flight", n)
	}
	if u.Release(); l.InFlight() != 0 {
		t.Errorf("%d bytes are in flight after all", l.InFlight())
	}
}

// TestSlow: few refusals are answered at once, then each takes a while, and only so many of
// them wait.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		slow := func(ctx context.Context, project string) time.Duration {
			began := time.Now()
			l.Slow(ctx, project)
			return time.Since(began)
		}
		for i := range 2 * promptRefusals {
			if took := slow(t.Context(), "alpha"); took != 0 {
				t.Fatalf("refusal %d takes %v", i, took)
			}
		}
		// A client that sends again once it is refused gets few answers: those that wait, and
		// those that may be prompt meanwhile.
		refusals := 0
		for began := time.Now(); time.Since(began) < 10*time.Second; refusals++ {
			slow(t.Context(), "alpha")
		}
		if refusals > 10*promptRefusals+10*int(time.Second/refusalTime) {
			t.Errorf("%d refusals in 10 s", refusals)
		}
		if took := slow(t.Context(), "beta"); took != 0 {
			t.Errorf("a refusal of another project takes %v", took)
		}

		// Many of one project at the same time, then many of all projects.
		var wg sync.WaitGroup
		var atOnce, waited atomic.Int32
		attack := func(project string, n int) {
			for range n {
				wg.Go(func() {
					if slow(t.Context(), project) == 0 {
						atOnce.Add(1)
					} else {
						waited.Add(1)
					}
				})
			}
		}
		attack("gamma", 1000)
		wg.Wait()
		if waited.Load() != maxWaiting || atOnce.Load() != 1000-maxWaiting {
			t.Errorf("%d of one project wait, %d don't", waited.Load(), atOnce.Load())
		}
		waited.Store(0)
		for i := range 2 * maxAllWaiting / maxWaiting {
			attack(fmt.Sprint("p", i), 1000)
		}
		wg.Wait()
		if waited.Load() != maxAllWaiting || l.paced.all != 0 || len(l.paced.waiting) != 0 {
			t.Errorf("%d of all projects wait; %d, %v are left", waited.Load(), l.paced.all, l.paced.waiting)
		}

		// A client that has left is waited for no longer.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2*promptRefusals + 1 {
			if took := slow(ctx, "delta"); took != 0 {
				t.Fatalf("a refusal for nobody takes %v", took)
			}
		}
	})
	for _, l := range []*Limits{nil, New(Config{Open: true})} {
		for range 10 * promptRefusals {
			l.Slow(t.Context(), "p") // returns at once, as the test's end shows
		}
	}
}

// TestReclaim: memory is given back once after a peak, and not again within a minute.
func TestReclaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		var freed atomic.Int32
		l.free = func() { freed.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		peak := func(n int) {
			var u Use
			l.OfUser(&u, structs.SessionHolder{Project: "p"})
			if err := u.Grow(n); err != nil {
				t.Fatal(err)
			}
			u.Release()
		}
		for range 100 {
			peak(1 << 20)
		}
		time.Sleep(time.Hour)
		if freed.Load() != 0 {
			t.Errorf("memory was given back %d times without a peak", freed.Load())
		}
		for range 10 {
			peak(40 << 20)
		}
		time.Sleep(30 * time.Second)
		if synctest.Wait(); freed.Load() != 1 {
			t.Errorf("memory was given back %d times after one peak", freed.Load())
		}
		peak(40 << 20)
		time.Sleep(20 * time.Second)
		if synctest.Wait(); freed.Load() != 1 {
			t.Errorf("memory was given back %d times within a minute", freed.Load())
		}
		time.Sleep(time.Hour)
		if synctest.Wait(); freed.Load() != 2 {
			t.Errorf("memory was given back %d times after two peaks", freed.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkRequest is what the limits add to each request: its rate, and a large body.
func BenchmarkRequest(b *testing.B) {
	l := New(Config{Writes: 1_000_000_000, Reads: 1_000_000_000})
	b.Run("small", func(b *testing.B) {
		for b.Loop() {
			var u Use
			l.OfUser(&u, structs.SessionHolder{Project: "p", User: "u"})
			if err := errors.Join(l.Request("p", true), u.Grow(1<<10)); err != nil {
				b.Fatal(err)
			}
			u.Release()
		}
	})
	b.Run("large", func(b *testing.B) {
		for b.Loop() {
			var u Use
			l.OfUser(&u, structs.SessionHolder{Project: "p", User: "u"})
			if err := errors.Join(l.Request("p", true), u.Grow(1<<20)); err != nil {
				b.Fatal(err)
			}
			u.Release()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = l.Request("p", true)
			}
		})
	})
}
