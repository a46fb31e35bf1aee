package server

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest/history"
)

// TestLinearizable: clients write and read the same few objects through all three
// servers while the leader is repeatedly stopped, killed or slowed down. Their answers
// must fit one order of events, and nothing acknowledged may be lost.
//
// DURATION extends it beyond a few seconds, SEED repeats a run's random choices, PAGE
// names the page that gets a row.
func TestLinearizable(t *testing.T) {
	duration, seed, err := history.FromEnv(5*time.Second, rand.Uint64())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", seed)
	c := newThreeServers(t)
	const clients = 6
	w := history.New(history.Nodes, clients)
	anyServer := func(random *rand.Rand) func(bool) string {
		return func(bool) string {
			if srv := c.members[random.IntN(len(c.members))].running(); srv != nil {
				return srv.URL()
			}
			return "" // the next server may be up; one always is
		}
	}
	working, stop := context.WithCancel(t.Context())
	var clientsDone, judged sync.WaitGroup
	for client := range clients {
		clientsDone.Go(func() {
			for one := w.Client(client, seed, anyServer(rand.New(rand.NewPCG(seed, uint64(client))))); working.Err() == nil; {
				one.Step(working)
			}
		})
	}
	judge := w.Client(clients, seed, anyServer(rand.New(rand.NewPCG(seed, clients))))
	judged.Go(func() { w.CheckEnded(working, judge) })
	faults := map[string]int{}
	random := rand.New(rand.NewPCG(seed, 1<<32))
	for until := time.Now().Add(duration); time.Now().Before(until); {
		leader := c.leader()
		time.Sleep(time.Duration(300+random.IntN(400)) * time.Millisecond) // time for the load between faults
		switch random.IntN(5) {
		case 0:
			faults["stop"]++
			if err := leader.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			leader.start(t)
		case 1, 2:
			faults["die"]++
			if err := leader.die(); err != nil {
				t.Logf("a server that died: %v", err)
			}
			c.leader()
			leader.start(t)
		case 3:
			faults["hand over"]++
			leader.running().raft.HandOver()
		case 4:
			faults["slow disk"]++
			leader.slow.Store(true)
			time.Sleep(slowDisk)
			leader.slow.Store(false)
		}
	}
	stop()
	clientsDone.Wait()
	judged.Wait()
	c.leader()
	w.Finish(judge)
	c.awaitSameState()
	for _, v := range w.Violations() {
		t.Error(v)
	}
	f := w.Figures()
	run := history.Run{What: "one process", Version: "-", Seed: seed, Duration: duration, Figures: f, Violations: f.Violations,
		Load: history.Load(), Gap: f.Gap.Round(time.Millisecond).String()}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		run.Faults = strings.TrimPrefix(fmt.Sprintf("%s, %s %d", run.Faults, name, faults[name]), ", ")
	}
	t.Logf("seed %d: faults: %s; operations acknowledged %d, unknown outcomes %d, violations %d, longest time without a successful "+
		"write %s",
		seed, run.Faults, f.Acknowledged, f.Unknown, f.Violations, run.Gap)
	if f.Acknowledged == 0 || f.Checked == 0 {
		t.Error("nothing was acknowledged, so nothing was tested")
	}
	if err := run.Append(os.Getenv("PAGE")); err != nil {
		t.Error(err)
	}
}
