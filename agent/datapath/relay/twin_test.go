package relay

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// newTwin makes another process with a host's key. It knows no endpoint but those of before,
// with the port 1, which lead to addr, and dials peers if told to. refusals counts the others.
func newTwin(t testing.TB, of *testHost, addr string) (twin *testHost, refusals *atomic.Int64) {
	t.Helper()
	refusals = new(atomic.Int64)
	twin = newHost(t, of.id, func(c *Config) {
		c.Certificate = of.conf.Certificate
		c.Accept = func(to Target) (string, error) {
			if to.Port == 1 {
				return addr, nil
			}
			refusals.Add(1)
			return "", fmt.Errorf("pod %q is unknown to the twin", to.PodID)
		}
	})
	twin.pin = of.pin
	return twin, refusals
}

var toOldPod = Target{ServiceID: "service", PodID: "old", Port: 1, Protocol: "tcp"}

// generationOf returns the process that new streams to a peer go to.
func (h *testHost) generationOf(peer string) generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.peers[peer].current(); s != nil {
		return s.generation
	}
	return generation{}
}

// dialsIn has a host dial another one, and waits until that one uses the connection.
func (h *testHost) dialsIn(t testing.TB, to *testHost) {
	t.Helper()
	h.Set([]structs.RelayPeer{to.as()})
	eventually(t, "the connection of "+h.id+" is used", func() bool { return to.generationOf(h.id) == h.generation })
}

// A twin of b dials a after b has: new streams reach b all the same, and those that lead to
// the twin go on.
func TestTwinDoesNotTakeNewStreams(t *testing.T) {
	for name, dialledByB := range map[string]bool{"b was dialled": false, "b has dialled": true} {
		t.Run(name, func(t *testing.T) {
			a, b := newHost(t, "a", nil), newHost(t, "b", nil)
			b.pod.Store(echo(t))
			twin, refusals := newTwin(t, b, echo(t))
			if dialledByB {
				a.Set([]structs.RelayPeer{b.undialled()}) // so that a doesn't dial first
				b.dialsIn(t, a)
			} else {
				b.Set([]structs.RelayPeer{a.undialled()})
				a.Set([]structs.RelayPeer{b.as()})
				eventually(t, "a is connected", func() bool { return a.generationOf("b") == b.generation })
			}
			twin.dialsIn(t, a)
			if dialledByB {
				a.mu.Lock()
				a.peers["b"].addr = b.addr // known from now on, and not dialled
				a.mu.Unlock()
			}
			old, err := a.Dial(limited(t), "b", toOldPod)
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			mustEcho(t, old, "x")
			for range 20 {
				short(t, a, "b")
			}
			if dialledByB {
				eventually(t, "the registered address says who is b", func() bool { return a.generationOf("b") == b.generation })
			}
			before := refusals.Load()
			for range 20 {
				short(t, a, "b")
			}
			if now := refusals.Load(); before == 0 || now != before {
				t.Errorf("the twin was asked %d times, then %d times", before, now-before)
			}
			mustEcho(t, old, "still")
			// The twin's connection is lost, and it dials again.
			a.mu.Lock()
			s := a.peers["b"].newest(func(s *session) bool { return s.generation == twin.generation })
			a.mu.Unlock()
			s.cut(errDead)
			eventually(t, "the twin has dialled again", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.peers["b"].newest(func(o *session) bool { return o != s && o.generation == twin.generation }) != nil
			})
			for range 20 {
				short(t, a, "b")
			}
			if now := refusals.Load(); now != before {
				t.Errorf("the twin was asked %d times after it dialled again", now-before)
			}
		})
	}
}

// Only the twin is connected: the registered address leads to b.
func TestTwinIsLeftForTheRegisteredAddress(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	b.pod.Store(echo(t))
	b.Set([]structs.RelayPeer{a.undialled()})
	twin, refusals := newTwin(t, b, echo(t))
	a.Set([]structs.RelayPeer{twin.undialled()})
	twin.dialsIn(t, a)
	old, err := a.Dial(limited(t), "b", toOldPod)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	a.mu.Lock()
	a.peers["b"].addr = b.addr
	a.mu.Unlock()
	for range 20 {
		short(t, a, "b")
	}
	mustEcho(t, old, "still")
	if n := refusals.Load(); n != 1 {
		t.Errorf("the twin was asked %d times", n)
	}
	// b is gone: what is left of the twin is used only as long as b can't be dialled.
	b.Close()
	eventually(t, "b can't be dialled", func() bool { return a.Reachable()["b"] != nil })
	c, err := a.Dial(limited(t), "b", toOldPod)
	if err != nil {
		t.Fatal(err)
	}
	mustEcho(t, c, "by the twin")
	_ = c.Close()
}

// The registered address of a host changes, and its connection of before is alive.
func TestRegisteredAddressChanges(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	b.pod.Store(echo(t))
	b.Set([]structs.RelayPeer{a.undialled()})
	twin, refusals := newTwin(t, b, echo(t))
	twin.Set([]structs.RelayPeer{a.undialled()})
	a.Set([]structs.RelayPeer{twin.as()})
	eventually(t, "a is connected with the twin", func() bool { return a.generationOf("b") == twin.generation })
	old, err := a.Dial(limited(t), "b", toOldPod)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	a.Set([]structs.RelayPeer{b.as()})
	eventually(t, "a is connected with b", func() bool { return a.generationOf("b") == b.generation })
	for range 20 {
		short(t, a, "b")
	}
	mustEcho(t, old, "still")
	if n := refusals.Load(); n != 0 {
		t.Errorf("the twin was asked %d times", n)
	}
	// An address at which nobody answers, and then the same process by another address.
	nobody, _ := net.Listen("tcp", "127.0.0.1:0")
	_ = nobody.Close()
	lost := b.as()
	lost.Addr = nobody.Addr().String()
	a.Set([]structs.RelayPeer{lost})
	short(t, a, "b")
	a.Set([]structs.RelayPeer{b.as()})
	eventually(t, "the address was dialled", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !a.peers["b"].proof.moved
	})
	short(t, a, "b")
	if a.generationOf("b") != b.generation {
		t.Error("new streams go elsewhere")
	}
}

// The newest connection of a host that can't be dialled has its new streams, unless it
// refuses what an earlier one takes.
func TestNewestConnectionOfAnUndialledHostWins(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	b.pod.Store(echo(t))
	twin, refusals := newTwin(t, b, echo(t))
	a.Set([]structs.RelayPeer{b.undialled()})
	twin.dialsIn(t, a)
	b.dialsIn(t, a)
	for range 10 {
		short(t, a, "b")
	}
	if n := refusals.Load(); n != 0 {
		t.Errorf("the older connection was asked %d times", n)
	}
	again, second := newTwin(t, b, echo(t))
	again.dialsIn(t, a)
	for range 10 {
		short(t, a, "b")
	}
	if n := second.Load(); n != 1 {
		t.Errorf("the twin that dialled last was asked %d times", n)
	}
}

// A host that hasn't heard of an endpoint keeps its connection, however often it is asked,
// and is dialled seldom.
func TestUnknownEndpointCostsLittle(t *testing.T) {
	a, b := newHost(t, "a", func(c *Config) { c.MinBackoff, c.MaxBackoff = time.Minute, time.Hour }), newHost(t, "b", nil)
	b.pod.Store(echo(t))
	b.Set([]structs.RelayPeer{a.undialled()})
	eventually(t, "a is connected", func() bool { // the first dial may come too early, and the next one late
		a.Set(nil)
		a.Set([]structs.RelayPeer{b.as()})
		return a.Wait(limited(t)) == nil && a.Reachable()["b"] == nil
	})
	session := func() *session { a.mu.Lock(); defer a.mu.Unlock(); return a.peers["b"].current() }
	before, c := session(), a.mustDial(t, "b")
	mustEcho(t, c, "x")
	for range 50 {
		if _, err := a.Dial(limited(t), "b", Target{PodID: "unknown", Protocol: "tcp"}); !errors.Is(err, ErrRefused) {
			t.Fatalf("an unknown pod: %v", err)
		}
	}
	a.mu.Lock()
	pause := a.peers["b"].proof.pause
	a.mu.Unlock()
	if session() != before || pause != time.Minute {
		t.Errorf("there is another connection, or the address was dialled more than once: the pause is %v", pause)
	}
	mustEcho(t, c, "still")
	short(t, a, "b")
	eventually(t, "one connection is left on each side", func() bool {
		n, _ := a.numbers("b")
		m, _ := b.numbers("a")
		return n == 1 && m == 1
	})
}

// A host that hears of an endpoint while it is asked gets the stream.
func TestEndpointThatIsHeardOfLate(t *testing.T) {
	var asked atomic.Int64
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	pod := echo(t)
	b.conf.Accept = func(Target) (string, error) {
		if asked.Add(1) == 1 {
			return "", errors.New("not yet")
		}
		return pod, nil
	}
	b.Set([]structs.RelayPeer{a.undialled()})
	a.Set([]structs.RelayPeer{b.as()})
	short(t, a, "b")
	if n := asked.Load(); n != 2 {
		t.Errorf("the host was asked %d times", n)
	}
}
