package rest

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/stackforge/magnum/structs"
)

// maxSpooled is how much of an archive is kept in memory; what is longer is in
// a file.
const maxSpooled = 1 << 20

// spool keeps an archive until it is whole: only then is it known whether it is
// too large, and nothing of one that is refused must reach a container.
type spool struct {
	memory bytes.Buffer
	file   *os.File // nil while all of it is in memory
	size   int64
}

// errArchiveTooLarge refuses an archive.
func errArchiveTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the archive is larger than %d bytes: copy a part of it at a time", structs.MaxArchive)
}

// Write appends to the spool. CodeTooLarge, CodeNoSpace.
func (s *spool) Write(p []byte) (int, error) {
	if s.size += int64(len(p)); s.size > structs.MaxArchive {
		return 0, errArchiveTooLarge()
	}
	if s.file == nil && s.memory.Len()+len(p) <= maxSpooled {
		return s.memory.Write(p)
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "magnum-archive-")
		if err != nil {
			return 0, errNoSpool(err)
		}
		s.file = f
		// Without a name nothing is left behind, however this process ends.
		if err := os.Remove(f.Name()); err != nil {
			return 0, fmt.Errorf("spool of an archive: %w", err)
		}
	}
	n, err := s.file.Write(p)
	if err != nil {
		return n, errNoSpool(err)
	}
	return n, nil
}

func errNoSpool(err error) error {
	return structs.Errorf(structs.CodeNoSpace, "the server has no room in %s for the archive: copy a part of it at a time, or try again later (%w)", os.TempDir(), err)
}

// reader returns all that was written, from the start.
func (s *spool) reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes())
	}
	return io.MultiReader(bytes.NewReader(s.memory.Bytes()), io.NewSectionReader(s.file, 0, s.size-int64(s.memory.Len())))
}

// Close lets go of what the spool holds.
func (s *spool) Close() {
	if s.file != nil {
		s.file.Close() // it has no name and was only read
	}
}
