package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// direct applies entries to the store at once, as the log of a single server would.
type direct struct{ store *state.Store }

func (d direct) Propose(_ context.Context, data []byte) (uint64, error) {
	e, err := state.DecodeEntry(data)
	if err != nil {
		return 0, err
	}
	index := d.store.Index() + 1
	return index, d.store.Apply(index, e.Changes)
}

func (direct) VerifyLeader(context.Context) error { return nil }

var operator = structs.Caller{ProjectID: "p", Roles: []structs.Role{structs.RoleAdmin}}

// newDispatch returns a Dispatch over a conductor that leads until the test ends.
func newDispatch(t testing.TB) *Dispatch {
	t.Helper()
	store := state.New()
	c := conductor.New(conductor.Config{Store: store, Proposer: direct{store}, Logger: hclog.NewNullLogger()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Lead(ctx, 1) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	d := New(Config{
		Store: store, Conductor: c, Logger: hclog.NewNullLogger(),
		ReadIndex: func(context.Context) (uint64, error) { return store.Index(), nil },
	})
	for {
		_, err := conductor.Do(ctx, c, conductor.InitCluster{ClusterID: "c", JoinTokenHash: structs.HashSecret("join")})
		if structs.CodeOf(err) == structs.CodeNoLeader {
			continue // Lead has not begun yet
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func registration(id string) structs.HostRegister {
	return structs.HostRegister{
		HostID: id, Name: "h-" + id, JoinToken: "join", Secret: strings.Repeat("s", 64),
		Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 4, Memory: 4 << 30},
	}
}

// TestHostsRegisterAgainUnderSchemaPods: a host whose row doesn't say what its agent runs is
// from before the schema, and has to register again.
func TestHostsRegisterAgainUnderSchemaPods(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	seen := d.poll(t, Poll{HostID: host, Registration: 1})
	polled := make(chan error)
	go func() {
		_, err := d.Work(t.Context(), Poll{HostID: host, Registration: 1, Index: seen.Index, Incarnation: seen.Incarnation,
			Wait: structs.MaxWork})
		polled <- err
	}()
	do(t, d, conductor.RaiseSchema{Schema: structs.SchemaPods})
	if err := <-polled; structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("a poll that waits is answered %v", err)
	}
	again, err := d.Register(t.Context(), registration(host))
	if err != nil {
		t.Fatal(err)
	}
	d.poll(t, Poll{HostID: host, Registration: again.Registration})
}

// host registers a host and gives it a bay.
func (d *Dispatch) host(t *testing.T) string {
	t.Helper()
	id := structs.NewID()
	if _, err := d.Register(context.Background(), registration(id)); err != nil {
		t.Fatal(err)
	}
	do(t, d, conductor.CreateBay{Caller: operator, Name: "b-" + id, NodeCount: 1, Placement: structs.PlacementSpread})
	return id
}

func do[T any](t *testing.T, d *Dispatch, r conductor.Request[T]) T {
	t.Helper()
	result, err := conductor.Do(context.Background(), d.config.Conductor, r)
	if err != nil {
		t.Fatalf("%T: %v", r, err)
	}
	return result
}

func (d *Dispatch) container(t *testing.T, host string) *structs.Container {
	t.Helper()
	return do(t, d, conductor.CreateContainer{Caller: operator, Bay: "b-" + host, Spec: structs.ContainerSpec{Image: "i"}})
}

func (d *Dispatch) poll(t *testing.T, p Poll) *structs.Work {
	t.Helper()
	work, err := d.Work(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

func TestFirstPollIsFullAndConfirmed(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	c := d.container(t, host)
	work := d.poll(t, Poll{HostID: host, Registration: 1})
	if !work.Full || !work.Confirmed || work.ClusterID != "c" || len(work.Assignments) != 1 || work.Assignments[0].ContainerID != c.ID {
		t.Errorf("%+v", work)
	}
	d.config.ReadIndex = func(context.Context) (uint64, error) { return 0, errors.New("no leader") }
	if work = d.poll(t, Poll{HostID: host, Registration: 1}); !work.Full || work.Confirmed {
		t.Errorf("without a leader: %+v", work)
	}
	// The leader has committed more than this server has applied.
	d.config.ReadIndex = func(context.Context) (uint64, error) { return d.config.Store.Index() + 1, nil }
	if work = d.poll(t, Poll{HostID: host, Registration: 1}); work.Confirmed {
		t.Error("a server that is behind confirmed its answer")
	}
}

func TestPollBringsWhatChanged(t *testing.T) {
	d := newDispatch(t)
	host, other := d.host(t), d.host(t)
	old := d.container(t, host)
	p := Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: 30 * time.Second}
	answer := make(chan *structs.Work, 1)
	go func() { answer <- d.poll(t, p) }()
	d.container(t, other) // an assignment of another host
	select {
	case work := <-answer:
		if len(work.Assignments) > 0 {
			t.Fatalf("woken for %+v", work.Assignments)
		}
	case <-time.After(20 * time.Millisecond):
	}
	c := d.container(t, host)
	work := <-answer
	if work.Full || len(work.Assignments) != 1 || work.Assignments[0].ContainerID != c.ID || work.Index < p.Index {
		t.Fatalf("%+v", work)
	}
	// The host isn't sent what it has reported itself.
	p.Index, p.Wait = work.Index, time.Millisecond
	if _, err := d.Report(context.Background(), host, structs.StatusReport{Registration: 1, Seq: 1, Containers: []structs.ContainerReport{
		{ContainerID: c.ID, Epoch: 1, Observed: structs.Observed{Status: structs.ContainerStopped, Generation: 1}}}}); err != nil {
		t.Fatal(err)
	}
	if work = d.poll(t, p); len(work.Assignments) != 0 || work.Index <= p.Index {
		t.Errorf("%+v", work)
	}
	// A removal is an assignment as well.
	do(t, d, conductor.DeleteContainer{Caller: operator, Ident: old.ID, Force: true})
	if work = d.poll(t, p); len(work.Assignments) != 1 || work.Assignments[0].Desired != structs.DesiredAbsent {
		t.Errorf("%+v", work)
	}
}

func TestPollRefusals(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	for _, tc := range []struct {
		name string
		poll Poll
		code structs.Code
	}{
		{"unknown host", Poll{HostID: structs.NewID(), Registration: 1}, structs.CodeUnauthenticated},
		{"stale registration", Poll{HostID: host, Registration: 0}, structs.CodeConflict},
		{"server behind", Poll{HostID: host, Registration: 1, Index: d.config.Store.Index() + 5, Wait: time.Millisecond},
			structs.CodeUnavailable},
	} {
		if _, err := d.Work(context.Background(), tc.poll); structs.CodeOf(err) != tc.code {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if err := d.Authenticate(context.Background(), host, strings.Repeat("s", 64)); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"", "s", strings.Repeat("t", 64)} {
		if err := d.Authenticate(context.Background(), host, secret); structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("secret %q: %v", secret, err)
		}
	}
	d.config.ReadIndex = func(context.Context) (uint64, error) { return 0, errors.New("no leader") }
	if err := d.Authenticate(context.Background(), structs.NewID(), "s"); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("a server that has just started refuses an unknown host: %v", err)
	}
}

func TestRegisterRefusals(t *testing.T) {
	d := newDispatch(t)
	long := strings.Repeat("x", structs.MaxText+1)
	for name, change := range map[string]func(*structs.HostRegister){
		"host_id":    func(r *structs.HostRegister) { r.HostID = "x" },
		"secret":     func(r *structs.HostRegister) { r.Secret = "short" },
		"instance":   func(r *structs.HostRegister) { r.Instance = "x" },
		"name":       func(r *structs.HostRegister) { r.Name = "" },
		"backend":    func(r *structs.HostRegister) { r.Fingerprint.Backend = "vm" },
		"memory":     func(r *structs.HostRegister) { r.Fingerprint.Memory = -1 },
		"kernel":     func(r *structs.HostRegister) { r.Fingerprint.Kernel = long },
		"labels":     func(r *structs.HostRegister) { r.Fingerprint.Labels = map[string]string{"": "x"} },
		"addresses":  func(r *structs.HostRegister) { r.Fingerprint.Addresses = []string{long} },
		"addresses:": func(r *structs.HostRegister) { r.Fingerprint.Addresses = make([]string, 1000) },
	} {
		r := registration(structs.NewID())
		change(&r)
		if _, err := d.Register(context.Background(), r); structs.CodeOf(err) != structs.CodeInvalid ||
			!strings.Contains(err.Error(), strings.TrimSuffix(name, ":")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := registration(structs.NewID())
	r.JoinToken = "wrong"
	if _, err := d.Register(context.Background(), r); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Error(err)
	}
}

// TestUnknownAgentsTakeNoPlaceInTheQueue: a registration without a valid token is refused
// without the conductor, but only once this server is up to date.
func TestUnknownAgentsTakeNoPlaceInTheQueue(t *testing.T) {
	d := newDispatch(t)
	known := registration(structs.NewID())
	if _, err := d.Register(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	// A conductor that doesn't lead refuses every request that reaches it.
	d.config.Conductor = conductor.New(conductor.Config{Store: d.config.Store, Proposer: direct{d.config.Store},
		Logger: hclog.NewNullLogger()})
	stranger, another := registration(structs.NewID()), known
	stranger.JoinToken, another.Secret = "wrong", strings.Repeat("t", 64)
	asked := 0
	d.config.ReadIndex = func(context.Context) (uint64, error) { asked++; return d.config.Store.Index(), nil }
	for name, r := range map[string]structs.HostRegister{"a stranger": stranger, "another secret": another} {
		if _, err := d.Register(t.Context(), r); structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != 2 {
		t.Errorf("the leader was asked %d times, want 2", asked)
	}
	if _, err := d.Register(t.Context(), known); structs.CodeOf(err) != structs.CodeNoLeader || asked != 2 {
		t.Errorf("a known host: %v, the leader was asked %d times", err, asked)
	}
	d.config.ReadIndex = func(context.Context) (uint64, error) { return 0, errors.New("no answer") }
	if _, err := d.Register(t.Context(), stranger); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("a server that may be behind the leader: %v", err)
	}
}

// TestCopiedAgentIsReported: a superseded agent is refused, its request is no heartbeat of
// the host, and operators learn of it.
func TestCopiedAgentIsReported(t *testing.T) {
	d := newDispatch(t)
	log := new(strings.Builder)
	d.config.Logger = hclog.New(&hclog.LoggerOptions{Output: log, JSONFormat: true})
	r := registration(structs.NewID())
	r.Instance, r.Fingerprint.Addresses = structs.NewID(), []string{"10.0.0.7"}
	register := func(r structs.HostRegister) error {
		_, err := d.Register(t.Context(), r)
		return err
	}
	copied := r
	copied.Instance = structs.NewID()
	if err := errors.Join(register(r), register(copied)); err != nil {
		t.Fatal(err)
	}
	seen := func() time.Time {
		d.heartbeats.mu.Lock()
		defer d.heartbeats.mu.Unlock()
		return d.heartbeats.hosts[r.HostID].lastSeen
	}
	before := seen()
	r.Registration = 1
	_, work := d.Work(t.Context(), Poll{HostID: r.HostID, Registration: 1, Sent: 1 << 40})
	_, report := d.Report(t.Context(), r.HostID, structs.StatusReport{Registration: 1, Seq: 1})
	for what, err := range map[string]error{"register": register(r), "poll": work, "report": report} {
		if structs.CodeOf(err) != structs.CodeConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	if seen() != before {
		t.Error("the request of a refused agent counts as a heartbeat")
	}
	host := d.config.Store.Snapshot().Host(r.HostID)
	if host.StateReason != "an agent with a copy of its data directory (on 10.0.0.7) was refused: stop it, or give it a directory of "+
		"its own" || host.Registration != 2 {
		t.Errorf("%+v", host)
	}
	if !strings.Contains(log.String(), "an agent is refused") || !strings.Contains(log.String(), "10.0.0.7") ||
		strings.Contains(log.String(), r.Secret) {
		t.Errorf("the log says %s", log)
	}
	index := d.config.Store.Index()
	if err := register(r); structs.CodeOf(err) != structs.CodeConflict || d.config.Store.Index() != index {
		t.Errorf("the next refusal is %v, and written at %d", err, d.config.Store.Index())
	}
	// An agent with a wrong secret is not reported as a copy.
	r.Secret = strings.Repeat("x", 64)
	if err := register(r); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Error(err)
	}
}

// TestLeaderlessServerAnswersPolls: a leaderless server answers parked polls and new ones
// at once, until there is a leader again. Setting the same condition twice does no harm.
func TestLeaderlessServerAnswersPolls(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	p := Poll{HostID: host, Registration: 1, Index: d.config.Store.Index(), Wait: time.Minute}
	refused := func(err error) {
		t.Helper()
		if structs.CodeOf(err) != structs.CodeUnavailable || !strings.Contains(err.Error(), "ask another") {
			t.Errorf("%v", err)
		}
	}
	for range 2 { // leaderless twice
		answer := make(chan error, 1)
		go func() {
			_, err := d.Work(t.Context(), p)
			answer <- err
		}()
		for d.sessions.parked() == 0 {
			time.Sleep(time.Millisecond)
		}
		d.leaderless.set(true)
		d.leaderless.set(true)
		select {
		case err := <-answer:
			refused(err)
		case <-time.After(time.Minute):
			t.Fatal("a parked poll is not answered")
		}
		_, err := d.Work(t.Context(), p)
		refused(err)
		d.leaderless.set(false)
		d.leaderless.set(false)
		now := p
		now.Wait = 0
		if work := d.poll(t, now); work.Index != d.config.Store.Index() {
			t.Errorf("%+v", work)
		}
	}
}

func TestReportRefusals(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	waiting := structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonInitializing}
	part := func(p structs.PartReport) structs.StatusReport {
		return structs.StatusReport{Registration: 1, Seq: 1, Containers: []structs.ContainerReport{{Kind: structs.WorkloadPod, ID: "x",
			Observed: structs.Observed{Status: structs.ContainerRunning}, Parts: []structs.PartReport{p}}}}
	}
	if _, err := d.Report(context.Background(), host, part(structs.PartReport{Part: "a", State: waiting})); err != nil {
		t.Errorf("a container that doesn't exist yet: %v", err)
	}
	for name, report := range map[string]structs.StatusReport{
		"too many": {Registration: 1, Seq: 1, Containers: make([]structs.ContainerReport, structs.MaxReport+1)},
		"status":   {Registration: 1, Seq: 1, Containers: []structs.ContainerReport{{Observed: structs.Observed{Status: "Fine"}}}},
		"unknown": {Registration: 1, Seq: 1,
			Containers: []structs.ContainerReport{{Observed: structs.Observed{Status: structs.ContainerUnknown}}}},
		"reason": {Registration: 1, Seq: 1,
			Containers: []structs.ContainerReport{{Observed: structs.Observed{Status: structs.ContainerError, Reason: "\xff"}}}},
		"kind": {Registration: 1, Seq: 1, Containers: []structs.ContainerReport{{Kind: "a\nb",
			Observed: structs.Observed{Status: structs.ContainerError}}}},
		"parts": {Registration: 1, Seq: 1, Containers: []structs.ContainerReport{{Kind: statetest.KindPair,
			Observed: structs.Observed{Status: structs.ContainerError}, Parts: make([]structs.PartReport, structs.MaxParts+1)}}},
		"a part": {Registration: 1, Seq: 1, Containers: []structs.ContainerReport{{Kind: statetest.KindPair,
			Observed: structs.Observed{Status: structs.ContainerError},
			Parts:    []structs.PartReport{{Part: "a", Observed: structs.Observed{Status: "Fine"}}}}}},
		"a part's state":          part(structs.PartReport{State: structs.PartState{State: "fine"}}),
		"a part's last state":     part(structs.PartReport{State: waiting, Last: structs.PartState{State: "fine"}}),
		"a part's reason":         part(structs.PartReport{State: structs.PartState{State: structs.PartWaiting, Reason: "a\nb"}}),
		"a part's message":        part(structs.PartReport{State: structs.PartState{State: structs.PartWaiting, Message: "\x00"}}),
		"a part's image":          part(structs.PartReport{State: waiting, ImageID: "a\nb"}),
		"a part without a status": part(structs.PartReport{}),
	} {
		if _, err := d.Report(context.Background(), host, report); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that has yet to catch up answers an agent soon: waiting for two such servers in
// a row would lose its host.
func TestServerThatIsBehindSendsAgentsToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.host(t)
		began := time.Now()
		_, err := d.Work(context.Background(), Poll{HostID: host, Registration: 1, Index: d.config.Store.Index() + 5, Wait: time.Minute})
		if took := time.Since(began); structs.CodeOf(err) != structs.CodeUnavailable || took != behindTimeout {
			t.Errorf("%v after %v", err, took)
		}
		time.AfterFunc(behindTimeout/2, func() { d.host(t) }) // it catches up
		work := d.poll(t, Poll{HostID: host, Registration: 1, Index: d.config.Store.Index() + 2, Wait: 2 * time.Second})
		if len(work.Assignments) > 0 {
			t.Errorf("%+v", work)
		}
	})
}

// The tests of this package have a second kind of placed workload.
func init() {
	state.Register(state.Table{Name: statetest.TablePairs, Code: statetest.CodePairs, New: statetest.NewPair})
}

// TestWorkOfTwoKinds: a host gets the assignments of all kinds of workloads, in full
// answers and in changes, by reference.
func TestWorkOfTwoKinds(t *testing.T) {
	d := newDispatch(t)
	host := d.host(t)
	c := d.container(t, host)
	pair := &statetest.Pair{Meta: structs.Meta{ID: c.ID, Seq: 1000, ProjectID: "p"}, Name: "pair"}
	pair.BayID, pair.HostID, pair.Epoch, pair.Generation, pair.Desired = c.BayID, host, 5, 1, structs.DesiredRunning
	write := func(version uint64) {
		t.Helper()
		row := new(*pair)
		if err := d.config.Store.Apply(d.config.Store.Index()+1, []structs.Change{{Table: pair.Table(), ID: pair.ID, Version: version,
			Row: row, Assign: true}}); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	refs := func(work *structs.Work) (refs []structs.Ref) {
		for i := range work.Assignments {
			refs = append(refs, work.Assignments[i].Ref())
		}
		return refs
	}
	ref := structs.Ref{Kind: statetest.KindPair, ID: pair.ID, Epoch: 5}
	full := d.poll(t, Poll{HostID: host, Registration: 1})
	if got := refs(full); !slices.Equal(got, []structs.Ref{structs.ContainerRef(c.ID, 1), ref}) {
		t.Fatalf("assigned: %v", got)
	}
	next := make(chan *structs.Work, 1)
	go func() {
		work, err := d.Work(context.Background(), Poll{HostID: host, Registration: 1, Index: full.Index, Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		next <- work
	}()
	pair.Generation++ // works whether or not the poll is parked already
	write(d.config.Store.Snapshot().Workload(statetest.KindPair, pair.ID).Base().ModifyIndex)
	if work := <-next; work == nil || !slices.Equal(refs(work), []structs.Ref{ref}) || work.Assignments[0].Generation != 2 {
		t.Errorf("assigned: %+v", work)
	}
}

// TestGossipAdvice: agents are told not to gossip once there are more than maxGossip hosts,
// agents of earlier hosts too, and may gossip again when there are fewer.
func TestGossipAdvice(t *testing.T) {
	d := newDispatch(t)
	// The hosts are written to the state directly, because registering 2,000 of them is
	// slow.
	add := func(n int) (ids []string) {
		t.Helper()
		for n > 0 {
			var changes []structs.Change
			for range min(n, structs.MaxChanges) {
				id := structs.NewID()
				ids = append(ids, id)
				changes = append(changes, structs.Change{Table: structs.TableHosts, ID: id,
					Row: &structs.Host{Meta: structs.Meta{ID: id}, Name: id}})
			}
			if err := d.config.Store.Apply(d.config.Store.Index()+1, changes); err != nil {
				t.Fatal(err)
			}
			n -= len(changes)
		}
		return ids
	}
	register := func(id string) bool {
		t.Helper()
		r, err := d.Register(t.Context(), registration(id))
		if err != nil {
			t.Fatal(err)
		}
		return r.NoGossip
	}
	others := add(1999)
	first, second := structs.NewID(), structs.NewID()
	if register(first) {
		t.Error("2,000 hosts are told not to gossip")
	}
	if !register(second) || !register(first) {
		t.Error("2,001 hosts are told to gossip")
	}
	gone := d.config.Store.Snapshot().Host(others[0])
	if err := d.config.Store.Apply(d.config.Store.Index()+1, []structs.Change{{Table: structs.TableHosts, ID: gone.ID,
		Version: gone.ModifyIndex}}); err != nil {
		t.Fatal(err)
	}
	if register(second) {
		t.Error("2,000 hosts are told not to gossip, although the surplus ones are gone")
	}
}
