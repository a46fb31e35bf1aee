package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/stackforge/magnum/server/state"
)

// checkSnapshots verifies the newest snapshot and returns the index up to which
// it replaces the log, 0 if there is none. The library would pass over one
// that it can't read and silently take an older one, or none: acknowledged
// writes would be undone.
func (l *Log) checkSnapshots() (index uint64, err error) {
	dirs, err := os.ReadDir(l.snapshotsDir())
	if err != nil {
		return 0, fmt.Errorf("raft: %w", err)
	}
	for _, d := range dirs {
		if !d.IsDir() || strings.HasSuffix(d.Name(), ".tmp") { // one that was never finished
			continue
		}
		if err := checkSnapshotMeta(filepath.Join(l.snapshotsDir(), d.Name(), "meta.json")); err != nil {
			return 0, err
		}
	}
	newest, err := l.snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l.snapshotsDir(), err)
	}
	if len(newest) == 0 {
		return 0, nil
	}
	meta, path := newest[0], filepath.Join(l.snapshotsDir(), newest[0].ID)
	_, content, err := l.snapshots.Open(meta.ID)
	if err != nil {
		return 0, fmt.Errorf("snapshot %s is damaged: %w: %s", path, err, restoreHint)
	}
	defer content.Close()
	reaches, err := state.Verify(content)
	if err != nil {
		return 0, fmt.Errorf("snapshot %s is damaged: %w: %s", path, err, restoreHint)
	}
	if reaches > meta.Index {
		return 0, fmt.Errorf("snapshot %s holds the state of entry %d, beyond its own index %d: %s", path, reaches, meta.Index, restoreHint)
	}
	return meta.Index, nil
}

// restoreHint is the way out of a damaged data directory.
const restoreHint = "restore the data directory from a backup, or give this server an empty one if other servers have the state"

// checkSnapshotMeta checks what the library reads of a snapshot to rank it.
func checkSnapshotMeta(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("snapshot: %w: %s", err, restoreHint)
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("snapshot: %s is damaged: %w: %s", path, err, restoreHint)
	}
	if !strings.HasPrefix(meta.ID, fmt.Sprintf("%d-%d-", meta.Term, meta.Index)) {
		return fmt.Errorf("snapshot: %s is damaged: snapshot %q is not of term %d and index %d: %s", path, meta.ID, meta.Term, meta.Index, restoreHint)
	}
	if meta.Version < raft.SnapshotVersionMin || meta.Version > raft.SnapshotVersionMax || meta.ID != filepath.Base(filepath.Dir(path)) {
		return fmt.Errorf("snapshot: %s is damaged: it is of version %d and names itself %q: %s", path, meta.Version, meta.ID, restoreHint)
	}
	return nil
}

// checkEntries checks that the log has every entry behind the snapshot, whole,
// and reaches as far as this server has acknowledged.
func (l *Log) checkEntries(snapshot uint64) error {
	first, err := l.bolt.FirstIndex()
	if err != nil {
		return fmt.Errorf("%s: %w", l.logFile(), err)
	}
	last, err := l.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("%s: %w", l.logFile(), err)
	}
	if end := max(last, snapshot); end < l.acked.last {
		return fmt.Errorf("%s ends at entry %d, but entry %d was acknowledged: the disk has lost writes: %s (removing %s accepts the loss)",
			l.logFile(), end, l.acked.last, restoreHint, l.ackFile())
	}
	if last > 0 && first > snapshot+1 {
		return fmt.Errorf("%s begins at entry %d, but the newest snapshot in %s reaches only to %d: %s", l.logFile(), first, l.snapshotsDir(), snapshot, restoreHint)
	}
	var entry raft.Log
	for index := snapshot + 1; index <= last; index++ {
		entry = raft.Log{}
		switch err := l.bolt.GetLog(index, &entry); {
		case errors.Is(err, raft.ErrLogNotFound):
			return fmt.Errorf("%s has no entry %d, but one behind it: %s", l.logFile(), index, restoreHint)
		case err != nil:
			return fmt.Errorf("%s: entry %d: %w: %s", l.logFile(), index, err, restoreHint)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if err := state.CheckEntry(entry.Data); err != nil {
			return fmt.Errorf("%s: entry %d: %w", l.logFile(), index, err) // whole, but of another version of magnum
		}
	}
	return l.checkVote(entry.Term, last)
}

// checkVote checks what Raft keeps beside the log. A server that has forgotten
// its term or its vote could vote twice.
func (l *Log) checkVote(lastTerm, last uint64) error {
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if _, err := l.bolt.GetUint64([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return fmt.Errorf("%s: %w: %s", l.logFile(), err, restoreHint)
		}
	}
	if _, err := l.bolt.Get([]byte("LastVoteCand")); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("%s: %w: %s", l.logFile(), err, restoreHint)
	}
	if current, err := l.bolt.GetUint64([]byte("CurrentTerm")); last > 0 && (err != nil || current < lastTerm) {
		return fmt.Errorf("%s: the last entry is of term %d, but this server knows only of term %d (%v): %s", l.logFile(), lastTerm, current, err, restoreHint)
	}
	return nil
}
