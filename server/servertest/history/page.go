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

// Run is what one run of a test under faults has come to: a row of the page on
// reliability.
type Run struct {
	What       string // the test, in a few words
	Version    string // of the program
	Seed       uint64
	Duration   time.Duration
	Faults     string // how many of each kind
	Figures    Figures
	Lives      int    // containers that really ran, and were deleted
	Violations int    // all of them, with those that the figures don't count
	Gap        string // the longest time without a change that succeeded, and in which fault
	Load       string // load average
}

const pageHead = `# Reliability

Written by ` + "`make chaos`" + `, a row for each run; don't edit it. A run prints its
seed, each fault and each violation; ` + "`make chaos DURATION=30m SEED=n`" + ` chooses the
same faults again.

- **three processes**: three real servers and two real agents
  (` + "`internal/e2e/chaos_test.go`" + `). Servers are killed, one or all, stopped cleanly and
  held with SIGSTOP while they lead, agents killed and held until their host is
  lost; as root, each is a host of its own, an agent's with a Docker engine of its own, and the
  network between them is cut, in one direction too, slow, or loses packets. After each fault all
  servers must have the same state (I3), and in between what runs on the engines must be what is
  wanted (I5, I6), and late reports must change nothing (I9). By the engines' events no epoch is
  there twice (I4), and no two copies of an exclusive container run at a time; no log has a
  secret (I12).
- **one process**: three servers whose Raft dies, hands over or writes to a slow
  disk (` + "`server/linear_test.go`" + `).

In both, clients write and read the same few objects through all servers, move to
another when one fails, and take actions on containers. What they were told must
fit one order of events (I1, I2, I10; porcupine), no client is shown an older state
than before, and all who read at one index read the same. Acknowledged are the
operations that were carried out or refused by the object's state; failed those that
certainly were not carried out, and reads without an answer; of unknown ones the
client was told that nobody knows. The longest time without a change that
succeeded includes what the fault itself takes: all servers are away for up to 2 s.

What runs with violations have shown is fixed, and has a test of its own:

- a consistent read of an old state, from a leader that was held and found answers
  to its heartbeats in its sockets when it went on: only answers to what was sent
  after the question now prove that it leads;
- a create, a delete or an action that was carried out twice, because the server
  that was asked tried again what it didn't know the outcome of, and somebody had
  deleted or made the object in between;
- a delete that took what was made anew under the same UUID, as one entry held its
  first try and the create, and did not tell the two objects apart;
- two copies of a container with a lease, for six seconds: the agent's disk was slow,
  the end of the lease waited for it, and a renewal that came too late counted.

One violation was the test's own: it took a refusal of a second try for the end of
the first. One is not explained: a leader that was stopped cleanly had not ended
after a minute. Since then a server that is stopped hangs up on all others before
it waits for Raft; should it come again, the log tells what each goroutine waits for.

| when (UTC) | what | version | seed | duration | faults | acknowledged | failed | unknown | objects checked | containers run | violations | longest time without a write | load average |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// Append adds the run to the page at path, "" for none, whatever it has come to.
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
		fmt.Sprint(r.Figures.Acknowledged), fmt.Sprint(r.Figures.Refused), fmt.Sprint(r.Figures.Unknown), fmt.Sprint(r.Figures.Judged),
		fmt.Sprint(r.Lives), fmt.Sprint(r.Violations), r.Gap, r.Load,
	}
	page = append(page, "| "+strings.Join(cells, " | ")+" |\n"...)
	return os.WriteFile(path, page, 0o644)
}

// FromEnv returns how long a test is to take and what it chooses by: DURATION
// over SHARE, which is 1 by default, and SEED.
func FromEnv(short time.Duration, chance uint64) (duration time.Duration, seed uint64, err error) {
	duration, seed = short, chance
	if v := os.Getenv("DURATION"); v != "" {
		if duration, err = time.ParseDuration(v); err != nil {
			return 0, 0, fmt.Errorf("DURATION: %w", err)
		}
	}
	if v := os.Getenv("SHARE"); v != "" {
		share, err := strconv.ParseUint(v, 10, 16)
		if err != nil || share == 0 {
			return 0, 0, fmt.Errorf("SHARE: %q is no part: give a number from 1 on", v)
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

// Load returns the load averages of the last minutes.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(b)); err == nil && len(fields) > 2 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}
