package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/internal/fileid"
	"github.com/stackforge/magnum/server/memberfile"
)

const (
	// newSuffix is the suffix of an unfinished file.
	newSuffix = ".new"
	// compactFree is how many bytes of raft.db must be free, in addition to more than
	// half of the file, for a compaction. The disk must have as much space beyond the
	// size of the copy.
	compactFree = 64 << 20
	// compactBatch is how many bytes one transaction copies.
	compactBatch = 16 << 20
)

// compactStep is called before each step of a compaction. Tests end the process there.
var compactStep = func(step string) {}

// roomIn returns how many bytes can be written in a directory. Tests replace it.
var roomIn = func(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Bavail) * st.Bsize, err
}

// compact rewrites raft.db if most of it is free: bbolt never gives space back to the
// file system. A failure is logged and otherwise harmless, because the old file stays
// in use.
func (fl *files) compact(c LogCheck, facts LogFacts) {
	free := facts.Size - facts.Used
	if free <= fl.config.compactFree || free <= facts.Size/2 {
		return
	}
	if moved, err := fl.moved(fl.begun(facts, c.SnapshotIndex)); moved || err != nil {
		return // checkPlace handles this
	}
	log := fl.config.Logger.With("path", c.Path, "size", facts.Size, "used", facts.Used)
	room, err := roomIn(fl.config.dir())
	if err != nil {
		log.Warn("the log file is not compacted", "error", err)
		return
	}
	if room < facts.Used+compactFree {
		log.Warn("the log file is not compacted: too little disk space", "free", room, "needed", facts.Used+compactFree)
		return
	}
	if err := fl.compactInto(c, facts); err != nil {
		log.Warn("the log file is not compacted", "error", err)
		_ = os.Remove(c.Path + newSuffix) // if this fails, the next start removes it
		return
	}
	log.Info("the log file is compacted: most of it was free")
}

func (fl *files) compactInto(c LogCheck, facts LogFacts) error {
	compactStep("copy")
	if err := copyStore(c.Path+newSuffix, c.Path); err != nil {
		return err
	}
	compactStep("check")
	copied, err := fl.config.CheckLog(context.Background(), LogCheck{Path: c.Path + newSuffix, SnapshotIndex: c.SnapshotIndex,
		SnapshotTerm: c.SnapshotTerm})
	if err != nil {
		return fmt.Errorf("the new file: %w", err)
	}
	if copied.First != facts.First || copied.Last != facts.Last || copied.LastTerm != facts.LastTerm ||
		!reflect.DeepEqual(copied.Values, facts.Values) {
		return fmt.Errorf("the new file holds entries %d to %d, the old one %d to %d, or not the same term and vote", copied.First,
			copied.Last, facts.First, facts.Last)
	}
	now, err := fl.currentPlace()
	if err != nil {
		return err
	}
	if now.Next, err = fileid.Of(c.Path + newSuffix); err != nil {
		return err
	}
	compactStep("note")
	if err := fl.member.note(func(r *memberfile.Record) { r.Place = now }); err != nil {
		return err
	}
	compactStep("rename")
	if err := os.Rename(c.Path+newSuffix, c.Path); err != nil {
		return err
	}
	compactStep("sync")
	if err := atomicfile.SyncDir(filepath.Dir(c.Path)); err != nil {
		return err
	}
	compactStep("done")
	return nil
}

// copyStore copies the content of a file to a new file and syncs the copy.
func copyStore(to, from string) error {
	options := boltOptions()
	options.ReadOnly, options.InitialMmapSize = true, 0
	src, err := bbolt.Open(from, 0, options)
	if err != nil {
		return err
	}
	defer src.Close()
	options = boltOptions()
	options.NoSync = true // an unfinished copy is worthless; the sync follows at the end
	dst, err := bbolt.Open(to, 0o600, options)
	if err != nil {
		return err
	}
	if err = bbolt.Compact(dst, src, compactBatch); err == nil {
		compactStep("sync copy")
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// removeUnfinished removes an unfinished file that a kill has left behind.
func removeUnfinished(path string) error {
	if err := os.Remove(path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
