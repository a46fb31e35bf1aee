//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/structs"
)

// span is a time from one moment to another. A zero end means that the span is
// not over.
type span struct{ from, to time.Time }

// meets reports whether two spans overlap.
func (s span) meets(o span) bool {
	return (s.to.IsZero() || s.to.After(o.from)) && (o.to.IsZero() || o.to.After(s.from))
}

func (s span) String() string {
	const clock = "15:04:05.000"
	if s.to.IsZero() {
		return "from " + s.from.Format(clock) + " on"
	}
	return "from " + s.from.Format(clock) + " to " + s.to.Format(clock)
}

// dockerCopy is one Docker container that an agent made for a container of
// magnum, or for an attempt of a part of a pod.
type dockerCopy struct {
	id        string // of Docker
	on        *hostAgent
	container string // UUID, also of a pod
	part      string // of a pod; "" of a container
	epoch     string
	attempt   string // of a part of a pod
	there     span   // when the Docker container existed
	runs      []span
}

func (c *dockerCopy) String() string {
	of := c.container
	if c.part != "" {
		of += " (attempt " + c.attempt + " of " + c.part + ")"
	}
	return fmt.Sprintf("%.12s of %s, epoch %s, on %s", c.id, of, c.epoch, c.on.name)
}

// together reports whether two copies are of one placement of a pod.
func (c *dockerCopy) together(o *dockerCopy) bool {
	return c.part != "" && c.epoch == o.epoch && c.on == o.on
}

// ledger records from the engines' events which Docker containers existed and
// when they ran. It also has what came and went between two polls of an engine.
// All engines use the clock of this machine.
type ledger struct {
	mu     sync.Mutex
	copies map[string]*dockerCopy // by Docker's ID
}

// record records the events of one host since a time, until ctx ends. An engine
// of the host's own may go away meanwhile and come back.
func (l *ledger) record(ctx context.Context, a *hostAgent, since time.Time) error {
	for {
		var err error
		if since, err = l.recordEvents(ctx, a, since); ctx.Err() != nil {
			return nil
		}
		if a.own == nil {
			return fmt.Errorf("the events of the engine of %s: %w", a.name, err)
		}
		for l.catchUp(ctx, a) != nil { // the engine is away
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// recordEvents records events since a time until the stream of events ends, and
// returns the time of the last event.
func (l *ledger) recordEvents(ctx context.Context, a *hostAgent, since time.Time) (time.Time, error) {
	options := events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("label", "magnum.host="+a.hostID())),
	}
	messages, failed := a.engine.Events(ctx, options)
	for {
		select {
		case m := <-messages:
			l.add(ctx, a, m)
			since = time.Unix(0, m.TimeNano+1)
		case err := <-failed:
			return since, err
		}
	}
}

// catchUp ends the runs whose end was not in any event: an engine that was away
// reports only what happened after its return.
func (l *ledger) catchUp(ctx context.Context, a *hostAgent) error {
	list, err := a.engine.list(a.hostID())
	if err != nil {
		return err
	}
	runs := make(map[string]bool) // by Docker's ID, of those that are there
	for _, s := range list {
		runs[s.id] = s.state == "running"
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.copies {
		running, there := runs[c.id]
		if c.on != a || running {
			continue
		}
		if n := len(c.runs); n > 0 && c.runs[n-1].to.IsZero() {
			c.runs[n-1].to = now
			l.refineTimes(ctx, c)
		}
		if !there && c.there.to.IsZero() {
			c.there.to = now
		}
	}
	return nil
}

// add records one event.
func (l *ledger) add(ctx context.Context, a *hostAgent, m events.Message) {
	at := time.Unix(0, m.TimeNano)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.copies[m.Actor.ID]
	if c == nil {
		labels := m.Actor.Attributes
		c = &dockerCopy{id: m.Actor.ID, on: a, container: owner(labels), part: labels["magnum.part"], epoch: labels["magnum.epoch"],
			attempt: labels["magnum.attempt"], there: span{from: at}}
		l.copies[c.id] = c
	}
	switch m.Action {
	case "start":
		c.runs = append(c.runs, span{from: at})
		l.refineTimes(ctx, c)
	case "die":
		if n := len(c.runs); n > 0 {
			c.runs[n-1].to = at
			l.refineTimes(ctx, c)
		}
	case "destroy":
		c.there.to = at
	}
}

// refineTimes replaces the times of the last run by those that the engine
// reports, unless the container is gone or runs again. The event of an end
// comes later than the end of the process, on a busy engine by a second.
func (l *ledger) refineTimes(ctx context.Context, c *dockerCopy) {
	info, err := c.on.engine.ContainerInspect(ctx, c.id)
	if err != nil {
		return
	}
	began, _ := time.Parse(time.RFC3339Nano, info.State.StartedAt)
	ended, _ := time.Parse(time.RFC3339Nano, info.State.FinishedAt)
	n := len(c.runs) - 1
	last := &c.runs[n]
	if began.Before(last.from) && (n == 0 || began.After(c.runs[n-1].from)) {
		last.from = began
	}
	if !last.to.IsZero() && ended.After(last.from) && ended.Before(last.to) {
		last.to = ended
	}
}

// byContainer returns the copies of each container.
func (l *ledger) byContainer() map[string][]*dockerCopy {
	byContainer := make(map[string][]*dockerCopy)
	for _, c := range l.copies {
		byContainer[c.container] = append(byContainer[c.container], c)
	}
	return byContainer
}

// duplicates returns the violations of I4: two Docker containers of one epoch
// that existed at a time, or one epoch on two hosts. Of a part of a pod, the containers of
// two attempts may exist at a time, but must not run so.
func (l *ledger) duplicates() (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, copies := range l.byContainer() {
		for i, a := range copies {
			for _, b := range copies[:i] {
				switch {
				case a.epoch != b.epoch, a.together(b) && a.part != b.part:
				case a.together(b) && a.attempt != b.attempt:
					if a.runsWith(b) {
						found = append(found, fmt.Sprintf("I4: two attempts of a part ran at a time: %v, %v, and %v, %v", a, a.runs, b,
							b.runs))
					}
				case a.on != b.on:
					found = append(found, fmt.Sprintf("I4: one epoch is on two hosts: %v, and %v", a, b))
				case a.there.meets(b.there):
					found = append(found, fmt.Sprintf("I4: two copies of one epoch existed at a time: %v, %v, and %v, %v", a, a.there, b,
						b.there))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// runsWith reports whether two attempts of a part ran at a time. An agent starts an attempt
// once. Who starts it again, as docker restart does, may do that just as the agent starts the
// next one, or later: then the earlier attempt must end soon.
func (c *dockerCopy) runsWith(o *dockerCopy) bool {
	for i, a := range c.runs {
		for j, b := range o.runs {
			again, other := a, b
			if j > 0 {
				again, other = b, a
			}
			excused := (i > 0) != (j > 0) && again.from.After(other.from.Add(-agentWakes)) && !again.to.IsZero() &&
				again.to.Before(other.from.Add(agentCatches))
			if a.meets(b) && !excused {
				return true
			}
		}
	}
	return false
}

// overlap says that two copies of a container ran at a time. The older copy is
// was, the newer one now.
type overlap struct {
	was, now       *dockerCopy
	wasRun, nowRun span
}

func (o overlap) String() string {
	return fmt.Sprintf("%v ran %v, and %v %v", o.was, o.wasRun, o.now, o.nowRun)
}

// overlaps returns where two copies of a container ran at a time, or two
// placements of a pod; duplicates judges the parts of one. moves counts how often
// another copy ran next, and closest is the shortest time from the
// end of one copy to the start of the next.
func (l *ledger) overlaps(container string) (found []overlap, moves int, closest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type copyRun struct {
		*dockerCopy
		span
	}
	var runs []copyRun
	for _, c := range l.byContainer()[container] {
		for _, r := range c.runs {
			runs = append(runs, copyRun{c, r})
		}
	}
	slices.SortFunc(runs, func(a, b copyRun) int { return a.from.Compare(b.from) })
	for i, now := range runs {
		for _, was := range runs[:i] {
			if was.dockerCopy != now.dockerCopy && !was.together(now.dockerCopy) && was.meets(now.span) {
				found = append(found, overlap{was.dockerCopy, now.dockerCopy, was.span, now.span})
			}
		}
		if i == 0 || runs[i-1].dockerCopy == now.dockerCopy || runs[i-1].together(now.dockerCopy) {
			continue
		}
		if gap := now.from.Sub(runs[i-1].to); moves == 0 || gap < closest {
			closest = gap
		}
		moves++
	}
	return found, moves, closest
}

// describe lists all copies of a container and when they ran.
func (l *ledger) describe(container string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var told []string
	for _, c := range l.byContainer()[container] {
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s epoch %s on %s ran %v", c.part, c.epoch, c.on.name, c.runs)))
	}
	slices.Sort(told)
	return container + ": " + strings.Join(told, "; ")
}

// agrees compares the ledger with what an engine has now. Events come a moment
// after what they report.
func (l *ledger) agrees(a *hostAgent) error {
	list, err := a.engine.list(a.hostID())
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	there := make(map[string]bool)
	for _, s := range list {
		there[s.id] = true
		c := l.copies[s.id]
		if c == nil || !c.there.to.IsZero() {
			return fmt.Errorf("%s has %.12s of %s, which is in no event", a.name, s.id, s.container)
		}
		running := len(c.runs) > 0 && c.runs[len(c.runs)-1].to.IsZero()
		if running != (s.state == "running") {
			return fmt.Errorf("%s has %v %s, and by its events it ran %v", a.name, c, s.state, c.runs)
		}
	}
	for _, c := range l.copies {
		if c.on == a && c.there.to.IsZero() && !there[c.id] {
			return fmt.Errorf("no event has the end of %v, which is gone", c)
		}
	}
	return nil
}

// What excusable allows to an agent that was away.
const (
	agentWakes   = 2 * time.Second  // after its return it may not have ended the old copy yet
	agentCatches = 15 * time.Second // after its return it must have ended the old copy
)

// excusable reports whether the lease could not prevent the overlap, as
// website/docs/concepts.md says: the agent of the older copy was dead or
// stopped within the time that a lease takes to end, and ended the copy as soon
// as it was back.
func (o overlap) excusable(away []span, lostAfter time.Duration) bool {
	lease := span{o.nowRun.from.Add(-lostAfter), o.nowRun.from}
	for _, s := range away {
		wakes := s
		if !s.to.IsZero() {
			wakes.to = s.to.Add(agentWakes)
		}
		if wakes.meets(lease) {
			return s.to.IsZero() || !o.wasRun.to.IsZero() && o.wasRun.to.Before(s.to.Add(agentCatches))
		}
	}
	return false
}

// checkExclusive reports, once each, what must never happen: two Docker
// containers of one epoch, or two copies of an exclusive container that ran at
// a time.
func (l *runningContainers) checkExclusive() {
	l.Helper()
	for _, a := range l.agents {
		l.eventually("the events of "+a.name+"'s engine agree with its containers", patience,
			func() error { return l.ledger.agrees(a) })
	}
	say := func(what string) {
		if !l.said[what] {
			l.said[what] = true
			l.Error(what)
		}
	}
	for _, double := range l.ledger.duplicates() {
		say(double)
	}
	for id, kind := range l.singles {
		found, _, _ := l.ledger.overlaps(id)
		for _, o := range found {
			if kind == structs.ExclusiveLease && o.excusable(o.was.on.away(), hostLostAfter) {
				l.excused[o.String()] = true
				continue
			}
			say(fmt.Sprintf("two copies of a container that is exclusive (%s) ran at a time: %v; the first one's agent was away %v", kind,
				o, o.was.on.away()))
		}
	}
}

// moved logs what the ledger has, and returns how often containers with a lease
// moved.
func (l *runningContainers) moved() (moves int) {
	var closest time.Duration
	for id, kind := range l.singles {
		if kind != structs.ExclusiveLease {
			continue
		}
		_, n, gap := l.ledger.overlaps(id)
		if n > 0 && (moves == 0 || gap < closest) {
			closest = gap
		}
		moves += n
		l.Logf("%s", l.ledger.describe(id))
	}
	l.ledger.mu.Lock()
	copies := len(l.ledger.copies)
	l.ledger.mu.Unlock()
	l.Logf("there were %d Docker containers; those with a lease moved %d times, at the closest %v after the old copy had ended; "+
		"%d times the agent could not keep the lease", copies, moves, closest.Round(time.Millisecond), len(l.excused))
	return moves
}

// TestLedgerFindsDuplicatesAndOverlaps: the ledger finds what must never
// happen.
func TestLedgerFindsDuplicatesAndOverlaps(t *testing.T) {
	t.Parallel()
	one, two := &hostAgent{process: &process{name: "one"}}, &hostAgent{process: &process{name: "two"}}
	at := func(seconds int) time.Time { return time.Unix(1e9+int64(seconds), 0) }
	for _, tc := range []struct {
		name              string
		doubles, overlaps int
		copies            []*dockerCopy
	}{
		{"moved", 0, 0, []*dockerCopy{
			{id: "a", on: one, epoch: "1", there: span{at(0), at(9)}, runs: []span{{at(1), at(5)}}},
			{id: "b", on: two, epoch: "2", there: span{from: at(4)}, runs: []span{{from: at(5)}}},
		}},
		{"two run", 0, 1, []*dockerCopy{
			{id: "a", on: one, epoch: "1", there: span{at(0), at(9)}, runs: []span{{at(1), at(6)}}},
			{id: "b", on: two, epoch: "2", there: span{from: at(4)}, runs: []span{{from: at(5)}}},
		}},
		{"a copy starts again, and the old one runs on", 0, 2, []*dockerCopy{
			{id: "a", on: one, epoch: "1", there: span{from: at(0)}, runs: []span{{from: at(1)}}},
			{id: "b", on: one, epoch: "2", there: span{from: at(4)}, runs: []span{{at(5), at(6)}, {from: at(7)}}},
		}},
		{"an epoch on two hosts", 1, 0, []*dockerCopy{
			{id: "a", on: one, epoch: "2", there: span{at(0), at(1)}},
			{id: "b", on: two, epoch: "2", there: span{at(2), at(3)}},
		}},
		{"an epoch twice", 1, 0, []*dockerCopy{
			{id: "a", on: one, epoch: "2", there: span{at(0), at(3)}},
			{id: "b", on: one, epoch: "2", there: span{from: at(2)}},
		}},
		{"made again", 0, 0, []*dockerCopy{
			{id: "a", on: one, epoch: "2", there: span{at(0), at(2)}, runs: []span{{at(0), at(1)}}},
			{id: "b", on: one, epoch: "2", there: span{from: at(2)}, runs: []span{{from: at(2)}}},
		}},
		{"two parts of a pod", 0, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{from: at(1)}}},
			{id: "b", on: one, part: "b", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{from: at(1)}}},
		}},
		{"two attempts of a part", 0, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{at(1), at(2)}}},
			{id: "b", on: one, part: "a", attempt: "2", epoch: "1", there: span{from: at(2)}, runs: []span{{from: at(2)}}},
		}},
		{"two attempts run", 1, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{at(1), at(3)}}},
			{id: "b", on: one, part: "a", attempt: "2", epoch: "1", there: span{from: at(2)}, runs: []span{{from: at(2)}}},
		}},
		{"an attempt starts again as the next one does", 0, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)},
				runs: []span{{at(1), at(3)}, {at(4), at(6)}}},
			{id: "b", on: one, part: "a", attempt: "2", epoch: "1", there: span{from: at(4)}, runs: []span{{from: at(5)}}},
		}},
		{"the next attempt starts although one runs again", 1, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)},
				runs: []span{{at(1), at(3)}, {at(4), at(16)}}},
			{id: "b", on: one, part: "a", attempt: "2", epoch: "1", there: span{from: at(4)}, runs: []span{{from: at(15)}}},
		}},
		{"an attempt that starts again runs on", 1, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)},
				runs: []span{{at(1), at(3)}, {at(4), at(46)}}},
			{id: "b", on: one, part: "a", attempt: "2", epoch: "1", there: span{from: at(4)}, runs: []span{{from: at(5)}}},
		}},
		{"an attempt twice", 1, 0, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{at(0), at(3)}},
			{id: "b", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(2)}},
		}},
		{"another part of a pod that has moved", 1, 1, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{at(1), at(3)}}},
			{id: "b", on: two, part: "b", attempt: "1", epoch: "1", there: span{from: at(2)}, runs: []span{{from: at(2)}}},
		}},
		{"parts of two epochs run", 0, 1, []*dockerCopy{
			{id: "a", on: one, part: "a", attempt: "1", epoch: "1", there: span{from: at(0)}, runs: []span{{at(1), at(3)}}},
			{id: "b", on: two, part: "b", attempt: "1", epoch: "2", there: span{from: at(2)}, runs: []span{{from: at(2)}}},
		}},
	} {
		l := &ledger{copies: make(map[string]*dockerCopy)}
		for _, c := range tc.copies {
			c.container = "container"
			l.copies[c.id] = c
		}
		found, _, _ := l.overlaps("container")
		if doubles := l.duplicates(); len(doubles) != tc.doubles || len(found) != tc.overlaps {
			t.Errorf("%s: %q and %v", tc.name, doubles, found)
		}
	}
	o := overlap{
		&dockerCopy{on: one}, &dockerCopy{on: two}, span{at(0), at(30)}, span{from: at(20)},
	}
	for name, tc := range map[string]struct {
		away []span
		want bool
	}{
		"never away":           {nil, false},
		"away long before":     {[]span{{at(2), at(9)}}, false},
		"away as it moved":     {[]span{{at(10), at(25)}}, true},
		"back a moment before": {[]span{{at(10), at(17)}}, true},
		"away for good":        {[]span{{from: at(10)}}, true},
		"back for long":        {[]span{{at(10), at(14)}}, false},
		"away later":           {[]span{{at(21), at(29)}}, false},
	} {
		if got := o.excusable(tc.away, 4*time.Second); got != tc.want {
			t.Errorf("%s: unable is %v", name, got)
		}
	}
}
