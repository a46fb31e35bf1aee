package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// newTable returns the table of a run with constant values, which change may modify for
// the sample with the number n, from 1.
func newTable(samples int, change func(n int, figures map[string]float64)) *table {
	t := &table{
		duration: intervals * time.Minute,
		fresh:    map[string]float64{"server": 60, "agent": 35}, end: map[string]float64{"server": 61, "agent": 35},
	}
	for n := 1; n <= samples; n++ {
		s := sample{at: time.Duration(n) * time.Minute, index: uint64(n) * 2000, load: "1 1 1", figures: make(map[string]float64)}
		for _, c := range columns {
			s.figures[c.name] = 100
		}
		change(n, s.figures)
		t.samples = append(t.samples, s)
	}
	return t
}

func TestGrowthIsFound(t *testing.T) {
	rises := func(column string, from, to int) func(int, map[string]float64) {
		return func(n int, figures map[string]float64) {
			if n >= from && n <= to {
				figures[column] = 1000
			}
		}
	}
	for what, c := range map[string]struct {
		samples      int
		change       func(int, map[string]float64)
		inconclusive bool
		grown        string // part of the error; "" for no growth
	}{
		"constant":                      {30, rises("", 0, 0), false, ""},
		"growth before the early fifth": {30, rises("server MB", 1, 30), false, ""},
		"growth in the last fifth":      {30, rises("server MB", 26, 30), false, "server MB grew from 100.0 to 1000.0"},
		"only the last three are high":  {30, rises("agent MB", 28, 30), false, "agent MB grew from 100.0 at the very end"},
		"only the last one is high":     {30, rises("server goroutines", 30, 30), true, ""},
		"a peak before the last":        {30, rises("server MB", 29, 29), true, ""},
		"a temporary peak":              {32, rises("server MB", 29, 29), false, ""},
		"a late growth that stays":      {32, rises("server MB", 30, 32), false, "at the very end"},
		"the engine is slower, too": {30, func(n int, f map[string]float64) {
			rises("run ms", 26, 30)(n, f)
			rises("engine ms", 26, 30)(n, f)
		}, false, ""},
		"goroutines leak": {30, func(n int, f map[string]float64) {
			f["agent goroutines"] += float64(4 * n)
		}, false, "agent goroutines grew"},
		"a column without values":  {30, func(n int, f map[string]float64) { delete(f, "exec ms") }, false, ""},
		"a run that is too short":  {20, rises("", 0, 0), false, "too few"},
		"only the control grows":   {30, rises("engine ms", 28, 30), false, ""},
		"the data with a full log": {30, rises("data MB", 28, 30), false, "data MB grew"},
	} {
		table := newTable(c.samples, c.change)
		if got := table.inconclusive(); got != c.inconclusive {
			t.Errorf("%s: inconclusive is %v", what, got)
		}
		err := table.growth()
		if c.grown == "" && err != nil || c.grown != "" && (err == nil || !strings.Contains(err.Error(), c.grown)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	leaked := newTable(30, rises("", 0, 0))
	leaked.end["agent"] = 35 + moreGoroutines + 1
	if err := leaked.growth(); err == nil || !strings.Contains(err.Error(), "the agent ends with 84 goroutines, a fresh one has 35") {
		t.Errorf("goroutines that are left at the end: %v", err)
	}
}

func TestPageShowsResultAndTable(t *testing.T) {
	table := newTable(30, func(int, map[string]float64) {})
	table.machine = rig.Machine(t.Context(), "/bin/false")
	table.head()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := table.write(file, table.growth()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		" UTC, load average", "\n- magnum unknown", " cores of ", "Nothing grew by more than", "| server goroutines | agent goroutines |",
	} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the page has no %q", part)
		}
	}
	if strings.Contains(string(page), "%!") {
		t.Error(string(page))
	}
}
