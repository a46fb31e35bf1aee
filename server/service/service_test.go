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

// cluster is a cluster of several servers, of which another one leads.
type cluster struct {
	leads atomic.Bool // this one does, after all
}

func (c *cluster) IsLeader() bool                              { return c.leads.Load() }
func (c *cluster) Alone() bool                                 { return false }
func (c *cluster) ReadIndex(context.Context) (uint64, error)   { return 1, nil }
func (c *cluster) LeaderIndex(context.Context) (uint64, error) { return 1, nil }
func (c *cluster) Leader() (id, addr string)                   { return "leader", "" }
func (c *cluster) Changed() <-chan struct{}                    { return nil }

// transport forwards calls to a function.
type transport struct {
	forward func(unsure bool) (any, uint64, error)
	stale   bool
}

func (t *transport) Forward(_ context.Context, leader string, unsure bool, _ uint64) ([]byte, uint64, error) {
	decided, index, err := t.forward(unsure)
	if err != nil {
		return nil, 0, err
	}
	raw, err := json.Marshal(decided)
	return raw, index, err
}
func (t *transport) Authenticate() error { return nil }
func (t *transport) Stale()              { t.stale = true }
func (t *transport) Waits()              {}

// newService returns a service of a server that doesn't lead, over the state and the
// conductor of one that does.
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

// TestWritesAreForwarded checks the way of a write through two servers: the second
// decides, and the first returns what it has decided.
func TestWritesAreForwarded(t *testing.T) {
	s, leader, svc := newService(t)
	leader.leads.Store(true)
	ctx := t.Context()
	name := "web"
	body := &structs.BayModelRequest{Name: &name, COE: "docker"}
	var first, second *service.Call
	forwards := 0
	tr := &transport{forward: func(unsure bool) (any, uint64, error) {
		forwards++
		second = &service.Call{Caller: caller, Forwarded: true, Seed: first.TakeSeed(), Unsure: unsure, Known: first.Known}
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
	// The same call once more is the same object: ids come from the seed.
	again, err := follower.BayModels().Create(ctx, first, body, once)
	if err != nil || again.ID != m.ID {
		t.Errorf("%+v %v, and %s was made before", again, err, m.ID)
	}
	gone, err := follower.BayModels().Delete(ctx,
		&service.Call{Caller: caller, Transport: &transport{forward: func(unsure bool) (any, uint64, error) {
			r, err := svc.BayModels().Delete(ctx, &service.Call{Caller: caller, Forwarded: true}, m.ID)
			return r, s.Store.Index(), err
		}}}, m.ID)
	if err != nil || s.Store.Snapshot().Get(structs.TableBayModels, m.ID) != nil || !gone.Gone && gone.Row.ID != m.ID {
		t.Errorf("%+v %v", gone, err)
	}
}

// TestUnknownOutcomes checks which writes are tried again once nobody knows whether
// they were carried out.
func TestUnknownOutcomes(t *testing.T) {
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
		call := &service.Call{Caller: caller, Transport: &transport{forward: func(unsure bool) (any, uint64, error) {
			if tries++; tries == 1 {
				return nil, 0, unknown
			}
			if !unsure {
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

// TestARefusalIsNoReasonToTryAgain checks that what the leader refuses is refused.
func TestARefusalIsNoReasonToTryAgain(t *testing.T) {
	_, _, svc := newService(t)
	tries := 0
	_, err := svc.Bays().Create(t.Context(), &service.Call{Caller: caller, Transport: &transport{forward: func(bool) (any, uint64, error) {
		tries++
		return nil, 0, structs.Errorf(structs.CodeConflict, "no")
	}}}, &structs.BayRequest{}, conductor.Once{})
	if structs.CodeOf(err) != structs.CodeConflict || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
	// Nor does what is wrong by itself reach the leader.
	count := 0
	_, err = svc.Bays().Create(t.Context(), &service.Call{Caller: caller, Transport: &transport{}}, &structs.BayRequest{NodeCount: &count},
		conductor.Once{})
	if structs.CodeOf(err) != structs.CodeInvalid {
		t.Error(err)
	}
}

// TestForwardedCallsGoNoFurther checks that a call which was forwarded to a server
// that doesn't lead comes back.
func TestForwardedCallsGoNoFurther(t *testing.T) {
	s, _, svc := newService(t)
	s.StopLeading()
	_, err := svc.Nodes().Create(t.Context(), &service.Call{Caller: caller, Forwarded: true}, &structs.NodeRequest{}, conductor.Once{})
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Error(err)
	}
}
