package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// write writes the rows to the state, or deletes them.
func (d *Dispatch) write(t testing.TB, remove bool, rows ...structs.Row) {
	t.Helper()
	snap := d.config.Store.Snapshot()
	var changes []structs.Change
	for _, r := range rows {
		c := structs.Change{Table: r.Table(), ID: r.Base().ID}
		if was := snap.Get(c.Table, c.ID); was != nil {
			c.Version = was.Base().ModifyIndex
		}
		if !remove {
			c.Row = r
			_, c.Assign = r.(structs.Workload)
		}
		changes = append(changes, c)
	}
	if err := d.config.Store.Apply(d.config.Store.Index()+1, changes); err != nil {
		t.Fatal(err)
	}
}

// service returns a service of the bay, and its endpoints.
func service(n int, bayID string, pods ...structs.Endpoint) (*structs.Service, *structs.Endpoints) {
	meta := structs.Meta{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Seq: uint64(1000 + n), ProjectID: "p"}
	return &structs.Service{Meta: meta, BayID: bayID, Name: fmt.Sprint("s", n), Address: fmt.Sprint("10.127.0.", n)},
		&structs.Endpoints{Meta: meta, BayID: bayID, Pods: pods}
}

// inBay registers n hosts with relays, all in one bay of that size.
func (d *Dispatch) inBay(t testing.TB, name string, n int) (bay *structs.Bay, hosts []string) {
	t.Helper()
	ctx := context.Background()
	if _, err := conductor.Do(ctx, d.config.Conductor, conductor.RaiseSchema{Schema: structs.SchemaPods}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := structs.NewID()
		r := registration(id)
		r.Name = fmt.Sprint(name, i)
		r.Fingerprint.Relay = structs.Relay{Key: strings.Repeat(fmt.Sprintf("%02x", i%256), 32),
			Addr: fmt.Sprintf("192.0.2.%d:9514", i%256)}
		if _, err := d.Register(ctx, r); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, id)
	}
	bay, err := conductor.Do(ctx, d.config.Conductor, conductor.CreateBay{Caller: operator, Name: name, NodeCount: n,
		Placement: structs.PlacementSpread})
	if err != nil {
		t.Fatal(err)
	}
	return bay, hosts
}

// after polls with the index and a short wait.
func (d *Dispatch) after(t *testing.T, host string, index uint64) *structs.Work {
	t.Helper()
	return d.poll(t, Poll{HostID: host, Registration: 1, Index: index, Wait: time.Millisecond})
}

// names returns the services of an answer with their endpoints.
func names(w *structs.ServiceWork) string {
	if w == nil {
		return "nil"
	}
	var out []string
	if w.Full {
		out = append(out, "full")
	}
	for _, s := range w.Services {
		out = append(out, fmt.Sprint(s.Name, "=", len(s.Endpoints)))
	}
	return strings.Join(out, " ")
}

// TestServicesInWork: a poll gets the services that have changed, or all of them.
func TestServicesInWork(t *testing.T) {
	d := newDispatch(t)
	bay, hosts := d.inBay(t, "b", 2)
	other, far := d.inBay(t, "c", 1)
	_ = other
	host := hosts[0]
	full := d.poll(t, Poll{HostID: host, Registration: 1})
	if names(full.Services) != "full" || full.Services.Services == nil {
		t.Fatalf("without services: %s", names(full.Services))
	}
	if work := d.after(t, host, full.Index); work.Services != nil {
		t.Errorf("nothing has changed: %s", names(work.Services))
	}
	expect := func(what string, index uint64, want string) {
		t.Helper()
		if got := names(d.after(t, host, index).Services); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	now := d.config.Store.Index
	start := now()
	s1, e1 := service(1, bay.ID)
	d.write(t, false, s1, e1)
	created := now()
	expect("created", start, "s1=0")
	expect("known", created, "nil")
	s2, e2 := service(2, bay.ID, structs.Endpoint{PodID: "x"})
	d.write(t, false, s2, e2)
	expect("another one", created, "s2=1")
	expect("both", start, "s1=0 s2=1")
	second := now()
	_, e1 = service(1, bay.ID, structs.Endpoint{PodID: "x"}, structs.Endpoint{PodID: "y"})
	d.write(t, false, e1)
	expect("endpoints", second, "s1=2")
	if names(d.poll(t, Poll{HostID: host, Registration: 1}).Services) != "full s1=2 s2=1" {
		t.Error("a full answer has other services")
	}
	if got := names(d.poll(t, Poll{HostID: far[0], Registration: 1}).Services); got != "full" {
		t.Errorf("a host of another bay gets %q", got)
	}
	known := now()
	d.write(t, true, s2, e2)
	expect("deleted", known, "full s1=2")
	expect("deleted, and known", now(), "nil")
	work := d.after(t, host, known).Services
	if len(work.Peers) != 1 || work.Peers[0].HostID != hosts[1] || work.Peers[0].Name != "b1" || work.Peers[0].Addr != "192.0.2.1:9514" ||
		len(work.Peers[0].Key) != 64 {
		t.Errorf("peers are %+v", work.Peers)
	}
	if a := work.Services[0]; a.ID != s1.ID || a.ProjectID != "p" || a.Address != s1.Address || len(a.Endpoints) != 2 {
		t.Errorf("the service is %+v", a)
	}
}

// TestHostsOfABayWithServices: a host that leaves the bay is no peer any more, and forgets the
// services; both at once.
func TestHostsOfABayWithServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		bay, hosts := d.inBay(t, "b", 3)
		s, e := service(1, bay.ID)
		d.write(t, false, s, e)
		index := d.config.Store.Index()
		answers := make(map[string]chan *structs.Work)
		for _, id := range hosts {
			c := make(chan *structs.Work, 1)
			answers[id] = c
			go func() {
				work, err := d.Work(context.Background(), Poll{HostID: id, Registration: 1, Index: index, Wait: time.Minute})
				if err != nil {
					t.Error(err)
				}
				c <- work
			}()
		}
		synctest.Wait()
		began := time.Now()
		do(t, d, conductor.PatchBay{Caller: operator, Ident: bay.ID, NodeCount: 2})
		left := 0
		for _, id := range hosts {
			work := <-answers[id]
			if *work.BayID == "" {
				left++
				if names(work.Services) != "full" || len(work.Services.Peers) != 0 {
					t.Errorf("the host that has left gets %s, %+v", names(work.Services), work.Services.Peers)
				}
				continue
			}
			if names(work.Services) != "" || len(work.Services.Peers) != 1 {
				t.Errorf("a host of the bay gets %q with the peers %+v", names(work.Services), work.Services.Peers)
			}
		}
		if left != 1 || time.Since(began) > 0 {
			t.Errorf("%d hosts have left, known after %v", left, time.Since(began))
		}
	})
}

// TestServicesWakeOneBay: a change of a service wakes the polls of its bay, and no others.
func TestServicesWakeOneBay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		bay, hosts := d.inBay(t, "b", 2)
		_, others := d.inBay(t, "c", 2)
		index := d.config.Store.Index()
		woken := make(chan string, 9)
		ctx, cancel := context.WithCancel(t.Context())
		for _, id := range slices.Concat(hosts, others) {
			go func() {
				work, err := d.Work(ctx, Poll{HostID: id, Registration: 1, Index: index, Wait: time.Minute})
				if err == nil && work.Services != nil {
					woken <- id
				}
			}()
		}
		synctest.Wait()
		s, e := service(1, bay.ID)
		d.write(t, false, s, e)
		synctest.Wait()
		for range hosts {
			if id := <-woken; !slices.Contains(hosts, id) {
				t.Errorf("host %s is woken", id)
			}
		}
		if len(woken) > 0 || d.Parked() != len(others) {
			t.Errorf("%d more are woken, %d are parked", len(woken), d.Parked())
		}
		cancel()
		synctest.Wait()
	})
}

// pod writes a pod that is placed on the host.
func (d *Dispatch) pod(t testing.TB, bayID, hostID string) *structs.Pod {
	t.Helper()
	p := &structs.Pod{Meta: structs.Meta{ID: structs.NewID(), Seq: 900, ProjectID: "p"}, Name: "web",
		Placement: structs.Placement{BayID: bayID, HostID: hostID, Epoch: 1, Desired: structs.DesiredRunning}}
	d.write(t, false, p)
	return p
}

// question asks about the pod, in the background.
func (d *Dispatch) question(t *testing.T, q Question) <-chan structs.Drained {
	t.Helper()
	answer := make(chan structs.Drained, 1)
	go func() {
		a, err := d.Drained(context.Background(), q)
		if err != nil {
			t.Error(err)
		}
		answer <- a
	}()
	synctest.Wait()
	return answer
}

// TestDrained: a pod is drained once it is out of all endpoints and all ready hosts of the bay
// know.
func TestDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		bay, hosts := d.inBay(t, "b", 3)
		d.inBay(t, "c", 1)
		p := d.pod(t, bay.ID, hosts[0])
		s, e := service(1, bay.ID, structs.Endpoint{PodID: p.ID, HostID: hosts[0]})
		d.write(t, false, s, e)
		polls := func(host string) {
			t.Helper()
			d.after(t, host, d.config.Store.Index())
		}
		for _, id := range hosts {
			polls(id)
		}
		do(t, d, conductor.MarkHosts{Marks: []conductor.HostMark{{ID: hosts[2], State: structs.HostLost}}})
		began := time.Now()
		answer := d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute})
		_, e = service(1, bay.ID)
		d.write(t, false, e)
		polls(hosts[0])
		synctest.Wait()
		if len(answer) > 0 {
			t.Fatal("answered before the second host knows")
		}
		polls(hosts[1]) // the third one is lost
		if a := <-answer; !a.Drained || time.Since(began) > time.Second {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		// All know already.
		if a := <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute}); !a.Drained {
			t.Errorf("again: %+v", a)
		}
		// Nor does a host follow that says it is behind.
		d.write(t, false, e)
		polls(hosts[0])
		d.poll(t, Poll{HostID: hosts[1], Registration: 1, Index: d.config.Store.Index(), Behind: true})
		began = time.Now()
		a := <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute})
		if a.Drained || time.Since(began) != structs.MaxDrained || !slices.Equal(a.Waiting, []string{"b1"}) {
			t.Errorf("a host is behind: %+v after %v", a, time.Since(began))
		}
		// A poll for everything says nothing.
		d.write(t, true, s, e)
		polls(hosts[0])
		d.poll(t, Poll{HostID: hosts[1], Registration: 1, Seen: d.config.Store.Index()})
		began = time.Now()
		a = <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute})
		if a.Drained || time.Since(began) != structs.MaxDrained || !slices.Equal(a.Waiting, []string{"b1"}) {
			t.Errorf("a host has not followed: %+v after %v", a, time.Since(began))
		}
	})
}

// TestNotDrained: what isn't known in time is not drained, and what the host has no pod of is
// not its business.
func TestNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		bay, hosts := d.inBay(t, "b", 2)
		p := d.pod(t, bay.ID, hosts[0])
		if a := <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Second}); !a.Drained {
			t.Errorf("a bay that never had services: %+v", a)
		}
		s, e := service(1, bay.ID, structs.Endpoint{PodID: p.ID, HostID: hosts[0]})
		d.write(t, false, s, e)
		for _, id := range hosts {
			d.after(t, id, d.config.Store.Index())
		}
		for _, q := range []Question{
			{HostID: hosts[0], PodID: p.ID, Wait: time.Second},                                     // a service leads to it
			{HostID: hosts[0], PodID: p.ID, Wait: time.Second, Index: d.config.Store.Index() + 10}, // the server is behind
		} {
			began := time.Now()
			if a := <-d.question(t, q); a.Drained || len(a.Waiting) > 0 || time.Since(began) != time.Second {
				t.Errorf("%+v after %v", a, time.Since(began))
			}
		}
		for _, q := range []Question{{HostID: hosts[1], PodID: p.ID}, {HostID: hosts[0], PodID: structs.NewID()}} {
			if _, err := d.Drained(t.Context(), q); structs.CodeOf(err) != structs.CodeNotFound {
				t.Errorf("%+v: %v", q, err)
			}
		}
		// The pod has moved: its service leads to it on another host.
		_, e = service(1, bay.ID, structs.Endpoint{PodID: p.ID, HostID: hosts[1]})
		moved := p.Copy().(*structs.Pod)
		moved.HostID, moved.Priors = hosts[1], []structs.Prior{{HostID: hosts[0], Epoch: 1}}
		d.write(t, false, e, moved)
		for _, id := range hosts {
			d.after(t, id, d.config.Store.Index())
		}
		if a := <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Second}); !a.Drained {
			t.Errorf("a pod that has moved: %+v", a)
		}
		if a := <-d.question(t, Question{HostID: hosts[1], PodID: p.ID, Wait: time.Second}); a.Drained {
			t.Error("the pod is drained where its service leads")
		}
	})
}

// TestDrainedElsewhere: hosts poll any server.
func TestDrainedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, o := newDispatch(t), newOthers()
		d.config.Followed = o.relay().Followed
		bay, hosts := d.inBay(t, "b", 3)
		p := d.pod(t, bay.ID, hosts[0])
		s, e := service(1, bay.ID)
		d.write(t, false, s, e)
		o.change(func() { o.polled["a"], o.polled["b"] = nil, nil })
		began := time.Now()
		answer := d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute})
		o.polls("a", hosts[0])
		time.Sleep(1500 * time.Millisecond) // longer than one call waits
		o.polls("b", hosts[1])
		synctest.Wait()
		if len(answer) > 0 {
			t.Fatal("answered before all hosts know")
		}
		d.after(t, hosts[2], d.config.Store.Index())
		if a := <-answer; !a.Drained || time.Since(began) > 1600*time.Millisecond {
			t.Errorf("%+v after %v", a, time.Since(began))
		}

		// A server that is down: the wait is over at last.
		d.write(t, false, e)
		o.change(func() { delete(o.polled, "a"); o.polled["b"] = hosts[1:] })
		began = time.Now()
		a := <-d.question(t, Question{HostID: hosts[0], PodID: p.ID, Wait: time.Minute})
		if a.Drained || time.Since(began) != structs.MaxDrained || !slices.Equal(a.Waiting, []string{"b0"}) {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		synctest.Wait()
	})
}

// TestFollowedHere: a server names the hosts that have polled it, and waits for the first.
func TestFollowedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		_, hosts := d.inBay(t, "b", 2)
		index := d.config.Store.Index()
		began := time.Now()
		if got := d.Followed(t.Context(), hosts, index, time.Second); got != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", got, time.Since(began))
		}
		found := make(chan []string, 1)
		go func() { found <- d.Followed(t.Context(), hosts, index, time.Second) }()
		synctest.Wait()
		d.after(t, hosts[1], index-1)
		d.after(t, hosts[1], index)
		if got := <-found; !slices.Equal(got, hosts[1:]) {
			t.Errorf("%v have followed", got)
		}
		// Another registration begins with nothing.
		if _, err := d.Register(t.Context(), func() structs.HostRegister {
			r := registration(hosts[1])
			return r
		}()); err != nil {
			t.Fatal(err)
		}
		d.poll(t, Poll{HostID: hosts[1], Registration: 2, Index: 1, Wait: time.Millisecond})
		if got := d.Followed(t.Context(), hosts, index, 0); got != nil {
			t.Errorf("after another registration %v have followed", got)
		}
	})
}

// TestTooManyQuestions: the questions that wait are bounded, and those of one host too.
func TestTooManyQuestions(t *testing.T) {
	d := newDrained(nil)
	for range maxHostQuestions {
		if err := d.enter("h"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.enter("h"); structs.CodeOf(err) != structs.CodeRateLimited {
		t.Errorf("one too many of a host: %v", err)
	}
	for i := range maxQuestions - maxHostQuestions {
		if err := d.enter(fmt.Sprint(i % 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.enter("another"); structs.CodeOf(err) != structs.CodeRateLimited {
		t.Errorf("one too many: %v", err)
	}
	d.leave("h")
	if err := d.enter("another"); err != nil {
		t.Error(err)
	}
	for range maxHostQuestions - 1 {
		d.leave("h")
	}
	if _, left := d.asking["h"]; left {
		t.Error("a host without questions is kept")
	}
}

// TestRelayIsChecked: what an agent registers of its relay goes to other hosts.
func TestRelayIsChecked(t *testing.T) {
	key := strings.Repeat("0a", 32)
	for _, relay := range []structs.Relay{{}, {Key: key}, {Key: key, Addr: "192.0.2.1:9514"}, {Key: key, Addr: "[2001:db8::1]:9514"}} {
		if err := checkRelay(relay); err != nil {
			t.Errorf("%+v: %v", relay, err)
		}
	}
	for _, relay := range []structs.Relay{{Key: "x"}, {Key: key[2:]}, {Key: strings.ToUpper(key)}, {Key: key, Addr: "192.0.2.1"},
		{Key: key, Addr: ":9514"}, {Key: key, Addr: "h\n:9514"}, {Key: key, Addr: strings.Repeat("h", 300) + ":1"}} {
		r := registration(structs.NewID())
		r.Fingerprint.Relay = relay
		if err := checkRegister(&r); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "fingerprint.relay") {
			t.Errorf("%+v: %v", relay, err)
		}
	}
}

// BenchmarkServicesChange changes one of 1,000 services with 5,000 pods in 50 bays, each of
// which has 4 hosts with a waiting poll, until the hosts of that bay are answered.
func BenchmarkServicesChange(b *testing.B) {
	d := newDispatch(b)
	const bays, perBay = 50, 4
	var hosts [bays][]string
	var ids [bays]string
	for i := range bays {
		bay, in := d.inBay(b, fmt.Sprint("bay", i), perBay)
		hosts[i], ids[i] = in, bay.ID
		var rows []structs.Row
		for k := range 1000 / bays {
			n := i*1000/bays + k
			var pods []structs.Endpoint
			for p := range 5 {
				pods = append(pods, structs.Endpoint{PodID: structs.NewID(), Name: fmt.Sprint("p", p), HostID: in[p%perBay],
					Address: "10.0.0.1", Ports: []int{80}, Ready: true})
			}
			s, e := service(n, bay.ID, pods...)
			rows = append(rows, s, e)
		}
		d.write(b, false, rows...)
	}
	answers := make(chan string, bays*perBay)
	park := func(id string, index uint64) {
		go func() {
			work, err := d.Work(context.Background(), Poll{HostID: id, Registration: 1, Index: index, Wait: time.Hour})
			if err == nil && work.Services != nil {
				answers <- id
			}
		}()
	}
	for i := range bays {
		for _, id := range hosts[i] {
			park(id, d.config.Store.Index())
		}
	}
	for d.Parked() < bays*perBay {
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		bay := i % bays
		_, e := service(bay*1000/bays, ids[bay], structs.Endpoint{PodID: structs.NewID()})
		d.write(b, false, e)
		index := d.config.Store.Index()
		for range perBay {
			id := <-answers
			if !slices.Contains(hosts[bay], id) {
				b.Fatalf("host %s of another bay is woken", id)
			}
			park(id, index)
		}
	}
	b.StopTimer()
	if n := len(answers); n > 0 {
		b.Fatalf("%d more hosts are woken", n)
	}
}
