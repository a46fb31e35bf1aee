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
	// intervals is how many samples a run takes.
	intervals = 30
	// The samples of the fifth that begins at warm are compared with those of the
	// last fifth. In 30 minutes that is past the 10 that idempotency keys live.
	warm = 0.4

	// last is how many samples the end is: what all of them have too much of has
	// grown, however late it began.
	last = 3
	// more is how many samples are taken in addition while some of the last have
	// too much of something and others don't: a rise that has just begun, or one
	// that passes, as that of memory with a snapshot does.
	more = intervals / 5

	// fullLog is how many entries the log holds when it stops growing: those that
	// are kept behind a snapshot and those that make a new one due.
	fullLog = 2 * snapshotEvery
)

// column is a figure of the samples and how much more of it the end may show.
// The control is for comparison only.
type column struct {
	name   string
	factor float64 // of what it was
	plus   float64 // and so much on top
}

// columns are the table's. The tolerances are for a machine that does other
// things, too: a leak of one thing in each life is found many times over.
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

// moreGoroutines is how many goroutines the end may have more than a fresh
// process: those of connections that are kept.
const moreGoroutines = 48

// table is what a run found.
type table struct {
	duration   time.Duration
	machine    []string // what is measured and where, a line each
	samples    []sample
	fresh, end map[string]float64 // goroutines by process that has nothing to do
	text       bytes.Buffer       // as it is printed and kept
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

// flat returns what has grown more than it may, nil if nothing has.
func (t *table) flat() error {
	early := t.between(warm, warm+0.2)
	late := t.between(0.8, 2)
	if len(early) == 0 || len(late) < last {
		return fmt.Errorf("%d samples are too few to compare", len(t.samples))
	}
	end := late[len(late)-last:]
	var grown []error
	for _, c := range columns {
		if !c.judged(early) {
			continue
		}
		was, is, most := median(early, c.name), median(late, c.name), c.most(early, late)
		if is > most {
			grown = append(grown, fmt.Errorf("%s grew from %.1f to %.1f, more than to %.1f", c.name, was, is, most))
		} else if over, _ := c.over(early, end); over == last {
			grown = append(grown, fmt.Errorf("%s grew from %.1f at the very end: all of the last samples have more than %.1f", c.name, was, c.most(early, end)))
		}
	}
	for _, name := range []string{"server", "agent"} {
		if t.end[name] > t.fresh[name]+moreGoroutines {
			grown = append(grown, fmt.Errorf("the %s ends with %.0f goroutines, a fresh one has %.0f", name, t.end[name], t.fresh[name]))
		}
	}
	return errors.Join(grown...)
}

// open reports whether the last samples leave open if something grows: some have
// too much of it, and some don't.
func (t *table) open() bool {
	early := t.between(warm, warm+0.2)
	end := t.samples[max(0, len(t.samples)-last):]
	return slices.ContainsFunc(columns, func(c column) bool {
		over, of := c.over(early, end)
		return c.judged(early) && over > 0 && over < of
	})
}

// judged reports whether growth of the column says anything: the control's does
// not, nor does that of a log which has not its full length.
func (c column) judged(early []sample) bool {
	if c.name == "data MB" {
		return len(early) > 0 && early[0].index >= fullLog
	}
	return c.name != stepEngine+" ms"
}

// most is what the later samples may have. Latencies may grow as the machine got
// slower, which the engine itself shows.
func (c column) most(early, later []sample) float64 {
	most := median(early, c.name)*c.factor + c.plus
	if strings.HasSuffix(c.name, " ms") {
		most *= max(1, median(later, stepEngine+" ms")/max(1, median(early, stepEngine+" ms")))
	}
	return most
}

// over counts the later samples that have too much, of those that have the figure.
func (c column) over(early, later []sample) (over, of int) {
	most := c.most(early, later)
	for _, s := range later {
		if f, ok := s.figures[c.name]; ok {
			of++
			if f > most {
				over++
			}
		}
	}
	return over, of
}

// between returns the samples of a part of the run.
func (t *table) between(from, to float64) []sample {
	var out []sample
	for _, s := range t.samples {
		if part := s.at.Seconds() / t.duration.Seconds(); part >= from && part < to {
			out = append(out, s)
		}
	}
	return out
}

// median returns the median of those samples that have the figure.
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

// write writes the page.
func (t *table) write(path string, verdict error) error {
	words := "Nothing grew by more than its tolerance."
	if verdict != nil {
		words = "It was NOT flat: " + strings.ReplaceAll(verdict.Error(), "\n", "; ") + "."
	}
	if early := t.between(warm, warm+0.2); len(early) > 0 && early[0].index < fullLog {
		words += fmt.Sprintf(" The size of the data is not judged, for the log had not its %d entries yet.", fullLog)
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
		words, warm*100, last, more, snapshotEvery, t.end["server"], t.end["agent"], t.fresh["server"], t.fresh["agent"], moreGoroutines)
	return os.WriteFile(path, append([]byte(page), t.text.Bytes()...), 0o644)
}
