package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Run is the result of one run of a test under faults: a row of the page about
// reliability.
type Run struct {
	What          string // the test, in a few words
	Version       string // of magnum
	Seed          uint64
	Duration      time.Duration
	Faults        string // number of faults of each kind
	Figures       Figures
	ContainersRun int    // containers that ran on an engine and were deleted
	Violations    int    // all violations, including those that Figures doesn't count
	Gap           string // the longest time without a successful write, and its fault
	Load          string // load average
}

// pageColumns are the columns of the page's table.
const pageColumns = "| when (UTC) | what | version | seed | duration | faults | acknowledged | failed | unknown " +
	"| objects checked | containers run | violations | longest time without a write | load average |"

// pageHead is the page before its first row.
const pageHead = `# Reliability

` + "`make chaos`" + ` writes this page and adds a row for each run; don't edit the rows. A run prints
its seed, each fault and each violation; ` + "`make chaos DURATION=30m SEED=n`" + ` repeats the choice
of faults.

- **three processes**: three real servers and two real agents
  (` + "`internal/e2e/chaos_test.go`" + `). Servers are killed, one or all of them, stopped cleanly,
  and frozen with SIGSTOP while they lead. Agents are killed, and frozen until their host is lost.
  As root, each process is a host of its own, an agent with its own Docker engine, and the network
  between the hosts is cut, also in one direction, slowed down, or loses packets. After each fault
  all servers must have the same state (I3). In between, the containers on the engines must be as
  desired (I5, I6), and late reports must change nothing (I9). By the engines' events no epoch
  exists twice (I4), and no two copies of an exclusive container run at the same time. No log
  contains a secret (I12).
- **one process**: three servers whose Raft fails, transfers leadership or writes to a slow
  disk (` + "`server/linear_test.go`" + `).

In both tests, clients write and read the same few objects through all servers, switch to
another server when one fails, and take actions on containers. Their answers must fit one order
of events (I1, I2, I10; porcupine), no client gets an older state than before, and all reads at
one index return the same. Acknowledged operations were carried out, or refused by the object's
state. Failed operations were certainly not carried out; reads without an answer count as failed.
For an unknown operation the client can't know whether it was carried out. The longest time
without a write includes the duration of the fault: all servers are down for up to 2 s.

The violations of earlier runs are fixed, each with a test of its own:

- A consistent read returned an old state. The leader had been frozen, and found answers to its
  heartbeats in its sockets when it continued. Now only answers to messages sent after the read
  prove leadership.
- A create, a delete or an action was carried out twice. The server retried it after an unknown
  outcome, and another client had deleted or created the object in between.
- A delete removed an object that was created again under the same UUID. One entry held the first
  attempt of the delete and the create, and did not tell the two objects apart.
- Two copies of a container with a lease ran for six seconds. The agent's disk was slow, the end
  of the lease waited for it, and a renewal that came too late counted.
- A leader that was stopped cleanly had not ended after a minute. A sender of entries waited for
  the reader of the follower's answers, which had ended at a refusal.

One violation was the test's own: it took the refusal of a second attempt for the outcome of the
first.

` + pageColumns + `
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// Append adds the run, whatever its result, to the page at path; "" adds it nowhere. A
// missing page is created.
func (r Run) Append(path string) error {
	if path == "" {
		return nil
	}
	page, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		page, err = []byte(pageHead), nil
	}
	if err != nil {
		return err
	}
	cells := []string{
		time.Now().UTC().Format("2006-01-02 15:04"), r.What, r.Version, fmt.Sprint(r.Seed), r.Duration.String(), r.Faults,
		fmt.Sprint(r.Figures.Acknowledged), fmt.Sprint(r.Figures.Refused), fmt.Sprint(r.Figures.Unknown), fmt.Sprint(r.Figures.Checked),
		fmt.Sprint(r.ContainersRun), fmt.Sprint(r.Violations), r.Gap, r.Load,
	}
	page = append(page, "| "+strings.Join(cells, " | ")+" |\n"...)
	return os.WriteFile(path, page, 0o644)
}

// FromEnv returns the duration of a test and the seed of its choices from the environment:
// DURATION divided by SHARE, which is 1 by default, and SEED. defaultDuration and
// defaultSeed replace unset variables.
func FromEnv(defaultDuration time.Duration, defaultSeed uint64) (duration time.Duration, seed uint64, err error) {
	duration, seed = defaultDuration, defaultSeed
	if v := os.Getenv("DURATION"); v != "" {
		if duration, err = time.ParseDuration(v); err != nil {
			return 0, 0, fmt.Errorf("DURATION: %w", err)
		}
	}
	if v := os.Getenv("SHARE"); v != "" {
		share, err := strconv.ParseUint(v, 10, 16)
		if err != nil || share == 0 {
			return 0, 0, fmt.Errorf("SHARE: %q is not a whole number of 1..65535", v)
		}
		duration /= time.Duration(share)
	}
	if v := os.Getenv("SEED"); v != "" {
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("SEED: %w", err)
		}
	}
	return duration, seed, nil
}

// Load returns the load averages of the last 1, 5 and 15 minutes, "unknown" without /proc.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(b)); err == nil && len(fields) > 2 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}
