//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

const (
	// shortChaos is the duration in `make test-faults`. From longChaos on, a
	// run is long: faults last up to half a minute, and logs leave out debug
	// lines so that they do not fill the disk.
	shortChaos = 40 * time.Second
	longChaos  = 5 * time.Minute

	chaosClients  = 4  // of each kind of object
	convergeEvery = 12 // faults

	hostLostAfter = 4 * time.Second

	longGap = 5 * time.Second // without a write; a longer gap keeps the logs
)

// chaos is three servers and their agents under faults, with clients that read
// and write.
type chaos struct {
	*threeServers
	random    *rand.Rand // chooses the target of the current fault
	long      bool
	began     time.Time
	loads     []*history.Workload // nodes, and containers that wait
	probe     *history.Workload   // writes through each server all the time
	running   *runningContainers  // containers that run
	checkers  []*history.Client   // the client that checks each of loads
	gate      sync.RWMutex        // read-locked by each step of a client, locked while nothing may change
	probeGate sync.RWMutex        // the same for probe's clients; lock it after gate
	healed    []func()            // what is to be done once the current fault is over and nothing changes
	injected  map[string]int      // count by name of fault
	worst     time.Duration       // longest gap between writes
	worstOf   string              // the fault of that gap
}

// TestLongChaos runs clients while servers and agents are killed and stopped,
// one fault after the other, sometimes two at a time. As root it also cuts,
// delays and loses packets of the network between them, and each agent has an
// engine of its own. It checks I1 to I6, I8 to I11, and I12 in the logs.
//
// DURATION sets how long it runs. SEED chooses the same faults again. PAGE
// names the page that gets a row. LOGS is the directory for the logs if the
// test fails or a gap without a write was long. FAULTS limits the faults to
// those whose names contain it.
func TestLongChaos(t *testing.T) {
	duration, seed, err := history.FromEnv(shortChaos, rand.Uint64())
	if err != nil {
		t.Fatal(err)
	}
	if duration <= shortChaos {
		t.Parallel()
	}
	t.Logf("seed %d, for %v, load average %s; rates of requests have no limit (-auth none)", seed, duration, history.Load())
	c := &chaos{long: duration >= longChaos, injected: make(map[string]int)}
	schedule := faultSchedule{random: rand.New(rand.NewPCG(seed, 0)), faults: faults, words: os.Getenv("FAULTS"), long: c.long}
	if c.long || schedule.words != "" {
		schedule.faults = slices.Concat(faults, lostFaults, restoreFaults) // each takes longer than a short run has
	}
	args := []string{"-host-lost-after", hostLostAfter.String()}
	if c.long && os.Getenv("FAULTS") == "" {
		args = append(args, "-log-level", "info")
	}
	var n *network
	if os.Geteuid() == 0 {
		n = newNet(t)
		n.engines = true
		schedule.faults, schedule.first = slices.Concat(schedule.faults, netFaults), firstFault
		if c.long || schedule.words != "" {
			schedule.faults = slices.Concat(schedule.faults, engineFaults, serviceFaults)
		}
	}
	if !slices.ContainsFunc(schedule.faults, func(f fault) bool { return strings.Contains(f.name, schedule.words) }) {
		t.Fatalf("FAULTS=%q: no name of a fault contains it", schedule.words)
	}
	c.threeServers = newThreeServersOn(t, n, 2, args...)
	c.awaitAll()
	c.loads = []*history.Workload{history.New(history.Nodes, chaosClients),
		history.New(history.WaitingContainers(c.bay.UUID), chaosClients)}
	c.probe = history.New(history.Nodes, len(c.servers))
	c.probe.Timeout = 2 * time.Second
	c.running = newRunningContainers(c)
	server, agent := c.baseline()
	c.began = time.Now()
	c.probe.ResetGap()

	work, stop := context.WithCancel(t.Context())
	var clients, checkers sync.WaitGroup
	var last []func()
	for n, w := range c.loads {
		w.Timeout = 5 * time.Second
		for i := range chaosClients {
			number := n*chaosClients + i
			one := w.Client(i, seed+uint64(n), c.through(rand.New(rand.NewPCG(seed, uint64(100+number)))))
			clients.Go(func() {
				c.atWork(work, &c.gate, rand.New(rand.NewPCG(seed, uint64(200+number))), func() { one.Step(work) })
			})
		}
		checker := w.Client(chaosClients, seed, c.through(rand.New(rand.NewPCG(seed, uint64(300+n)))))
		c.checkers = append(c.checkers, checker)
		checkers.Go(func() { w.CheckEnded(work, checker) })
		last = append(last, func() { w.Finish(checker) })
	}
	for i := range containerWorkers {
		clients.Go(func() { c.running.work(work, rand.New(rand.NewPCG(seed, uint64(400+i))), i) })
	}
	clients.Go(func() { c.running.workPods(work, rand.New(rand.NewPCG(seed, 500))) })
	clients.Go(func() { c.running.workRCs(work, rand.New(rand.NewPCG(seed, 501))) })
	clients.Go(func() { c.running.workServices(work, rand.New(rand.NewPCG(seed, 502))) })
	checkers.Go(func() { c.running.watchServices(work) })
	for _, n := range c.servers {
		id := structs.NewID()
		if out := c.probe.Write("http://"+n.addr, history.Op{Kind: history.Create, ID: id, Value: "probe"}); out.Verdict != history.Done {
			t.Fatalf("%s: %s", n.name, out.Said)
		}
		clients.Go(func() {
			c.atWork(work, &c.probeGate, rand.New(rand.NewPCG(seed, 1)), func() {
				c.probe.Write("http://"+n.addr, history.Op{Kind: history.Patch, ID: id, Value: "probe"})
			})
		})
	}
	// However the test ends, the row and the figures are written, and the
	// clients end before the servers do.
	finished := false
	t.Cleanup(func() { c.report(seed, duration, finished) })
	t.Cleanup(func() {
		stop()
		clients.Wait()
		checkers.Wait()
	})

	for steps := schedule.round(); time.Since(c.began) < duration && !t.Failed(); steps = steps[1:] {
		if len(steps) == 0 {
			steps = schedule.round()
		}
		time.Sleep(steps[0].pause)
		c.inject(steps[0])
	}
	stop()
	clients.Wait()
	checkers.Wait()
	c.converge()
	for _, f := range last {
		f()
	}
	c.sameState()
	c.running.checkAsked()
	for _, w := range c.loads {
		if f := w.Figures(); f.Acknowledged == 0 || f.Checked == 0 {
			t.Errorf("%+v: no operation was acknowledged, or no object was checked", f)
		}
	}
	c.running.end()
	if lost := c.injected[firstFault]; c.running.moved() == 0 && lost > 0 && !t.Failed() {
		t.Errorf("hosts were lost %d times, but no container with a lease has moved", lost)
	}
	for _, w := range append(c.loads, c.probe) {
		w.Close()
	}
	c.awaitBaseline(server, agent)
	c.running.checkLogsForSecrets()
	finished = true
}

// atWork runs the steps of one client until ctx ends. It pauses after each: two
// cores have to leave time for elections.
func (c *chaos) atWork(ctx context.Context, gate *sync.RWMutex, random *rand.Rand, step func()) {
	for ctx.Err() == nil {
		gate.RLock()
		step()
		gate.RUnlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(random.IntN(40)) * time.Millisecond):
		}
	}
}

// through returns the function that chooses the server for a client: the same
// one until it fails, now and then another.
func (c *chaos) through(random *rand.Rand) func(failed bool) string {
	at := random.IntN(len(c.servers))
	return func(failed bool) string {
		if failed || random.IntN(20) == 0 {
			at = (at + 1 + random.IntN(len(c.servers)-1)) % len(c.servers)
		}
		return "http://" + c.servers[at].addr
	}
}

// inject applies the faults of a step and undoes them. It then waits until the
// cluster has healed and all servers have the same state.
func (c *chaos) inject(next scheduleStep) {
	c.Helper()
	c.awaitLeader()
	c.takeGap("between faults")
	type undone struct {
		after time.Duration
		undo  func()
	}
	var names []string
	var undo []undone
	for _, f := range next.faults {
		c.random = rand.New(rand.NewPCG(f.whom, 0))
		on, back := f.do(c)
		undo = append(undo, undone{f.lasts, back})
		names = append(names, f.name)
		c.injected[f.name]++
		c.Logf("%8v %s: %s, for %v", time.Since(c.began).Round(100*time.Millisecond), f.name, on, f.lasts)
	}
	slices.SortFunc(undo, func(a, b undone) int { return int(a.after - b.after) })
	slept := time.Duration(0)
	for _, u := range undo {
		time.Sleep(u.after - slept) // the fault lasts
		slept = u.after
		if u.undo != nil {
			u.undo()
		}
	}
	c.awaitLeader()
	c.awaitAll()
	name := strings.Join(names, " and ")
	c.Logf("%8v healed, longest time without a write %v", time.Since(c.began).Round(100*time.Millisecond),
		c.takeGap(name).Round(time.Millisecond))
	total := 0
	for _, n := range c.injected {
		total += n
	}
	// Without a pause of the writes the servers are never all at one index.
	c.gate.Lock()
	defer c.gate.Unlock()
	c.probeGate.Lock()
	defer c.probeGate.Unlock()
	for _, f := range c.healed {
		f()
	}
	c.healed = nil
	c.running.awaitReplicas()
	c.running.checkServices()
	c.sameState()
	if total%convergeEvery == 0 {
		c.converge()
	}
	c.probe.ResetGap()
	for _, w := range c.loads {
		for _, v := range w.Violations() {
			c.Error(v)
		}
	}
}

// takeGap returns the longest time without a write through any server since the
// last call.
func (c *chaos) takeGap(during string) time.Duration {
	longest := c.probe.TakeGap()
	if longest > c.worst {
		c.worst, c.worstOf = longest, during
	}
	return longest
}

// converge waits until the engines have what was acknowledged. No client may
// change anything meanwhile.
func (c *chaos) converge() {
	c.Helper()
	c.awaitAll()
	c.running.converge()
	c.reservations()
}

// report logs the figures and adds a row to the page.
func (c *chaos) report(seed uint64, duration time.Duration, finished bool) {
	run := history.Run{
		What: "three processes", Seed: seed, Duration: duration, Load: history.Load(), ContainersRun: c.running.ended(),
		Version: strings.TrimSpace(strings.TrimPrefix(magnum(c, nil, "", "-version").stdout, "magnum ")),
		Gap:     fmt.Sprintf("%v (%s)", c.worst.Round(time.Millisecond), c.worstOf),
	}
	run.Version, _, _ = strings.Cut(run.Version, " ")
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.injected)) {
		names = append(names, fmt.Sprintf("%s %d", name, c.injected[name]))
	}
	run.Faults = strings.Join(names, ", ")
	for _, w := range c.loads {
		f := w.Figures()
		run.Figures.Acknowledged += f.Acknowledged
		run.Figures.Refused += f.Refused
		run.Figures.Unknown += f.Unknown
		run.Figures.Checked += f.Checked
		run.Violations += f.Violations
	}
	if run.Violations == 0 && c.Failed() {
		run.Violations = 1 // the one that ended the test
	}
	if !finished || c.Failed() {
		run.Duration = time.Since(c.began).Round(time.Second)
		run.What += ", broken off"
	}
	c.Logf("seed %d, %v: faults: %s; operations:"+
		" %d acknowledged, %d failed, %d unknown; %d objects checked, %d containers run;"+
		" violations: %d; longest time without a successful write: %s; load average %s",
		seed, run.Duration, run.Faults, run.Figures.Acknowledged, run.Figures.Refused, run.Figures.Unknown, run.Figures.Checked,
		run.ContainersRun, run.Violations, run.Gap, run.Load)
	if err := run.Append(os.Getenv("PAGE")); err != nil {
		c.Error(err)
	}
	if dir := os.Getenv("LOGS"); dir != "" && (c.Failed() || c.worst > longGap) {
		c.keepLogs(filepath.Join(dir, fmt.Sprintf("chaos-%d", seed)))
	}
}

// keepLogs copies the processes' logs to a directory.
func (c *chaos) keepLogs(dir string) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.Error(err)
		return
	}
	for _, n := range c.servers {
		c.keepLog(n.process, dir)
	}
	for _, a := range c.agents {
		c.keepLog(a.process, dir)
	}
	c.Logf("the logs are in %s", dir)
}

func (c *chaos) keepLog(p *process, dir string) {
	b, err := os.ReadFile(p.log)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, p.name+".log"), b, 0o644)
	}
	if err != nil {
		c.Error(err)
	}
}
