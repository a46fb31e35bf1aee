package console

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
)

// ArchiveGet writes a tar stream of the file or directory at path.
func (cs *Consoles) ArchiveGet(ctx context.Context, engineID, path string, w io.Writer) error {
	t, err := cs.tree(ctx, engineID)
	if err != nil {
		return err
	}
	if err := t.readable(path); err != nil {
		return err
	}
	body, _, err := cs.engine.Client.CopyFromContainer(ctx, engineID, path)
	if err != nil {
		return cs.archiveError(ctx, path, err)
	}
	defer body.Close()
	to := &engine.Noted{W: w}
	_, err = io.Copy(to, body)
	if failed := to.Failed(); failed != nil {
		return failed
	}
	return cs.archiveError(ctx, path, err)
}

// ArchivePut unpacks a tar stream into the directory at path. It checks the whole archive
// first, because the engine answers no question about a container while it unpacks.
func (cs *Consoles) ArchivePut(ctx context.Context, engineID, path string, r io.Reader) error {
	t, err := cs.tree(ctx, engineID)
	if err != nil {
		return err
	}
	if err := t.writable(path, strings.NewReader("")); err != nil {
		return err // before anything is sent
	}
	archive, err := spool(r)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, use := range []func(io.Reader) error{
		func(tarred io.Reader) error { return t.writable(path, tarred) },
		func(tarred io.Reader) error {
			err := cs.engine.Client.CopyToContainer(ctx, engineID, path, tarred, container.CopyToContainerOptions{})
			return cs.archiveError(ctx, path, err)
		},
	} {
		if _, err := archive.Seek(0, io.SeekStart); err != nil {
			return noRoom(err)
		}
		tarred, err := plain(archive)
		if err != nil {
			return err
		}
		if err := use(tarred); err != nil {
			return err
		}
	}
	return nil
}

// archiveError converts the engine's error of a copy.
func (cs *Consoles) archiveError(ctx context.Context, path string, err error) error {
	if err == nil {
		return nil
	}
	missing := errdefs.IsNotFound(err)
	err = cs.engine.CallError(ctx, err)
	var f *backend.Failure
	if !errors.As(err, &f) || f.Reason != nil && f.Reason != backend.ErrInvalid {
		return err
	}
	text := strings.ToLower(f.Msg)
	switch {
	case strings.Contains(text, "not a directory"):
		f.Reason = backend.ErrNotDir
	case f.Reason != nil:
	case missing:
		f.Reason, f.Msg = backend.ErrNoPath, "path "+path+" does not exist in the container"
	case strings.Contains(text, "read-only"),
		strings.Contains(text, "tar"), strings.Contains(text, "unexpected eof"):
		f.Reason = backend.ErrInvalid // the engine answers 403 or 500
	}
	return err
}
