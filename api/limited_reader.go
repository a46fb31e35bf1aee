package api

import (
	"errors"
	"io"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// limitedReader reads an upload. It fails when the upload exceeds the servers'
// limit, and keeps the error of a failed read. It is locked because the transport
// may still read after the call has returned.
type limitedReader struct {
	r        io.Reader
	left     int64 // bytes until the limit
	tooLarge error // returned beyond the limit

	mu  sync.Mutex
	err error // guarded by mu
}

var errArchiveTooLarge = structs.Errorf(structs.CodeTooLarge,
	"the archive has more than %d MiB, the limit of one copy: copy it in parts, or use a volume", structs.MaxArchive>>20)

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		n, err = 0, l.tooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = err
	}
	return n, err
}

// readError returns the error of the read that failed, nil if none did.
func (l *limitedReader) readError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
