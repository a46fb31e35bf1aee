package memberfile

import (
	"bytes"
	"sync"
)

// File is the record of an open data directory. Its methods may be called at once.
type File struct {
	dir string

	mu   sync.Mutex
	now  Record
	disk []byte // what the file holds; nil if there is none
}

// Open reads the record of a data directory; where there is none it is the zero one.
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

// Unwritten returns a File of a data directory that has no record yet: the first
// Update writes it.
func Unwritten(dataDir string, r Record) *File { return &File{dir: dataDir, now: r} }

// Path is where the file is.
func (f *File) Path() string { return Path(f.dir) }

// Now returns the record. Nobody may write to what it points to.
func (f *File) Now() Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Update changes the record. It is on the disk when Update returns, unless the file
// holds it already; after an error it is what it was.
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
