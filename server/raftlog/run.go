package raftlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// pollLeadership is how often leadership is checked, in case a notification of the
	// library is lost.
	pollLeadership = 100 * time.Millisecond

	minBackoff = 50 * time.Millisecond // bound of the first pause before lead is called again
	maxBackoff = 2 * time.Second
	steady     = 10 * time.Second // a lead that lasted this long resets the backoff

	transferTimeout = 2 * time.Second // for transferring leadership at a clean stop
)

// Run takes part in the cluster until ctx ends. Then it transfers leadership if this
// server leads and another voter can take over, stops Raft, closes the files and
// returns nil. If the disk no longer takes Raft's term or vote, Run ends by itself with
// an error that names the file.
//
// Each time this server becomes the leader and has applied everything that earlier
// leaders committed, Run calls lead with the term and a context that ends with the
// leadership. If lead returns while the leadership lasts, Run calls it again after a
// pause and another Barrier. Calls of lead never overlap.
func (l *Log) Run(ctx context.Context, lead func(ctx context.Context, term uint64) error) error {
	l.files.disk.relied.Store(true)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer cancel()
		select {
		case <-l.files.disk.broken:
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer cancel()
	changes := make(chan raft.Observation, 1)
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, is := o.Data.(raft.RaftState)
		return is
	})
	l.raft.RegisterObserver(observer)
	tick := time.NewTicker(pollLeadership)
	defer tick.Stop()
	w, leading := &leadershipMonitor{log: l, changes: changes, tick: tick.C}, &leadership{l, lead}
	for {
		term, led := w.leadership(ctx)
		if !led {
			break
		}
		leading.run(ctx, w, term)
	}
	l.raft.DeregisterObserver(observer)
	if err := l.files.disk.failure(); err != nil {
		return errors.Join(fmt.Errorf("%w; nothing that was acknowledged is lost: check the disk, then start the server again", err),
			l.Close())
	}
	l.HandOver()
	return l.Close()
}

// leadership calls lead while this server leads.
type leadership struct {
	log  *Log
	lead func(ctx context.Context, term uint64) error
}

// run calls lead until this server no longer leads in the term.
func (l *leadership) run(ctx context.Context, w *leadershipMonitor, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.leadRepeatedly(ctx, term)
	}()
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		l.log.announcer.run(ctx, l.log, term)
	}()
	w.end(ctx, term)
	cancel()
	<-ended
	<-announced
}

// leadRepeatedly calls lead until ctx ends, with backoff.
func (l *leadership) leadRepeatedly(ctx context.Context, term uint64) {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		interrupted, err := l.leadOnce(ctx, term)
		if ctx.Err() != nil {
			return
		}
		if interrupted {
			continue // leadOnce waits for the restore
		}
		if time.Since(began) > steady {
			backoff = minBackoff
		}
		pause := rand.N(backoff)
		l.log.config.Logger.Warn("leader loop ended although leadership lasts, it starts again", "term", term, "duration", pause, "error",
			err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// leadOnce calls lead once, after a Barrier and with leadLock held. interrupted is true
// if a restore has ended lead.
func (l *leadership) leadOnce(ctx context.Context, term uint64) (interrupted bool, err error) {
	leading, done, err := l.log.leadLock.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if err = l.log.Barrier(leading); err == nil && l.log.Term() == term {
		err = l.lead(leading, term)
	}
	return leading.Err() != nil && ctx.Err() == nil, err
}

// leadershipMonitor compares state, term and membership whenever they may have changed.
// The library's LeaderCh has one slot whose value is overwritten, so losing and
// regaining leadership can go unnoticed.
type leadershipMonitor struct {
	log     *Log
	changes <-chan raft.Observation
	tick    <-chan time.Time
}

// leadership waits until this server leads and returns the term; led is false once ctx
// has ended.
func (w *leadershipMonitor) leadership(ctx context.Context) (term uint64, led bool) {
	for ctx.Err() == nil {
		if term, leads := w.now(); leads {
			return term, true
		}
		w.wait(ctx)
	}
	return 0, false
}

// end waits until this server no longer leads in the term, or ctx has ended.
func (w *leadershipMonitor) end(ctx context.Context, term uint64) {
	for ctx.Err() == nil {
		if now, leads := w.now(); !leads || now != term {
			return
		}
		w.wait(ctx)
	}
}

func (w *leadershipMonitor) now() (term uint64, leads bool) {
	w.log.countServers()
	term = w.log.Term()
	leads = w.log.IsLeader()
	return term, leads && w.log.Term() == term
}

func (w *leadershipMonitor) wait(ctx context.Context) {
	select {
	case <-w.changes:
	case <-w.tick:
	case <-ctx.Done():
	}
}

// HandOver transfers leadership to another voter if this server leads, so that a clean
// stop costs the cluster no election timeout. A failure is logged, and an election
// follows. Run calls it, too; a server may call it earlier, while answers are still
// being sent.
func (l *Log) HandOver() {
	if !l.IsLeader() || !l.hasOtherVoters() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	if err := l.call(ctx, func() error { return l.raft.LeadershipTransfer().Error() }); err != nil {
		l.config.Logger.Warn("leadership was not transferred", "error", err)
	}
}

func (l *Log) hasOtherVoters() bool {
	future := l.raft.GetConfiguration()
	if future.Error() != nil {
		return false
	}
	for _, s := range future.Configuration().Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != l.config.ServerID {
			return true
		}
	}
	return false
}
