// Package wal keeps the entries of a Raft log in files that are only ever
// appended to, with one sync for a batch of entries.
//
// A log is a directory of segments, each a file of records named for the index
// of its first one:
//
//	segment = magic, index of the first record, CRC-32C of both      (20 bytes)
//	record  = CRC-32C of the rest, length of data and extensions,
//	          index, term, time of append, length of extensions,
//	          type, 3 bytes of nothing                                (40 bytes)
//	          data, extensions
//
// all big endian. Behind the last record stand zeros, which were written ahead
// so that an append changes no metadata of the file system; or, after a power
// failure, what had been written of an append that was never answered.
//
// Entries are deleted from the front by whole segments. So that they don't stay
// for long, one that begins with deleted entries gets no more of new ones than
// make it a megabyte.
//
// Nothing is repaired and nothing thrown away when a log is opened: reading ends
// where the last segment holds no more whole record, and it is the owner of the
// log who knows how far it has to reach. What is left of an unfinished append
// goes with the next write.
package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/atomicfile"
)

const (
	// segmentSize is from how many bytes on a segment is followed by another.
	segmentSize = 16 << 20
	// staleSize is from how many bytes on one is that begins with deleted entries:
	// they take room until the whole of it is deleted.
	staleSize = 1 << 20
	// ahead is by how many bytes a segment grows.
	ahead = 1 << 20
)

var zeros = make([]byte, ahead)

// Log is the entries from the first to the last without a gap. It is a
// raft.LogStore, of which any goroutine may call any method at any time.
type Log struct {
	dir string

	writing sync.Mutex // held by what changes files, also while they are synced
	buf     []byte     // of StoreLogs
	scrap   []string   // what a creation of a segment has left that did not come to its end

	mu       sync.RWMutex // guards what follows: readers hold it while they read, writers for an instant
	segments []*segment   // by index; the last one is appended to
	head     uint64       // entries before it are deleted, though a segment may hold some

	segmentSize int64 // smaller in tests

	// What writes and syncs; tests have them fail.
	writeAt func(f *os.File, b []byte, at int64) (int, error)
	sync    func(f *os.File) error
}

// Open reads the log in a directory, which is made if there is none, and shows
// each entry to visit, unless that is nil; its error is returned with the name of
// the file. What an entry points to is overwritten by the next one. A segment
// that is damaged and not the last one, or one that is missing between others,
// is an error that names the file.
func Open(dir string, visit func(*raft.Log) error) (*Log, error) {
	if visit == nil {
		visit = func(*raft.Log) error { return nil }
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil { // it may be new
		return nil, err
	}
	l := &Log{
		dir: dir, segmentSize: segmentSize,
		writeAt: func(f *os.File, b []byte, at int64) (int, error) { return f.WriteAt(b, at) },
		sync:    func(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) },
	}
	if err := l.open(visit); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Log) open(visit func(*raft.Log) error) error {
	paths, err := filepath.Glob(filepath.Join(l.dir, "*"+suffix))
	if err != nil {
		return err
	}
	slices.Sort(paths) // all names are of the same length
	for i, path := range paths {
		s, err := openSegment(path, visit)
		if i == len(paths)-1 && errors.Is(err, errUnfinished) {
			l.scrap = append(l.scrap, path)
			break
		}
		if err != nil {
			return err
		}
		if prev := l.tail(); prev != nil && prev.next() != s.base {
			err := fmt.Errorf("%s is damaged: it ends with entry %d, %s, and the next file is %s", prev.path, prev.next()-1, prev.rest, path)
			return errors.Join(err, s.file.Close())
		}
		l.segments = append(l.segments, s)
	}
	if len(l.segments) > 0 {
		l.head = l.segments[0].base
	}
	return nil
}

// tail returns the segment that is appended to, nil if there is none.
func (l *Log) tail() *segment {
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// bounds returns the first and the last index, both 0 if there are no entries.
func (l *Log) bounds() (first, last uint64) {
	t := l.tail()
	if t == nil || t.next() <= l.head {
		return 0, 0
	}
	return l.head, t.next() - 1
}

// FirstIndex returns the index of the first entry, 0 if there is none. After
// the log was opened anew it may be lower than before.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first, _ := l.bounds()
	return first, nil
}

// LastIndex returns the index of the last entry, 0 if there is none.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, last := l.bounds()
	return last, nil
}

// End says where the log ends, and why there, as far as that is known.
func (l *Log) End() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.tail(); t != nil {
		return fmt.Sprintf("%s ends with entry %d, %s", t.path, t.next()-1, t.rest)
	}
	return fmt.Sprintf("%s holds no entries", l.dir)
}

// IsMonotonic tells the library that the entries have no gap: it deletes those
// before a snapshot that it has been given.
func (l *Log) IsMonotonic() bool { return true }

// GetLog reads an entry. One that is not there is raft.ErrLogNotFound; a damaged
// one is an error that names the file.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if first, last := l.bounds(); first == 0 || index < first || index > last {
		return raft.ErrLogNotFound
	}
	i, found := slices.BinarySearchFunc(l.segments, index, func(s *segment, index uint64) int { return cmp.Compare(s.base, index) })
	if !found {
		i-- // the one that begins before it
	}
	return l.segments[i].read(index, entry)
}

// StoreLog appends one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries, whose indexes follow each other, and returns when
// they are on disk. Entries of the same or a higher index are replaced; if
// there would be a gap, all entries before it are. After an error none of them
// is there, unless the log is opened anew: then some may be.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	from := entries[0].Index
	for i, e := range entries {
		if e.Index != from+uint64(i) || from == 0 {
			return fmt.Errorf("entry %d is stored in the place of entry %d", e.Index, from+uint64(i))
		}
	}
	s, err := l.end(from)
	if err != nil {
		return err
	}
	l.buf = l.buf[:0]
	offsets := make([]int64, len(entries))
	for i, e := range entries {
		offsets[i] = s.size + int64(len(l.buf))
		l.buf = appendRecord(l.buf, e)
	}
	if err := l.append(s, l.buf); err != nil {
		s.torn = true
		return err
	}
	l.mu.Lock()
	s.offsets = append(s.offsets, offsets...)
	s.size += int64(len(l.buf))
	s.rest = writtenHere
	l.mu.Unlock()
	if cap(l.buf) > ahead {
		l.buf = nil
	}
	return nil
}

// end returns the segment to which the entry of the index is to be appended,
// cleaned of all that would stand behind it.
func (l *Log) end(index uint64) (*segment, error) {
	for len(l.scrap) > 0 {
		if err := os.Remove(l.scrap[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		l.scrap = l.scrap[1:]
	}
	s := l.tail()
	if s != nil && (index < l.head || index > s.next()) {
		if err := l.cut(0); err != nil {
			return nil, err
		}
	} else if s != nil && index < s.next() {
		if err := l.cut(index); err != nil {
			return nil, err
		}
	}
	s = l.tail()
	if s != nil && s.torn {
		if err := l.shorten(s, s.size); err != nil {
			return nil, err
		}
	}
	if s == nil || s.size >= l.segmentSize || s.base < l.head && s.size >= staleSize {
		return l.grow(index)
	}
	return s, nil
}

// append writes records behind the last one, and zeros ahead if there are none
// left, and syncs them.
func (l *Log) append(s *segment, records []byte) error {
	if _, err := l.writeAt(s.file, records, s.size); err != nil {
		return err
	}
	end := s.size + int64(len(records))
	if end >= s.filled {
		if _, err := l.writeAt(s.file, zeros, end); err != nil {
			return err
		}
		s.filled = end + ahead
	}
	if err := l.sync(s.file); err != nil {
		return &fs.PathError{Op: "sync", Path: s.path, Err: err}
	}
	return nil
}

// grow begins another segment, for the entry of the index.
func (l *Log) grow(index uint64) (*segment, error) {
	path := filepath.Join(l.dir, segmentName(index))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{file: f, path: path, base: index, size: headSize, rest: writtenHere}
	_, err = l.writeAt(f, segmentHead(index), 0)
	if err == nil {
		err = l.sync(f)
	}
	if err == nil {
		err = atomicfile.SyncDir(l.dir)
	}
	if err != nil {
		l.scrap = append(l.scrap, path)
		return nil, errors.Join(err, f.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, last := l.bounds(); last == 0 {
		l.head = index
	}
	l.segments = append(l.segments, s)
	return s, nil
}

// DeleteRange deletes the entries from min to max, both included, which must be
// the first or the last ones. Where they are both, the log can begin anywhere
// after it.
func (l *Log) DeleteRange(min, max uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	first, last := l.bounds()
	switch {
	case first == 0 || min > max || max < first || min > last:
		return nil
	case max >= last:
		if min <= first {
			min = 0
		}
		return l.cut(min)
	case min <= first:
		return l.behead(max + 1)
	}
	return fmt.Errorf("entries %d to %d are neither the first nor the last of %d to %d", min, max, first, last)
}

// behead deletes the entries before the index. What is in the segment of the
// index stays in the file.
func (l *Log) behead(index uint64) error {
	l.mu.Lock()
	n := 0
	for n < len(l.segments)-1 && l.segments[n].next() <= index {
		n++
	}
	gone := l.segments[:n]
	l.segments = slices.Clone(l.segments[n:])
	l.head = max(l.head, index)
	l.mu.Unlock()
	return l.remove(gone)
}

// cut deletes the entry of the index and all behind it; 0 deletes all. The last
// ones go first, so that what is left has no gap whenever it ends.
func (l *Log) cut(index uint64) error {
	l.mu.Lock()
	n := len(l.segments)
	for n > 0 && l.segments[n-1].base >= index {
		n--
	}
	gone := slices.Clone(l.segments[n:])
	slices.Reverse(gone)
	l.segments = l.segments[:n:n]
	if n == 0 {
		l.head = 0
	}
	l.mu.Unlock()
	if err := l.remove(gone); err != nil {
		return err
	}
	s := l.tail()
	if s == nil || s.next() <= index {
		return nil
	}
	l.mu.Lock()
	size := s.offsets[index-s.base]
	s.offsets = s.offsets[:index-s.base]
	s.size = size
	s.torn = true
	l.mu.Unlock()
	return l.shorten(s, size)
}

// shorten makes an end to the file behind the last record.
func (l *Log) shorten(s *segment, size int64) error {
	if err := s.file.Truncate(size); err != nil {
		return err
	}
	s.filled = size
	if err := l.sync(s.file); err != nil {
		return &fs.PathError{Op: "sync", Path: s.path, Err: err}
	}
	s.torn = false
	return nil
}

// remove deletes the files of segments that nobody can find any more.
func (l *Log) remove(gone []*segment) error {
	if len(gone) == 0 {
		return nil
	}
	var errs []error
	for i, s := range gone {
		errs = append(errs, s.file.Close())
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			for _, s := range gone[i:] { // in this order, before anything else is written
				l.scrap = append(l.scrap, s.path)
			}
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, atomicfile.SyncDir(l.dir))...)
}

// Close closes the files. The log can't be used any more.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.segments {
		errs = append(errs, s.file.Close())
	}
	l.segments, l.head = nil, 0
	return errors.Join(errs...)
}
