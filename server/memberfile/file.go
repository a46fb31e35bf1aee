package memberfile

import (
	"bytes"
	"sync"
)

// File holds the record of an open data directory. It is safe for concurrent use.
type File struct {
	dir string

	mu   sync.Mutex
	now  Record
	disk []byte // content of the file; nil if the file doesn't exist
}

// Open reads the record of a data directory. Without a file the record is zero.
func Open(dataDir string) (*File, error) {
	r, err := Read(dataDir)
	if err != nil {
		return nil, err
	}
	f := &File{dir: dataDir}
	if r != nil {
		f.now = *r
		f.disk, err = r.encode()
	}
	return f, err
}

// Unwritten returns a File for a data directory that has no file yet. The first
// Update writes it.
func Unwritten(dataDir string, r Record) *File { return &File{dir: dataDir, now: r} }

// Path returns the path of the file.
func (f *File) Path() string { return Path(f.dir) }

// Now returns the current record. Callers must not modify what its pointers and
// slices refer to.
func (f *File) Now() Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Update changes the record. The new record is on disk when Update returns; nothing
// is written if the file holds it already. After an error the record is unchanged.
func (f *File) Update(change func(*Record)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.now
	change(&next)
	b, err := next.encode()
	if err != nil || bytes.Equal(b, f.disk) {
		return err
	}
	if err := Write(f.dir, next); err != nil {
		return err
	}
	f.now, f.disk = next, b
	return nil
}
