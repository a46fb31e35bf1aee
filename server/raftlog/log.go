package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
)

// unreadable is in Open's error after a panic of the library.
const unreadable = "can't be read"

// Log is this server's part of the replicated log.
type Log struct {
	config    Config
	raft      *raft.Raft
	files     *files
	transport raft.Transport            // the library's, or a test's
	addressed *transport.Addressed      // around transport
	acks      *transport.AckTracker     // around addressed
	voting    atomic.Pointer[raft.Raft] // set at the end of Open
	announcer *announcer
	clusterID *transport.ClusterID
	hadState  bool

	alone    atomic.Bool
	reads    reads
	changes  broadcast // of the leader
	leadLock leadLock

	proposing sync.RWMutex // held for reading while an entry is proposed, for writing by Restore

	mu      sync.Mutex // guards what follows, and calls.Add against calls.Wait
	closing bool
	calls   sync.WaitGroup // calls of the library under way

	closeOnce sync.Once
	closeErr  error
}

// Open checks the log's files, restores the newest snapshot into the store and starts
// Raft. Entries after the snapshot are applied once there is a leader. Run must follow,
// or Close.
//
// Damaged files are refused with an error that names the file. Nothing is repaired, and
// no older file is used instead.
func Open(c Config) (l *Log, err error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	files, err := newFiles(c)
	if err != nil {
		return nil, err
	}
	l = &Log{config: c, files: files, clusterID: files.clusterID, announcer: newAnnouncer(),
		leadLock: leadLock{slot: make(chan struct{}, 1)}}
	l.reads.log = l
	defer func() {
		if p := recover(); p != nil { // the library panics on damage that the checks have missed
			if err = l.files.disk.failure(); err == nil {
				err = fmt.Errorf("%s %s: %v", c.dir(), unreadable, p)
			}
		}
		if err != nil {
			l.release()
			l = nil
		}
	}()
	if err := l.files.open(); err != nil {
		return l, err
	}
	if l.hadState, err = raft.HasExistingState(l.files.logs, l.files.store, l.files.snapshots); err != nil {
		return l, fmt.Errorf("%s: %w", c.dir(), err)
	}
	if err := l.openTransport(); err != nil {
		return l, err
	}
	l.files.disk.setStarting(true)
	defer l.files.disk.setStarting(false)
	if l.raft, err = raft.NewRaft(c.raft(), &fsm{c.Store, l.announcer}, l.files.logs, diskState{l.files.store, l.files},
		l.files.snapshots, l.acks); err != nil {
		return l, fmt.Errorf("raft in %s: %w", c.dir(), err)
	}
	l.voting.Store(l.raft)
	l.files.disk.relied.Store(l.hadState)
	l.observeLeader()
	return l, nil
}

// transportTimeout bounds dialling and each write to another server; maxPool is the
// number of idle connections kept per server.
const (
	transportTimeout = 5 * time.Second
	maxPool          = 3
)

func (l *Log) openTransport() error {
	switch {
	case l.config.Transport != nil:
		l.transport = l.config.Transport
	case l.config.BindAddr == "":
		_, l.transport = raft.NewInmemTransport(raft.ServerAddress(l.config.ServerID))
	default:
		c := l.config
		s, err := transport.Listen(transport.Config{ServerID: c.ServerID, BindAddr: c.BindAddr, Advertise: c.Advertise, Secure: c.Secure,
			Logger: c.Logger.Named("raft")}, l.clusterID)
		if err != nil {
			return err
		}
		l.transport = raft.NewNetworkTransportWithLogger(s, maxPool, transportTimeout, l.config.Logger.Named("raft"))
	}
	l.addressed = transport.NewAddressed(l.transport, l.mayVote)
	l.acks = transport.NewAckTracker(l.addressed)
	return nil
}

// FreeBytes returns how many bytes can be written to raft.db before the file grows.
func (l *Log) FreeBytes() int64 { return l.files.store.FreeBytes() }

// HasState reports whether this server belonged to a cluster when it was opened. A
// server without state is bootstrapped, or waits to be added.
func (l *Log) HasState() bool { return l.hadState }

// mayVote reports whether this server may vote: if its newest membership names it or,
// while its log is empty, if it has granted the proposal of the cluster that it belongs
// to. Any other server has taken the address of one that was lost.
func (l *Log) mayVote() bool {
	r := l.voting.Load()
	if r == nil {
		return false // Open is under way: the candidate asks again
	}
	conf := r.GetConfiguration()
	if conf.Error() != nil {
		return false
	}
	servers := conf.Configuration().Servers
	if len(servers) == 0 {
		return r.LastIndex() == 0 && l.config.Granted(l.ClusterID())
	}
	return slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == l.config.ServerID })
}

// Term returns the current term.
func (l *Log) Term() uint64 { return l.raft.CurrentTerm() }

// IsLeader reports whether this server believes that it leads. It may have been deposed
// without knowing; VerifyLeader finds out.
func (l *Log) IsLeader() bool { return l.raft.State() == raft.Leader }

// Leader returns the ID and address of the leader, "" if none is known.
func (l *Log) Leader() (id, addr string) {
	a, i := l.raft.LeaderWithID()
	return string(i), string(a)
}

// Stats returns the library's statistics, for operators.
func (l *Log) Stats() map[string]string { return l.raft.Stats() }

// Behind returns how many committed entries, as far as this server knows, it has not
// yet handed to the state.
func (l *Log) Behind() uint64 {
	commit := l.raft.CommitIndex()
	return commit - min(commit, l.raft.AppliedIndex())
}

// Figures are the log's figures for monitoring.
type Figures struct {
	Term          uint64
	Leader        bool   // this server believes that it leads
	LastIndex     uint64 // of this server's log
	CommitIndex   uint64 // as far as this server knows
	AppliedIndex  uint64 // handed to the state
	SnapshotIndex uint64 // of the newest snapshot; 0 if there is none
	Peers         int    // other voters
	// LastContact is the time since the leader's last message: 0 on the leader, below 0
	// if there was none.
	LastContact time.Duration
}

// Figures returns the log's figures. They are not taken at one instant.
func (l *Log) Figures() Figures {
	f := Figures{
		Term: l.Term(), Leader: l.IsLeader(), LastIndex: l.raft.LastIndex(), CommitIndex: l.raft.CommitIndex(),
		AppliedIndex: l.raft.AppliedIndex(),
	}
	stats := l.raft.Stats()
	f.SnapshotIndex, _ = strconv.ParseUint(stats["last_snapshot_index"], 10, 64) // the library always has a number here
	f.Peers, _ = strconv.Atoi(stats["num_peers"])
	if last := l.raft.LastContact(); last.IsZero() && !f.Leader {
		f.LastContact = -1
	} else if !f.Leader {
		f.LastContact = time.Since(last)
	}
	return f
}

// Snapshot takes a snapshot now and drops the entries that it replaces. It is no error
// if nothing is new.
func (l *Log) Snapshot() error {
	err := l.call(context.Background(), func() error { return l.raft.Snapshot().Error() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// Close stops Raft and closes the files. It is for a Log that is never run: Run closes
// the Log itself. Close may be called more than once.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		l.closing = true
		l.mu.Unlock()
		close(l.files.disk.ending) // ends the retries of a term or vote
		// Raft answers all calls while it runs, but not those still queued when it
		// stops. If Raft has already ended, nobody gets an answer.
		answered := make(chan struct{})
		go func() {
			l.calls.Wait()
			close(answered)
		}()
		select {
		case <-answered:
		case <-l.files.disk.broken:
		}
		stopped := l.raft.Shutdown()
		// The transport closes first: Raft's shutdown may itself wait for a silent
		// server.
		l.closeErr = errors.Join(l.closeTransport(), stopped.Error(), l.release())
		l.announcer.calls.Wait()
	})
	return l.closeErr
}

// release closes the transport and the files.
func (l *Log) release() error {
	return errors.Join(l.closeTransport(), l.files.close())
}

func (l *Log) closeTransport() error {
	if l.addressed != nil {
		l.addressed.Close()
	}
	if c, ok := l.transport.(io.Closer); ok && l.config.Transport == nil {
		return c.Close()
	}
	return nil
}

// errClosed is the error of a closed Log.
var errClosed = errors.New("raft: this server is shutting down")

// call runs a call of the library, which takes no context. If ctx ends first, the call
// continues and its outcome is unknown.
func (l *Log) call(ctx context.Context, f func() error) error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return errClosed
	}
	l.calls.Add(1)
	l.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		defer l.calls.Done()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
