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

// unreadable is what Open says of a panic.
const unreadable = "can't be read"

// Log is this server's member of the replicated log.
type Log struct {
	config    Config
	raft      *raft.Raft
	files     *files
	transport raft.Transport            // of the library, or a test's
	addressed *transport.Addressed      // around transport
	acks      *transport.AckTracker     // around addressed
	voting    atomic.Pointer[raft.Raft] // once Open is done
	announcer *announcer
	clusterID *transport.ClusterID
	hadState  bool

	alone    atomic.Bool
	reads    reads
	changes  broadcast // of the leader
	leadLock leadLock

	proposing sync.RWMutex // held for reading while an entry is under way, for writing by Restore

	mu      sync.Mutex // guards what follows, and calls.Add against calls.Wait
	closing bool
	calls   sync.WaitGroup // goroutines that wait for the library

	closeOnce sync.Once
	closeErr  error
}

// Open checks the log's files, restores the newest snapshot into the store and
// starts Raft. Entries behind the snapshot are applied once there is a leader.
// Run must follow, or Close.
//
// Damaged files are refused with an error that names the file; nothing is
// repaired, and nothing is taken from an older file instead.
func Open(c Config) (l *Log, err error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	files, err := newFiles(c)
	if err != nil {
		return nil, err
	}
	l = &Log{config: c, files: files, clusterID: files.clusterID, announcer: newAnnouncer(), leadLock: leadLock{slot: make(chan struct{}, 1)}}
	l.reads.log = l
	defer func() {
		if p := recover(); p != nil { // the library panics on what the checks have missed
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
	if l.raft, err = raft.NewRaft(c.raft(), &fsm{c.Store, l.announcer}, l.files.logs, diskState{l.files.store, l.files}, l.files.snapshots, l.acks); err != nil {
		return l, fmt.Errorf("raft in %s: %w", c.dir(), err)
	}
	l.voting.Store(l.raft)
	l.files.disk.relied.Store(l.hadState)
	l.observeLeader()
	return l, nil
}

// transportTimeout bounds dialling and each write to another server; maxPool is
// how many idle connections to one are kept.
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
		s, err := transport.Listen(transport.Config{ServerID: c.ServerID, BindAddr: c.BindAddr, Advertise: c.Advertise, Secure: c.Secure, Logger: c.Logger.Named("raft")}, l.clusterID)
		if err != nil {
			return err
		}
		l.transport = raft.NewNetworkTransportWithLogger(s, maxPool, transportTimeout, l.config.Logger.Named("raft"))
	}
	l.addressed = transport.NewAddressed(l.transport, l.mayVote)
	l.acks = transport.NewAckTracker(l.addressed)
	return nil
}

// FreeBytes returns how many bytes of raft.db are free: so much can be written
// before the file grows.
func (l *Log) FreeBytes() int64 { return l.files.store.FreeBytes() }

// HasState reports whether this server had been a member of a cluster when it
// was opened. One that had not is bootstrapped, or waits to be added.
func (l *Log) HasState() bool { return l.hadState }

// mayVote reports whether votes that are asked of this server are its own to give:
// whether the newest configuration that it has names it, or, as long as its log is
// empty, whether it has granted its part to the cluster that it belongs to. Any
// other server has come in the place of one that was lost.
func (l *Log) mayVote() bool {
	r := l.voting.Load()
	if r == nil {
		return false // it is being opened: whoever asks asks again
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

// IsLeader reports whether this server takes itself for the leader. It may
// have been deposed without knowing; VerifyLeader finds out.
func (l *Log) IsLeader() bool { return l.raft.State() == raft.Leader }

// Leader returns the ID and address of the leader, "" if none is known.
func (l *Log) Leader() (id, addr string) {
	a, i := l.raft.LeaderWithID()
	return string(i), string(a)
}

// Stats returns figures about Raft for operators.
func (l *Log) Stats() map[string]string { return l.raft.Stats() }

// Behind returns how many entries this server knows to be committed and has not
// yet handed to the state.
func (l *Log) Behind() uint64 {
	commit := l.raft.CommitIndex()
	return commit - min(commit, l.raft.AppliedIndex())
}

// Figures are what operators watch of a server's log.
type Figures struct {
	Term          uint64
	Leader        bool   // this server takes itself for the leader
	LastIndex     uint64 // of this server's log
	CommitIndex   uint64 // as far as this server knows
	AppliedIndex  uint64 // handed to the state
	SnapshotIndex uint64 // of the newest snapshot; 0 if there is none
	Peers         int    // other voters
	// LastContact is the time since the leader was heard of: 0 on the leader,
	// below 0 if it never was.
	LastContact time.Duration
}

// Figures returns figures about Raft. They are not of one instant.
func (l *Log) Figures() Figures {
	f := Figures{
		Term: l.Term(), Leader: l.IsLeader(), LastIndex: l.raft.LastIndex(), CommitIndex: l.raft.CommitIndex(), AppliedIndex: l.raft.AppliedIndex(),
	}
	stats := l.raft.Stats()
	f.SnapshotIndex, _ = strconv.ParseUint(stats["last_snapshot_index"], 10, 64) // always a number
	f.Peers, _ = strconv.Atoi(stats["num_peers"])
	if last := l.raft.LastContact(); last.IsZero() && !f.Leader {
		f.LastContact = -1
	} else if !f.Leader {
		f.LastContact = time.Since(last)
	}
	return f
}

// Snapshot takes a snapshot now and drops the entries that it makes
// superfluous. There being nothing new is no error.
func (l *Log) Snapshot() error {
	err := l.call(context.Background(), func() error { return l.raft.Snapshot().Error() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// Close stops Raft and closes the files. Run does it by itself; it is for a
// Log that is never run. It may be called more than once.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		l.closing = true
		l.mu.Unlock()
		close(l.files.disk.ending) // a term or vote that waits for its disk waits no longer
		// Raft answers all calls as long as it lives, but not what is still queued
		// when it stops. If it has ended already, nobody is answered.
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
		// Before it is waited for: it may itself wait for a server that is silent.
		l.closeErr = errors.Join(l.closeTransport(), stopped.Error(), l.release())
		l.announcer.calls.Wait()
	})
	return l.closeErr
}

// release closes what Open has opened.
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

// errClosed is the answer of a Log that is closed.
var errClosed = errors.New("raft: this server is shutting down")

// call waits for a call of the library, which knows no contexts. If ctx ends
// first, the call goes on and its outcome is unknown.
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
