package raftlog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/server/state"
)

// checkSnapshots checks all snapshots' metadata and the newest snapshot's content. It
// returns the newest one's metadata, whose index is 0 if there is no snapshot. The
// library would skip an unreadable snapshot and silently take an older one, or none:
// acknowledged writes would be undone.
func (fl *files) checkSnapshots() (meta raft.SnapshotMeta, err error) {
	dirs, err := os.ReadDir(fl.config.snapshotsDir())
	if err != nil {
		return meta, fmt.Errorf("raft: %w", err)
	}
	dirs = slices.DeleteFunc(dirs, func(d os.DirEntry) bool {
		return !d.IsDir() || strings.HasSuffix(d.Name(), ".tmp") // unfinished
	})
	slices.SortFunc(dirs, func(a, b os.DirEntry) int { return compareSnapshots(a.Name(), b.Name()) })
	for i, d := range dirs {
		err := checkSnapshotMeta(filepath.Join(fl.config.snapshotsDir(), d.Name(), metaFile))
		if errors.Is(err, fs.ErrNotExist) && i < len(dirs)-1 {
			continue // an older snapshot whose removal was interrupted
		}
		if err != nil {
			return meta, err
		}
	}
	newest, err := fl.snapshots.List()
	if err != nil {
		return meta, fmt.Errorf("%s: %w", fl.config.snapshotsDir(), err)
	}
	if len(newest) == 0 {
		return meta, nil
	}
	meta = *newest[0]
	path := filepath.Join(fl.config.snapshotsDir(), newest[0].ID)
	_, content, err := fl.snapshots.Open(meta.ID)
	if err != nil {
		return meta, fmt.Errorf("snapshot %s is damaged: %w: %s", path, err, restoreHint)
	}
	defer content.Close()
	reaches, err := state.Verify(content)
	if errors.Is(err, state.ErrSchema) { // intact, but of another schema
		return meta, fmt.Errorf("snapshot %s: %w", path, err)
	}
	if err != nil {
		return meta, fmt.Errorf("snapshot %s is damaged: %w: %s", path, err, restoreHint)
	}
	if reaches > meta.Index {
		return meta, fmt.Errorf("snapshot %s holds the state of entry %d, beyond its own index %d: %s", path, reaches, meta.Index,
			restoreHint)
	}
	return meta, nil
}

// compareSnapshots compares the names of two snapshots by term and index.
func compareSnapshots(a, b string) int {
	var terms, indexes [2]uint64
	for i, name := range []string{a, b} {
		_, _ = fmt.Sscanf(name, "%d-%d-", &terms[i], &indexes[i]) // 0 for an unreadable name
	}
	return cmp.Or(cmp.Compare(terms[0], terms[1]), cmp.Compare(indexes[0], indexes[1]), cmp.Compare(a, b))
}

// restoreHint says what an operator can do about a damaged data directory.
const restoreHint = "restore the data directory from a backup, or give this server an empty one if other servers have the state"

// checkSnapshotMeta checks the metadata by which the library ranks snapshots.
func checkSnapshotMeta(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("snapshot: %w: %s", err, restoreHint)
	}
	sumPath := filepath.Join(filepath.Dir(path), metaSum)
	sum, sumErr := os.ReadFile(sumPath)
	if sumErr != nil && !errors.Is(sumErr, fs.ErrNotExist) { // snapshots of earlier versions have none
		return fmt.Errorf("snapshot: %w: %s", sumErr, restoreHint)
	}
	if sumErr == nil && !bytes.Equal(sum, sumOfMeta(b)) {
		return fmt.Errorf("snapshot: %s is damaged: it does not have the checksum in %s: %s", path, sumPath, restoreHint)
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("snapshot: %s is damaged: %w: %s", path, err, restoreHint)
	}
	if !strings.HasPrefix(meta.ID, fmt.Sprintf("%d-%d-", meta.Term, meta.Index)) {
		return fmt.Errorf("snapshot: %s is damaged: snapshot %q is not of term %d and index %d: %s", path, meta.ID, meta.Term, meta.Index,
			restoreHint)
	}
	if meta.Version < raft.SnapshotVersionMin || meta.Version > raft.SnapshotVersionMax || meta.ID != filepath.Base(filepath.Dir(path)) {
		return fmt.Errorf("snapshot: %s is damaged: it is of version %d and names itself %q: %s", path, meta.Version, meta.ID, restoreHint)
	}
	if len(meta.Configuration.Servers) == 0 {
		return fmt.Errorf("snapshot: %s is damaged: it names no servers: %s", path, restoreHint)
	}
	return nil
}

// earlierFiles are the files of the log formats of earlier versions.
var earlierFiles = []string{"log.db", "log", "stable.json"}

// refuseEarlier refuses a directory whose log has an earlier format.
func (fl *files) refuseEarlier() error {
	for _, name := range earlierFiles {
		old := filepath.Join(fl.config.dir(), name)
		if _, err := os.Lstat(old); err == nil {
			return fmt.Errorf("%s was written by an earlier magnum, whose log this one can't read: have that one save a snapshot "+
				"(magnum operator snapshot save), "+
				"start this one with an empty data directory, and restore the snapshot into it (magnum operator snapshot restore)", old)
		}
	}
	return nil
}

// findStore makes sure that raft.db exists. It creates the file if this server has
// never had one.
func (fl *files) findStore() error {
	path := fl.config.storeFile()
	if err := removeUnfinished(path); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.Mode().IsRegular():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a file: %s", path, restoreHint)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("raft: %w", err)
	case fl.member.Now().Begun():
		return fmt.Errorf("%s is gone: %s", path, fl.config.lostHint())
	case fl.stored.reaches() > 0:
		return fmt.Errorf("%s is gone, but entry %d was stored in it: %s", path, fl.stored.reaches(), restoreHint)
	}
	if err := makeStore(path); err != nil {
		return fmt.Errorf("%s can't be created: %w", path, err)
	}
	return nil
}

// checkStore checks raft.db with Config.CheckLog.
func (fl *files) checkStore(c LogCheck) (LogFacts, error) {
	forgetPages(c.Path)
	facts, err := fl.config.CheckLog(context.Background(), c)
	switch {
	case err == nil:
		return facts, nil
	case errors.Is(err, state.ErrSchema): // intact, but of another schema
		return facts, fmt.Errorf("raft: %s: %w", c.Path, err)
	case errors.Is(err, ErrUnchecked):
		return facts, fmt.Errorf("raft: %s is not opened: %w; it is not known to be damaged, and it is needed: fix the cause "+
			"and start the server again", c.Path, err)
	}
	return facts, fmt.Errorf("raft: %s is damaged: %w: %s", c.Path, err, restoreHint)
}

// forgetPages drops a file's pages from the kernel's cache. After a failed sync, the
// cache may hold what is not on the disk.
func forgetPages(path string) {
	if f, err := os.Open(path); err == nil {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		f.Close()
	}
}

// checkBounds checks that the log continues the snapshot, and that the two reach the
// index in the stored file.
func (fl *files) checkBounds(f LogFacts, snapshot uint64) error {
	if end, stored := max(f.Last, snapshot), fl.stored.reaches(); end < stored {
		return fmt.Errorf("%s ends with entry %d, and the newest snapshot in %s with entry %d, but entry %d was stored: the log is "+
			"damaged, or the disk has lost writes: %s (emptying %s accepts the loss)",
			fl.config.storeFile(), f.Last, fl.config.snapshotsDir(), snapshot, stored, restoreHint, fl.config.storedFile())
	}
	if f.Last > 0 && f.First > snapshot+1 {
		return fmt.Errorf("%s begins at entry %d, but the newest snapshot in %s reaches only to %d: %s", fl.config.storeFile(), f.First,
			fl.config.snapshotsDir(), snapshot, restoreHint)
	}
	return nil
}

func bounds(logs raft.LogStore) (first, last uint64, err error) {
	if first, err = logs.FirstIndex(); err == nil {
		last, err = logs.LastIndex()
	}
	return first, last, err
}

// checkTerm checks term and vote against each other and against the entries. A server
// that has forgotten its term or its vote could vote twice.
func (fl *files) checkTerm(f LogFacts) error {
	current, known := f.number(keyCurrentTerm)
	voted, _ := f.number(keyLastVoteTerm)
	if _, candidate := f.Values[keyLastVoteCand]; known && voted > current || candidate && voted == 0 {
		return fmt.Errorf("%s: this server has voted in term %d, and knows only of term %d: %s", fl.config.storeFile(), voted, current,
			restoreHint)
	}
	if f.LastTerm > current {
		return fmt.Errorf("%s: the last entry is of term %d, but this server knows only of term %d: %s", fl.config.storeFile(),
			f.LastTerm, current, restoreHint)
	}
	return nil
}
