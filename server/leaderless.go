package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/server/raftlog"
)

// leaderlessWait bounds how long the voters are asked whether they answer; the caller
// has already waited for a leader. Their answers are reused for leaderlessKept.
const (
	leaderlessWait = 300 * time.Millisecond
	leaderlessKept = time.Second
)

// leaderlessReason is the last explanation of why there is no leader.
type leaderlessReason struct {
	sync.Mutex // held while voters are asked, because all requests that wait for a leader ask
	why        string
	at         time.Time
}

// whyLeaderless explains why there is no leader, as far as this server can tell, and
// what to do about it. It asks the log's voters: gossip takes some seconds to notice a
// dead server.
func (d *directory) whyLeaderless() string {
	if slices.Contains(d.removed(), d.id) {
		return "an operator has taken this server out of the cluster: ask another server"
	}
	d.lastReason.Lock()
	defer d.lastReason.Unlock()
	if time.Since(d.lastReason.at) < leaderlessKept {
		return d.lastReason.why
	}
	peers, _ := d.raft.Peers() // none while it shuts down
	ctx, cancel := context.WithTimeout(context.Background(), leaderlessWait)
	defer cancel()
	answer := d.progress(ctx, peers)
	d.lastReason.why = explainLeaderless(peers, func(id string) (string, bool) { return d.nameOf(id), answer[id] != nil })
	d.lastReason.at = time.Now()
	return d.lastReason.why
}

// explainLeaderless explains why the given peers have no leader. look returns a
// server's name, "" if unknown, and whether the server answers.
func explainLeaderless(peers []raftlog.Peer, look func(id string) (name string, answers bool)) string {
	var away []string
	voters := 0
	for _, p := range peers {
		if !p.Voter {
			continue
		}
		voters++
		if name, answers := look(p.ID); !answers {
			away = append(away, cmp.Or(name, p.ID))
		}
	}
	majority := voters/2 + 1
	switch there := voters - len(away); {
	case voters == 0:
		return "there is no leader: this server belongs to no cluster yet, and its log says what it waits for"
	case there < majority:
		return fmt.Sprintf("there is no leader: %d of %d servers answer, but %d are needed. Start %s again; if that can't be done, see "+
			"\"If a majority is lost\" in the manual",
			there, voters, majority, strings.Join(away, " and "))
	case voters == 1:
		return "there is no leader: this server is about to lead, try again in a second"
	default:
		return fmt.Sprintf("there is no leader: %d of %d servers answer, which is enough to elect one, so try again in a second. If it "+
			"lasts, see the servers' logs", there, voters)
	}
}
