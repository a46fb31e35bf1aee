package backendtest

import (
	"bytes"
	"context"
	"io"

	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
)

// This file has the files of a Fake's containers.

// ArchiveGet writes a tar stream of a file or directory.
func (f *consoles) ArchiveGet(ctx context.Context, engineID, at string, w io.Writer) error {
	var buf bytes.Buffer
	err := f.onContainer(ctx, "archive get", engineID, func(p *process) error { return p.files.Pack(at, &buf) })
	if err != nil {
		return err
	}
	_, err = io.Copy(w, &buf)
	return err
}

// ArchivePut unpacks the files of a tar stream.
func (f *consoles) ArchivePut(ctx context.Context, engineID, at string, r io.Reader) error {
	err := f.onContainer(ctx, "archive put", engineID, func(p *process) error { return p.files.Takes(at) })
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
	return userland.Unpack(at, r, func(name string, content []byte) error {
		return f.onContainer(ctx, "archive file", engineID, func(p *process) error {
			if p.files == nil {
				p.files = make(userland.Files)
			}
			p.files[name] = content
			return nil
		})
	})
}
