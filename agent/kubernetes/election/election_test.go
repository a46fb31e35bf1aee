package election

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/stackforge/magnum/structs"
)

var resource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// store has one Lease, as an API server does.
type store struct {
	mu     sync.Mutex
	lease  *coordinationv1.Lease
	rev    int
	clocks func(*coordinationv1.Lease) // changes the wall clocks of what is written; nil for none
}

func (s *store) read() (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return nil, apierrors.NewNotFound(resource, "active")
	}
	return s.lease.DeepCopy(), nil
}

func (s *store) write(lease *coordinationv1.Lease, create bool) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case create && s.lease != nil:
		return nil, apierrors.NewAlreadyExists(resource, lease.Name)
	case !create && s.lease == nil:
		return nil, apierrors.NewNotFound(resource, lease.Name)
	case !create && s.lease.ResourceVersion != lease.ResourceVersion:
		return nil, apierrors.NewConflict(resource, lease.Name, errors.New("the object has been modified"))
	}
	s.rev++
	s.lease = lease.DeepCopy()
	s.lease.ResourceVersion = strconv.Itoa(s.rev)
	if create {
		s.lease.UID = types.UID("uid-" + s.lease.ResourceVersion)
	}
	if s.clocks != nil {
		s.clocks(s.lease)
	}
	return s.lease.DeepCopy(), nil
}

func (s *store) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = nil
}

// contender is one agent. Its faults are those of its way to the API server.
type contender struct {
	name  string
	store *store
	*Election
	stop  func()        // ends its run
	ended chan struct{} // closed once its run has ended

	mu     sync.Mutex
	fault  func(ctx context.Context, write bool) (before, after error)
	offset time.Duration // of its clock
	active context.Context
	times  int // it was the active one
}

func (c *contender) way(ctx context.Context, write bool) (before, after error) {
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	if fault == nil {
		return nil, nil
	}
	return fault(ctx, write)
}

func (c *contender) call(ctx context.Context, write bool, f func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	before, after := c.way(ctx, write)
	if before != nil {
		return nil, before
	}
	lease, err := f()
	if after != nil {
		return nil, after
	}
	return lease, err
}

func (c *contender) Get(ctx context.Context) (*coordinationv1.Lease, error) {
	return c.call(ctx, false, c.store.read)
}

func (c *contender) Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.call(ctx, true, func() (*coordinationv1.Lease, error) { return c.store.write(lease, true) })
}

func (c *contender) Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.call(ctx, true, func() (*coordinationv1.Lease, error) { return c.store.write(lease, false) })
}

func (c *contender) setFault(f func(ctx context.Context, write bool) (before, after error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

func (c *contender) isActive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active != nil && c.active.Err() == nil
}

// reaches reports whether nothing keeps it from the API server.
func (c *contender) reaches() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault == nil
}

var errAway = errors.New("connection refused")

// away is the fault of an API server that can't be reached.
func away(context.Context, bool) (before, after error) { return errAway, nil }

// hangs is the fault of one that doesn't answer.
func hangs(ctx context.Context, _ bool) (before, after error) {
	<-ctx.Done()
	return ctx.Err(), nil
}

// party are the agents of one cluster, in a bubble.
type party struct {
	*testing.T
	store *store
	all   []*contender
	began time.Time
}

func inParty(t *testing.T, test func(*party)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &party{T: t, store: new(store), began: time.Now()}
		defer func() {
			for _, c := range p.all {
				c.stop()
			}
		}()
		test(p)
	})
}

// join starts an agent.
func (p *party) join(name string) *contender {
	p.Helper()
	c := &contender{name: name, store: p.store, ended: make(chan struct{})}
	var err error
	c.Election, err = New(Config{Leases: c, Namespace: "magnum", Name: "active", Holder: name, Clock: func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Since(p.began) + c.offset
	}})
	if err != nil {
		p.Fatal(err)
	}
	p.all = append(p.all, c)
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = func() { cancel(); <-c.ended }
	go func() {
		defer close(c.ended)
		for ctx.Err() == nil {
			if err := c.Lead(ctx, func(ctx context.Context) error {
				for _, other := range p.all {
					if other != c && other.Allowed() == nil {
						p.Errorf("after %s, %s is active beside %s", time.Since(p.began), name, other.name)
					}
				}
				c.mu.Lock()
				c.active, c.times = ctx, c.times+1
				c.mu.Unlock()
				if err := c.Allowed(); err != nil {
					p.Errorf("after %s, %s is active and may not write: %v", time.Since(p.began), name, err)
				}
				<-ctx.Done()
				return errors.New("ended with its context")
			}); err != nil {
				p.Errorf("Lead returns %v after its context has ended", err)
			}
		}
	}()
	synctest.Wait()
	return c
}

// after lets time pass.
func (p *party) after(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// is checks who is active. The work of others goes on only while they don't know of that one.
func (p *party) is(active *contender) {
	p.Helper()
	for _, c := range p.all {
		if works := c.isActive(); works != (c == active) && (c == active || c.reaches()) {
			p.Errorf("after %s, %s works: %t", time.Since(p.began), c.name, works)
		}
		if allowed := c.Allowed() == nil; allowed != (c == active) {
			p.Errorf("after %s, %s may write: %t", time.Since(p.began), c.name, allowed)
		}
	}
}

func TestOneAgentIsActive(t *testing.T) {
	inParty(t, func(p *party) {
		a := p.join("a")
		p.is(a)
		b := p.join("b")
		p.after(10 * time.Minute)
		p.is(a)
		a.stop() // it gives the lease back
		p.after(3 * time.Second)
		p.is(b)
		lease, err := p.store.read()
		if err != nil || holderOf(lease) != "b" || *lease.Spec.LeaseDurationSeconds != 15 || *lease.Spec.LeaseTransitions != 1 ||
			time.Since(lease.Spec.RenewTime.Time) > 3*time.Second || lease.Spec.AcquireTime.Before(&metav1.MicroTime{Time: p.began}) {
			t.Errorf("the lease is %+v (%v)", lease.Spec, err)
		}
	})
}

func TestADeadAgentIsFollowed(t *testing.T) {
	for name, fault := range map[string]func(context.Context, bool) (error, error){"away": away, "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			inParty(t, func(p *party) {
				a, b := p.join("a"), p.join("b")
				p.after(time.Minute)
				a.setFault(fault)
				p.after(7 * time.Second)
				p.is(a)
				p.after(4 * time.Second) // 10 s after its last renewal was sent
				p.is(nil)
				p.after(8 * time.Second)
				p.is(b)
				a.setFault(nil)
				p.after(time.Minute)
				p.is(b)
				if a.times != 1 || b.times != 1 {
					t.Errorf("they were active %d and %d times", a.times, b.times)
				}
			})
		})
	}
}

// TestACallThatHangsIsTriedAgain: its connection may be broken while others work.
func TestACallThatHangsIsTriedAgain(t *testing.T) {
	inParty(t, func(p *party) {
		a := p.join("a")
		for range 20 {
			once := true
			a.setFault(func(ctx context.Context, _ bool) (before, after error) {
				if once {
					once = false
					return hangs(ctx, true)
				}
				return nil, nil
			})
			p.after(15 * time.Second)
			p.is(a)
		}
		if a.times != 1 {
			t.Errorf("a was active %d times, want all the time", a.times)
		}
	})
}

// TestAFrozenAgentMayNotWrite: it thaws in the midst of its work, when its timers have not
// fired yet.
func TestAFrozenAgentMayNotWrite(t *testing.T) {
	inParty(t, func(p *party) {
		a := p.join("a")
		p.after(time.Minute)
		a.mu.Lock()
		a.offset += 11 * time.Second
		a.mu.Unlock()
		if err := a.Allowed(); !errors.Is(err, ErrNotActive) {
			t.Errorf("it may write: %v", err)
		}
		p.after(3 * time.Second)
		if a.times != 1 {
			t.Errorf("its work has begun %d times, want that it goes on, since nobody has taken the lease", a.times)
		}
		p.is(a)
	})
}

// TestAFrozenAgentIsFollowed: it was frozen while another took the lease.
func TestAFrozenAgentIsFollowed(t *testing.T) {
	inParty(t, func(p *party) {
		a, b := p.join("a"), p.join("b")
		p.after(time.Minute)
		a.setFault(hangs)
		p.after(30 * time.Second)
		p.is(b)
		a.setFault(nil)
		p.after(5 * time.Second)
		p.is(b)
	})
}

// TestWallClocksDoNotMatter: the times in the lease are nobody's guide.
func TestWallClocksDoNotMatter(t *testing.T) {
	for name, wrong := range map[string]time.Time{"past": time.Unix(0, 0), "future": time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run(name, func(t *testing.T) {
			inParty(t, func(p *party) {
				p.store.clocks = func(l *coordinationv1.Lease) {
					l.Spec.RenewTime, l.Spec.AcquireTime = &metav1.MicroTime{Time: wrong}, nil
				}
				a, b := p.join("a"), p.join("b")
				p.after(10 * time.Minute)
				p.is(a)
				a.setFault(away)
				p.after(25 * time.Second)
				p.is(b)
			})
		})
	}
}

// TestTheAPIIsAwayForAll: nobody may write for longer than the lease. The holder's work goes on
// meanwhile, and it may write again as soon as the API is back.
func TestTheAPIIsAwayForAll(t *testing.T) {
	inParty(t, func(p *party) {
		a, b := p.join("a"), p.join("b")
		p.after(time.Minute)
		a.setFault(away)
		b.setFault(away)
		p.after(11 * time.Second)
		p.is(nil)
		p.after(time.Hour)
		p.is(nil)
		a.setFault(nil)
		b.setFault(nil)
		p.after(time.Second)
		p.is(a)
		p.after(time.Minute)
		p.is(a)
		if a.times != 1 || b.times != 0 {
			t.Errorf("their work has begun %d and %d times, want that the first one's goes on", a.times, b.times)
		}
	})
}

// TestARenewalOfUnknownOutcomeIsFound: it was carried out, and the answer was lost.
func TestARenewalOfUnknownOutcomeIsFound(t *testing.T) {
	inParty(t, func(p *party) {
		a := p.join("a")
		p.join("b")
		for range 100 {
			lost := true
			a.setFault(func(_ context.Context, write bool) (before, after error) {
				if write && lost {
					lost = false
					return nil, errAway
				}
				return nil, nil
			})
			p.after(5 * time.Second)
			p.is(a)
		}
		if a.times != 1 {
			t.Errorf("a was active %d times, want all the time", a.times)
		}
	})
}

// TestARemovedLeaseIsNotTakenAtOnce: its holder doesn't know yet.
func TestARemovedLeaseIsNotTakenAtOnce(t *testing.T) {
	inParty(t, func(p *party) {
		a, b := p.join("a"), p.join("b")
		p.after(time.Minute)
		a.setFault(away) // it can't learn it
		p.store.remove()
		for range 12 {
			p.after(time.Second)
			if b.isActive() && a.Allowed() == nil {
				t.Fatal("both are active")
			}
		}
		p.after(10 * time.Second)
		p.is(b)
		p.store.remove()
		p.after(3 * time.Second) // an agent that reaches the API learns it with its next renewal
		p.is(b)
		if b.times != 2 {
			t.Errorf("b was active %d times, want again with a lease of its own making", b.times)
		}
	})
}

// TestAnotherDurationIsHeeded: agents of another build may write another one.
func TestAnotherDurationIsHeeded(t *testing.T) {
	inParty(t, func(p *party) {
		now := metav1.NowMicro()
		_, err := p.store.write(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "active"}, Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new("other"), LeaseDurationSeconds: new(int32(60)), RenewTime: &now}}, true)
		if err != nil {
			t.Fatal(err)
		}
		a := p.join("a")
		p.after(59 * time.Second)
		p.is(nil)
		p.after(2 * time.Second)
		p.is(a)
	})
}

// TestNeverTwoAreActive: whatever fails, and whoever leaves and joins.
func TestNeverTwoAreActive(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inParty(t, func(p *party) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				for i := range 3 {
					p.join(fmt.Sprint("agent-", i))
				}
				for range 300 {
					switch c := p.all[rnd.IntN(len(p.all))]; rnd.IntN(7) {
					case 0:
						c.setFault(away)
					case 1:
						c.setFault(hangs)
					case 2:
						c.setFault(func(_ context.Context, write bool) (before, after error) { return nil, errAway }) // carried out
					case 3: // frozen: for the others as much time passes, but their timers run
						if c.isActive() {
							c.mu.Lock()
							c.offset += time.Duration(rnd.Int64N(int64(20 * time.Second)))
							c.mu.Unlock()
						}
					default:
						c.setFault(nil)
					}
					p.after(time.Duration(rnd.Int64N(int64(8 * time.Second))))
					allowed := 0
					for _, c := range p.all {
						if c.Allowed() == nil {
							allowed++
						}
					}
					if allowed > 1 {
						t.Fatalf("%d may write after %s", allowed, time.Since(p.began))
					}
				}
				for _, c := range p.all {
					c.setFault(nil)
				}
				p.after(30 * time.Second)
				active := 0
				for _, c := range p.all {
					if c.isActive() {
						active++
					}
				}
				if active != 1 {
					t.Errorf("%d are active once all is well", active)
				}
			})
		})
	}
}

func TestLeadReturnsTheErrorOfItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, c := errors.New("broken"), &contender{name: "a", store: new(store)}
		e, err := New(Config{Leases: c, Namespace: "magnum", Name: "active", Holder: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Lead(t.Context(), func(context.Context) error { return broken }); err != broken {
			t.Errorf("Lead returns %v", err)
		}
		if lease, err := c.store.read(); err != nil || holderOf(lease) != "" || e.Allowed() == nil {
			t.Errorf("the lease is not given back: %v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	good := Config{Leases: new(contender), Namespace: "n", Name: "l", Holder: "h"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"holder":   func(c *Config) { c.Holder = "" },
		"leases":   func(c *Config) { c.Leases = nil },
		"retry":    func(c *Config) { c.Retry = c.RenewDeadline },
		"deadline": func(c *Config) { c.RenewDeadline = 15 * time.Second },
		"fraction": func(c *Config) { c.Duration = 15500 * time.Millisecond },
		"negative": func(c *Config) { c.Retry = -1 },
	} {
		c := good.withDefaults()
		spoil(&c)
		if _, err := New(c); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
