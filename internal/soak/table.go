package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

const (
	// intervals is the number of samples of a run.
	intervals = 30
	// warm is the part of the run after which the early samples begin. They last for a
	// fifth of the run, and are compared with the last fifth. In a run of 30 minutes they
	// begin after idempotency keys have started to expire, which takes 10 minutes.
	warm = 0.4

	// last is the number of samples at the very end. A value that all of them have above
	// its tolerance has grown, even if the growth began late.
	last = 3
	// extraSamples bounds the samples that are added while some of the last are above a
	// tolerance and others are not: the growth may have just begun, or be temporary, as
	// that of memory during a snapshot.
	extraSamples = intervals / 5

	// fullLog is the number of entries at which the log stops growing: those kept behind
	// a snapshot, and those until the next snapshot.
	fullLog = 2 * snapshotEvery
)

// column is a column of the table with its tolerance: the value at the end may be factor
// times the early value, plus plus. The control has none.
type column struct {
	name   string
	factor float64
	plus   float64
}

// columns are the columns of the table. The tolerances allow for a machine with other
// load: a leak of one resource in each lifecycle exceeds them by far.
var columns = []column{
	{"server MB", 1.15, 4}, {"agent MB", 1.15, 4},
	{"server fds", 1, 16}, {"agent fds", 1, 16},
	{"server threads", 1, 8}, {"agent threads", 1, 8},
	{"server goroutines", 1, 24}, {"agent goroutines", 1, 24},
	{"data MB", 1.15, 1},
	{stepRun + " ms", 1.5, 50}, {stepExec + " ms", 1.5, 50}, {stepLogs + " ms", 1.5, 50},
	{stepStop + " ms", 1.5, 50}, {stepDelete + " ms", 1.5, 50},
	{stepEngine + " ms", 0, 0},
}

// moreGoroutines is how many goroutines a process at the end may have more than a fresh
// one, for open connections.
const moreGoroutines = 48

// table is the result of a run.
type table struct {
	duration   time.Duration
	machine    []string // lines of rig.Machine
	samples    []sample
	fresh, end map[string]float64 // goroutines of the idle processes, by name
	text       bytes.Buffer       // the table as printed
}

func (t *table) head() {
	names := []string{"time", "lives", "log index"}
	for _, c := range columns {
		names = append(names, c.name)
	}
	t.line(append(names, "load"))
	t.line(slices.Repeat([]string{"---"}, len(names)+1))
}

func (t *table) line(cells []string) {
	line := "| " + strings.Join(cells, " | ") + " |\n"
	t.text.WriteString(line)
	fmt.Print(line)
}

func (t *table) add(s sample) {
	t.samples = append(t.samples, s)
	cells := []string{s.at.Round(time.Second).String(), fmt.Sprint(s.lives), fmt.Sprint(s.index)}
	for _, c := range columns {
		format := "%.0f"
		if strings.HasSuffix(c.name, "MB") {
			format = "%.1f"
		}
		cells = append(cells, fmt.Sprintf(format, s.figures[c.name]))
	}
	t.line(append(cells, strings.Fields(s.load)[0]))
}

// growth returns an error that lists what has grown beyond its tolerance, nil if nothing
// has.
func (t *table) growth() error {
	early := t.between(warm, warm+0.2)
	late := t.between(0.8, 2)
	if len(early) == 0 || len(late) < last {
		return fmt.Errorf("%d samples are too few to compare", len(t.samples))
	}
	end := late[len(late)-last:]
	var grown []error
	for _, c := range columns {
		if !c.checked(early) {
			continue
		}
		before, after, limit := median(early, c.name), median(late, c.name), c.limit(early, late)
		if after > limit {
			grown = append(grown, fmt.Errorf("%s grew from %.1f to %.1f, above the limit of %.1f", c.name, before, after, limit))
		} else if over, _ := c.over(early, end); over == last {
			grown = append(grown, fmt.Errorf("%s grew from %.1f at the very end: all of the last samples are above the limit of %.1f",
				c.name, before, c.limit(early, end)))
		}
	}
	for _, name := range []string{"server", "agent"} {
		if t.end[name] > t.fresh[name]+moreGoroutines {
			grown = append(grown, fmt.Errorf("the %s ends with %.0f goroutines, a fresh one has %.0f", name, t.end[name], t.fresh[name]))
		}
	}
	return errors.Join(grown...)
}

// inconclusive reports whether only some of the last samples are above a limit.
func (t *table) inconclusive() bool {
	early := t.between(warm, warm+0.2)
	end := t.samples[max(0, len(t.samples)-last):]
	return slices.ContainsFunc(columns, func(c column) bool {
		over, of := c.over(early, end)
		return c.checked(early) && over > 0 && over < of
	})
}

// checked reports whether the column is checked for growth. The control is not, nor is the
// size of the data before the log has reached its full length.
func (c column) checked(early []sample) bool {
	if c.name == "data MB" {
		return len(early) > 0 && early[0].index >= fullLog
	}
	return c.name != stepEngine+" ms"
}

// limit returns the limit of the later samples. That of latencies rises with the latency
// of the control, because the machine may have become slower.
func (c column) limit(early, later []sample) float64 {
	limit := median(early, c.name)*c.factor + c.plus
	if strings.HasSuffix(c.name, " ms") {
		limit *= max(1, median(later, stepEngine+" ms")/max(1, median(early, stepEngine+" ms")))
	}
	return limit
}

// over returns how many of the later samples are above the limit, and how many have a
// value.
func (c column) over(early, later []sample) (over, of int) {
	limit := c.limit(early, later)
	for _, s := range later {
		if f, ok := s.figures[c.name]; ok {
			of++
			if f > limit {
				over++
			}
		}
	}
	return over, of
}

// between returns the samples from one part of the run, 0 to 1, to another.
func (t *table) between(from, to float64) []sample {
	var out []sample
	for _, s := range t.samples {
		if part := s.at.Seconds() / t.duration.Seconds(); part >= from && part < to {
			out = append(out, s)
		}
	}
	return out
}

// median returns the median of a column, over the samples with a value; 0 if none has one.
func median(samples []sample, name string) float64 {
	var v []float64
	for _, s := range samples {
		if f, ok := s.figures[name]; ok {
			v = append(v, f)
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// write writes the page to a file. verdict is the result of growth.
func (t *table) write(path string, verdict error) error {
	result := "Nothing grew by more than its tolerance."
	if verdict != nil {
		result = "There was GROWTH: " + strings.ReplaceAll(verdict.Error(), "\n", "; ") + "."
	}
	if early := t.between(warm, warm+0.2); len(early) > 0 && early[0].index < fullLog {
		result += fmt.Sprintf(" The size of the data is not checked, because the log had not reached %d entries yet.", fullLog)
	}
	page := fmt.Sprintf(`# Soak

Written by `+"`make soak`"+`; don't edit it. %d containers at a time live whole
lives on a real Docker engine: they are created and run, execute a command, have
their log read, are stopped and deleted. %d more run from the beginning to the
end. The run was to last %v. The load average at the end was %s.

- %s

%s

## How growth is judged

The medians of two fifths of the run are compared: the fifth that begins at
%.0f%%, and the last one. Each of the last %d samples is compared with the former
too: if all of them are above the tolerance, it has grown; if some are, the run
goes on for up to %d samples more.

| figure | may grow by |
|---|---|
| memory | 15%% and 4 MB |
| data | 15%% and 1 MB |
| descriptors | 16 |
| threads | 8 |
| goroutines | 24 |
| latencies (medians of the interval) | half and 50 ms, and the growth of the column engine |

The column engine is create and start on the engine itself: it shows how much
slower the machine became, because it does other things too. The server takes a
snapshot after %d entries of its log and keeps as many behind it (8192 and 2048 by
default), so that the log is cut again and again. The data is not judged before
that has begun.

Idle goroutines after the last life: server %.0f and agent %.0f. Fresh processes with
the same standing containers have %.0f and %.0f. %d more are accepted, for connections
that are kept. The goroutines in the table are of processes at work, and include
the runtime's own.

`, *lives, *standing, t.duration, rig.LoadAverage(), strings.Join(t.machine, "\n- "),
		result, warm*100, last, extraSamples, snapshotEvery,
		t.end["server"], t.end["agent"], t.fresh["server"], t.fresh["agent"], moreGoroutines)
	return os.WriteFile(path, append([]byte(page), t.text.Bytes()...), 0o644)
}
