package console

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/stackforge/magnum/agent/backend"
)

// The cluster has no call for archives: tar inside the container packs and unpacks them, as
// kubectl has it. So the container has to run, and a copy sees all that its process sees.

// maxComplaint bounds what is kept of the complaints of tar, in bytes.
const maxComplaint = 4 << 10

// complaints keeps the beginning of what a program says on standard error.
type complaints struct{ bytes.Buffer }

func (c *complaints) Write(p []byte) (int, error) {
	_, _ = c.Buffer.Write(p[:min(len(p), max(maxComplaint-c.Len(), 0))]) // a buffer takes all
	return len(p), nil
}

// noted notes the first error of a reader or writer that isn't the end.
type noted struct {
	r io.Reader
	w io.Writer

	mu  sync.Mutex
	err error
}

func (n *noted) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && n.err == nil {
		n.err = err
	}
}

func (n *noted) failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *noted) Read(p []byte) (int, error) {
	count, err := n.r.Read(p)
	n.note(err)
	return count, err
}

func (n *noted) Write(p []byte) (int, error) {
	count, err := n.w.Write(p)
	n.note(err)
	return count, err
}

// ArchiveGet writes a tar stream of the file or directory at a path. The container has to
// run. ErrNotRunning beside those of backend.Consoles.
func (cs *Consoles) ArchiveGet(ctx context.Context, engineID, at string, w io.Writer) error {
	dir, name := splitPath(at)
	to, said := &noted{w: w}, new(complaints)
	code, err := cs.capture(ctx, engineID, []string{"tar", "cf", "-", "-C", dir, "--", name}, to, said)
	if failed := to.failed(); failed != nil {
		return failed
	}
	return tarError(at, code, said.String(), err)
}

// splitPath returns the directory in which tar packs a path, and the name to pack there. A
// path that ends with a slash means the content of the directory.
func splitPath(at string) (dir, name string) {
	clean := path.Clean("/" + at)
	if clean == "/" || strings.HasSuffix(at, "/") || strings.HasSuffix(at, "/.") {
		return clean, "."
	}
	return path.Dir(clean), path.Base(clean)
}

// ArchivePut unpacks a tar stream into the directory at a path. The container has to run.
// ErrNotRunning beside those of backend.Consoles.
func (cs *Consoles) ArchivePut(ctx context.Context, engineID, at string, r io.Reader) error {
	from := &noted{r: r}
	archive, err := plain(from)
	if err != nil {
		return cmp.Or(from.failed(), notAnArchive(err))
	}
	// A reader that fails leaves the input open: half an archive isn't unpacked as a whole.
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdin := readerFunc(func(p []byte) (int, error) {
		n, err := archive.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			cancel(notAnArchive(err))
		}
		return n, err
	})
	said := new(complaints)
	code, err := cs.program(work, engineID, []string{"tar", "xpf", "-", "-C", path.Clean("/" + at)},
		backend.ExecStreams{Stdin: stdin, Stdout: io.Discard, Stderr: said})
	if work.Err() != nil && ctx.Err() == nil {
		return cmp.Or(from.failed(), context.Cause(work))
	}
	return tarError(at, code, said.String(), err)
}

func notAnArchive(err error) error {
	return &backend.Failure{Reason: backend.ErrInvalid, Msg: "the stream is not an archive: " + err.Error()}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// plain returns the archive that a stream is, which may be compressed: the tar of a small
// image reads none.
func plain(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	start, err := buffered.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(start, []byte("BZh")):
		return bzip2.NewReader(buffered), nil
	}
	return buffered, nil
}

// tarError explains how tar has ended.
func tarError(at string, code int, said string, err error) error {
	switch text := strings.ToLower(said); {
	case errors.Is(err, errNoProgram):
		return &backend.Failure{Reason: backend.ErrInvalid,
			Msg: "the container has no program tar, by which files of a pod in a cluster are copied; copy them with pod-execute, or put " +
				"tar into the image"}
	case err != nil:
		return err
	case code == 0:
		return nil
	case strings.Contains(text, "not a directory"):
		return &backend.Failure{Reason: backend.ErrNotDir, Msg: "path " + at + " is not a directory in the container"}
	case strings.Contains(text, "no such file or directory"):
		return &backend.Failure{Reason: backend.ErrNoPath, Msg: "path " + at + " does not exist in the container"}
	case strings.Contains(text, "no space left"):
		return &backend.Failure{Reason: backend.ErrNoSpace, Msg: "path " + at + ": no space is left in the container"}
	default:
		return &backend.Failure{Reason: backend.ErrInvalid, Msg: "path " + at + ": tar inside the container refuses: " + firstLine(said)}
	}
}
