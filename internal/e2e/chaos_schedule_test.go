//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// faultSchedule chooses the faults of a run. Nothing else draws from its random
// numbers: a seed gives the same faults in the same order, whatever happens in
// the run.
type faultSchedule struct {
	random *rand.Rand
	faults []fault
	first  string // name of the first fault, "" for any
	words  string // only faults whose names contain them
	long   bool
}

// scheduleStep is one fault, or two at a time.
type scheduleStep struct {
	pause  time.Duration // before the faults, without any fault
	faults []scheduledFault
}

// scheduledFault is a chosen fault with its duration and its target.
type scheduledFault struct {
	fault
	lasts time.Duration
	whom  uint64 // seed for choosing the target
}

func (c scheduleStep) String() string {
	text := fmt.Sprintf("after %v", c.pause)
	for _, f := range c.faults {
		text += fmt.Sprintf(", %s for %v (%d)", f.name, f.lasts, f.whom)
	}
	return text
}

// round returns all faults in random order, so that each comes equally often,
// in a short run too.
func (d *faultSchedule) round() []scheduleStep {
	order := slices.Clone(d.faults)
	order = slices.DeleteFunc(order, func(f fault) bool { return !strings.Contains(f.name, d.words) })
	d.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for i, f := range order {
		if f.name == d.first {
			order[0], order[i] = order[i], order[0]
		}
	}
	d.first = ""
	var steps []scheduleStep
	for _, f := range order {
		c := scheduleStep{pause: time.Duration(200+d.random.IntN(1300)) * time.Millisecond, faults: []scheduledFault{d.choose(f)}}
		other := d.faults[d.random.IntN(len(d.faults))]
		if d.random.IntN(4) == 0 && d.words == "" && other.agents != f.agents && !other.alone && !f.alone {
			c.faults = append(c.faults, d.choose(other))
		}
		steps = append(steps, c)
	}
	return steps
}

// choose draws the duration of a fault and the seed for its target.
func (d *faultSchedule) choose(f fault) scheduledFault {
	most := f.most
	if d.long && f.long > 0 {
		most = f.long
	}
	lasts := f.least + time.Duration(d.random.Int64N(int64(most-f.least)+1))
	return scheduledFault{fault: f, lasts: lasts.Round(time.Millisecond), whom: d.random.Uint64()}
}

// TestSeedChoosesFaults: a seed always gives the same rounds, and another seed gives others.
func TestSeedChoosesFaults(t *testing.T) {
	t.Parallel()
	all := slices.Concat(faults, lostFaults, restoreFaults, netFaults, engineFaults, serviceFaults)
	rounds := func(seed uint64) (text string) {
		d := faultSchedule{random: rand.New(rand.NewPCG(seed, 0)), faults: all, first: firstFault}
		for n := range 3 {
			steps := d.round()
			if n == 0 && steps[0].faults[0].name != firstFault {
				t.Errorf("first comes %v", steps[0])
			}
			seen := make(map[string]bool)
			for _, c := range steps {
				seen[c.faults[0].name] = true
				text += c.String() + "\n"
			}
			if len(seen) != len(all) {
				t.Errorf("%d of %d faults are in the steps", len(seen), len(all))
			}
		}
		return text
	}
	if a, b := rounds(1), rounds(1); a != b {
		t.Errorf("one seed has these rounds:\n%s\nand these:\n%s", a, b)
	}
	if rounds(1) == rounds(2) {
		t.Error("two seeds have the same rounds")
	}
}

// TestFaultsChooseByOneDraw: choosing a target draws one number, whichever
// server leads.
func TestFaultsChooseByOneDraw(t *testing.T) {
	t.Parallel()
	c := &chaos{threeServers: &threeServers{servers: []*clusterServer{{}, {}, {}}}}
	for seed := range uint64(20) {
		var next []uint64
		for _, leader := range c.servers {
			c.random = rand.New(rand.NewPCG(seed, 0))
			if oneOf(c.random, c.except(leader)) == leader {
				t.Fatal("the leader is a follower")
			}
			next = append(next, c.random.Uint64())
		}
		if next[0] != next[1] || next[1] != next[2] {
			t.Fatalf("seed %d: after a follower was chosen the next numbers are %d", seed, next)
		}
	}
}
