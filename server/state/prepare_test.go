package state

import (
	"bytes"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestPrepareIsForOneUseOfOneSlice(t *testing.T) {
	s := New()
	data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 3, Prev: 0, Changes: []structs.Change{assign(typicalContainer(1), 0)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(data[:len(data)-1]); err == nil {
		t.Error("a damaged entry was prepared")
	}
	decoded := func(b []byte) *structs.Entry {
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
	first, err := s.Prepare(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := decoded(data); got != first {
		t.Error("what was prepared is decoded again")
	}
	if got := decoded(data); got == first {
		t.Error("an entry was handed out twice: its rows would be applied twice")
	}
	if first, err = s.Prepare(data); err != nil {
		t.Fatal(err)
	}
	if got := decoded(bytes.Clone(data)); got == first {
		t.Error("another slice got what was prepared")
	}
	if _, err := s.Prepare(data); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Entry(data[:4]); err == nil {
		t.Error("the beginning of a slice got what was prepared of the whole")
	}
}
