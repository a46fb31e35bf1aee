package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/internal/atomicfile"
)

// diskSnapshots is the snapshot store. It keeps a checksum of each snapshot's
// meta.json, which has none of its own, in a file beside it.
type diskSnapshots struct {
	raft.SnapshotStore
	files *files
}

// Create begins a snapshot.
func (s diskSnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configurationIndex uint64,
	trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &diskSink{sink, s.files, false}, nil
}

// diskSink writes one snapshot.
type diskSink struct {
	raft.SnapshotSink
	files  *files
	closed bool
}

// Cancel discards the snapshot.
func (s *diskSink) Cancel() error {
	s.closed = true
	return s.SnapshotSink.Cancel()
}

// Close finishes the snapshot.
func (s *diskSink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := keepMetaSum(filepath.Join(s.files.config.snapshotsDir(), s.ID())); err != nil {
		return err
	}
	return s.files.member.stored()
}

// metaFile is a snapshot's metadata; metaSum is the checksum of that file.
const (
	metaFile = "meta.json"
	metaSum  = "meta.crc32c"
)

func sumOfMeta(meta []byte) []byte {
	return fmt.Appendf(nil, "%08x\n", crc32.Checksum(meta, castagnoli))
}

// keepMetaSum writes the checksum of a snapshot's meta.json.
func keepMetaSum(snapshot string) error {
	b, err := os.ReadFile(filepath.Join(snapshot, metaFile))
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(snapshot, metaSum), sumOfMeta(b))
}

// addMissingMetaSums writes missing checksums: of snapshots of an earlier version, and of one
// after whose end this server was stopped. A failure costs a check, but no data.
func (fl *files) addMissingMetaSums() {
	snapshots, _ := fl.snapshots.List()
	for _, s := range snapshots {
		dir := filepath.Join(fl.config.snapshotsDir(), s.ID)
		if _, err := os.Stat(filepath.Join(dir, metaSum)); errors.Is(err, fs.ErrNotExist) {
			if err := keepMetaSum(dir); err != nil {
				fl.config.Logger.Warn("the checksum of a snapshot can't be stored", "path", dir, "error", err)
			}
		}
	}
}
