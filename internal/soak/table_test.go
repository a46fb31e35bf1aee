package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// ran is a table of a run whose figures stay as they are, but for those that
// change writes over from the sample of that number on.
func ran(samples int, change func(n int, figures map[string]float64)) *table {
	t := &table{duration: intervals * time.Minute, fresh: map[string]float64{"server": 60, "agent": 35}, end: map[string]float64{"server": 61, "agent": 35}}
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

func TestFlat(t *testing.T) {
	rises := func(column string, from, to int) func(int, map[string]float64) {
		return func(n int, figures map[string]float64) {
			if n >= from && n <= to {
				figures[column] = 1000
			}
		}
	}
	for what, c := range map[string]struct {
		samples int
		change  func(int, map[string]float64)
		open    bool
		grown   string // "" if it is flat
	}{
		"nothing grows":                  {30, rises("", 0, 0), false, ""},
		"it grows early and stays":       {30, rises("server MB", 1, 30), false, ""},
		"it grows in the last fifth":     {30, rises("server MB", 26, 30), false, "server MB grew from 100.0 to 1000.0"},
		"only the last three are high":   {30, rises("agent MB", 28, 30), false, "agent MB grew from 100.0 at the very end"},
		"only the last one is high":      {30, rises("server goroutines", 30, 30), true, ""},
		"a peak before the last":         {30, rises("server MB", 29, 29), true, ""},
		"one that is over":               {32, rises("server MB", 29, 29), false, ""},
		"one that stays":                 {32, rises("server MB", 30, 32), false, "at the very end"},
		"one that the engine has, too":   {30, func(n int, f map[string]float64) { rises("run ms", 26, 30)(n, f); rises("engine ms", 26, 30)(n, f) }, false, ""},
		"goroutines leak":                {30, func(n int, f map[string]float64) { f["agent goroutines"] += float64(4 * n) }, false, "agent goroutines grew"},
		"a step that was not taken":      {30, func(n int, f map[string]float64) { delete(f, "exec ms") }, false, ""},
		"a run that is too short":        {20, rises("", 0, 0), false, "too few"},
		"the control is not magnum's":    {30, rises("engine ms", 28, 30), false, ""},
		"the data of a log that is full": {30, rises("data MB", 28, 30), false, "data MB grew"},
	} {
		table := ran(c.samples, c.change)
		if open := table.open(); open != c.open {
			t.Errorf("%s: open is %v", what, open)
		}
		if err := table.flat(); c.grown == "" && err != nil || c.grown != "" && (err == nil || !strings.Contains(err.Error(), c.grown)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	left := ran(30, rises("", 0, 0))
	left.end["agent"] = 35 + moreGoroutines + 1
	if err := left.flat(); err == nil || !strings.Contains(err.Error(), "the agent ends with 84 goroutines, a fresh one has 35") {
		t.Errorf("goroutines that are left: %v", err)
	}
}

func TestPage(t *testing.T) {
	table := ran(30, func(int, map[string]float64) {})
	table.machine = rig.Machine(t.Context(), "/bin/false")
	table.head()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := table.write(file, table.flat()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{" UTC, load average", "\n- magnum unknown", " cores of ", "Nothing grew by more than", "| server goroutines | agent goroutines |"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the page has no %q", part)
		}
	}
	if strings.Contains(string(page), "%!") {
		t.Error(string(page))
	}
}
