//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

const (
	containerWorkers = 2               // containers that the clients use at a time
	retryFor         = 2 * time.Minute // how long a client repeats a request, through one server after the other
)

// runningContainers creates, stops, starts and deletes containers that really
// run while the cluster has its faults. The engines must end up with what the
// servers have acknowledged.
type runningContainers struct {
	*chaos
	clients []*api.Client // by server

	mu          sync.Mutex                         // guards what follows
	wanted      map[string]structs.ContainerStatus // of what was acknowledged and not deleted
	names       map[string]string                  // of these
	deleted     int
	restores    int                 // how often the state was restored; a cycle from before a restore ends
	longRunning map[string]runStart // containers that no client stops

	taken   map[string]lastReport // by agent
	secrets map[string]string     // by what each one is

	ledger  ledger
	singles map[string]structs.Exclusive // exclusive containers by UUID
	said    map[string]bool              // violations that were reported
	excused map[string]bool              // overlaps that a lease could not prevent

	pods     runningPods
	services runningServices
}

// longRunningSpecs are the containers that run from the beginning to the end.
// They are spread in turn: each host has one with a lease.
var longRunningSpecs = []struct {
	policy    string
	exclusive structs.Exclusive
}{
	{"no", structs.ExclusiveNo}, {"always", structs.ExclusiveNo}, {"no", structs.ExclusiveNo}, {"always", structs.ExclusiveNo},
	{"always", structs.ExclusiveLease}, {"no", structs.ExclusiveYes}, {"always", structs.ExclusiveYes}, {"always", structs.ExclusiveLease},
}

// runStart says since when a container runs, and under which epoch.
type runStart struct {
	began string
	epoch int64
}

func newRunningContainers(c *chaos) *runningContainers {
	l := &runningContainers{chaos: c, wanted: make(map[string]structs.ContainerStatus), names: make(map[string]string),
		longRunning: make(map[string]runStart),
		ledger:      ledger{copies: make(map[string]*dockerCopy)}, singles: make(map[string]structs.Exclusive), said: make(map[string]bool),
		excused: make(map[string]bool),
		taken:   make(map[string]lastReport),
		secrets: map[string]string{"an environment variable": "environment-" + structs.NewSecret(),
			"a registry's password": "password-" + structs.NewSecret()}}
	for _, n := range c.servers {
		client, err := api.New(api.Config{Address: n.addr, Timeout: 5 * time.Second, RetryFor: time.Second})
		if err != nil {
			c.Fatal(err)
		}
		l.clients = append(l.clients, client)
	}
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	c.Cleanup(func() {
		stop()
		watching.Wait()
	})
	began := time.Now()
	for _, a := range l.agents {
		watching.Go(func() {
			if err := l.ledger.record(ctx, a, began); err != nil {
				l.Error(err)
			}
		})
	}
	l.startServices()
	l.startPods()
	for i, s := range longRunningSpecs {
		r := l.policy(fmt.Sprintf("standing-%s-%d", s.policy, i), s.policy)
		r.Exclusive = s.exclusive
		b := c.create(l.secretOf(r), structs.ContainerRunning)
		l.want(b.UUID, b.Name, structs.ContainerRunning)
		l.longRunning[b.UUID] = runStart{}
		l.services.clients[b.UUID] = s.exclusive != structs.ExclusiveLease
		if s.exclusive != structs.ExclusiveNo {
			l.singles[b.UUID] = s.exclusive
		}
	}
	l.converge()
	l.checkServices()
	return l
}

// want notes the acknowledged status of a container; "" means deleted.
func (l *runningContainers) want(id, name string, status structs.ContainerStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if status == "" {
		delete(l.wanted, id)
		delete(l.names, id)
		l.deleted++
		return
	}
	l.wanted[id], l.names[id] = status, name
}

func (l *runningContainers) ended() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deleted
}

// ask sends a request to one server after the other until a server accepts or
// refuses it.
func (l *runningContainers) ask(random *rand.Rand, what string, f func(context.Context, *api.Client) error) error {
	var err error
	for until := time.Now().Add(retryFor); time.Now().Before(until); {
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
		err = f(ctx, oneOf(random, l.clients))
		cancel()
		switch structs.CodeOf(err) {
		case structs.CodeUnavailable, structs.CodeNoLeader, structs.CodeRateLimited:
		default:
			if !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		}
		time.Sleep(20 * time.Millisecond) // a server that is down refuses at once
	}
	l.Errorf("no server answered within %v: %s: %v", retryFor, what, err)
	return err
}

// work runs cycles one after the other until ctx ends.
func (l *runningContainers) work(ctx context.Context, random *rand.Rand, worker int) {
	for n := 0; ctx.Err() == nil; n++ {
		l.cycle(ctx, random, fmt.Sprintf("cycle-%d-%d", worker, n))
	}
}

// cycle takes one container from create to delete. Each step is repeated until
// it is acknowledged: a fault does not change what a client wants.
func (l *runningContainers) cycle(ctx context.Context, random *rand.Rand, name string) {
	var id string
	wait := api.WriteOptions{Wait: -1}
	r := l.secretOf(l.policy(name, []string{"no", "always"}[random.IntN(2)]))
	if random.IntN(2) == 0 {
		limit := structs.Bytes(16 << 20)
		r.Memory = limit
	}
	key := structs.NewID()
	act := func(action api.Action, status structs.ContainerStatus) {
		err := l.ask(random, string(action)+" "+name, func(ctx context.Context, c *api.Client) error {
			_, err := c.Containers().Action(ctx, id, action, api.ActionOptions{WriteOptions: wait})
			return err
		})
		if err != nil {
			l.Errorf("%s %s: %v", action, name, err)
		}
		l.want(id, name, status)
	}
	steps := []func(){
		func() {
			err := l.ask(random, "create "+name, func(ctx context.Context, c *api.Client) error {
				b, _, err := c.Containers().Create(ctx, r, api.CreateOptions{Run: true,
					WriteOptions: api.WriteOptions{IdempotencyKey: key}})
				if err == nil {
					l.sameObject(name, &id, b.UUID)
				}
				return err
			})
			if err != nil {
				l.Errorf("create %s: %v", name, err)
				return
			}
			l.want(id, name, structs.ContainerRunning)
		},
		func() { act(api.Stop, structs.ContainerStopped) },
		func() { act(api.Start, structs.ContainerRunning) },
		func() {
			err := l.ask(random, "delete "+name, func(ctx context.Context, c *api.Client) error {
				_, err := c.Containers().Delete(ctx, id, api.DeleteOptions{Force: true, WriteOptions: wait})
				return err
			})
			// The first try may have deleted it although its answer was lost.
			if err != nil && structs.CodeOf(err) != structs.CodeNotFound {
				l.Errorf("delete %s: %v", name, err)
			}
			l.want(id, name, "")
		},
	}
	if random.IntN(3) == 0 {
		steps = append(steps[:1], steps[3:]...)
	}
	l.take(ctx, random, steps, &id)
}

// sameObject notes the UUID of what a create has made. A create that is repeated makes
// nothing else.
func (l *runningContainers) sameObject(name string, id *string, made string) {
	if *id != "" && made != *id {
		l.Errorf("I10: one create of %s made %s and %s", name, *id, made)
	}
	*id = made
}

// take takes the steps of a cycle, with pauses. A cycle ends early if its create has failed,
// which leaves id empty, and after a restore.
func (l *runningContainers) take(ctx context.Context, random *rand.Rand, steps []func(), id *string) {
	began := -1 // restores at its first step
	for i, step := range steps {
		l.gate.RLock()
		if i == 0 && ctx.Err() != nil { // a cycle that has begun goes on to its end
			l.gate.RUnlock()
			return
		}
		if i == 0 {
			began = l.restores
		}
		if began != l.restores {
			l.gate.RUnlock()
			return
		}
		step()
		l.gate.RUnlock()
		if *id == "" {
			return
		}
		time.Sleep(time.Duration(100+random.IntN(900)) * time.Millisecond) // an engine starts few containers a second
	}
}

// converge waits until the hosts are ready and the engines have exactly what
// was acknowledged: I1, I4, I5, I9, I10. Long-running containers were started
// once in an epoch: I6. The caller makes sure that no client changes anything
// meanwhile.
func (l *runningContainers) converge() {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var byHost map[string]map[string]structs.ContainerBody
	l.eventually("the engines have what was acknowledged", 2*time.Minute, func() error {
		client := l.clients[0]
		for _, a := range l.agents {
			h, _, err := client.Hosts().Get(l.ctx(), a.hostID(), api.QueryOptions{Consistent: true})
			if err != nil {
				return err
			}
			if h.State != structs.HostReady {
				return fmt.Errorf("host %s is %s (%s)", h.Name, h.State, deref(h.StateReason))
			}
		}
		list, _, err := client.Containers().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
		if err != nil {
			return err
		}
		byHost = make(map[string]map[string]structs.ContainerBody)
		found := 0
		for _, b := range list {
			if !strings.HasPrefix(b.Name, "cycle-") && !strings.HasPrefix(b.Name, "standing-") {
				continue // it waits for a host
			}
			status, ok := l.wanted[b.UUID]
			if !ok && b.Status == structs.ContainerDeleting {
				return fmt.Errorf("%s is still being deleted (%s)", b.Name, deref(b.StatusReason))
			}
			if !ok {
				return fmt.Errorf("I5, I10: %s (%s, %s) was deleted, or no client created it", b.Name, b.UUID, b.Status)
			}
			if b.Status != status {
				return fmt.Errorf("%s is %s (%s), and was asked to be %s", b.Name, b.Status, deref(b.StatusReason), status)
			}
			host := deref(b.Host)
			if byHost[host] == nil {
				byHost[host] = make(map[string]structs.ContainerBody)
			}
			byHost[host][b.UUID] = b
			found++
		}
		if found != len(l.wanted) {
			return fmt.Errorf("I1: of %d containers that were acknowledged %d are there", len(l.wanted), found)
		}
		for _, a := range l.agents {
			if err := a.engine.agrees(a.hostID(), byHost[a.name]); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
		return l.podsConverged()
	})
	for _, a := range l.agents {
		started := a.engine.started(a.hostID())
		for id, b := range byHost[a.name] {
			was, stands := l.longRunning[id]
			if !stands {
				continue
			}
			now := runStart{started[id], int64(b.Epoch)}
			kind := l.singles[id]
			if was.began != "" && was.epoch == now.epoch && was.began != now.began &&
				kind != structs.ExclusiveLease { // the end of a lease stops it
				l.Errorf("I6: %s, epoch %d, began at %s, and now at %s", b.Name, b.Epoch, was.began, now.began)
			}
			if was.began != "" && was.epoch != now.epoch && (b.RestartPolicy.Name == structs.RestartNo || kind == structs.ExclusiveYes) {
				l.Errorf("I7: %s has epoch %d, had %d, and must not move", b.Name, now.epoch, was.epoch)
			}
			l.longRunning[id] = now
		}
	}
	l.checkPodStarts()
	l.checkExclusive()
	l.lateReports()
}

// end deletes what is left, and checks that it goes.
func (l *runningContainers) end() {
	l.Helper()
	var ids []string
	for id := range l.wanted {
		ids = append(ids, id)
	}
	l.deletePods(func(string) bool { return true })
	l.checkServices() // which have no pods
	l.deleteServices(func(string) bool { return true })
	l.deleteAll(ids)
	l.wanted = make(map[string]structs.ContainerStatus)
	l.converge()
}
