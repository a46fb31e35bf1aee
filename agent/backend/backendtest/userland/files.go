package userland

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"

	"github.com/stackforge/magnum/agent/backend"
)

// Files are the files of a container by path. It has the directories / and /tmp.
type Files map[string][]byte

func isDir(at string) bool { return at == "/" || at == "/tmp" }

func noPath(at string) error {
	return &backend.Failure{Reason: backend.ErrNoPath, Msg: "path " + at + " does not exist in the container"}
}

// Pack writes a tar stream of a file or directory. ErrNoPath.
func (f Files) Pack(at string, w io.Writer) error {
	at = path.Clean("/" + at)
	out := tar.NewWriter(w)
	if _, ok := f[at]; !ok && !isDir(at) {
		return noPath(at)
	}
	for name, content := range f {
		in := name
		switch {
		case name == at:
			in = path.Base(name)
		case path.Dir(name) == at:
			in = path.Join(path.Base(at), path.Base(name))
		default:
			continue
		}
		if err := out.WriteHeader(&tar.Header{Name: in, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := out.Write(content); err != nil {
			return err
		}
	}
	return out.Close()
}

// Takes fails unless files can be unpacked at a path. ErrNoPath, ErrNotDir.
func (f Files) Takes(at string) error {
	at = path.Clean("/" + at)
	if _, ok := f[at]; ok {
		return &backend.Failure{Reason: backend.ErrNotDir, Msg: at + " is not a directory"}
	}
	if !isDir(at) {
		return noPath(at)
	}
	return nil
}

// Unpack calls put with each file of a tar stream and its path below at. Errors of r and put
// are returned as they are. ErrInvalid.
func Unpack(at string, r io.Reader, put func(name string, content []byte) error) error {
	at = path.Clean("/" + at)
	from := &Reader{R: r}
	for in := tar.NewReader(from); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, from)
			return err
		}
		var content bytes.Buffer
		if err == nil {
			_, err = content.ReadFrom(in)
		}
		switch {
		case from.Err != nil:
			return from.Err
		case err != nil:
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: "not a tar stream: " + err.Error()}
		}
		if err := put(path.Join(at, path.Clean("/"+h.Name)), content.Bytes()); err != nil {
			return err
		}
	}
}

// Reader keeps the error of its source.
type Reader struct {
	R   io.Reader
	Err error
}

func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.R.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.Err = err
	}
	return n, err
}
