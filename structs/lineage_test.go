package structs

import (
	"fmt"
	"testing"
)

// TestLineagesHold checks which lineages and indexes belong to a history.
func TestLineagesHold(t *testing.T) {
	var l *Lineages
	for _, one := range []Lineage{{ID: "a", First: 1}, {ID: "b", First: 100}, {ID: "c", First: 200}} {
		l = l.With(one.ID, one.First)
	}
	for _, tt := range []struct {
		lineage string
		index   uint64
		want    bool
	}{
		{"", 0, true}, {"", 1 << 40, true}, // shows none
		{"a", 1, true}, {"a", 99, true}, {"a", 100, false}, {"a", 150, false}, {"a", 1 << 40, false},
		{"b", 100, true}, {"b", 199, true}, {"b", 200, false},
		{"c", 200, true}, {"c", 1 << 40, true}, // the newest: at most ahead
		{"x", 0, false}, {"x", 50, false}, {"x", 1 << 40, false},
	} {
		if got := l.Holds(tt.lineage, tt.index); got != tt.want {
			t.Errorf("%q at %d: %v", tt.lineage, tt.index, got)
		}
	}
	var none *Lineages
	if !none.Holds("", 5) || none.Holds("a", 5) || none.Current() != "" || l.Current() != "c" {
		t.Error("a state without lineages holds none but that of who shows none")
	}
}

// TestLineagesAreBounded checks that the oldest lineages are dropped and count as
// unknown, and that all kept ones are known.
func TestLineagesAreBounded(t *testing.T) {
	var l *Lineages
	for n := range MaxLineages + 10 {
		previous := l
		l = l.With(fmt.Sprint("l", n), uint64(n*10+1))
		if previous != nil && previous.Current() == l.Current() {
			t.Fatal("With has changed the previous row")
		}
	}
	if len(l.Last) != MaxLineages {
		t.Fatalf("%d are kept", len(l.Last))
	}
	for n := range MaxLineages + 10 {
		if got, want := l.Holds(fmt.Sprint("l", n), uint64(n*10+10)), n >= 10; got != want {
			t.Errorf("l%d: %v", n, got)
		}
	}
}
