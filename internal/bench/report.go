package main

import (
	"bytes"
	"errors"
	"fmt"
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
	gate          bound // what a run fails without
	aim           bound // what is to be reached yet, where that is more than the gate
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
interleaved pairs on one machine: a round of magnum and a round of what it is
measured against, taking turns at being first. The lowest and highest figures are
in brackets. Machines differ and are noisy, so compare the ratios, not the rates.
` + "`make bench`" + ` fails if a gate is missed. An aim is what magnum is to reach beyond
its gate.

`

const foot = `
## What is measured

- **create and run**: from the POST until the API says Running, against create
  and start on the Docker engine itself, on the same network and with the same
  log settings. The burst sends 50 at once; the engine gets them from 8 workers,
  which is what it does best with.
- **durable create**: the POST of a container for which there is no host, answered
  once it is decided, in the log on disk, and applied. It is measured against a
  process that decodes the same body with encoding/json, commits the same bytes
  with one raft.Apply to the same store, and answers with the same bytes. With
  many clients, it is measured against a process that commits nothing at all.
  ` + "`wrk`" + ` sends from the same machine and takes its share of the cores on both
  sides.
- **GET**: against a net/http handler that writes the same bytes.
- **execute, logs**: the same command and the same log through the API and
  directly from the engine.
- **memory**: resident memory of the process.
- **failover**: three servers. Two clients write through the followers, one write
  after the other. For a kill -9, the time runs from the signal to the end of the
  first write that was begun after it. A clean stop may go unnoticed, so there it
  is the longest time between the ends of two writes.
- **lost host**: the agent of a host is killed. The time ends when the API says
  that the container, of restart policy always, runs on the other host.

The yardstick is ` + "`internal/bench/yardstick`" + `. ` + "`scripts/bench -h`" + ` explains how to
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
