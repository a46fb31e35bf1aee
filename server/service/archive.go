package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/structs"
)

// openArchive opens the session of an archive. CodeInvalid, and the errors of Target
// and Open.
func (n Sessions) openArchive(ctx context.Context, call *Call, kind structs.SessionKind, ident, at string) (*dispatch.Session, error) {
	if !path.IsAbs(at) || len(at) > structs.MaxText {
		return nil, structs.Invalid("path", at, "It is not an absolute path of up to %d bytes.", structs.MaxText)
	}
	c, err := n.Target(ctx, call, ident)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(c, structs.SessionOffer{Kind: kind, Path: at}))
}

// GetArchive reads a file or directory of a container, as a tar archive, into the
// archive. CodeTooLarge, CodeNoSpace, CodeInvalid, and the errors of Target and Open.
func (n Sessions) GetArchive(ctx context.Context, call *Call, ident, at string, archive *Archive) error {
	session, err := n.openArchive(ctx, call, structs.SessionArchiveGet, ident, at)
	if err != nil {
		return err
	}
	defer session.Close()
	for {
		channel, payload, err := session.Read(ctx)
		if err != nil {
			return err
		}
		switch channel {
		case structs.ChannelStdout:
			if _, err := archive.Write(payload); err != nil {
				return err
			}
		case structs.ChannelControl:
			m, err := Control(payload)
			if err != nil || m.Done {
				return err
			}
		}
	}
}

// archiveChunk is how much of an archive one message carries.
const archiveChunk = 16 << 10

// PutArchive hands an archive to the container's host and waits until it is
// unpacked in the directory. The errors of GetArchive.
func (n Sessions) PutArchive(ctx context.Context, call *Call, ident, at string, archive *Archive) error {
	session, err := n.openArchive(ctx, call, structs.SessionArchivePut, ident, at)
	if err != nil {
		return err
	}
	defer session.Close()
	ended := make(chan error, 1)
	go func() { ended <- awaitDone(ctx, session) }()

	chunk, from := make([]byte, archiveChunk), archive.Reader()
	for {
		n, err := from.Read(chunk)
		if n > 0 && session.Write(ctx, structs.ChannelStdin, chunk[:n]) != nil {
			break // what ended the agent's side is its last message
		}
		if err == io.EOF {
			_ = session.Write(ctx, structs.ChannelControl, []byte(`{"eof":true}`)) // likewise
			break
		}
		if err != nil {
			session.Close() // wakes the reader
			<-ended
			return err
		}
	}
	return <-ended
}

// awaitDone reads a session to its end.
func awaitDone(ctx context.Context, session *dispatch.Session) error {
	var out Output
	return out.read(ctx, session)
}

// maxSpooled is how much of an archive is kept in memory; what is longer is in
// a file.
const maxSpooled = 1 << 20

// Archive keeps an archive until it is whole: only then is it known whether it is
// too large, and nothing of one that is refused must reach a container.
type Archive struct {
	memory bytes.Buffer
	file   *os.File // nil while all of it is in memory
	size   int64
}

// ErrArchiveTooLarge refuses an archive.
func ErrArchiveTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the archive is larger than %d bytes: copy a part of it at a time", structs.MaxArchive)
}

// Size returns the archive's bytes.
func (a *Archive) Size() int64 { return a.size }

// Write appends to the archive. CodeTooLarge, CodeNoSpace.
func (a *Archive) Write(p []byte) (int, error) {
	if a.size += int64(len(p)); a.size > structs.MaxArchive {
		return 0, ErrArchiveTooLarge()
	}
	if a.file == nil && a.memory.Len()+len(p) <= maxSpooled {
		return a.memory.Write(p)
	}
	if a.file == nil {
		f, err := os.CreateTemp("", "magnum-archive-")
		if err != nil {
			return 0, errNoSpool(err)
		}
		a.file = f
		// Without a name nothing is left behind, however this process ends.
		if err := os.Remove(f.Name()); err != nil {
			return 0, fmt.Errorf("spool of an archive: %w", err)
		}
	}
	n, err := a.file.Write(p)
	if err != nil {
		return n, errNoSpool(err)
	}
	return n, nil
}

func errNoSpool(err error) error {
	return structs.Errorf(structs.CodeNoSpace,
		"the server has no room in %s for the archive: copy a part of it at a time, or try again later (%w)", os.TempDir(), err)
}

// Reader returns all that was written, from the start.
func (a *Archive) Reader() io.Reader {
	if a.file == nil {
		return bytes.NewReader(a.memory.Bytes())
	}
	return io.MultiReader(bytes.NewReader(a.memory.Bytes()), io.NewSectionReader(a.file, 0, a.size-int64(a.memory.Len())))
}

// Close lets go of what the archive holds.
func (a *Archive) Close() {
	if a.file != nil {
		a.file.Close() // it has no name and was only read
	}
}

// Fill reads r to its end. CodeTooLarge, CodeInvalid if it breaks off.
func (a *Archive) Fill(r io.Reader) error {
	_, err := io.Copy(a, io.LimitReader(r, structs.MaxArchive+1))
	var known *structs.Error
	if err != nil && !errors.As(err, &known) {
		return structs.Errorf(structs.CodeInvalid, "The request's body could not be read to its end: %w", err)
	}
	return err
}
