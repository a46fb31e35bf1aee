package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// logCacheSize is how many entries are kept in memory for followers.
const logCacheSize = 512

// unreadable is what Open says of a panic.
const unreadable = "can't be read"

// retainSnapshots is how many snapshots are kept on disk.
const retainSnapshots = 2

// Log is this server's member of the replicated log.
type Log struct {
	config    Config
	raft      *raft.Raft
	store     *boltStore
	logs      raft.LogStore // around store
	snapshots raft.SnapshotStore
	transport raft.Transport            // of the library, or a test's
	addressed *addressed                // around transport
	witness   *witness                  // around addressed
	voting    atomic.Pointer[raft.Raft] // once Open is done
	announcer *announcer
	identity  *identity
	stored    *storedFile
	member    *membership
	hadState  bool

	running atomic.Bool   // others may rely on this server: it has state, or Run has begun
	ending  chan struct{} // closed by Close
	alone   atomic.Bool
	barrier atomic.Uint64 // the term in which a Barrier has been passed here
	lease   atomic.Pointer[lease]
	rounds  rounds
	changes broadcast // of the leader
	turns   turns

	proposing sync.RWMutex // held for reading while an entry is under way, for writing by Restore

	mu       sync.Mutex // guards what follows, and calls.Add against calls.Wait
	closing  bool
	starting bool           // Open is under way
	failed   error          // see diskState; nil while all is well
	broken   chan struct{}  // closed when failed is set
	calls    sync.WaitGroup // goroutines that wait for the library

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
	record, err := openMembership(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.snapshotsDir(), 0o700); err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	l = &Log{
		config: c, member: record, broken: make(chan struct{}), ending: make(chan struct{}), announcer: newAnnouncer(), turns: turns{turn: make(chan struct{}, 1)},
	}
	l.identity = &identity{cluster: c.ClusterID, keep: l.keepCluster}
	defer func() {
		if p := recover(); p != nil { // the library panics on what the checks have missed
			if err = l.failure(); err == nil {
				err = fmt.Errorf("%s %s: %v", c.dir(), unreadable, p)
			}
		}
		if err != nil {
			l.release()
			l = nil
		}
	}()
	if err := l.openFiles(); err != nil {
		return l, err
	}
	if l.hadState, err = raft.HasExistingState(l.logs, l.store, l.snapshots); err != nil {
		return l, fmt.Errorf("%s: %w", c.dir(), err)
	}
	if err := l.openTransport(); err != nil {
		return l, err
	}
	l.setStarting(true)
	defer l.setStarting(false)
	if l.raft, err = raft.NewRaft(c.raft(), &fsm{c.Store, l.announcer}, l.logs, diskState{l.store, l}, l.snapshots, l.witness); err != nil {
		return l, fmt.Errorf("raft in %s: %w", c.dir(), err)
	}
	l.voting.Store(l.raft)
	l.running.Store(l.hadState)
	l.watchLeader()
	return l, nil
}

// openFiles opens the log, the snapshots and what stands beside them, and checks
// that they are whole and fit together.
func (l *Log) openFiles() error {
	if err := l.refuseEarlier(); err != nil {
		return err
	}
	var err error
	if l.stored, err = openStoredFile(l.config.storedFile(), l.member.Now().Stored); err != nil {
		return err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(l.config.dir(), retainSnapshots, l.config.Logger.Named("raft"))
	if err != nil {
		return fmt.Errorf("%s: %w", l.config.snapshotsDir(), err)
	}
	l.snapshots = diskSnapshots{files, l}
	snapshot, err := l.checkSnapshots()
	if err != nil {
		return err
	}
	if err := l.findStore(); err != nil {
		return err
	}
	check := LogCheck{Path: l.config.storeFile(), Behind: snapshot.Index, Term: snapshot.Term}
	facts, err := l.checkStore(check)
	if err != nil {
		return err
	}
	if err := l.checkBounds(facts, snapshot.Index); err != nil {
		return err
	}
	if err := l.checkTerm(facts); err != nil {
		return err
	}
	if err := l.checkMembership(facts, snapshot.Index); err != nil {
		return err
	}
	// All is checked; only now does anything change.
	if err := l.forgetBootstrap(&facts, snapshot.Index); err != nil {
		return err
	}
	l.compact(check, facts)
	keys := make(map[string]bool)
	for key := range facts.Values {
		keys[key] = true
	}
	if l.store, err = openStore(l.config.storeFile(), keys); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	l.keepMetaSums()
	l.forgetFailedSync()
	var logs raft.LogStore = l.store
	if l.config.WrapLogStore != nil {
		logs = l.config.WrapLogStore(logs)
	}
	disk := &diskLogs{LogStore: logs, log: l}
	if l.logs, err = raft.NewLogCache(logCacheSize, disk); err != nil {
		return err
	}
	if err := l.checkPlace(facts, snapshot.Index); err != nil {
		return err
	}
	if err := l.completeMembership(facts, snapshot.Index); err != nil {
		return err
	}
	// A kill came between a snapshot that was restored or installed and this. None
	// of the entries is needed, and they may not be those that led to it.
	if last := facts.Last; last != 0 && (facts.Foreign || last < snapshot.Index) {
		return disk.DeleteRange(facts.First, last)
	}
	return nil
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
		s, err := listen(l.config, l.identity)
		if err != nil {
			return err
		}
		l.transport = raft.NewNetworkTransportWithLogger(s, maxPool, transportTimeout, l.config.Logger.Named("raft"))
	}
	l.addressed = newAddressed(l.transport, l.mayVote)
	l.witness = newWitness(l.addressed)
	return nil
}

// FreeBytes returns how many bytes of raft.db are free: so much can be written
// before the file grows.
func (l *Log) FreeBytes() int64 { return l.store.FreeBytes() }

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
		close(l.ending) // a term or vote that waits for its disk waits no longer
		// Raft answers all calls as long as it lives, but not what is still queued
		// when it stops. If it has ended already, nobody is answered.
		answered := make(chan struct{})
		go func() {
			l.calls.Wait()
			close(answered)
		}()
		select {
		case <-answered:
		case <-l.broken:
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
	errs := []error{l.closeTransport()}
	if l.stored != nil {
		errs = append(errs, l.stored.close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	return errors.Join(errs...)
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
