package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// others are the other servers as a relay on server "me" sees them.
type others struct {
	mu      sync.Mutex
	leader  string
	changed chan struct{}
	told    []map[string]structs.PeerHeartbeat // reports that the leader has accepted
	by      []string                           // leaders that were called
	fail    error                              // error of the next calls
	silent  map[string][]string                // by server; a missing server returns an error
	offered chan string
	polled  map[string][]string // hosts that have polled a server with every index; a missing server returns an error
	agents  map[string]bool
	removed bool
}

func newOthers() *others {
	return &others{changed: make(chan struct{}), silent: make(map[string][]string), offered: make(chan string, 9),
		agents: make(map[string]bool), polled: make(map[string][]string)}
}

// polls has a host poll another server.
func (o *others) polls(serverID, hostID string) {
	o.change(func() { o.polled[serverID] = append(slices.Clone(o.polled[serverID]), hostID) })
}

// change changes the other servers.
func (o *others) change(how func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	how()
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *others) Leader() (id, addr string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.leader, ""
}

func (o *others) Changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

func (o *others) ReportHeartbeats(_ context.Context, leaderID string, hosts map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged,
	error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by = append(o.by, leaderID)
	if o.fail != nil {
		return structs.PeerAcknowledged{}, o.fail
	}
	o.told = append(o.told, maps.Clone(hosts))
	acknowledged := structs.PeerAcknowledged{Hosts: make(map[string]structs.Acknowledgement)}
	for id, p := range hosts {
		acknowledged.Hosts[id] = structs.Acknowledgement{Sent: p.Sent, Lease: time.Second}
	}
	return acknowledged, nil
}

func (o *others) Silent(_ context.Context, serverID string, _ []string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	silent, there := o.silent[serverID]
	if !there {
		return nil, errors.New("not there")
	}
	return silent, nil
}

func (o *others) Followed(ctx context.Context, serverID string, hosts []string, _ uint64, wait time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		o.mu.Lock()
		polled, there := o.polled[serverID]
		changed := o.changed
		o.mu.Unlock()
		if !there {
			return nil, errors.New("not there")
		}
		found := slices.DeleteFunc(slices.Clone(hosts), func(id string) bool { return !slices.Contains(polled, id) })
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (o *others) Offer(_ context.Context, serverID, hostID string, offer structs.SessionOffer) error {
	o.offered <- serverID + " " + hostID + " " + offer.SID
	return o.fail
}

func (o *others) relay() *Relay {
	return NewRelay(RelayConfig{
		ServerID: "me", Peers: o, Cluster: o, Voters: func() ([]string, error) { return []string{"a", "b", "me"}, o.fail },
		Others: func() []string { return []string{"a", "b"} },
		Agents: func() (map[string]bool, <-chan struct{}) {
			o.mu.Lock()
			defer o.mu.Unlock()
			return maps.Clone(o.agents), o.changed
		},
		Removed: func() bool { return o.removed }, HostLostAfter: 10 * time.Second, Logger: hclog.NewNullLogger(),
	})
}

// relaying runs f and a relay in a synctest bubble.
func relaying(t *testing.T, f func(t *testing.T, o *others, d *Dispatch)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o, d := newOthers(), newDispatch(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.relay().Run(ctx, d) }()
		f(t, o, d)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A follower reports its heartbeats to the leader, repeats what the leader has not
// accepted, and passes the acknowledgements on.
func TestFollowerReportsHeartbeatsToTheLeader(t *testing.T) {
	relaying(t, func(t *testing.T, o *others, d *Dispatch) {
		host := d.host(t)
		d.heartbeats.recordPoll(host, 7) // while nobody leads
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(o.by) != 0 {
			t.Errorf("servers %v were called while there was no leader", o.by)
		}
		o.change(func() { o.leader, o.fail = "a", errors.New("lost on the way") })
		synctest.Wait()
		if !slices.Equal(o.by, []string{"a"}) {
			t.Errorf("called: %v: unreported heartbeats go to a new leader at once", o.by)
		}
		if sent, _ := d.heartbeats.lastAcknowledged(host); sent != 0 {
			t.Errorf("poll %d is acknowledged, but not by a leader", sent)
		}
		o.change(func() { o.leader, o.fail = "b", nil })
		synctest.Wait()
		if !slices.Equal(o.by, []string{"a", "b"}) || len(o.told) != 1 || o.told[0][host].Sent != 7 ||
			o.told[0][host].Age != 3*time.Second {
			t.Errorf("called: %v, accepted: %+v", o.by, o.told)
		}
		if sent, lease := d.heartbeats.lastAcknowledged(host); sent != 7 || lease != time.Second {
			t.Errorf("poll %d is acknowledged with a lease of %v", sent, lease)
		}
		// Accepted heartbeats aren't reported again, and new ones are reported within a
		// second.
		time.Sleep(2 * time.Second)
		d.heartbeats.recordPoll(host, 8)
		d.heartbeats.recordPoll(host, 9)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(o.told) != 2 || o.told[1][host].Sent != 9 {
			t.Errorf("accepted: %+v", o.told)
		}
	})
}

// The leader has received the heartbeats itself and reports to nobody. They aren't reported
// after it has lost the leadership either.
func TestLeaderReportsToNobody(t *testing.T) {
	relaying(t, func(t *testing.T, o *others, d *Dispatch) {
		host := d.host(t)
		o.change(func() { o.leader = "me" })
		d.heartbeats.recordPoll(host, 1)
		time.Sleep(2 * time.Second)
		o.change(func() { o.leader = "a" })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(o.by) != 0 {
			t.Errorf("servers %v were called with %+v", o.by, o.told)
		}
	})
}

// A host becomes suspect once when gossip reports its agent dead, and again only after the
// agent was alive.
func TestHostsOfDeadAgentsAreSuspect(t *testing.T) {
	relaying(t, func(t *testing.T, o *others, d *Dispatch) {
		host := d.host(t)
		died := func() time.Time {
			d.heartbeats.mu.Lock()
			defer d.heartbeats.mu.Unlock()
			return d.heartbeats.hosts[host].reportedDead
		}
		var last time.Time
		for n, step := range []struct{ dead, news bool }{{false, false}, {true, true}, {true, false}, {false, false}, {true, true}} {
			time.Sleep(time.Second)
			o.change(func() { o.agents[host] = step.dead })
			synctest.Wait()
			if now := died(); now.Equal(last) == step.news {
				t.Errorf("step %d, %+v: died %v, before %v", n, step, now, last)
			}
			last = died()
		}
	})
}

// Agents are sent to other servers once there has been no leader for three seconds, however
// many elections fail meanwhile, and are kept again once there is a leader.
func TestLeaderlessServerSendsAgentsElsewhere(t *testing.T) {
	for _, removed := range []bool{false, true} {
		relaying(t, func(t *testing.T, o *others, d *Dispatch) {
			o.removed = removed
			isolated := func() bool {
				synctest.Wait()
				d.leaderless.mu.Lock()
				defer d.leaderless.mu.Unlock()
				return d.leaderless.is
			}
			step := func(leader string) { o.change(func() { o.leader = leader }) }
			for range 2 {
				step("a")
				time.Sleep(time.Minute)
				if isolated() {
					t.Error("agents are sent away though there is a leader")
				}
				step("")
				time.Sleep(2 * time.Second)
				step("") // an election without a winner
				if isolated() {
					t.Error("agents are sent away too soon")
				}
				time.Sleep(time.Second)
				if !isolated() {
					t.Error("agents are kept without a leader")
				}
			}
			step("me")
			if isolated() {
				t.Error("agents are sent away by the leader")
			}
		})
	}
}

// A majority of the voters has to confirm the silence of all hosts. A server that can't be
// reached doesn't.
func TestAgreeTakesAMajority(t *testing.T) {
	hosts := []string{"h1", "h2"}
	for name, c := range map[string]struct {
		silent map[string][]string
		fail   error
		want   bool
	}{
		"both":              {map[string][]string{"a": hosts, "b": hosts}, nil, true},
		"one":               {map[string][]string{"a": hosts}, nil, true},
		"none":              {nil, nil, false},
		"one of some hosts": {map[string][]string{"a": hosts[:1], "b": {}}, nil, false},
		"no configuration":  {map[string][]string{"a": hosts, "b": hosts}, errors.New("shutting down"), false},
	} {
		o := newOthers()
		o.silent, o.fail = c.silent, c.fail
		if got := o.relay().Agree(t.Context(), hosts); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOffersGoToAllOthers(t *testing.T) {
	o := newOthers()
	o.fail = errors.New("not there")
	o.relay().Ask("h", structs.SessionOffer{SID: "s"})
	got := []string{<-o.offered, <-o.offered}
	slices.Sort(got)
	if !slices.Equal(got, []string{"a h s", "b h s"}) {
		t.Errorf("%v", got)
	}
}
