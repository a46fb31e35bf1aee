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
	brakeTime  = 2 * time.Minute  // a majority of the servers may end the brake after this time
	agreeTime  = 10 * time.Second // between two requests to the other servers
)

// silenceRules decides, for one leadership, which hosts are suspect, lost or held back by
// the brake. Time is the leader's own monotonic clock, and begins with the leadership.
type silenceRules struct {
	lostAfter time.Duration
	start     time.Time            // each host has one full lostAfter from here: its last heartbeat may have gone to an earlier leader
	gone      map[string]time.Time // recently lost hosts, and when each was lost
	held      map[string]time.Time // hosts that the brake holds back, and since when
	agreed    map[string]bool      // hosts that a majority of the servers has not seen either
}

func newSilenceRules(lostAfter time.Duration, start time.Time) *silenceRules {
	return &silenceRules{lostAfter: lostAfter, start: start, gone: make(map[string]time.Time), held: make(map[string]time.Time),
		agreed: make(map[string]bool)}
}

// silence returns how long the host has been silent in this leadership.
func (rules *silenceRules) silence(now time.Time, p presence) time.Duration {
	if p.lastSeen.Before(rules.start) {
		return now.Sub(rules.start)
	}
	return now.Sub(p.lastSeen)
}

// assess returns the hosts whose state changes, and those that have been held back for so
// long that the other servers should be asked about them. It is called whenever time has
// passed or a heartbeat has come.
func (rules *silenceRules) assess(now time.Time, hosts []*structs.Host, presences map[string]presence) (marks []conductor.HostMark,
	ask []string) {
	var due []*structs.Host // silent for too long
	known := make(map[string]structs.HostState, len(hosts))
	total, silent := 0, 0
	for _, h := range hosts {
		known[h.ID] = h.State
		p := presences[h.ID]
		silence := rules.silence(now, p)
		alive := p.fresh() && !p.dead() && now.Sub(p.lastSeen) <= rules.lostAfter/2
		if h.State != structs.HostReady && alive {
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostReady})
		}
		if h.State == structs.HostLost {
			continue
		}
		total++
		if alive || h.State == structs.HostReady && !p.dead() && silence <= rules.lostAfter/2 {
			continue
		}
		silent++
		switch {
		case silence > rules.lostAfter:
			due = append(due, h)
		case h.State == structs.HostReady && p.dead():
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect, Reason: "gossip reports its agent dead"})
		case h.State == structs.HostReady:
			marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect,
				Reason: fmt.Sprintf("its agent has been silent for %v", rules.lostAfter/2)})
		}
	}
	rules.tidy(now, known)
	total, silent = total+len(rules.gone), silent+len(rules.gone)
	brake := silent > brakeHosts && silent*brakeShare > total
	for _, h := range due {
		if brake && !rules.agreed[h.ID] {
			if _, held := rules.held[h.ID]; !held {
				rules.held[h.ID] = now
			}
			if now.Sub(rules.held[h.ID]) >= brakeTime {
				ask = append(ask, h.ID)
			}
			if !h.Braked {
				marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostSuspect, Braked: true, Reason: fmt.Sprintf(
					"held back by the mass-loss brake: %d of %d hosts went silent at about the same time, which is more likely the "+
						"servers' network than the hosts. None of its workloads is placed again until its agent sends heartbeats "+
						"again, or until most servers have agreed for %v that it is gone. If it is really down: magnum host-release %s",
					silent, total, brakeTime, h.Name)})
			}
			continue
		}
		rules.gone[h.ID] = now
		delete(rules.held, h.ID)
		marks = append(marks, conductor.HostMark{ID: h.ID, State: structs.HostLost,
			Reason: fmt.Sprintf("its agent has been silent for %v", rules.lostAfter)})
	}
	return marks, ask
}

// tidy forgets what no longer counts. Lost hosts count for the brake for one lostAfter, or
// for as long as the brake holds other hosts back: releasing one host of five must not end
// the brake for the other four.
func (rules *silenceRules) tidy(now time.Time, known map[string]structs.HostState) {
	for id := range rules.held {
		switch known[id] {
		case structs.HostLost: // an operator has released it
			rules.gone[id] = now
			delete(rules.held, id)
		case structs.HostSuspect:
		default:
			delete(rules.held, id)
		}
	}
	for id := range rules.agreed {
		if known[id] != structs.HostSuspect {
			delete(rules.agreed, id)
		}
	}
	for id, at := range rules.gone {
		if known[id] == structs.HostReady || known[id] == "" || len(rules.held) == 0 && now.Sub(at) > rules.lostAfter {
			delete(rules.gone, id)
		}
	}
}
