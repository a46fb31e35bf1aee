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

// openArchive opens a session that carries an archive. Errors are CodeInvalid if the
// path isn't absolute or is too long, and those of Target and Open.
func (n Sessions) openArchive(ctx context.Context, call *Call, kind structs.SessionKind, ident, at string) (*dispatch.Session, error) {
	if !path.IsAbs(at) || len(at) > structs.MaxText {
		return nil, structs.Invalid("path", at, "It is not an absolute path of up to %d bytes.", structs.MaxText)
	}
	t, err := n.Target(ctx, call, ident)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(t, structs.SessionOffer{Kind: kind, Path: at}))
}

// GetArchive reads a file or directory of a container into archive, as tar. Errors
// are CodeTooLarge, CodeNoSpace, CodeInvalid, and those of Target and Open.
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

// archiveChunk is how many bytes of an archive one message carries.
const archiveChunk = 16 << 10

// PutArchive sends an archive to the container's host and waits until the host has
// unpacked it into the directory. Errors are those of GetArchive.
func (n Sessions) PutArchive(ctx context.Context, call *Call, ident, at string, archive *Archive) error {
	session, err := n.openArchive(ctx, call, structs.SessionArchivePut, ident, at)
	if err != nil {
		return err
	}
	defer session.Close()
	ended := make(chan error, 1)
	go func() { ended <- readToEnd(ctx, session) }()

	chunk, from := make([]byte, archiveChunk), archive.Reader()
	for {
		n, err := from.Read(chunk)
		if n > 0 && session.Write(ctx, structs.ChannelStdin, chunk[:n]) != nil {
			break // the agent's last message says why its side ended
		}
		if err == io.EOF {
			_ = session.Write(ctx, structs.ChannelControl, []byte(`{"eof":true}`)) // a failure shows in the agent's last message
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
func readToEnd(ctx context.Context, session *dispatch.Session) error {
	var out Output
	return out.read(ctx, session)
}

// maxSpooled is how many bytes of an archive are kept in memory. The rest goes to a
// temporary file.
const maxSpooled = 1 << 20

// Archive spools an archive until it is complete. Only then is its size known, and
// no part of an archive that is refused may reach a container.
type Archive struct {
	memory bytes.Buffer
	file   *os.File // nil while all of it is in memory
	size   int64
}

// ErrArchiveTooLarge returns the error for an archive of more than MaxArchive bytes.
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
		// A file without a name disappears with this process, however it ends.
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

// Reader returns a reader of everything that was written, from the start.
func (a *Archive) Reader() io.Reader {
	if a.file == nil {
		return bytes.NewReader(a.memory.Bytes())
	}
	return io.MultiReader(bytes.NewReader(a.memory.Bytes()), io.NewSectionReader(a.file, 0, a.size-int64(a.memory.Len())))
}

// Close releases the archive's file.
func (a *Archive) Close() {
	if a.file != nil {
		a.file.Close() // it has no name and was only read
	}
}

// Fill appends everything that r yields. Errors are CodeTooLarge, and CodeInvalid if
// r fails before its end.
func (a *Archive) Fill(r io.Reader) error {
	_, err := io.Copy(a, io.LimitReader(r, structs.MaxArchive+1))
	var known *structs.Error
	if err != nil && !errors.As(err, &known) {
		return structs.Errorf(structs.CodeInvalid, "The request's body could not be read to its end: %w", err)
	}
	return err
}
