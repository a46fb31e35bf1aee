package service_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// cluster is a cluster of several servers in which another server leads.
type cluster struct {
	leads atomic.Bool // this server leads instead
}

func (c *cluster) IsLeader() bool                              { return c.leads.Load() }
func (c *cluster) Alone() bool                                 { return false }
func (c *cluster) ReadIndex(context.Context) (uint64, error)   { return 1, nil }
func (c *cluster) LeaderIndex(context.Context) (uint64, error) { return 1, nil }
func (c *cluster) Leader() (id, addr string)                   { return "leader", "" }
func (c *cluster) Changed() <-chan struct{}                    { return nil }

// transport forwards calls to a function.
type transport struct {
	forward func(retryAfterUnknown bool) (any, uint64, error)
	stale   bool
}

func (t *transport) Forward(_ context.Context, leader string, retryAfterUnknown bool, _ uint64) ([]byte, uint64, error) {
	decided, index, err := t.forward(retryAfterUnknown)
	if err != nil {
		return nil, 0, err
	}
	raw, err := json.Marshal(decided)
	return raw, index, err
}
func (t *transport) Authenticate() error { return nil }
func (t *transport) MarkStale()          { t.stale = true }
func (t *transport) MarkWaiting()        {}

// newService returns a service of a server that doesn't lead. It uses the state and the
// conductor of a server that does.
func newService(t *testing.T) (*servertest.Server, *cluster, *service.Service) {
	s := servertest.New(t)
	c := new(cluster)
	return s, c, newServiceOn(s, c)
}

func newServiceOn(s *servertest.Server, c *cluster) *service.Service {
	return service.New(service.Config{
		Store: s.Store, Conductor: s.Conductor, Dispatch: s.Dispatch, Cluster: c, Logger: hclog.NewNullLogger(), Hold: 10 * time.Second,
		Patience:     time.Second,
		HostPatience: time.Second, Leader: c.Leader, Leaderless: func() string { return "nobody leads" },
	})
}

var caller = structs.Caller{ProjectID: "p", UserID: "u", Roles: []structs.Role{structs.RoleMember}}

// TestFollowerForwardsWrites checks that a write on a follower is decided by the leader,
// and that the follower returns the decision.
func TestFollowerForwardsWrites(t *testing.T) {
	s, leader, svc := newService(t)
	leader.leads.Store(true)
	ctx := t.Context()
	name := "web"
	body := &structs.BayModelRequest{Name: &name, COE: "docker"}
	var first, second *service.Call
	forwards := 0
	tr := &transport{forward: func(retryAfterUnknown bool) (any, uint64, error) {
		forwards++
		second = &service.Call{Caller: caller, Forwarded: true, Seed: first.TakeSeed(), RetryAfterUnknown: retryAfterUnknown,
			SinceIndex: first.SinceIndex}
		once, err := svc.Once(second, "", func() string { return "said" })
		if err != nil {
			return nil, 0, err
		}
		m, err := svc.BayModels().Create(ctx, second, body, once)
		return m, s.Store.Index(), err
	}}
	// The first server doesn't lead.
	follower := newServiceOn(s, new(cluster))
	first = &service.Call{Transport: tr, Caller: caller}
	once, err := follower.Once(first, "", func() string { return "said" })
	if err != nil || once.Key == "" || !once.Minted {
		t.Fatalf("no key was minted: %+v %v", once, err)
	}
	m, err := follower.BayModels().Create(ctx, first, body, once)
	if err != nil || m.Name != "web" || forwards != 1 || s.Store.Snapshot().Get(structs.TableBayModels, m.ID) == nil {
		t.Fatalf("%+v %v after %d forwards", m, err, forwards)
	}
	// The same call again yields the same object, because IDs come from the seed.
	again, err := follower.BayModels().Create(ctx, first, body, once)
	if err != nil || again.ID != m.ID {
		t.Errorf("%+v %v, and %s was made before", again, err, m.ID)
	}
	gone, err := follower.BayModels().Delete(ctx,
		&service.Call{Caller: caller, Transport: &transport{forward: func(retryAfterUnknown bool) (any, uint64, error) {
			r, err := svc.BayModels().Delete(ctx, &service.Call{Caller: caller, Forwarded: true}, m.ID)
			return r, s.Store.Index(), err
		}}}, m.ID)
	if err != nil || s.Store.Snapshot().Get(structs.TableBayModels, m.ID) != nil || !gone.Gone && gone.Row.ID != m.ID {
		t.Errorf("%+v %v", gone, err)
	}
}

// TestRetryAfterUnknownOutcome checks which writes are tried again after a try whose
// outcome is unknown.
func TestRetryAfterUnknownOutcome(t *testing.T) {
	_, _, svc := newService(t)
	unknown := structs.Errorf(structs.CodeNoLeader, "the leader hung up (%w)", conductor.ErrUnknown)
	id := structs.NewID()
	name := "new"
	for what, c := range map[string]struct {
		tries int
		do    func(*service.Call) error
	}{
		"create": {2, func(c *service.Call) error {
			_, err := svc.Nodes().Create(t.Context(), c, &structs.NodeRequest{}, conductor.Once{})
			return err
		}},
		"delete": {2, func(c *service.Call) error {
			_, err := svc.Nodes().Delete(t.Context(), c, id)
			return err
		}},
		"patch": {1, func(c *service.Call) error {
			_, err := svc.Nodes().Patch(t.Context(), c, id, func(n *structs.NodeRequest) error { n.Name = &name; return nil })
			return err
		}},
	} {
		tries := 0
		call := &service.Call{Caller: caller, Transport: &transport{forward: func(retryAfterUnknown bool) (any, uint64, error) {
			if tries++; tries == 1 {
				return nil, 0, unknown
			}
			if !retryAfterUnknown {
				t.Errorf("%s: the second try doesn't know of the first", what)
			}
			return &structs.Node{}, 0, nil
		}}}
		err := c.do(call)
		if tries != c.tries {
			t.Errorf("%s: %d tries, want %d (%v)", what, tries, c.tries, err)
		}
		if (c.tries == 1) != service.IsUnknown(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRefusedWriteIsNotRepeated checks that a write which the leader refuses isn't tried
// again, and that an invalid one isn't forwarded at all.
func TestRefusedWriteIsNotRepeated(t *testing.T) {
	_, _, svc := newService(t)
	tries := 0
	_, err := svc.Bays().Create(t.Context(), &service.Call{Caller: caller, Transport: &transport{forward: func(bool) (any, uint64, error) {
		tries++
		return nil, 0, structs.Errorf(structs.CodeConflict, "no")
	}}}, &structs.BayRequest{}, conductor.Once{})
	if structs.CodeOf(err) != structs.CodeConflict || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
	// An invalid request isn't forwarded: the transport has no function to do it.
	count := 0
	_, err = svc.Bays().Create(t.Context(), &service.Call{Caller: caller, Transport: &transport{}}, &structs.BayRequest{NodeCount: &count},
		conductor.Once{})
	if structs.CodeOf(err) != structs.CodeInvalid {
		t.Error(err)
	}
}

// TestForwardedCallIsNotForwardedAgain checks that a server which doesn't lead refuses a
// forwarded call with CodeNoLeader.
func TestForwardedCallIsNotForwardedAgain(t *testing.T) {
	s, _, svc := newService(t)
	s.StopLeading()
	_, err := svc.Nodes().Create(t.Context(), &service.Call{Caller: caller, Forwarded: true}, &structs.NodeRequest{}, conductor.Once{})
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Error(err)
	}
}
