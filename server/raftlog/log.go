package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// logCacheSize is how many entries are kept in memory for followers.
const logCacheSize = 512

// unreadable is what Open says of a panic.
const unreadable = "can't be read"

// retainSnapshots is how many snapshots are kept on disk.
const retainSnapshots = 2

// Log is this server's member of the replicated log.
type Log struct {
	Config
	raft      *raft.Raft
	bolt      sealedStore
	logs      raft.LogStore
	snapshots raft.SnapshotStore
	transport raft.Transport
	acked     *ackFile
	hadState  bool

	barrier atomic.Uint64 // the term in which a Barrier has been passed here
	rounds  rounds

	mu      sync.Mutex // guards closing, and calls.Add against calls.Wait
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
	if err := os.MkdirAll(c.snapshotsDir(), 0o700); err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	l = &Log{Config: c}
	defer func() {
		if p := recover(); p != nil { // the library and its file format panic on what the checks have missed
			err = fmt.Errorf("%s %s: %v", c.logFile(), unreadable, p)
		}
		if err != nil {
			l.release()
			l = nil
		}
	}()
	if err := l.openFiles(); err != nil {
		return l, err
	}
	if l.hadState, err = raft.HasExistingState(l.logs, l.bolt, l.snapshots); err != nil {
		return l, fmt.Errorf("%s: %w", c.logFile(), err)
	}
	if err := l.openTransport(); err != nil {
		return l, err
	}
	if l.raft, err = raft.NewRaft(c.raft(), &fsm{store: c.Store}, l.logs, l.bolt, l.snapshots, l.transport); err != nil {
		return l, fmt.Errorf("raft in %s: %w", c.dir(), err)
	}
	return l, nil
}

// openFiles opens the log, the snapshots and the side file, and checks that
// they are whole and fit together.
func (l *Log) openFiles() error {
	if err := checkBoltFile(l.logFile()); err != nil {
		return err
	}
	var err error
	l.bolt.BoltStore, err = raftboltdb.New(raftboltdb.Options{
		Path: l.logFile(),
		BoltOptions: &bbolt.Options{
			Timeout:        time.Second, // the file is locked while another process has it
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return fmt.Errorf("%s is in use by another process", l.logFile())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.logFile(), err)
	}
	if l.acked, err = openAckFile(l.ackFile()); err != nil {
		return err
	}
	l.snapshots, err = raft.NewFileSnapshotStoreWithLogger(l.dir(), retainSnapshots, l.Logger.Named("raft"))
	if err != nil {
		return fmt.Errorf("%s: %w", l.snapshotsDir(), err)
	}
	snapshot, err := l.checkSnapshots()
	if err != nil {
		return err
	}
	if err := l.checkEntries(snapshot); err != nil {
		return err
	}
	var logs raft.LogStore = l.bolt
	if l.WrapLogStore != nil {
		logs = l.WrapLogStore(logs)
	}
	l.logs, err = raft.NewLogCache(logCacheSize, logs)
	return err
}

// transportTimeout bounds dialling and each write to another server.
const transportTimeout = 5 * time.Second

func (l *Log) openTransport() error {
	switch {
	case l.Transport != nil:
		l.transport = l.Transport
	case l.BindAddr == "":
		_, l.transport = raft.NewInmemTransport(raft.ServerAddress(l.ServerID))
	default:
		var advertise net.Addr
		if l.Advertise != "" {
			addr, err := net.ResolveTCPAddr("tcp", l.Advertise)
			if err != nil {
				return fmt.Errorf("raft: address to advertise: %w", err)
			}
			advertise = addr
		}
		t, err := raft.NewTCPTransportWithLogger(l.BindAddr, advertise, 3, transportTimeout, l.Logger.Named("raft"))
		if err != nil {
			return fmt.Errorf("raft: can't listen on %s: %w", l.BindAddr, err)
		}
		l.transport = t
	}
	return nil
}

// HasState reports whether this server had been a member of a cluster when it
// was opened. One that had not is bootstrapped, or waits to be added.
func (l *Log) HasState() bool { return l.hadState }

// Voter is a server that votes.
type Voter struct {
	ID   string
	Addr string // host:port of its Raft port
}

// Bootstrap makes a new cluster of the voters, by default of this server
// alone. All first servers bootstrap with the same voters. It fails on a
// server that has state.
func (l *Log) Bootstrap(voters ...Voter) error {
	if len(voters) == 0 {
		voters = []Voter{l.self()}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	return l.raft.BootstrapCluster(c).Error()
}

func (l *Log) self() Voter { return Voter{ID: l.ServerID, Addr: string(l.transport.LocalAddr())} }

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
		// Raft answers all calls as long as it lives, but not what is still queued
		// when it stops.
		l.calls.Wait()
		l.closeErr = errors.Join(l.raft.Shutdown().Error(), l.release())
	})
	return l.closeErr
}

// release closes what Open has opened.
func (l *Log) release() error {
	var errs []error
	if c, ok := l.transport.(io.Closer); ok && l.Transport == nil {
		errs = append(errs, c.Close())
	}
	if l.acked != nil {
		errs = append(errs, l.acked.close())
	}
	if l.bolt.BoltStore != nil {
		errs = append(errs, l.bolt.Close())
	}
	return errors.Join(errs...)
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
