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

// pageHead is the page before its first row.
const pageHead = `# Reliability

Written by ` + "`make chaos`" + `, one row for each run; don't edit it. A run prints its
seed, each fault and each violation. ` + "`make chaos DURATION=30m SEED=n`" + ` chooses the
same faults again.

## What is tested

- **three processes**: three real servers and two real agents
  (` + "`internal/e2e/chaos_test.go`" + `). Servers are killed, one or all of them. They are
  stopped cleanly, and held with SIGSTOP while they lead. Agents are killed, and
  held until their host is lost. As root, each process is a host of its own, an
  agent's with a Docker engine of its own. The network between them is cut (in one
  direction too), is slow, or loses packets.
- **one process**: three servers whose Raft dies, hands over or writes to a slow
  disk (` + "`server/linearizable_test.go`" + `).

In both, clients write and read the same few objects through all servers, move to
another server when one fails, and take actions on containers. With three
processes they also create, change, scale and delete pods, services and
replication controllers. These must hold:

- The answers that clients got fit one order of events (I1, I2, I10; porcupine).
- No client is shown an older state than before.
- All who read at one index read the same.

With three processes, these must hold too:

- After each fault all servers have the same state (I3), and each replication
  controller has as many pods as it wants, ready and of its template.
- As root: after each fault each service answers from exactly the ready pods of its
  selector, by name and by address, from containers on each host, and
  ` + "`service-show`" + ` has these endpoints. While faults run, no pod answers that was
  deleted over a minute ago.
- In between, the engines run what is desired (I5, I6), and late reports change
  nothing (I9).
- By the engines' events, no epoch exists twice, and of a pod's container no two
  attempts run at a time (I4). No two copies of an exclusive container or pod do.
- No log has a secret (I12).

Long runs have more faults than short ones (` + "`internal/e2e/chaos_lost_test.go`" + `,
` + "`chaos_restore_test.go`" + `, ` + "`chaos_engine_faults_test.go`" + `): a disk is lost while
another server is behind, an older copy of a disk is put back, a server is
replaced, snapshots are restored under load, agents' journals are lost and their
data directories copied, engines end, and Docker commands bypass magnum. Data paths
of services are killed, relays are cut, and agents are killed and upgraded while a
container makes requests, none of which may fail
(` + "`internal/e2e/chaos_service_faults_test.go`" + `). Answers
that clients got before a restore are judged before it.

## How to read a row

| column | meaning |
|---|---|
| acknowledged | operations that were carried out, or refused because of the object's state |
| failed | operations that certainly were not carried out, and reads without an answer |
| unknown | operations of which the client was told that the outcome is unknown |
| longest time without a write | between two changes that succeeded, and in which fault |

The longest time includes the fault itself: all servers are away for up to 2 s.

## What runs with violations have shown

Each of these is fixed and has a test of its own:

- A consistent read of an old state. A leader that was held found answers to its
  heartbeats in its sockets when it went on. Now only answers to requests that
  were sent after the question prove that it leads.
- A create, a delete or an action that was carried out twice. The asked server
  retried a request whose outcome it did not know, and somebody had deleted or
  created the object in between.
- A delete that took an object that was created again under the same UUID. One
  entry held its first try and the create, and did not distinguish the two
  objects.
- Two copies of a container with a lease, for six seconds. The agent's disk was
  slow, the end of the lease waited for it, and a renewal that came too late
  counted.
- A leader that had not ended a minute after a clean stop. A sender of entries
  waited for the reader of the follower's answers, which had ended at a refusal.
- A host that never came back after the eighth restore. Its polls were numbered
  with a number that restores raised until it had no room.
- Two copies of a container with a lease, for half a second. The agent had lost
  its journal, the server that it asked hung, and it did not know which containers
  on its engine have a lease. A label says so now.
- Two copies of a container with a lease, for a tenth of a second, on a host that
  was frozen until it was lost. The answer that took the container away also
  confirmed the lease, and a pass that had begun before it started the container
  on the strength of that.

Two violations were faults of the test: it took a refusal of a second try for the
end of the first, and it missed a container that was being deleted when the
snapshot was made.

One was of the engine. After a kill -9, a busy Docker engine 20.10 kept the ended
task of a container, and refused to start the container until the engine itself
was started again. The agent kept trying. Now the test starts such an engine again,
as an operator would.

## Runs

| when (UTC) | what | version | seed | duration | faults | acknowledged | failed | unknown | objects checked | containers run | violations | longest time without a write | load average |
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
