package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"

	"github.com/stackforge/magnum/agent/backend"
)

// This file has the files of a Fake's containers. Each container has the directories /
// and /tmp, with the files that were copied there.

func isDir(at string) bool { return at == "/" || at == "/tmp" }

func noPath(at string) error {
	return &backend.Failure{Reason: backend.ErrNoPath, Msg: "path " + at + " does not exist in the container"}
}

// ArchiveGet writes a tar stream of a file or directory.
func (f *consoles) ArchiveGet(ctx context.Context, engineID, at string, w io.Writer) error {
	at = path.Clean("/" + at)
	var buf bytes.Buffer
	err := f.onContainer(ctx, "archive get", engineID, func(p *process) error {
		out := tar.NewWriter(&buf)
		if _, ok := p.files[at]; !ok && !isDir(at) {
			return noPath(at)
		}
		for name, content := range p.files {
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
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, &buf)
	return err
}

// ArchivePut unpacks the files of a tar stream.
func (f *consoles) ArchivePut(ctx context.Context, engineID, at string, r io.Reader) error {
	at = path.Clean("/" + at)
	err := f.onContainer(ctx, "archive put", engineID, func(p *process) error {
		if _, ok := p.files[at]; ok {
			return &backend.Failure{Reason: backend.ErrNotDir, Msg: at + " is not a directory"}
		}
		if !isDir(at) {
			return noPath(at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	gate := f.unpacking
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	from := &reader{r: r}
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
		case from.err != nil:
			return from.err
		case err != nil:
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: "not a tar stream: " + err.Error()}
		}
		err = f.onContainer(ctx, "archive file", engineID, func(p *process) error {
			if p.files == nil {
				p.files = make(map[string][]byte)
			}
			p.files[path.Join(at, path.Clean("/"+h.Name))] = content.Bytes()
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// reader keeps the error of its source.
type reader struct {
	r   io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
