package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// row is one line of the report.
type row struct {
	what          string
	other         string // what theirs is; "" if nothing is compared
	ours          string
	theirs, ratio string
	figure        float64 // what builds are compared by: the median ratio, or what is measured if there is none; 0: by nothing
	higher        bool    // a higher figure is better
	gate          bound   // what a run fails without
	aim           bound   // what is to be reached yet, where that is more than the gate
}

// bound is what a figure is held against. Without a text there is none.
type bound struct {
	text string // ≤ 1.6
	met  bool
}

// report prints the row and keeps it for the page.
func (b *bench) report(r row) {
	b.rows = append(b.rows, r)
	line := r.what + ": magnum " + r.ours
	if r.theirs != "" {
		line += fmt.Sprintf("; %s %s", r.other, r.theirs)
	}
	if r.ratio != "" {
		line += "; ratio or difference " + r.ratio
	}
	if v := r.verdict(); v != "" {
		line += "; " + v
	}
	fmt.Printf("%s; load average %s\n", line, rig.LoadAverage())
}

// verdict tells of gate and aim apart: a gate that is met is no aim reached.
func (r row) verdict() string {
	var parts []string
	if r.gate.text != "" {
		word := "MISSED"
		if r.gate.met {
			word = "met"
		}
		parts = append(parts, "gate "+r.gate.text+" "+word)
	}
	if r.aim.text != "" {
		word := "not reached"
		if r.aim.met {
			word = "reached"
		}
		parts = append(parts, "aim "+r.aim.text+" "+word)
	}
	return strings.Join(parts, ", ")
}

// compare prints how the figures of a build differ from those of an earlier one.
func compare(w io.Writer, earlier, now []row) {
	fmt.Fprintln(w, "\nBefore and after, by ratios:")
	for i, r := range now {
		was := earlier[i].figure
		if r.figure == 0 || was == 0 {
			continue
		}
		worse := r.figure/was - 1
		if r.higher {
			worse = was/r.figure - 1
		}
		word := "worse"
		if worse < 0 {
			worse, word = -worse, "better"
		}
		fmt.Fprintf(w, "%s: %.4g, then %.4g: %.1f %% %s\n", r.what, was, r.figure, 100*worse, word)
	}
}

// missed returns the gates that are missed, nil if there are none.
func (b *bench) missed() error {
	var missed []error
	for _, r := range b.rows {
		if r.gate.text != "" && !r.gate.met {
			missed = append(missed, fmt.Errorf("%s: %s", r.what, r.verdict()))
		}
	}
	return errors.Join(missed...)
}

const head = `# Performance

Written by ` + "`make bench`" + `; don't edit it. Each figure is the median of
interleaved pairs on one machine: a round of magnum, a round of what it is
measured against, the first place in turns. In brackets stand the lowest and the
highest. Machines differ and are noisy, so the ratios are what can be compared;
the rates are not. ` + "`make bench`" + ` fails if a gate is missed; an aim is what magnum is to
reach beyond its gate.

`

const foot = `
## What is measured

- **create and run**: from the POST until the API says Running, against create
  and start on the Docker engine itself, on the same network and with the same
  log settings. The burst sends 50 at once; the engine gets them from 8 workers,
  which is what it does best with.
- **durable create**: POST of a container for which no host is there, answered
  once it is decided, in the log on disk and applied. It is measured against a
  process that decodes the same body with encoding/json, commits the same bytes
  with one raft.Apply to the same store, and answers with the same bytes;
  with many clients, against one that commits nothing at all. ` + "`wrk`" + ` sends
  from the same machine and takes its share of the cores on both sides.
- **GET**: against a net/http handler that writes the same bytes.
- **execute, logs**: the same command and the same log through the API and
  straight from the engine.
- **memory**: resident memory of the process.
- **failover**: three servers. Two clients write through those that don't lead,
  one write after the other. For a kill -9 it is the time from the signal to the
  end of the first write that was begun after it; a clean stop may go unnoticed,
  so there it is the longest time between the ends of two writes. A **lost host**
  is one whose agent is killed; the time ends when the API says that the
  container, of restart policy always, runs on the other host.

The yardstick is ` + "`internal/bench/yardstick`" + `. ` + "`scripts/bench -h`" + ` says how to
measure only some of it, and more quickly.
`

// write writes the page.
func (b *bench) write(path string) error {
	var page bytes.Buffer
	page.WriteString(head)
	for _, line := range b.machine {
		fmt.Fprintf(&page, "- %s\n", line)
	}
	page.WriteString("\n| What | magnum | measured against | ratio or difference | gate and aim |\n|---|---|---|---|---|\n")
	for _, r := range b.rows {
		theirs := strings.TrimSpace(r.theirs)
		if r.other != "" {
			theirs += ", " + r.other
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", r.what, r.ours, theirs, r.ratio, r.verdict())
	}
	page.WriteString(foot)
	return os.WriteFile(path, page.Bytes(), 0o644)
}
