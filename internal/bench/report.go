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

// row is one row of the report.
type row struct {
	what          string
	other         string // what theirs measures; "" without a comparison
	ours          string
	theirs, ratio string
	figure        float64 // what builds are compared by: the median ratio, or the measured value without one; 0: not compared
	higher        bool    // a higher figure is better
	gate          bound   // the run fails if it is missed
	aim           bound   // a goal beyond the gate
}

// bound is a limit of a value. Without a text there is none.
type bound struct {
	text string // such as ≤ 1.6
	met  bool
}

// report prints the row and keeps it for the page.
func (b *bench) report(r row) {
	b.rows = append(b.rows, r)
	line := r.what + ": magnum " + r.ours
	if b.turns != nil {
		line = rig.Version(b.ctx, b.program) + ": " + line
	}
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

// verdict says of gate and aim separately whether they are met.
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

// missed returns an error about the missed gates, nil if there are none.
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

` + "`make bench`" + ` writes this page; don't edit it. Each value is the median of interleaved pairs on one
machine: a round of magnum and a round of its baseline, which take turns at being first. The lowest
and the highest value are in parentheses. Machines differ and are noisy, so only the ratios are
comparable, not the rates. ` + "`make bench`" + ` fails if a gate is missed; an aim is a goal beyond the
gate.

`

const foot = `
## What is measured

- **create and run**: the time from the POST until the API reports Running. The baseline is a create
  and a start on the Docker engine itself, on the same network and with the same log settings. The
  burst sends 50 requests at once; the engine gets them from 8 workers, with which it is fastest.
- **pods**: the same for 100 pods at once, each of two containers. The baseline is a create and a start
  of the same 200 containers and of 100 infra containers, which they join.
- **durable create**: a POST of a container in a bay without hosts. It is answered when the create is
  decided, in the log on disk, and applied. The baseline for one client is a process that decodes the
  same body with encoding/json, commits the same bytes with one raft.Apply to the same store, and
  answers with the same bytes. For many clients it commits nothing. ` + "`wrk`" + ` runs on the same
  machine and uses the same cores on both sides.
- **GET**: the baseline is a net/http handler that writes the same bytes.
- **proxy, relay**: requests of ` + "`wrk`" + ` to the node port of a service with one pod, an HTTP server, and
  directly to that pod. The pod is on a bridge of the host, as containers are; host and pod are network
  namespaces. Through the relay, the pod is on another host, which is directly reached by a route.
  Client, data path and pod share the machine's cores, so the ratio is one of processor time.
  For UDP, 16 clients each send a datagram of 64 bytes and wait until it comes back.
- **execute, logs**: the same command and the same log through the API and directly from the engine.
- **pod in a Kubernetes cluster**: the time from the request until Running is reported. The baseline
  is a POST of the same pod to the API of the same cluster, and a watch.
- **memory**: resident memory of the process.
- **failover**: three servers. Two clients write through the followers, each sequentially. For a
  kill -9 the value is the time from the signal to the end of the first write that began after it.
  A clean stop may interrupt no write, so there it is the longest time between the ends of two
  writes. For a **lost host** an agent is killed; the time ends when the API reports that the
  container, with restart policy always, runs on the other host.

The baseline is ` + "`internal/bench/baseline`" + `. ` + "`scripts/bench -h`" + ` lists the flags for single
measurements and quick runs.
`

// write writes the page to a file.
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
