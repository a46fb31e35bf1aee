package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func node(n uint64) *structs.Node {
	return &structs.Node{Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: "p"}, Name: fmt.Sprint("node-", n)}
}

func put(row structs.Row, version uint64) structs.Change {
	return structs.Change{Table: row.Table(), ID: row.Base().ID, Version: version, Row: row}
}

func drop(row structs.Row, version uint64) structs.Change {
	return structs.Change{Table: row.Table(), ID: row.Base().ID, Version: version}
}

func assign(row structs.Row, version uint64) structs.Change {
	c := put(row, version)
	c.Assign = true
	return c
}

func mustApply(t testing.TB, s *Store, index uint64, changes ...structs.Change) {
	t.Helper()
	if err := s.Apply(index, changes); err != nil {
		t.Fatalf("apply %d: %v", index, err)
	}
}

func TestApplyFillsIndexes(t *testing.T) {
	s := New()
	c := typicalContainer(1)
	mustApply(t, s, 5, put(c, 0))
	if c := s.Snapshot().Container(c.ID); c.CreateIndex != 5 || c.ModifyIndex != 5 || c.AssignIndex != 0 {
		t.Errorf("created: %d %d %d", c.CreateIndex, c.ModifyIndex, c.AssignIndex)
	}
	mustApply(t, s, 7, assign(typicalContainer(1), 5))
	mustApply(t, s, 9, put(typicalContainer(1), 7))
	if c := s.Snapshot().Container(c.ID); c.CreateIndex != 5 || c.ModifyIndex != 9 || c.AssignIndex != 7 {
		t.Errorf("updated: %d %d %d", c.CreateIndex, c.ModifyIndex, c.AssignIndex)
	}
	mustApply(t, s, 10, drop(c, 9), put(typicalContainer(1), 9))
	if c := s.Snapshot().Container(c.ID); c.CreateIndex != 10 || c.ModifyIndex != 10 || c.AssignIndex != 0 {
		t.Errorf("created again: %d %d %d", c.CreateIndex, c.ModifyIndex, c.AssignIndex)
	}
	if got := s.Snapshot().LastSeq(); got != 1 {
		t.Errorf("last seq %d", got)
	}
	mustApply(t, s, 11, drop(c, 10))
	if snap := s.Snapshot(); snap.LastSeq() != 1 || snap.Hash() != 0 || snap.Container(c.ID) != nil ||
		snap.ListIndex(structs.TableContainers, c.ProjectID) != 11 {
		t.Errorf("deleted: seq %d, hash %x, list %d", snap.LastSeq(), snap.Hash(), snap.ListIndex(structs.TableContainers, c.ProjectID))
	}
}

func TestSeveralChangesOfOneRowInAnEntry(t *testing.T) {
	s := New()
	second := node(1)
	second.Name = "second"
	mustApply(t, s, 3, put(node(1), 0), put(second, 0), put(node(2), 0), drop(node(2), 0))
	if n := s.Snapshot().Node(testID(1)); n.Name != "second" || n.CreateIndex != 3 {
		t.Errorf("%+v", n)
	}
	if s.Snapshot().Node(testID(2)) != nil {
		t.Error("a row that was created and deleted exists")
	}
	checkDerived(t, s.Snapshot())
}

func TestRefusedEntryLeavesNothing(t *testing.T) {
	s := New()
	mustApply(t, s, 3, put(node(1), 0))
	any := s.Subscribe(TopicAny())
	defer any.Close()
	before := s.Snapshot()
	foreign := put(node(9), 0)
	foreign.Table = structs.TableBays
	other := put(node(9), 0)
	other.ID = "other"
	for name, c := range map[string]struct {
		index  uint64
		change structs.Change
		code   structs.Code
	}{
		"exists":        {4, put(node(1), 0), structs.CodeConflict},
		"old version":   {4, put(node(1), 2), structs.CodeConflict},
		"none to write": {4, put(node(8), 3), structs.CodeConflict},
		"none to drop":  {4, drop(node(8), 0), structs.CodeConflict},
		"drop version":  {4, drop(node(1), 2), structs.CodeConflict},
		"index":         {3, put(node(8), 0), structs.CodeInternal},
		"table":         {4, structs.Change{Table: "nothing", ID: "x"}, structs.CodeInternal},
		"no ID":         {4, structs.Change{Table: structs.TableNodes}, structs.CodeInternal},
		"long ID":       {4, structs.Change{Table: structs.TableNodes, ID: string(make([]byte, maxID+1))}, structs.CodeInternal},
		"other table":   {4, foreign, structs.CodeInternal},
		"other ID":      {4, other, structs.CodeInternal},
	} {
		err := s.Apply(c.index, []structs.Change{put(node(7), 0), c.change})
		if structs.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		if s.Snapshot() != before {
			t.Fatalf("%s: the refused entry has changed something", name)
		}
	}
	select {
	case <-any.C():
		t.Error("a refused entry woke a subscriber")
	default:
	}
}

func TestSnapshotDoesNotChange(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(node(1), 0))
	old := s.Snapshot()
	mustApply(t, s, 2, drop(node(1), 1), put(node(2), 0))
	if old.Node(testID(1)) == nil || old.Node(testID(2)) != nil || old.Index() != 1 || count(old.List(structs.TableNodes, "p", 0)) != 1 {
		t.Error("an entry shows in an older snapshot")
	}
}

func TestReadersDontBlockTheWriter(t *testing.T) {
	s := New()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					checkDerived(t, s.Snapshot())
				}
			}
		})
	}
	h := newHistory(3)
	h.store = s
	for range 60 {
		h.entry(t)
	}
	close(stop)
	readers.Wait()
}

func TestEmptyState(t *testing.T) {
	s := New().Snapshot()
	if s.Get("nothing", "x") != nil || s.Get(structs.TableBays, "") != nil || s.Bay("x") != nil || s.Cluster() != nil ||
		s.Host("x") != nil || s.Container("x") != nil || s.BayModel("x") != nil || s.Node("x") != nil || s.IdempotencyKey("x") != nil {
		t.Error("an empty state has a row")
	}
	if n := count(s.List("nothing", AllProjects, 0)) + count(s.List("nothing", "p", 0)) + count(s.ByName(structs.TableCluster, "p", "x")) +
		count(s.AssignedSince("", 0)) + count(s.AssignedSince("h", ^uint64(0))) + count(s.WaitingBays()); n != 0 {
		t.Errorf("an empty state lists %d rows", n)
	}
	if s.ListIndex("nothing", "p") != 0 || s.ListIndex("nothing", AllProjects) != 0 || s.ListIndex(structs.TableBays, "p") != 0 {
		t.Error("a list that was never written has an index")
	}
}

func TestSubscriptions(t *testing.T) {
	s := New()
	placed := func(n, hosts uint64) *structs.Container {
		c := typicalContainer(n)
		c.HostID = fmt.Sprint("host-", hosts)
		if hosts == 0 {
			c.HostID = ""
		}
		return c
	}
	smaller := placed(1, 2)
	smaller.Spec.Memory /= 2
	status := placed(1, 2)
	status.Observed.Status = structs.ContainerStopped
	elsewhere := node(7)
	elsewhere.ProjectID = "q"
	c1, project := testID(1), placed(1, 1).ProjectID
	topics := map[string]Topic{
		"row": TopicRow(structs.TableContainers, c1), "list": TopicList(structs.TableContainers, project),
		"all": TopicList(structs.TableContainers, AllProjects), "host1": TopicHost("host-1"), "host2": TopicHost("host-2"),
		"room": TopicRoom(), "bays": TopicBays(), "hosts": TopicHosts(), "emptied": TopicEmptied(), "unsettled": TopicUnsettled(),
		"any": TopicAny(), "nodes": TopicList(structs.TableNodes, "p"),
	}
	subs := map[string]*Subscription{}
	for name, topic := range topics {
		subs[name] = s.Subscribe(topic)
	}
	version := uint64(0)
	for i, c := range []struct {
		name   string
		change func() structs.Change
		want   []string
	}{
		{"made", func() structs.Change { return put(placed(1, 0), 0) }, []string{"all", "any", "list", "row"}},
		{"placed", func() structs.Change { return assign(placed(1, 1), version) }, []string{"all", "any", "host1", "list", "row"}},
		{"moved", func() structs.Change { return assign(placed(1, 2), version) },
			[]string{"all", "any", "emptied", "host1", "host2", "list", "room", "row"}},
		{"reported", func() structs.Change { return put(status, version) }, []string{"all", "any", "list", "row"}},
		{"shrunk", func() structs.Change { return put(smaller, version) }, []string{"all", "any", "list", "room", "row"}},
		{"grown", func() structs.Change { return put(placed(1, 2), version) }, []string{"all", "any", "list", "row"}},
		{"deleted", func() structs.Change { return drop(placed(1, 2), version) },
			[]string{"all", "any", "emptied", "host2", "list", "room", "row"}},
		{"another project", func() structs.Change { return put(elsewhere, 0) }, []string{"any"}},
		{"a node", func() structs.Change { return put(node(8), 0) }, []string{"any", "nodes"}},
		{"a bay", func() structs.Change { return put(&structs.Bay{Meta: structs.Meta{ID: "b"}}, 0) }, []string{"any", "bays"}},
		{"a host", func() structs.Change { return put(&structs.Host{Meta: structs.Meta{ID: "h"}}, 0) }, []string{"any", "hosts"}},
	} {
		index := uint64(i + 1)
		mustApply(t, s, index, c.change())
		version = index
		var got []string
		for name, sub := range subs {
			select {
			case <-sub.C():
				got = append(got, name)
			default:
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s woke %v, want %v", c.name, got, c.want)
		}
	}
	b := persisted(t, s)
	if err := s.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	for name, sub := range subs {
		select {
		case <-sub.C():
		default:
			t.Errorf("a restore did not wake %s", name)
		}
		sub.Close()
		sub.Close() // a second Close does nothing
	}
	if s.topics.first != nil || s.topics.kinds != [topicKinds]int{} {
		t.Errorf("closed subscriptions leave %v %v", s.topics.first, s.topics.kinds)
	}
}

// Several subscriptions to one topic may be closed in any order.
func TestSubscriptionsOfOneTopic(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		s := New()
		var subs []*Subscription
		for range 3 {
			subs = append(subs, s.Subscribe(TopicAny(), TopicRoom()))
		}
		for i, n := range order {
			subs[n].Close()
			mustApply(t, s, uint64(i+1))
			for m, sub := range subs {
				open := !slices.Contains(order[:i+1], m)
				select {
				case <-sub.C():
					if !open {
						t.Errorf("%v: a closed subscription fired", order)
					}
				default:
					if open {
						t.Errorf("%v: after %d closed, %d did not fire", order, i+1, m)
					}
				}
			}
		}
		if s.topics.first != nil {
			t.Errorf("%v: a subscription is left", order)
		}
	}
}

func TestWaitIndex(t *testing.T) {
	s := New()
	ctx := context.Background()
	if err := s.WaitIndex(ctx, 0); err != nil {
		t.Error(err)
	}
	done := make(chan uint64, 4)
	var waiting sync.WaitGroup
	for _, index := range []uint64{4, 2, 3} {
		waiting.Go(func() {
			if err := s.WaitIndex(ctx, index); err != nil {
				t.Error(err)
			}
			if now := s.Index(); now < index {
				t.Errorf("woken at %d, waited for %d", now, index)
			}
			done <- index
		})
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := s.WaitIndex(short, 9); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for an index that never came: %v", err)
	}
	mustApply(t, s, 1)
	mustApply(t, s, 3)
	if a, b := <-done, <-done; a+b != 2+3 {
		t.Errorf("woke %d and %d", a, b)
	}
	mustApply(t, s, 6)
	waiting.Wait()
	if len(s.waiters.heap) != 0 {
		t.Errorf("%d waiters are left", len(s.waiters.heap))
	}
}

func TestAllProjectsIsMergedBySeq(t *testing.T) {
	s := New()
	for n := range uint64(30) {
		row := node(n + 1)
		row.ProjectID, row.Name = fmt.Sprint("project-", n%4), "same"
		mustApply(t, s, n+1, put(row, 0))
	}
	for _, after := range []uint64{0, 1, 13, 29, 30} {
		want := after
		for row := range s.Snapshot().List(structs.TableNodes, AllProjects, after) {
			if want++; row.Base().Seq != want {
				t.Fatalf("after %d: Seq %d, want %d", after, row.Base().Seq, want)
			}
		}
		if want != 30 {
			t.Errorf("after %d the list ends at %d", after, want)
		}
	}
	if n := count(s.Snapshot().ByName(structs.TableNodes, AllProjects, "same")); n != 30 {
		t.Errorf("%d rows of the name", n)
	}
	for row := range s.Snapshot().List(structs.TableNodes, AllProjects, 0) {
		if row.Base().Seq == 3 {
			break // a reader may stop
		}
	}
}

func TestUsageIsAValue(t *testing.T) {
	s := New()
	c := typicalContainer(1)
	c.Spec.Ports = []structs.Port{{HostPort: 80}, {HostPort: 53, Protocol: "udp"}, {HostPort: 53, Protocol: "sctp"}, {ContainerPort: 9}}
	mustApply(t, s, 1, put(c, 0))
	u := s.Snapshot().Usage(c.HostID)
	if !u.HasPort("tcp", 80) || !u.HasPort("", 80) || u.HasPort("udp", 80) || !u.HasPort("udp", 53) || u.HasPort("tcp", 53) ||
		u.HasPort("tcp", 0) || u.Ports() != 3 {
		t.Errorf("ports %v", u.ports)
	}
	v := u.Clone()
	v.Remove(c.Reserved())
	if v.Workloads != 0 || v.Memory != 0 || v.MilliCPU != 0 || v.Ports() != 0 || u.Ports() != 3 || !u.HasPort("tcp", 80) {
		t.Errorf("removed: %+v, left: %+v", v, u)
	}
	v = s.Snapshot().Usage("nobody")
	v.Add(c.Reserved())
	if w := s.Snapshot().Usage("nobody"); w.Workloads != 0 || w.Ports() != 0 {
		t.Errorf("adding to a copy changed the store: %+v", w)
	}
}

// TestRowsWithoutSeq: action records have no Seq, and each has its own place in the
// indexes.
func TestRowsWithoutSeq(t *testing.T) {
	s := New()
	var changes []structs.Change
	for _, id := range []string{"a", "b", "c"} {
		row := &structs.Actions{Meta: structs.Meta{ID: id, ProjectID: "p"}}
		changes = append(changes, structs.Change{Table: structs.TableActions, ID: id, Row: row})
	}
	mustApply(t, s, 1, changes...)
	mustApply(t, s, 2, structs.Change{Table: structs.TableActions, ID: "b", Version: 1})
	var ids []string
	for row := range s.Snapshot().List(structs.TableActions, "p", 0) {
		ids = append(ids, row.Base().ID)
	}
	if !slices.Equal(ids, []string{"a", "c"}) {
		t.Errorf("the list is %v", ids)
	}
	again := New()
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(&b); err != nil || again.Hash() != s.Hash() {
		t.Errorf("restored with hash %x instead of %x: %v", again.Hash(), s.Hash(), err)
	}
}
