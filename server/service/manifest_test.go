package service

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// applier is a log of one server that applies entries at once.
type applier struct{ store *state.Store }

func (a applier) Propose(_ context.Context, data []byte) (uint64, error) {
	e, err := state.DecodeEntry(data)
	if err != nil {
		return 0, err
	}
	index := a.store.Index() + 1
	return index, a.store.Apply(index, e.Changes)
}

func (applier) VerifyLeader(context.Context) error { return nil }

// follower is a cluster in which another server leads.
type follower struct{ leads bool }

func (f *follower) IsLeader() bool                              { return f.leads }
func (f *follower) Alone() bool                                 { return false }
func (f *follower) ReadIndex(context.Context) (uint64, error)   { return 1, nil }
func (f *follower) LeaderIndex(context.Context) (uint64, error) { return 1, nil }
func (f *follower) Leader() (id, addr string)                   { return "leader", "" }
func (f *follower) Changed() <-chan struct{}                    { return nil }

// forwards is a transport that counts the forwarded calls and refuses them.
type forwards struct{ n int }

func (f *forwards) Forward(context.Context, string, bool, uint64) ([]byte, uint64, error) {
	f.n++
	return nil, 0, structs.Errorf(structs.CodeInvalid, "the leader refuses it")
}
func (f *forwards) Authenticate() error { return nil }
func (f *forwards) MarkStale()          {}
func (f *forwards) MarkWaiting()        {}

var member = structs.Caller{ProjectID: "p", UserID: "u", Roles: []structs.Role{structs.RoleMember}}

func newReading(t *testing.T) (*Service, *follower) {
	t.Helper()
	store := state.New()
	c := conductor.New(conductor.Config{Store: store, Proposer: applier{store}, Logger: hclog.NewNullLogger()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Lead(ctx, 1) // ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-done })
	in := &follower{leads: true}
	s := New(Config{Store: store, Conductor: c, Cluster: in, Logger: hclog.NewNullLogger(), Hold: 5 * time.Second,
		Leaderless: func() string { return "nobody leads" }})
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := conductor.Do(ctx, c, conductor.InitCluster{ClusterID: structs.NewID(), JoinTokenHash: "h", Schema: structs.SchemaVersion})
		if err == nil {
			return s, in
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func makeBay(t *testing.T, s *Service, name, coe string) *structs.Bay {
	t.Helper()
	b, err := conductor.Do(t.Context(), s.config.Conductor, conductor.CreateBay{Caller: member, Name: name, COE: coe, NodeCount: 1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestManifestIsReadAgainForAnotherBay: if the bay of the name becomes one of another backend
// after the manifest was read, it is read again, and decided for that backend.
func TestManifestIsReadAgainForAnotherBay(t *testing.T) {
	s, _ := newReading(t)
	docker := makeBay(t, s, "web", "docker")
	var read []structs.Backend
	make := func(backend structs.Backend, text string) (conductor.Request[*structs.Pod], error) {
		if read = append(read, backend); len(read) == 2 { // the first time is before the call is decided
			if _, err := conductor.Do(t.Context(), s.config.Conductor, conductor.DeleteBay{Caller: member, Ident: docker.ID}); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if _, err := conductor.Do(t.Context(), s.config.Conductor, conductor.Settle{}); err != nil {
					t.Fatal(err)
				}
			}
			makeBay(t, s, "web", "kubernetes")
		}
		return conductor.CreatePod{Caller: member, Bay: "web", Backend: backend, Manifest: text, Pod: structs.Pod{Name: "p",
			Spec: structs.PodSpec{Containers: []structs.PodContainer{{Name: "c", Image: "i"}}}}}, nil
	}
	c := &Call{Caller: member, Transport: &forwards{}}
	p, err := createRead(t.Context(), s, c, conductor.Once{}, structs.NewID(), true, source{text: "x"}, "web", make)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 3 || read[1] != structs.BackendDocker || read[2] != structs.BackendKubernetes || !p.Spec.Cluster {
		t.Errorf("read for %v, in a cluster: %v", read, p.Spec.Cluster)
	}
}

// TestManifestIsRefusedEarly: a server that doesn't lead refuses a bad manifest by itself if it
// is sure of the bay's backend, and else leaves that to the leader.
func TestManifestIsRefusedEarly(t *testing.T) {
	s, in := newReading(t)
	bay := makeBay(t, s, "web", "kubernetes")
	in.leads = false
	for ident, forwarded := range map[string]int{bay.ID: 0, "web": 1, "unknown": 1, structs.NewID(): 1, "": 1} {
		tr := &forwards{}
		c := &Call{Caller: member, Transport: tr}
		_, err := s.Pods().Create(t.Context(), c, &structs.PodRequest{Bay: ident, Manifest: "nothing"}, conductor.Once{})
		if structs.CodeOf(err) != structs.CodeInvalid || tr.n != forwarded {
			t.Errorf("bay %q: forwarded %d times, %v", ident, tr.n, err)
		}
	}
	in.leads = true
	tr := &forwards{}
	c := &Call{Caller: member, Transport: tr}
	_, err := s.Pods().Create(t.Context(), c, &structs.PodRequest{Bay: "web", Manifest: "nothing"}, conductor.Once{})
	if err == nil || tr.n != 0 {
		t.Errorf("on the leader: forwarded %d times, %v", tr.n, err)
	}
}

// TestRetriedCreateNeedsNoBay: a retry of a create gets the object that the first try made,
// also if its bay is being deleted.
func TestRetriedCreateNeedsNoBay(t *testing.T) {
	s, _ := newReading(t)
	bay := makeBay(t, s, "web", "kubernetes")
	once := conductor.Once{Key: "k", BodyHash: "h"}
	body := &structs.ServiceRequest{Bay: "web",
		Manifest: "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{port: 80}]}"}
	first, err := s.BayServices().Create(t.Context(), &Call{Caller: member, Transport: &forwards{}}, body, once)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conductor.Do(t.Context(), s.config.Conductor, conductor.DeleteBay{Caller: member, Ident: bay.ID}); err != nil {
		t.Fatal(err)
	}
	again, err := s.BayServices().Create(t.Context(), &Call{Caller: member, Transport: &forwards{}}, body, once)
	if err != nil || again.ID != first.ID {
		t.Errorf("the retry: %v, %v", again, err)
	}
}
