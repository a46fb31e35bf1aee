package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReportShowsMissedGatesAndAims: a gate that is met must not hide an aim that isn't
// reached, nor another gate that is missed.
func TestReportShowsMissedGatesAndAims(t *testing.T) {
	b := &bench{machine: []string{"a machine"}}
	for _, r := range []struct {
		row
		verdict string
	}{
		{row{what: "both", gate: bound{"≥ 0.35", true}, aim: bound{"≥ 0.5", true}}, "gate ≥ 0.35 met, aim ≥ 0.5 reached"},
		{row{what: "gate", gate: bound{"≥ 0.35", true}, aim: bound{"≥ 0.5", false}}, "gate ≥ 0.35 met, aim ≥ 0.5 not reached"},
		{
			row{what: "neither", gate: bound{"≥ 0.35", false}, aim: bound{"≥ 0.5", false}},
			"gate ≥ 0.35 MISSED, aim ≥ 0.5 not reached",
		},
		{row{what: "no aim", gate: bound{"≤ 1.6", false}}, "gate ≤ 1.6 MISSED"},
		{row{what: "nothing"}, ""},
	} {
		if v := r.row.verdict(); v != r.verdict {
			t.Errorf("%s: %q, want %q", r.what, v, r.verdict)
		}
		b.rows = append(b.rows, r.row)
	}
	err := b.missed()
	if err == nil || err.Error() != "neither: gate ≥ 0.35 MISSED, aim ≥ 0.5 not reached\nno aim: gate ≤ 1.6 MISSED" {
		t.Errorf("missed: %v", err)
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := b.write(file); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(page), "|  | gate ≥ 0.35 met, aim ≥ 0.5 not reached |\n") {
		t.Errorf("the page is %s, %v", page, err)
	}
	b.rows = b.rows[:2]
	if err := b.missed(); err != nil {
		t.Errorf("no gate is missed, but the error is %v", err)
	}
}

// TestCompare: which way is worse depends on the figure, and what has none is left
// out.
func TestCompare(t *testing.T) {
	var out strings.Builder
	compare(&out,
		[]row{{what: "time", figure: 1}, {what: "rate", figure: 0.5, higher: true}, {what: "memory", figure: 200}, {what: "nothing"}},
		[]row{{what: "time", figure: 1.1}, {what: "rate", figure: 0.4, higher: true}, {what: "memory", figure: 100}, {what: "nothing"}})
	want := "\nBefore and after, by ratios:\ntime: 1, then 1.1: 10.0 % worse\n" +
		"rate: 0.5, then 0.4: 25.0 % worse\nmemory: 200, then 100: 50.0 % better\n"
	if out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}
