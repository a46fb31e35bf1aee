package dispatch

import (
	"fmt"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// The mass-loss brake: if more hosts than brakeHosts, and more than one in
// brakeShare, go silent at about the same time, it is probably the servers'
// own network that has failed.
const (
	brakeHosts = 3
	brakeShare = 5
	brakeTime  = 2 * time.Minute  // after which a majority of the servers may end it
	agreeTime  = 10 * time.Second // between two times that they are asked
)

// watch is what one leadership makes of the hosts' signs of life. Time is the
// leader's own monotonic clock, and begins with the leadership.
type watch struct {
	lostAfter time.Duration
	start     time.Time            // every host has one full lostAfter from here: an earlier leader may have heard of it a moment ago
	gone      map[string]time.Time // hosts that were lost of late, and when
	held      map[string]time.Time // hosts that the brake holds back, and since when
	agreed    map[string]bool      // hosts that a majority of the servers has given up
}

func newWatch(lostAfter time.Duration, start time.Time) *watch {
	return &watch{lostAfter: lostAfter, start: start, gone: make(map[string]time.Time), held: make(map[string]time.Time), agreed: make(map[string]bool)}
}

// silence returns how long the host has been silent in this leadership.
func (w *watch) silence(now time.Time, p pulse) time.Duration {
	if p.at.Before(w.start) {
		return now.Sub(w.start)
	}
	return now.Sub(p.at)
}

// assess returns the hosts whose state changes, and those that have been held
// back for so long that the servers should be asked about them. It is called
// again whenever time has passed or a host was heard of.
func (w *watch) assess(now time.Time, hosts []*structs.Host, pulses map[string]pulse) (marks []conductor.HostMark, ask []string) {
	var due []*structs.Host // silent for too long
	known := make(map[string]structs.HostState, len(hosts))
	total, silent := 0, 0
	for _, h := range hosts {
		known[h.ID] = h.State
		p := pulses[h.ID]
		silence := w.silence(now, p)
		alive := p.fresh() && !p.dead() && now.Sub(p.at) <= w.lostAfter/2
		if h.State != structs.HostReady && alive {
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostReady})
		}
		if h.State == structs.HostLost {
			continue
		}
		total++
		if alive || h.State == structs.HostReady && !p.dead() && silence <= w.lostAfter/2 {
			continue
		}
		silent++
		switch {
		case silence > w.lostAfter:
			due = append(due, h)
		case h.State == structs.HostReady && p.dead():
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect, Reason: "gossip takes its agent for dead"})
		case h.State == structs.HostReady:
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect, Reason: fmt.Sprintf("its agent has not been heard of for %v", w.lostAfter/2)})
		}
	}
	w.tidy(now, known)
	total, silent = total+len(w.gone), silent+len(w.gone)
	brake := silent > brakeHosts && silent*brakeShare > total
	for _, h := range due {
		if brake && !w.agreed[h.ID] {
			if _, held := w.held[h.ID]; !held {
				w.held[h.ID] = now
			}
			if now.Sub(w.held[h.ID]) >= brakeTime {
				ask = append(ask, h.ID)
			}
			if !h.Braked {
				marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect, Braked: true, Reason: fmt.Sprintf(
					"held back by the mass-loss brake: %d of %d hosts went silent at about the same time, which is more likely the servers' network than the hosts. Nothing of it is placed anew until it is heard of again, or most servers have agreed for %v that it is gone. If it is really down: magnum host-release %s",
					silent, total, brakeTime, h.Name)})
			}
			continue
		}
		w.gone[h.ID] = now
		delete(w.held, h.ID)
		marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostLost, Reason: fmt.Sprintf("its agent has not been heard of for %v", w.lostAfter)})
	}
	return marks, ask
}

// tidy forgets what is over. Hosts that were lost count for the brake for one
// lostAfter, or for as long as it holds others back: to release one host of
// five must not end the brake for the other four.
func (w *watch) tidy(now time.Time, known map[string]structs.HostState) {
	for id := range w.held {
		switch known[id] {
		case structs.HostLost: // an operator has released it
			w.gone[id] = now
			delete(w.held, id)
		case structs.HostSuspect:
		default:
			delete(w.held, id)
		}
	}
	for id := range w.agreed {
		if known[id] != structs.HostSuspect {
			delete(w.agreed, id)
		}
	}
	for id, at := range w.gone {
		if known[id] == structs.HostReady || known[id] == "" || len(w.held) == 0 && now.Sub(at) > w.lostAfter {
			delete(w.gone, id)
		}
	}
}
