package state

import (
	"bytes"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestPreparedEntryIsReturnedOnceForItsSlice(t *testing.T) {
	s := New()
	entry := func() *structs.Entry {
		return &structs.Entry{Schema: structs.SchemaVersion, Term: 3, Prev: 0, Changes: []structs.Change{assign(typicalContainer(1), 0)}}
	}
	if _, err := s.Prepare(s.Snapshot(), &structs.Entry{Schema: structs.SchemaVersion + 1}); err == nil {
		t.Error("an entry of an unknown schema was prepared")
	}
	prepare := func(e *structs.Entry) []byte {
		t.Helper()
		data, err := s.Prepare(s.Snapshot(), e)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	entryOf := func(b []byte) *structs.Entry {
		t.Helper()
		e, err := s.Entry(b)
		if err != nil {
			t.Fatal(err)
		}
		if e.Term != 3 || len(e.Changes) != 1 {
			t.Fatalf("decoded %+v", e)
		}
		return e
	}
	decided := entry()
	data := prepare(decided)
	first := s.prepared.Load().entry
	if first == decided || first.Changes[0].Row == decided.Changes[0].Row {
		t.Error("the entry has the decided row, not the decoded one")
	}
	if got := entryOf(data); got != first {
		t.Error("the prepared entry is decoded again")
	}
	if got := entryOf(data); got == first {
		t.Error("an entry was returned twice: its rows would be applied twice")
	}
	data = prepare(entry())
	first = s.prepared.Load().entry
	if got := entryOf(bytes.Clone(data)); got == first {
		t.Error("another slice got the prepared entry")
	}
	data = prepare(entry())
	if _, err := s.Entry(data[:4]); err == nil {
		t.Error("a prefix of the slice got the prepared entry")
	}
}

func TestPrepareRefusesWhatApplyRefuses(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(node(1), 0))
	if _, err := s.Prepare(s.Snapshot(), &structs.Entry{Schema: structs.SchemaVersion,
		Changes: []structs.Change{put(node(1), 0)}}); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("a change of an old version was prepared: %v", err)
	}
}

// A check against one state must not count for another state.
func TestPreparedIsCheckedAgainOnAnotherState(t *testing.T) {
	s := New()
	prepare := func() *structs.Entry {
		t.Helper()
		data, err := s.Prepare(s.Snapshot(), &structs.Entry{Schema: structs.SchemaVersion, Changes: []structs.Change{put(node(1), 0)}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Entry(data)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := prepare()
	mustApply(t, s, 1, put(node(2), 0))
	if err := s.Apply(2, e.Changes); err != nil {
		t.Fatal(err)
	}
	mustApply(t, s, 3, drop(node(1), 2))
	e = prepare()
	mustApply(t, s, 4, put(node(1), 0))
	if err := s.Apply(5, e.Changes); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("an entry was applied on a state on which it has to be refused: %v", err)
	}
	mustApply(t, s, 5, drop(node(1), 4))
	e = prepare()
	before := s.Snapshot()
	if err := s.Apply(6, e.Changes); err != nil || before.Get(structs.TableNodes, node(1).ID) != nil ||
		s.Snapshot().Get(structs.TableNodes, node(1).ID) == nil {
		t.Errorf("a prepared entry is not applied: %v", err)
	}
}

// The leader keeps the decoded row, as all other servers do, whatever the decided row
// looked like.
func TestPreparedRowIsTheDecodedOne(t *testing.T) {
	east := time.FixedZone("east", 3600)
	c := typicalContainer(1)
	c.CreatedAt = time.Now().In(east) // with a monotonic clock
	c.UpdatedAt = time.Time{}.In(east)
	c.Spec.Command, c.Spec.Ports, c.Spec.Labels = []string{}, []structs.Port{}, map[string]string{}
	c.Observed.StartedAt = time.Unix(1_700_000_000, 5).In(east)
	shared := map[string]string{"A": "1"}
	c.Spec.Environment = shared
	leader, follower := New(), New()
	data, err := leader.Prepare(leader.Snapshot(), &structs.Entry{Schema: structs.SchemaVersion,
		Changes: []structs.Change{assign(c, 0), put(node(2), 0)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{leader, follower} {
		e, err := s.Entry(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(7, e.Changes); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := leader.Snapshot().Container(c.ID), follower.Snapshot().Container(c.ID)
	if ours == c {
		t.Error("the leader keeps the row that it decided")
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("the leader has\n%+v, the others\n%+v", ours, theirs)
	}
	if leader.Hash() != follower.Hash() || leader.Hash() != rowHash(ours, nil,
		false)+rowHash(leader.Snapshot().Get(structs.TableNodes, node(2).ID), nil, false) {
		t.Error("the hashes differ")
	}
	if !maps.Equal(shared, map[string]string{"A": "1"}) {
		t.Errorf("a map that others share is %v", shared)
	}
}

// An encoder that writes one wrong byte makes entries that stop every server, or that mean
// something else. None of them is prepared, and later entries are not affected.
func TestBrokenEncodingIsNotPrepared(t *testing.T) {
	good := func() *structs.Entry {
		return &structs.Entry{Schema: structs.SchemaVersion, Changes: []structs.Change{put(node(1), 0)}}
	}
	for at := range len(rowBytes(typicalContainer(1))) {
		s := New()
		s.BreakEncoder = func(_ structs.Row, b []byte) { b[at] = 0xc1 } // a byte that msgpack never uses
		entry := &structs.Entry{Schema: structs.SchemaVersion, Changes: []structs.Change{assign(typicalContainer(1), 0)}}
		data, err := s.Prepare(s.Snapshot(), entry)
		if err == nil {
			// The byte is within a string: every server decodes the same.
			e, err := s.Entry(data)
			others, othersErr := DecodeEntry(data)
			if err != nil || othersErr != nil || !reflect.DeepEqual(e.Changes[0].Row, others.Changes[0].Row) {
				t.Fatalf("byte %d: the leader reads %+v, %v; the others %+v, %v", at, e, err, others, othersErr)
			}
			continue
		}
		if s.prepared.Load() != nil || s.Index() != 0 || s.Hash() != 0 {
			t.Fatalf("byte %d: a refused entry has changed the state", at)
		}
		s.BreakEncoder = nil
		if _, err := s.Prepare(s.Snapshot(), good()); err != nil {
			t.Fatalf("byte %d: the next entry: %v", at, err)
		}
	}
	s := New()
	s.BreakEncoder = func(_ structs.Row, b []byte) { b[0] = 0xc1 }
	if _, err := s.Prepare(s.Snapshot(), good()); err == nil {
		t.Error("an unreadable entry was prepared")
	}
}

// An encoder may write readable bytes of another value. These are not prepared either: a
// snapshot would write the row with other bytes than those of its hash.
func TestEncodingOfAnotherValueIsNotPrepared(t *testing.T) {
	row := typicalContainer(1)
	row.Spec.TTY = true
	s := New()
	s.BreakEncoder = func(_ structs.Row, b []byte) {
		at := bytes.Index(b, []byte("TTY\xc3"))
		b[at+3] = 0xc2 // false, which the encoder leaves out
	}
	entry := &structs.Entry{Schema: structs.SchemaVersion, Changes: []structs.Change{assign(row, 0)}}
	if _, err := s.Prepare(s.Snapshot(), entry); err == nil || !strings.Contains(err.Error(), "encoded again") {
		t.Errorf("prepared: %v", err)
	}
	s.BreakEncoder = nil
	if _, err := s.Prepare(s.Snapshot(), entry); err != nil {
		t.Error(err)
	}
}

// rowBytes returns the encoded row.
func rowBytes(row structs.Row) []byte { return appendRow(nil, row, false) }
