package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/stackforge/magnum/internal/atomicfile"
)

// storedFile holds the index up to which this server had everything on disk, in the
// snapshot and the log. It reveals a log that was cut off or damaged at its end, and a
// disk that lost writes it had claimed to sync: both look like a shorter log. Nothing
// waits for a sync of the file, so after a power failure it may be a little behind. It
// is never ahead.
//
// The file is 8 bytes of index and 4 bytes of CRC-32C of the index, big endian.
type storedFile struct {
	mu   sync.Mutex
	file *os.File
	last uint64
}

const (
	storedSize = 8 + 4
	lockPause  = 20 * time.Millisecond
)

// openStoredFile opens the file, or creates an empty one unless expected is set, and
// locks it. Its lock protects the whole log.
func openStoredFile(path string, expected bool) (*storedFile, error) {
	flags := os.O_CREATE | os.O_RDWR
	if expected {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is gone; it only says how far the log has to reach: make an empty one if the log is known to be whole",
			path)
	}
	if err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	err = lock(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another process (%w)", path, err)
	}
	s := &storedFile{file: f}
	if err := s.read(path); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// lock waits for the lock as long as bbolt does for its own: a process just forked by
// the last owner holds the lock until it executes another program.
func lock(f *os.File) (err error) {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockPause) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// read reads the index. An empty file is new, or was emptied by an operator who accepts
// a loss; it is initialized to index 0. The file has its full size from the beginning,
// so a power failure can't shorten it.
func (s *storedFile) read(path string) error {
	b, err := io.ReadAll(io.NewSectionReader(s.file, 0, storedSize+1))
	switch {
	case err != nil:
		return fmt.Errorf("raft: %w", err)
	case len(b) == 0:
		if err = s.retreat(0); err == nil {
			err = atomicfile.SyncDir(filepath.Dir(path))
		}
		if err != nil {
			return fmt.Errorf("%s can't be written: %w", path, err)
		}
	case len(b) != storedSize, binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli):
		return fmt.Errorf("%s is damaged; it only says how far the log has to reach: empty it if the log is known to be whole", path)
	default:
		s.last = binary.BigEndian.Uint64(b)
	}
	return nil
}

// reaches returns the index up to which everything was stored.
func (s *storedFile) reaches() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// advance records that everything up to the index is stored. A failure is ignored: it
// costs a check, but no data.
func (s *storedFile) advance(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.write(index)
}

// retreat records that entries after the index are about to be deleted. It returns once
// the record is on disk.
func (s *storedFile) retreat(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(index); err != nil {
		return err
	}
	return s.file.Sync()
}

func (s *storedFile) write(index uint64) error {
	s.last = index
	var b [storedSize]byte
	binary.BigEndian.PutUint64(b[:], index)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	_, err := s.file.WriteAt(b[:], 0)
	return err
}

func (s *storedFile) close() error { return s.file.Close() }
