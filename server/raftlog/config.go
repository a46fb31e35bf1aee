package raftlog

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog/transport"
	"github.com/stackforge/magnum/server/state"
)

// Config configures a server's log: its files and its connections to other servers.
type Config struct {
	DataDir   string // the log's files are in its subdirectory "raft"
	ServerID  string // UUID of this server; it never changes
	BindAddr  string // host:port of Raft's TCP port; "" opens no port, for a solo server
	Advertise string // host:port at which other servers reach BindAddr; default: BindAddr as it was opened

	// Member is the member record, in which the log notes what it must hold; nil opens
	// the record in DataDir.
	Member *memberfile.File

	Secure *transport.Secure // TLS between servers; nil means plain TCP

	// ClusterID is the cluster that this server has joined, "" if none. KeepClusterID
	// is called with the ID of the cluster that adds this server, before anything from
	// its leader is believed. It stores the ID durably, or refuses.
	ClusterID     string
	KeepClusterID func(id string) error
	// Granted reports whether this server has granted the proposal of the cluster: it
	// then votes for the first leader of that cluster although its log is empty. nil
	// means that no proposal is granted.
	Granted func(clusterID string) bool

	// Moved says that an operator has moved the data directory. Without it, a moved
	// directory is taken for a copy.
	Moved bool

	Store  *state.Store // empty; filled from snapshot and log, and written only by this package
	Logger hclog.Logger

	HeartbeatTimeout time.Duration // time without a message of the leader before an election; default 350ms
	ElectionTimeout  time.Duration // time without a majority of votes before another election; default 350ms
	// LeaderLease is the time without a majority of answers before a leader steps down; default 250ms, at most HeartbeatTimeout.
	LeaderLease time.Duration

	SnapshotThreshold uint64        // entries after which a snapshot is taken; default 8192
	SnapshotInterval  time.Duration // how often SnapshotThreshold is checked; default 30s
	TrailingLogs      uint64        // entries kept behind a snapshot, for followers that lag; default 2048

	// CheckLog checks raft.db before it is opened for writing, like the function of
	// that name. A server runs it in another process, with ChildCheck; nil runs it in
	// this process, which a damaged file may crash.
	CheckLog func(context.Context, LogCheck) (LogFacts, error)
	// MakeRoom is called when the disk has no space for a term or a vote. It frees
	// reserved space and reports whether there was any; nil means that none is
	// reserved.
	MakeRoom func() bool

	// Transport replaces the transport on BindAddr; for tests.
	Transport raft.Transport
	// WrapLogStore wraps the log store; for tests that break it, and to try another
	// store.
	WrapLogStore func(raft.LogStore) raft.LogStore
	// Fault is called at each write to disk with one of the Fault constants; its error
	// fails the write. For tests; nil means that nothing fails.
	Fault func(op string) error

	compactFree int64 // minimum of free bytes for a compaction; tests lower it
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = 350 * time.Millisecond
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = c.HeartbeatTimeout
	}
	if c.LeaderLease == 0 {
		c.LeaderLease = min(250*time.Millisecond, c.HeartbeatTimeout)
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 8192
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = 30 * time.Second
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 2048
	}
	if c.CheckLog == nil {
		c.CheckLog = func(ctx context.Context, check LogCheck) (LogFacts, error) { return CheckLog(ctx, check, nil) }
	}
	if c.compactFree == 0 {
		c.compactFree = compactFree
	}
	if c.KeepClusterID == nil {
		c.KeepClusterID = func(string) error { return nil }
	}
	if c.Granted == nil {
		c.Granted = func(string) bool { return false }
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.DataDir == "":
		return fmt.Errorf("raft: no data directory given")
	case c.ServerID == "":
		return fmt.Errorf("raft: no server ID given")
	case c.Store == nil:
		return fmt.Errorf("raft: no store given")
	case c.Store.Index() != 0:
		return fmt.Errorf("raft: the store is not empty, it is at index %d", c.Store.Index())
	}
	return raft.ValidateConfig(c.raft())
}

// raft returns the library's configuration.
func (c Config) raft() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ServerID)
	rc.HeartbeatTimeout = c.HeartbeatTimeout
	rc.ElectionTimeout = c.ElectionTimeout
	rc.LeaderLeaseTimeout = c.LeaderLease
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.TrailingLogs
	rc.MaxAppendEntries = 32 // an entry holds a whole batch, up to 512 KiB
	rc.Logger = c.Logger.Named("raft")
	rc.NoLegacyTelemetry = true
	return rc
}

// The paths of the log's files.
func (c Config) dir() string            { return filepath.Join(c.DataDir, "raft") }
func (c Config) storeFile() string      { return filepath.Join(c.dir(), "raft.db") }
func (c Config) storedFile() string     { return filepath.Join(c.dir(), "stored") }
func (c Config) failedSyncFile() string { return filepath.Join(c.dir(), "sync-failed") }
func (c Config) snapshotsDir() string   { return filepath.Join(c.dir(), "snapshots") }
