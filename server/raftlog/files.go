package raftlog

import (
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
)

// logCacheSize is how many entries are kept in memory for followers.
const logCacheSize = 512

// retainSnapshots is how many snapshots stay on disk.
const retainSnapshots = 2

// files are the log's files, and the member record that says what they must hold. They
// are checked before anything changes.
type files struct {
	config    Config
	disk      *disk
	store     *boltStore
	logs      raft.LogStore // around store
	snapshots raft.SnapshotStore
	stored    *storedFile
	member    *memberRecord
	clusterID *transport.ClusterID
}

// newFiles opens the member record and creates the directories. open must follow.
func newFiles(c Config) (*files, error) {
	record, err := openMemberRecord(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.snapshotsDir(), 0o700); err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	fl := &files{config: c, member: record, disk: &disk{config: c, broken: make(chan struct{}), ending: make(chan struct{})}}
	fl.clusterID = transport.NewClusterID(c.ClusterID, fl.keepCluster)
	return fl, nil
}

// open opens the log, the snapshots and the files beside them, and checks that they are
// whole and consistent.
func (fl *files) open() error {
	if err := fl.refuseEarlier(); err != nil {
		return err
	}
	var err error
	if fl.stored, err = openStoredFile(fl.config.storedFile(), fl.member.Now().Stored); err != nil {
		return err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(fl.config.dir(), retainSnapshots, fl.config.Logger.Named("raft"))
	if err != nil {
		return fmt.Errorf("%s: %w", fl.config.snapshotsDir(), err)
	}
	fl.snapshots = diskSnapshots{files, fl}
	snapshot, err := fl.checkSnapshots()
	if err != nil {
		return err
	}
	if err := fl.findStore(); err != nil {
		return err
	}
	check := LogCheck{Path: fl.config.storeFile(), SnapshotIndex: snapshot.Index, SnapshotTerm: snapshot.Term}
	facts, err := fl.checkStore(check)
	if err != nil {
		return err
	}
	if err := fl.checkBounds(facts, snapshot.Index); err != nil {
		return err
	}
	if err := fl.checkTerm(facts); err != nil {
		return err
	}
	if err := fl.checkMemberRecord(facts, snapshot.Index); err != nil {
		return err
	}
	// Everything is checked. Nothing has changed before this line.
	if err := fl.forgetBootstrap(&facts, snapshot.Index); err != nil {
		return err
	}
	fl.compact(check, facts)
	keys := make(map[string]bool)
	for key := range facts.Values {
		keys[key] = true
	}
	if fl.store, err = openStore(fl.config.storeFile(), keys); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	fl.addMissingMetaSums()
	fl.forgetFailedSync()
	var logs raft.LogStore = fl.store
	if fl.config.WrapLogStore != nil {
		logs = fl.config.WrapLogStore(logs)
	}
	disk := &diskLogs{LogStore: logs, files: fl}
	if fl.logs, err = raft.NewLogCache(logCacheSize, disk); err != nil {
		return err
	}
	if err := fl.checkPlace(facts, snapshot.Index); err != nil {
		return err
	}
	if err := fl.completeMemberRecord(facts, snapshot.Index); err != nil {
		return err
	}
	// A kill came between a restored or installed snapshot and this deletion. None of
	// the entries is needed, and they may belong to another history than the snapshot.
	if last := facts.Last; last != 0 && (facts.Foreign || last < snapshot.Index) {
		return disk.DeleteRange(facts.First, last)
	}
	return nil
}

// close closes the files that open has opened.
func (fl *files) close() error {
	var errs []error
	if fl.stored != nil {
		errs = append(errs, fl.stored.close())
	}
	if fl.store != nil {
		errs = append(errs, fl.store.Close())
	}
	return errors.Join(errs...)
}
