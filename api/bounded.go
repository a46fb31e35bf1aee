package api

import (
	"errors"
	"io"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// bounded is an archive on its way to a server. It fails beyond what a server
// takes, and remembers how reading failed: the transport may still read when
// the call has returned.
type bounded struct {
	r    io.Reader
	left int64 // bytes
	over error // what it fails with

	mu  sync.Mutex
	err error
}

var errArchive = structs.Errorf(structs.CodeTooLarge, "the archive has more than %d MiB, the most that is copied at a time: copy it in parts, or over a volume", structs.MaxArchive>>20)

// Read reads on.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, b.over
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.err = err
	}
	return n, err
}

// failed returns how reading failed, nil if it didn't.
func (b *bounded) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
