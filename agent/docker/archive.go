package docker

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
)

// ArchiveGet writes a tar stream of what is at path.
func (d *Docker) ArchiveGet(ctx context.Context, engineID, path string, w io.Writer) error {
	t, err := d.tree(ctx, engineID)
	if err != nil {
		return err
	}
	if err := t.readable(path); err != nil {
		return err
	}
	body, _, err := d.cli.CopyFromContainer(ctx, engineID, path)
	if err != nil {
		return d.archiveError(ctx, path, err)
	}
	defer body.Close()
	to := &noted{w: w}
	_, err = io.Copy(to, body)
	if failed := to.failed(); failed != nil {
		return failed
	}
	return d.archiveError(ctx, path, err)
}

// ArchivePut unpacks a tar stream into the directory at path. All of it is looked
// at before: the engine answers no question about a container while it unpacks.
func (d *Docker) ArchivePut(ctx context.Context, engineID, path string, r io.Reader) error {
	t, err := d.tree(ctx, engineID)
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
			err := d.cli.CopyToContainer(ctx, engineID, path, tarred, container.CopyToContainerOptions{})
			return d.archiveError(ctx, path, err)
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

// noted is one end of a copy, and remembers how it failed: the other end's
// errors are the engine's.
type noted struct {
	r io.Reader
	w io.Writer

	mu  sync.Mutex
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	c, err := n.r.Read(p)
	n.note(err)
	return c, err
}

func (n *noted) Write(p []byte) (int, error) {
	c, err := n.w.Write(p)
	n.note(err)
	return c, err
}

func (n *noted) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.err = err
	}
}

func (n *noted) failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// archiveError names the engine's error of a copy.
func (d *Docker) archiveError(ctx context.Context, path string, err error) error {
	if err == nil {
		return nil
	}
	missing := errdefs.IsNotFound(err)
	err = d.callError(ctx, err)
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
		f.Reason = backend.ErrInvalid // some come as 403, some as 500
	}
	return err
}
